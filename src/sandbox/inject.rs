//! Faults acted out below the level of one well-formed answer.
//!
//! Every wait here watches for the client to go away, because a gateway is tested on how soon it does.

use std::io;
use std::time::Duration;

use super::answer::{self, Answer};
use super::canned::{Body, Canned};
use super::fault::Wire;
use super::http::{Conn, Reply};
use super::{LONG, Outcome};

/// How many bytes of head trickle, and how far apart.
const TRICKLE: (usize, Duration) = (300, Duration::from_millis(100));
/// Header lines of the head without an end, bytes in all.
const ENDLESS: usize = 8 * 1024 * 1024;

/// Sends a fixed answer.
pub(super) async fn say(conn: &mut Conn, canned: &'static Canned, keep_alive: bool) -> io::Result<Outcome> {
    let body = match canned.body {
        // Making the bomb is work for a thread that may block.
        Body::GzipBomb => tokio::task::spawn_blocking(|| canned.bytes()).await.map_err(io::Error::other)?,
        _ => canned.bytes(),
    };
    let Canned { status, content_type, headers, .. } = *canned;
    conn.write(&Reply { status, content_type, headers, body: &body, keep_alive }.bytes()).await?;
    Ok(Outcome::Keep)
}

/// Sends a status with a plain error, or an empty object where the status is no error.
pub(super) async fn status(conn: &mut Conn, status: u16, keep_alive: bool) -> io::Result<Outcome> {
    let body = match status {
        ..400 => "{}".to_owned(),
        400..500 => answer::error("The sandbox was asked for this status", "invalid_request_error", None),
        _ => answer::error("The sandbox was asked for this status", "server_error", None),
    };
    let body = body.as_bytes();
    conn.write(&Reply { status, content_type: "application/json", headers: &[], body, keep_alive }.bytes())
        .await?;
    Ok(Outcome::Keep)
}

/// Misbehaves on the wire; `None` means that the honest answer is to follow.
pub(super) async fn misbehave(
    conn: &mut Conn,
    wire: Wire,
    answer: &Answer<'_>,
) -> io::Result<Option<Outcome>> {
    match wire {
        Wire::Close => {}
        Wire::Reset => return Ok(Some(Outcome::Reset)),
        Wire::Hang => conn.pause(LONG).await?,
        Wire::SlowHeader => trickle(conn).await?,
        Wire::Garbage => conn.write(b"\x16\x03\x01 no HTTP here \x00\xff\xfe\r\n\r\n").await?,
        Wire::EndlessHeader => endless_header(conn).await?,
        Wire::LyingLength => {
            let body = answer.body();
            conn.write(&json(&body).bytes_claiming(body.len() / 2)).await?;
        }
        Wire::Truncated => {
            let body = answer.body();
            let half = body.get(..body.len() / 2).unwrap_or_default();
            conn.write(&json(half).bytes_claiming(body.len())).await?;
        }
        Wire::EarlyHints => {
            conn.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </s.css>; rel=preload\r\n\r\n")
                .await?;
            return Ok(None);
        }
    }
    Ok(Some(Outcome::Close))
}

fn json(body: &str) -> Reply<'_> {
    Reply {
        status: 200,
        content_type: "application/json",
        headers: &[],
        body: body.as_bytes(),
        keep_alive: true,
    }
}

async fn trickle(conn: &mut Conn) -> io::Result<()> {
    let mut head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-slow: ".to_vec();
    head.resize(TRICKLE.0, b'z');
    for byte in head.chunks(1) {
        conn.write(byte).await?;
        conn.pause(TRICKLE.1).await?;
    }
    Ok(())
}

async fn endless_header(conn: &mut Conn) -> io::Result<()> {
    conn.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n").await?;
    let lines = format!("x-filler: {}\r\n", "z".repeat(500)).repeat(64);
    for _ in 0..ENDLESS / lines.len() {
        conn.write(lines.as_bytes()).await?;
    }
    Ok(())
}
