//! Ring 3: the sandbox, a scripted OpenAI-compatible upstream.
//!
//! It answers chat, completions, embeddings, images and the model list honestly, and fails in every way that
//! [`fault::FAULTS`] lists when the model name or a header asks for it. It owns bytes and time itself, below any HTTP
//! library, because most of what it has to get wrong no library would do. It serves the quick start, the tests and the
//! cost benchmark, so its plain answers are fast.
//!
//! Model names steer it: `fault/<name>` or `x+fault=<name>` fails, and `+chunks=8`, `+tokens=100`, `+prompt=9`,
//! `+size=4096` (bytes of content), `+delay=50` (ms before the first byte), `+gap=10` (ms between chunks) shape the answer.

mod answer;
mod connection;
pub mod fault;
mod script;
mod stats;

use answer::Ask;
use connection::{Connection, Request};
pub use stats::{Recorded, Stats};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A sandbox that listens.
pub struct Sandbox {
    listener: TcpListener,
    stats: Arc<Stats>,
}

impl Sandbox {
    /// Listens at an address; port 0 takes any.
    ///
    /// # Errors
    ///
    /// The address cannot be listened at.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, stats: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The socket does not know, which no system does.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it has seen.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Serves until dropped; no client can make it end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops accepting; connections under way go on.
    pub async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, Arc::clone(&self.stats)));
                }
                // Out of descriptors: wait for one to come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, stats: Arc<Stats>) {
    stats.open.fetch_add(1, Ordering::Relaxed);
    stats.connections.fetch_add(1, Ordering::Relaxed);
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    while let Ok(Some(request)) = connection.read_request().await {
        stats.note(&request);
        match respond(&mut connection, &request, &stats).await {
            Ok(true) if request.keep_alive => {}
            Ok(_) => break,
            Err(_) => {
                stats.aborted.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
    stats.open.fetch_sub(1, Ordering::Relaxed);
}

/// Answers one request; whether the connection can be used again. An error means that the client left.
async fn respond(connection: &mut Connection, request: &Request, stats: &Stats) -> io::Result<bool> {
    let path = request.path.strip_prefix("/v1").unwrap_or(&request.path);
    if request.method == "GET" && path == "/models" {
        return connection.json(200, &answer::models()).await.map(|()| true);
    }
    let Some(kind) = answer::Kind::of(path).filter(|_| request.method == "POST") else {
        return connection
            .json(404, &answer::error("Invalid URL", "invalid_request_error", None))
            .await
            .map(|()| true);
    };
    if request.header("authorization").is_none() {
        let body = answer::error(
            "You did not provide an API key.",
            "invalid_request_error",
            Some("invalid_api_key"),
        );
        return connection.json(401, &body).await.map(|()| true);
    }
    let Some(ask) = Ask::parse(&request.body) else {
        let body = answer::error("We could not parse the JSON body.", "invalid_request_error", None);
        return connection.json(400, &body).await.map(|()| true);
    };
    let knobs = ask.knobs();
    connection.pause(knobs.delay).await?;
    let named = request.header("x-sandbox-fault").or(knobs.fault);
    match named.filter(|name| !stats.spares(name)) {
        Some(name) => fault::play(connection, name, kind, &ask, &knobs).await,
        None if ask.stream && kind.can_stream() => {
            script::play(connection, script::HONEST, kind, &ask, &knobs).await
        }
        None => connection.json(200, &answer::whole(kind, &ask, &knobs)).await.map(|()| true),
    }
}

#[cfg(test)]
mod tests;
