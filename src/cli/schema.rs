//! `tidegate schema` (spec 12.1)

use super::{EXIT_RUNTIME, Ended, bounds, complain, say};
use crate::config::{reference, schema};
use std::process::ExitCode;

/// The head of the reference; who reads the file has to know where it comes from.
const TITLE: &str = "\
# Configuration

<!-- Made by `tidegate schema --format markdown`; write it anew with UPDATE_DOCS=1 cargo test --test it -- docs:: -->
";

/// Prints the JSON schema of the configuration.
pub(super) fn run() -> Ended {
    match serde_json::to_string_pretty(&schema::schema()) {
        Ok(schema) => {
            say(schema);
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => complain(EXIT_RUNTIME, e),
    }
}

/// Prints the reference of the configuration, for people.
pub(super) fn reference() -> Ended {
    say(format_args!("{TITLE}\n{}\n{}", reference::markdown(), bounds::markdown().trim_end()));
    Ok(ExitCode::SUCCESS)
}
