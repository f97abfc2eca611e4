//! `tidegate ledger`: check and export the embedded store of a gateway that is not running (spec 8.5).

use super::{EXIT_RUNTIME, Ended, complain, say};
use crate::store;
use clap::Subcommand;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check every row and every invariant.
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
pub(super) fn run(command: &Command) -> Ended {
    match command {
        Command::Verify { folder } => match store::verify(folder) {
            Ok(found) if found.is_empty() => {
                say("the ledger is consistent");
                Ok(ExitCode::SUCCESS)
            }
            Ok(found) => complain(EXIT_RUNTIME, found.join("\n")),
            Err(e) => complain(EXIT_RUNTIME, e),
        },
        Command::Export { folder } => match store::export(folder, &mut io::stdout().lock()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(e) => complain(EXIT_RUNTIME, e),
        },
    }
}
