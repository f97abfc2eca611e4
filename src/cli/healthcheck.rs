//! `tidegate healthcheck`: whether a gateway is ready, for containers (spec 12.2).

use super::{Complaint, EXIT_RUNTIME, Ended, Format, admin, say};
use serde_json::json;
use std::process::ExitCode;

/// Exits with 0 if the gateway wants traffic.
pub(super) fn run(admin: &admin::Listener, format: Format) -> Ended {
    let says = admin.get("/readyz").map_err(|why| Complaint::new(EXIT_RUNTIME, why))?;
    match format {
        Format::Text => say(says.trim_end()),
        Format::Json => say(json!({ "ready": true, "says": says.trim_end() })),
    }
    Ok(ExitCode::SUCCESS)
}
