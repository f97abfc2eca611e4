//! `tidegate schema` (spec 12.1)

use super::{EXIT_RUNTIME, Ended, complain, say};
use crate::config::schema;
use std::process::ExitCode;

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
