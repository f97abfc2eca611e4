//! `tidegate sandbox`

use super::{EXIT_RUNTIME, Ended, Format, complain, say};
use crate::sandbox;
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Runs a sandbox until the process ends.
pub(super) fn run(listen: SocketAddr, format: Format) -> Ended {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return complain(EXIT_RUNTIME, e),
    };
    match runtime.block_on(sandbox::bind(listen)) {
        Ok(sandbox) => {
            let base = format!("http://{}/v1", sandbox.addr());
            match format {
                Format::Json => {
                    let faults =
                        sandbox::catalogue().map(|(name, about)| json!({ "name": name, "about": about }));
                    say(json!({ "base_url": base, "faults": faults.collect::<Vec<_>>() }));
                }
                Format::Text => {
                    say(format_args!("sandbox upstream at {base}"));
                    say("a model named fault/NAME fails; the names:");
                    for (name, description) in sandbox::catalogue() {
                        say(format_args!("  {name:<28} {description}"));
                    }
                }
            }
            runtime.block_on(sandbox.run());
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => complain(EXIT_RUNTIME, format_args!("cannot listen at {listen}: {e}")),
    }
}
