//! `tidegate check`

use super::{EXIT_CONFIG, Ended, say};
use crate::config;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Checks a file; every problem and every warning is a line.
pub(super) fn check(path: &Path) -> Ended {
    match config::load(path) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                say(format_args!("{}:{warning}", path.display()));
            }
            say(format_args!("{}: ok", path.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            Err(EXIT_CONFIG)
        }
    }
}
