//! Ring 3: the admin listener (spec 13.1): `/metrics`, `/livez`, `/readyz`.
//!
//! These three say nothing secret and need no token. Everything else is 404, so there is nothing yet that DNS rebinding
//! or a stranger could reach.

use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use http::Response;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the gateway wants new traffic (spec 12.3).
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Says from now on whether new traffic is wanted.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether new traffic is wanted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The application behind the admin listener.
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        if head.method != http::Method::GET && head.method != http::Method::HEAD {
            return text(404, "not found\n");
        }
        match head.uri.path() {
            "/metrics" => answer(200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render()),
            "/livez" => text(200, "ok\n"),
            "/readyz" if self.readiness.is_ready() => text(200, "ready\n"),
            "/readyz" => text(503, "draining\n"),
            _ => text(404, "not found\n"),
        }
    }
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
