//! `tidegate ledger`: check and export the embedded store of a gateway that is not running (spec 8.5).

use super::{Complaint, EXIT_RUNTIME, Ended, Format, complain, say};
use crate::store::{self, Step};
use clap::Subcommand;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Goes to the beginning of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check every row and every invariant. On a terminal it says how far it is.
    Verify {
        /// The folder of the store, as `store.path` names it.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print everything as JSON, a line each.
    Export {
        /// The folder of the store, as `store.path` names it.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Runs one of the commands.
pub(super) fn run(command: &Command, format: Format) -> Ended {
    match command {
        Command::Verify { folder } => verify(folder, format),
        Command::Export { folder } => match store::export(folder, &mut io::stdout().lock()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(e) => complain(EXIT_RUNTIME, e),
        },
    }
}

fn verify(folder: &Path, format: Format) -> Ended {
    let mut terminal = (format == Format::Text && io::stderr().is_terminal()).then(io::stderr);
    let found = store::verify_telling(folder, &mut |step| {
        if let Some(terminal) = &mut terminal {
            let _ = write!(terminal, "{CLEAR_LINE}{}", described(step)).and_then(|()| terminal.flush());
        }
    });
    if let Some(terminal) = &mut terminal {
        let _ = write!(terminal, "{CLEAR_LINE}").and_then(|()| terminal.flush());
    }
    let found = found.map_err(|e| Complaint::new(EXIT_RUNTIME, e))?;
    match format {
        Format::Json => say(json!({ "consistent": found.is_empty(), "problems": found })),
        Format::Text if found.is_empty() => say("the ledger is consistent"),
        Format::Text => return complain(EXIT_RUNTIME, found.join("\n")),
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUNTIME) })
}

fn described(step: Step) -> String {
    match step {
        Step::Pages(bytes) => format!("checking the pages of {} MiB", bytes.div_ceil(1 << 20)),
        Step::Rows(rows) => format!("{rows} rows read"),
        Step::Rules => "checking the rules of the ledger".to_owned(),
    }
}
