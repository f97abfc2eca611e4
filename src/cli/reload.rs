//! `tidegate reload`: load the configuration of a running gateway again (spec 12.2, 12.3).

use super::{EXIT_CONFIG, EXIT_RUNTIME, Ended, Format, admin, complain, read, say};
use serde::Deserialize;
use std::process::ExitCode;

/// What the gateway answers.
#[derive(Deserialize)]
struct Report {
    generation: u64,
    changes: Vec<String>,
    after_restart: Vec<String>,
    warnings: Vec<String>,
}

/// Asks for it, and says what has changed.
pub(super) fn run(admin: &admin::Listener, format: Format) -> Ended {
    match admin.post("/reload", &serde_json::Value::Null) {
        Ok(answer) if format == Format::Json => {
            say(answer.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Ok(answer) => match read::<Report>(&answer) {
            Ok(report) => {
                say(described(&report));
                Ok(ExitCode::SUCCESS)
            }
            Err(e) => complain(EXIT_RUNTIME, format_args!("the gateway's answer is odd: {e}")),
        },
        Err(why) if why.contains(" answered 400: ") => complain(EXIT_CONFIG, why),
        Err(why) => complain(EXIT_RUNTIME, why),
    }
}

fn described(report: &Report) -> String {
    let mut lines = vec![format!("generation {} is in force", report.generation)];
    lines.extend(report.changes.iter().map(|change| format!("  {change}")));
    lines.extend(report.after_restart.iter().map(|name| format!("  {name}: takes a restart")));
    lines.extend(report.warnings.iter().map(|warning| format!("  {}", super::style::problem(warning))));
    if report.changes.is_empty() && report.after_restart.is_empty() {
        lines.push("  nothing has changed".into());
    }
    lines.join("\n")
}
