//! Ring 3: the admin listener (spec 13.1): `/metrics`, `/livez`, `/readyz`, the status page `/`, `/status.json`, `/failures`,
//! `/explain`, `/openapi.json`, `/admin-openapi.json`, `/accounts`, `/keys`.
//!
//! The first three say nothing secret and are open to all; for everything else [`guard`] decides. What changes something
//! is in [`control`], what is rendered for people in [`page`].

mod control;
pub mod guard;
mod page;

pub(crate) use control::{BODY_MAX, BODY_TIMEOUT};

use crate::core::api::Api;
use crate::proxy::{Directory, HeaderArrived, Helm, Inspector, Question, Readiness};
use crate::runtime::reload::Reload;
use crate::runtime::signals::DrainWish;
use crate::store::{Bank, Health};
use crate::telemetry::failures::Failures;
use crate::telemetry::history::History;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::snapshot::Snapshot;
use async_trait::async_trait;
use guard::{Denied, Guard};
use http::Response;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The description of the public surface, in OpenAPI 3.1.
const OPENAPI: &[u8] = include_bytes!("../../conf/openapi.json");
/// The description of this listener, in OpenAPI 3.1.
const ADMIN_OPENAPI: &[u8] = include_bytes!("../../conf/admin-openapi.json");
/// Deadline of a single write to a client.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many failures are shown where nobody says how many.
const FAILURES_SHOWN: usize = 50;

/// The application behind the admin listener.
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// What `/failures` shows.
    pub failures: Arc<Failures>,
    /// What `/explain` asks, and what brings gauges up to date.
    pub inspector: Inspector,
    /// What `POST /channels/…` asks.
    pub helm: Helm,
    /// What the status page shows of the last minutes.
    pub history: Arc<Mutex<History>>,
    /// What `/accounts` and `/keys` show and change.
    pub directory: Arc<Directory>,
    /// What `POST /reload` asks.
    pub reload: Arc<Reload>,
    /// What `POST /drain` asks.
    pub wish: Arc<DrainWish>,
    /// Whether `/readyz` can say that what is paid for is written down.
    pub bank: Arc<Bank>,
    /// Who may see what is not open to all.
    pub guard: Arc<Guard>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let watching = session.take_connection_user_context().and_then(|watching| watching.downcast().ok());
        if let Some(arrived) = watching {
            let HeaderArrived(observer) = *arrived;
            observer.header_arrived();
        }
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        let head = session.req_header();
        if head.method == http::Method::POST {
            return match self.guard.may_change(&head.headers) {
                Ok(()) => self.change(session).await,
                Err(denied) => refuse(denied),
            };
        }
        if head.method != http::Method::GET && head.method != http::Method::HEAD {
            return other_method("GET, HEAD, POST");
        }
        match head.uri.path() {
            "/metrics" => {
                self.inspector.refresh();
                answer(200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            "/livez" => text(200, "ok\n"),
            "/readyz" => self.readyz(),
            path => match self.guard.may_read(&head.headers) {
                Ok(()) => self.guarded(path, head.uri.query().unwrap_or_default()),
                // It asks for the token, and says nothing else.
                Err(Denied::NoToken) if path == "/" => page::locked(),
                Err(denied) => refuse(denied),
            },
        }
    }
}

/// Tells whoever tries a change with GET what is wrong, for `not found` would send them looking elsewhere.
fn other_method(allowed: &'static str) -> Response<Vec<u8>> {
    let mut response = text(405, &format!("asked with another method (allowed: {allowed})\n"));
    response.headers_mut().insert("allow", http::HeaderValue::from_static(allowed));
    response
}

fn refuse(denied: Denied) -> Response<Vec<u8>> {
    match denied {
        Denied::ForeignHost => text(403, "this host name is not allowed (admin.allowed_hosts)\n"),
        Denied::NoToken => text(401, "the admin token is needed (Authorization: Bearer)\n"),
    }
}

