//! The admin listener of a running gateway, asked from the command line.

use crate::wire::echo::printable;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the gateway's admin listener is.
#[derive(Debug, Args)]
pub(super) struct Listener {
    /// The admin listener of the gateway.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090", value_parser = address)]
    admin: String,
    /// A file with the admin token; without it the variable TIDEGATE_ADMIN_TOKEN counts.
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

/// Host and port, also out of the address of the status page as the greeting shows it.
fn address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    match address.is_empty() || address.contains(['/', '@', '?', '#']) {
        true => Err("such as 127.0.0.1:9090 or http://gateway.internal:9090".to_owned()),
        false => Ok(address.to_owned()),
    }
}

/// An id as a part of a path or query.
pub(super) fn escaped(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

/// What is wrong, out of an answer that says so in JSON or as plain text.
fn told(body: &str) -> String {
    #[derive(Deserialize)]
    struct Told {
        error: String,
    }
    let told = serde_json::from_str::<Told>(body).map_or_else(|_| body.trim().to_owned(), |told| told.error);
    let lines: Vec<_> = told.lines().map(printable).collect();
    lines.join("\n")
}

impl Listener {
    /// Gets a path; the answer is its body.
    ///
    /// # Errors
    ///
    /// A sentence on why there is no answer.
    pub(super) fn get(&self, path: &str) -> Result<String, String> {
        let request = self.agent().get(format!("http://{}{path}", self.admin));
        self.answer(self.authorized(request)?.call())
    }

    /// Posts JSON to a path; the answer is its body.
    ///
    /// # Errors
    ///
    /// A sentence on why there is no answer, or what the gateway has against it.
    pub(super) fn post(&self, path: &str, body: &serde_json::Value) -> Result<String, String> {
        let request = self.agent().post(format!("http://{}{path}", self.admin));
        let request = self.authorized(request)?.header("content-type", "application/json");
        self.answer(request.send(body.to_string()))
    }

    fn agent(&self) -> ureq::Agent {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        // A proxy of the environment is for the way out: it cannot reach a loopback address, and must not see the token.
        let config = config.proxy(None).max_redirects(0);
        ureq::Agent::new_with_config(config.build())
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> Result<ureq::RequestBuilder<B>, String> {
        Ok(match self.token()? {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        })
    }

    fn answer(&self, answered: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<String, String> {
        let unreachable = |e| format!("no gateway answers at {}: {e}", self.admin);
        let mut answer = answered.map_err(unreachable)?;
        let body = answer.body_mut().read_to_string().map_err(unreachable)?;
        match answer.status().as_u16() {
            200 | 201 => Ok(body),
            401 => Err(format!(
                "the gateway at {} answered 401: {}; it is read from TIDEGATE_ADMIN_TOKEN or --token-file, and has to be the \
                 one under admin.token of the gateway",
                self.admin,
                told(&body)
            )),
            status => Err(format!("the gateway at {} answered {status}: {}", self.admin, told(&body))),
        }
    }

    fn token(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.token_file else { return Ok(crate::config::admin_token()) };
        let read = std::fs::read_to_string(path);
        let told = |e| format!("{}: {}", path.display(), crate::config::unreadable(&e));
        read.map(|text| Some(text.trim().to_owned())).map_err(told)
    }
}
