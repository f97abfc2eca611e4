//! `tidegate check`

use super::style::{Tone, paint};
use super::{Complaint, Ended, Format, say};
use crate::config;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Checks a file; every problem and every warning is a line. Without secrets, those of the environment and of files need not be
/// there.
pub(super) fn check(path: &Path, without_secrets: bool, format: Format) -> Ended {
    let load = if without_secrets { config::load_without_secrets } else { config::load };
    let loaded = load(path).map_err(|problems| Complaint::of(&problems))?;
    let warnings = loaded.warnings.iter().map(|warning| warning.in_file(path));
    match format {
        Format::Text => {
            warnings.for_each(|warning| say(super::style::problem(&warning)));
            let note = if without_secrets { ", secrets apart" } else { "" };
            say(format_args!("{}: {}{note}", path.display(), paint(Tone::Good, "ok")));
        }
        Format::Json => {
            let warnings: Vec<_> = warnings.collect();
            say(json!({ "file": path, "ok": true, "warnings": warnings }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
