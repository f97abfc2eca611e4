//! `tidegate sandbox`

use super::{EXIT_RUNTIME, Ended, complain, say};
use crate::sandbox;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Runs a sandbox until the process ends.
pub(super) fn run(listen: SocketAddr) -> Ended {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return complain(EXIT_RUNTIME, e),
    };
    match runtime.block_on(sandbox::bind(listen)) {
        Ok(sandbox) => {
            say(format_args!("sandbox upstream at http://{}/v1", sandbox.addr()));
            say("a model named fault/NAME fails; the names:");
            for (name, description) in sandbox::catalogue() {
                say(format_args!("  {name:<28} {description}"));
            }
            runtime.block_on(sandbox.run());
            Ok(ExitCode::SUCCESS)
        }
        Err(e) => complain(EXIT_RUNTIME, format_args!("cannot listen at {listen}: {e}")),
    }
}
