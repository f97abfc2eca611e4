//! The faults, one by one or all of the table, seen by a raw-socket client.

use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::test_client::*;
use super::*;

/// A client that leaves during a silence is noticed at once, whatever kind of silence it is.
#[tokio::test]
async fn hang_ups_are_noticed() {
    let (addr, stats) = start().await;
    let silences = ["fault/hang", "fault/stream-stall-mid", "fault/stream-ping-then-hang", "m+delay=60000"];
    for (count, model) in silences
        .into_iter()
        .chain(["m+chunk-delay=60000", "fault/slow-header", "m+size=1000000+chunks=1000"])
        .enumerate()
    {
        let mut client = Client::new(addr).await;
        client.post(CHAT, "", &chat_body(model, true)).await;
        until(|| stats.answering_now(), 1).await;
        drop(client);
        until(|| stats.aborted(), count as u64 + 1).await;
        until(|| stats.open_now(), 0).await;
    }
}

/// Names are unique, every example is found, families check their numbers, and the header wins over the model.
#[tokio::test]
async fn the_table() {
    let mut names: Vec<_> = catalogue().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults().len());
    for fault in faults() {
        assert_eq!(fault::find(fault.example).expect(fault.example).fault.name, fault.name);
        assert!(!fault.description.is_empty());
    }
    for unknown in ["status-<code>", "status-199", "status-+50", "flaky-101", "flaky", "", "overload-7"] {
        assert!(fault::find(unknown).is_none(), "{unknown}");
    }
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    client.post(CHAT, "X-Sandbox-Fault: status-418\r\n", &chat_body("fault/hang", false)).await;
    assert_eq!(client.read().await.status, 418);
    assert_eq!(client.ask(CHAT, chat_body("m+fault=status-529", false)).await.status, 529);
}

/// Every fixed answer arrives whole, and those that call themselves JSON are JSON, except the one that is about that.
#[tokio::test]
async fn fixed_answers() {
    let (addr, _) = start().await;
    for fault in faults() {
        let Kind::Canned(canned) = fault.kind else { continue };
        let got = Client::new(addr).await.ask(CHAT, chat_body(&format!("fault/{}", fault.name), true)).await;
        assert_eq!((got.status, got.complete), (canned.status, true), "{}", fault.name);
        assert_eq!(got.body, canned.bytes(), "{}", fault.name);
        let plain = canned.content_type == "application/json" && !got.head.contains("content-encoding");
        if plain && !["broken-json-200", "empty-200"].contains(&fault.name) {
            got.json();
        }
        assert_eq!(
            fault.phase == Phase::CallerError,
            ["context-400", "bad-param-400", "policy-400"].contains(&fault.name)
        );
    }
}

/// The gzip bomb is small on the wire and inflates to the size promised.
#[test]
fn bomb() {
    let body = canned::GZIP_BOMB_ERROR.bytes();
    assert!(body.len() < 2 * 1024 * 1024, "{}", body.len());
    let mut inflated = flate2::read::GzDecoder::new(body.as_slice());
    let size = std::io::copy(&mut inflated, &mut std::io::sink()).unwrap();
    assert!((100 << 20..101 << 20).contains(&size), "{size}");
}

/// Faults on the wire: what arrives is broken in the way the table says.
#[tokio::test]
async fn broken_wires() {
    let (addr, _) = start().await;
    let raw = async |fault: &str| {
        let mut client = Client::new(addr).await;
        client.post(CHAT, "", &chat_body(&format!("fault/{fault}"), false)).await;
        let failed = loop {
            match client.stream.read_buf(&mut client.buf).await {
                Ok(0) => break None,
                Ok(_) => {}
                Err(e) => break Some(e.kind()),
            }
        };
        (client.buf, failed)
    };
    assert_eq!(raw("close").await, (vec![], None));
    assert_eq!(raw("reset").await, (vec![], Some(io::ErrorKind::ConnectionReset)));
    assert!(!raw("bad-http").await.0.starts_with(b"HTTP/"));
    let endless = raw("endless-header").await.0;
    assert!(endless.len() > 8_000_000 && memchr::memmem::find(&endless, b"\r\n\r\n").is_none());
    let truncated = chat("fault/truncated-json", false).await;
    assert!(!truncated.complete && truncated.body.starts_with(b"{\"id\""));
    let lying = chat("fault/lying-length", false).await;
    assert!(lying.complete && serde_json::from_slice::<Value>(&lying.body).is_err());
    let mut client = Client::new(addr).await;
    client.post(CHAT, "", &chat_body("fault/early-hints", false)).await;
    let statuses = [client.read().await.status, client.read().await.status, client.read().await.status];
    assert_eq!(statuses, [100, 103, 200]);
}

