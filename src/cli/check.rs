//! `tidegate check`

use super::{Complaint, Ended, Format, say};
use crate::config;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Checks a file; every problem and every warning is a line.
pub(super) fn check(path: &Path, format: Format) -> Ended {
    let loaded = config::load(path).map_err(|problems| Complaint::of(&problems))?;
    let warnings = loaded.warnings.iter().map(|warning| format!("{}:{warning}", path.display()));
    match format {
        Format::Text => {
            warnings.for_each(say);
            say(format_args!("{}: ok", path.display()));
        }
        Format::Json => {
            let warnings: Vec<_> = warnings.collect();
            say(json!({ "file": path, "ok": true, "warnings": warnings }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
