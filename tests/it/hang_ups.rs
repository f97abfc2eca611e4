//! Clients that vanish: nothing leaks, nothing is forgotten, and the upstream is cancelled (spec 6.3, 10.5).

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};
use std::io::{Read, Write};
use std::time::Duration;

const CLIENTS: u64 = 10_000;
const THREADS: u64 = 16;

fn gateway(upstream: &Upstream) -> Gateway {
    Config::default()
        .model("m/fast", "chat")
        .model("m/slow", "chat")
        .model("m/stream", "chat")
        .model("m/fails", "chat")
        .model("m/hang", "chat")
        .channel(
            "c",
            upstream.addr,
            &[
                ("m/fast", "x"),
                ("m/slow", "x+delay=5"),
                ("m/stream", "x+chunks=20+chunk-delay=1"),
                ("m/fails", "fault/status-503"),
                ("m/hang", "fault/hang"),
            ],
            "",
        )
        .channel("spare", upstream.addr, &[("m/fails", "x+delay=3")], ", priority: 1")
        .limits("concurrency: 1000")
        .start()
}

fn request(model: &str, stream: bool) -> Vec<u8> {
    let body = chat_body(model, stream);
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One client that leaves at a random moment; whether its request was whole enough to count, which it is with its head.
fn vanish(gateway: &Gateway, random: &mut fastrand::Rng) -> bool {
    let model = *random.choice(&["m/fast", "m/slow", "m/stream", "m/fails"]).unwrap();
    let request = request(model, random.bool());
    let head = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let sent = match random.u8(..4) {
        0 => random.usize(1..request.len()),
        _ => request.len(),
    };
    let mut stream = http::connect(gateway.public).expect("a connection");
    stream.write_all(&request[..sent]).expect("the gateway reads");
    std::thread::sleep(Duration::from_micros(random.u64(0..6_000)));
    if random.u8(..4) == 0 {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let _ = stream.read(&mut [0; 512]);
    }
    sent >= head
}

/// Goal: 10,000 clients that vanish at random moments leave every gauge at zero, and the counters equal the requests.
#[test]
fn ten_thousand_clients_vanish() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let counted: u64 = std::thread::scope(|scope| {
        let gateway = &gateway;
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    (0..CLIENTS / THREADS).filter(|_| vanish(gateway, &mut random)).count() as u64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    gateway.count(counted);
    gateway
        .wait_for("every request to be settled", || gateway.sum("tidegate_requests_total") >= counted as f64);
    gateway.wait_for("the upstream's last answer", || upstream.stats.answering_now() == 0);
    let log = gateway.log();
    assert!(log.iter().any(|line| line["end"] == "client_gone"), "some clients left in the middle");
    assert!(log.iter().all(|line| line["end"] != "killed"), "no request was dropped");
    assert_eq!(gateway.chat("m/fast", false).status, 200);
    gateway.finish();
}

/// Goal: an upstream call is cancelled at once when its client leaves, before the header and in mid-stream.
#[test]
fn upstreams_are_cancelled_at_once() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (model, stream) in [("m/hang", false), ("m/hang", true)] {
        let before = upstream.stats.aborted();
        gateway.count(1);
        let mut client = http::connect(gateway.public).unwrap();
        client.write_all(&request(model, stream)).unwrap();
        gateway.wait_for("the upstream to be asked", || upstream.stats.answering_now() == 1);
        drop(client);
        let left = std::time::Instant::now();
        gateway.wait_for("the upstream to be cancelled", || upstream.stats.aborted() == before + 1);
        assert!(left.elapsed() < Duration::from_secs(2));
    }
    gateway.finish();
}

/// Goal: a client that does not read is cut after the write timeout, and its permit comes back (spec 10.7).
#[test]
fn slow_readers_are_cut() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/big", "chat")
        .channel("c", upstream.addr, &[("m/big", "x+chunks=2000+size=40000000")], "")
        .limits("concurrency: 1")
        .server("  write_timeout: 1s")
        .start();
    gateway.count(1);
    let mut client = http::connect(gateway.public).unwrap();
    client.write_all(&request("m/big", true)).unwrap();
    gateway.wait_for("the stream to begin", || gateway.sum("tidegate_channel_in_flight") == 1.0);
    assert_eq!(gateway.chat("m/big", true).status, 429);
    gateway.wait_for("the slow reader to be cut", || gateway.sum("tidegate_in_flight") == 0.0);
    drop(client);
    gateway.finish();
}

/// Goal: an idle connection is closed after its time, also where that is less than a second: the client does nothing after
/// its first answer and waits for the end.
#[test]
fn idle_connections_are_closed() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .server("  keepalive: 200ms")
        .start();
    gateway.count(1);
    let mut client = http::connect(gateway.public).unwrap();
    client.write_all(&request("m/x", false)).unwrap();
    assert_eq!(http::read_reply(&mut client).unwrap().status, 200);
    let idle = std::time::Instant::now();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(idle.elapsed() < Duration::from_secs(10));
    gateway.finish();
}