/// Streams that break: how many content chunks came, whether the body ended properly, and what the last event was.
#[tokio::test]
async fn broken_streams() {
    let three = "The tide comes ";
    for (fault, content, complete) in [
        ("error-first", "", true),
        ("role-then-error", "", true),
        ("role-then-close", "", false),
        ("empty", "", true),
        ("done-only", "", true),
        ("json-error", "", true),
        ("html", "", true),
        ("garbage-first", "", true),
        ("error-mid", three, true),
        ("cut-mid", three, false),
        ("reset-mid", three, false),
        ("end-mid", three, true),
        ("garbage-mid", three, true),
    ] {
        let got = chat(&format!("fault/stream-{fault}"), true).await;
        assert_eq!((got.status, got.content().as_str(), got.complete), (200, content, complete), "{fault}");
        let events = got.events();
        assert!(events.iter().all(|e| e["choices"][0]["finish_reason"].is_null()), "{fault}");
        let told = events.last().is_some_and(|e| e["error"].is_object());
        assert_eq!(told, ["error-first", "role-then-error", "error-mid"].contains(&fault), "{fault}");
    }
}

/// Streams in an odd form all carry the content of the plain one.
#[tokio::test]
async fn odd_streams() {
    let plain = chat("m", true).await.content();
    for fault in faults().iter().filter(|f| f.applies == Applies::Stream && f.phase == Phase::Harmless) {
        let got = chat(&format!("fault/{}", fault.name), true).await;
        assert!(got.complete, "{}", fault.name);
        let (content, events) = (got.content(), got.events());
        let finished = events.iter().any(|e| e["choices"][0]["finish_reason"] == "stop");
        let done = events.last().unwrap() == "[DONE]";
        assert_eq!(finished, fault.name != "stream-no-finish", "{}", fault.name);
        assert_eq!(done, !["stream-no-done", "stream-late-error"].contains(&fault.name), "{}", fault.name);
        assert_eq!(got.head.contains("chunked"), fault.name != "stream-close-delimited");
        assert_eq!(memchr::memmem::find(&got.body, b"\r\n\r\n").is_some(), fault.name == "stream-crlf");
        if fault.name == "stream-big-line" {
            assert!(content.len() > 1024 * 1024);
        } else {
            assert_eq!(content, plain, "{}", fault.name);
        }
        let counted = events.iter().filter(|e| e["usage"].is_object()).count();
        assert_eq!(counted > 15, fault.name == "stream-usage-every-chunk");
    }
    let failed = chat("fault/stream-finish-error", true).await.events();
    assert_eq!(failed[failed.len() - 2]["choices"][0]["finish_reason"], "error");
}

/// The endless line reaches 64 MiB without a line feed, and then the connection closes.
#[tokio::test]
async fn endless_line() {
    let got = chat("fault/stream-endless-line", true).await;
    assert!(!got.complete && got.body.len() > 64 << 20);
    assert!(memchr::memchr(b'\n', &got.body).is_none());
}

/// A flaky upstream fails in exactly its share of a hundred requests, and not all in a row.
#[tokio::test]
async fn flaky() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    for (percent, expected) in [(0, 0), (30, 30), (100, 100)] {
        let mut failed = Vec::new();
        for _ in 0..100 {
            failed.push(
                client.ask(CHAT, chat_body(&format!("fault/flaky-{percent}"), false)).await.status == 503,
            );
        }
        assert_eq!(failed.iter().filter(|f| **f).count(), expected);
        assert_eq!(failed[..10].iter().filter(|f| **f).count(), expected / 10);
    }
}

/// A split stream does arrive in small pieces: most reads of its start give a few bytes.
#[tokio::test]
async fn split_is_split() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    client.post(CHAT, "", &chat_body("fault/stream-split", true)).await;
    let mut reads = 0;
    while memchr::memmem::find(&client.buf, b"[DONE]").is_none() {
        assert!(client.more().await);
        reads += 1;
    }
    assert!(reads > 50, "{reads}");
}

/// A burst leaves in one write, and so arrives in one read.
#[tokio::test]
async fn burst_is_one() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    client.post(CHAT, "", &chat_body("fault/stream-burst", true)).await;
    client.buf.reserve(64 * 1024);
    assert!(client.more().await && client.buf.ends_with(b"0\r\n\r\n"));
}