impl Admin {
    /// Ready is who wants traffic. A store that fails is said loudly, but free models are still served, so the gateway
    /// stays in rotation.
    fn readyz(&self) -> Response<Vec<u8>> {
        match (self.readiness.is_ready(), self.bank.health()) {
            (false, _) => text(503, "draining\n"),
            (true, Health::Well) => text(200, "ready\n"),
            (true, Health::Failing { error, .. }) => {
                text(200, &format!("ready, but the store fails and paid requests are refused: {error}\n"))
            }
        }
    }

    fn guarded(&self, path: &str, query: &str) -> Response<Vec<u8>> {
        match path {
            "/" => page::page(&self.snapshot()),
            "/status.json" => json(200, &self.snapshot()),
            "/failures" => {
                let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok());
                let (id, limit) = (parameter(query, "id"), limit.unwrap_or(FAILURES_SHOWN));
                // Lines are what `grep` and `jq` work on; one object is for who asks for it.
                if parameter(query, "format").as_deref() == Some("json") {
                    let found = self.failures.render(id.as_deref(), limit);
                    return answer(200, "application/json", found.into_bytes());
                }
                let found = self.failures.render_lines(id.as_deref(), limit);
                answer(200, "application/x-ndjson", found.into_bytes())
            }
            "/explain" => self.explain(query),
            "/openapi.json" => answer(200, "application/json", OPENAPI.into()),
            "/admin-openapi.json" => answer(200, "application/json", ADMIN_OPENAPI.into()),
            "/accounts" => json(200, &self.directory.account_views()),
            "/keys" if parameter(query, "revoked").is_some_and(|wanted| wanted == "true") => {
                json(200, &self.directory.revoked_views())
            }
            "/keys" => json(200, &self.directory.key_views(parameter(query, "account").as_deref())),
            _ if control::changes(path) => other_method("POST"),
            path if path.starts_with("/accounts/") => self.account(path.trim_start_matches("/accounts/")),
            _ => text(404, "not found\n"),
        }
    }

    fn account(&self, escaped: &str) -> Response<Vec<u8>> {
        let id = percent_encoding::percent_decode_str(escaped).decode_utf8_lossy();
        match self.directory.account_details(&id) {
            Some(account) => json(200, &account),
            None => json(404, &serde_json::json!({ "error": format!("there is no account {id}") })),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        self.inspector.snapshot(&history, self.readiness.is_ready())
    }

    fn explain(&self, query: &str) -> Response<Vec<u8>> {
        let Some(model) = parameter(query, "model") else {
            return text(400, "name a model: /explain?model=ID[&key=ID][&api=chat][&tokens=0]\n");
        };
        let named = parameter(query, "api").unwrap_or_else(|| "chat".to_owned());
        let Some((_, api)) = Api::WORDS.iter().find(|(word, _)| *word == named) else {
            return text(400, "there is no such api\n");
        };
        // A form that is not filled in sends empty fields.
        let (key, api) = (parameter(query, "key").filter(|key| !key.is_empty()), *api);
        let tokens = parameter(query, "tokens").map_or(Some(0), |tokens| tokens.parse().ok());
        let Some(tokens) = tokens else { return text(400, "tokens must be a number\n") };
        let explained = self.inspector.explain(Question { model: &model, key: key.as_deref(), api, tokens });
        answer(200, "application/json", serde_json::to_vec(&explained).unwrap_or_default())
    }
}

/// The value of a query parameter.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) =
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    // As forms write it; whoever means a plus sign says %2B.
    let value = value.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

fn json(status: u16, body: &impl serde::Serialize) -> Response<Vec<u8>> {
    answer(status, "application/json", serde_json::to_vec(body).unwrap_or_default())
}

fn text(status: u16, body: &str) -> Response<Vec<u8>> {
    answer(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn answer(status: u16, content_type: &str, body: Vec<u8>) -> Response<Vec<u8>> {
    let built = Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("content-length", body.len())
        .header("cache-control", "no-store")
        .body(body);
    // Constant statuses and header values always build.
    built.unwrap_or_default()
}
