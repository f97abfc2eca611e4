//! `kill -9` (spec 8.5): what was acknowledged stays, nothing is charged twice, what was delivered is charged up to the last
//! checkpoint.

use crate::support::money::{balance_of, read_balance, verify_ledger};
use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, Gateway, KEY, chat_body, http, is_long};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidegate::core::estimate::{Family, Features};

/// What a request costs.
const PRICE: i64 = 10_000_000;
const CREDIT: i64 = 1_000_000_000_000_000;
const CLIENTS: u64 = 6;

fn event(data: &str) -> Act {
    chunk(format!("data: {data}\n\n").as_bytes())
}

fn word(text: &str) -> Act {
    event(&json!({"id": "u", "choices": [{"index": 0, "delta": {"content": text}}]}).to_string())
}

/// The beginning of a chat stream.
fn stream_head() -> Act {
    chunked(200, &[("content-type".into(), "text/event-stream".into())])
}

/// A good answer, some time later.
fn good(stream: bool, random: &mut fastrand::Rng) -> Vec<Act> {
    let pause = || Act::Wait(Duration::from_millis(fastrand::u64(0..8)));
    if stream {
        let finish = event(r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        let mut acts = vec![stream_head(), word("one"), pause(), word(" two"), finish];
        // Some upstreams break off.
        if random.u8(..8) == 0 {
            acts.truncate(3);
            acts.push(Act::Close);
        } else {
            acts.extend([event("[DONE]"), chunk(b"")]);
        }
        return acts;
    }
    let body = r#"{"id":"u","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"one"},"finish_reason":"stop"}]}"#;
    [vec![pause()], whole(200, &[("content-type".into(), "application/json".into())], body.as_bytes())]
        .concat()
}

/// An upstream that counts the answers it begins. A shaky one fails half of the time, and begins nothing then.
fn upstream(begun: &Arc<AtomicI64>, shaky: bool) -> SocketAddr {
    let begun = Arc::clone(begun);
    scripted::start(move |asked: &Asked| {
        let mut random = fastrand::Rng::new();
        match random.u8(..6) {
            0 if shaky => whole(503, &[], b"{}"),
            1 if shaky => vec![Act::Close],
            2 if shaky => vec![Act::Wait(Duration::from_millis(5)), Act::Reset],
            _ => {
                begun.fetch_add(1, Ordering::SeqCst);
                good(String::from_utf8_lossy(&asked.body).contains(r#""stream":true"#), &mut random)
            }
        }
    })
}

fn config(begun: &Arc<AtomicI64>) -> Config {
    let restless = "defaults: { retry: { budget_ratio: 10 }, health: { cooldown_max: 0s, ejection: 0s } }\n";
    Config { defaults: Some(restless.into()), ..Config::default() }
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .channel("shaky", upstream(begun, true), &[("m/each", "x")], "")
        .channel("good", upstream(begun, false), &[("m/each", "x")], ", priority: 1")
        .account("credit: \"1000000\"")
}

/// What the clients of one round know.
struct Load {
    public: SocketAddr,
    /// What had been used before the round.
    before: i64,
    /// Answers that were read to their end.
    done: AtomicI64,
    /// The most that a read of the balance has shown as used.
    shown: AtomicI64,
    reads: AtomicUsize,
}

impl Load {
    /// One client: asks until nobody answers.
    fn client(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            let went_on = if random.u8(..8) == 0 { self.read() } else { self.ask(random.bool()) };
            if went_on.is_none() {
                return;
            }
        }
    }

    fn ask(&self, stream: bool) -> Option<()> {
        let body = chat_body("m/each", stream);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = http::exchange(self.public, request.as_bytes()).filter(|reply| reply.complete)?;
        assert!(matches!(reply.status, 200 | 502), "{} {}", reply.status, reply.text());
        if reply.status == 200 {
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        Some(())
    }

    /// What is shown covers every answer that had been read before.
    fn read(&self) -> Option<()> {
        let done = self.done.load(Ordering::SeqCst);
        let reply = read_balance(self.public).filter(|reply| reply.complete)?;
        let shown = balance_of(&reply);
        assert!(shown.used >= self.before + done * PRICE, "{shown:?}: {done} answers");
        assert_eq!(shown.total, CREDIT);
        self.shown.fetch_max(shown.used, Ordering::SeqCst);
        self.reads.fetch_add(1, Ordering::SeqCst);
        Some(())
    }
}

/// Loads a gateway for a while and kills it in the middle.
fn load_and_kill(gateway: Gateway, before: i64, round: u64) -> Load {
    let load = Load {
        public: gateway.public,
        before,
        done: AtomicI64::new(0),
        shown: AtomicI64::new(before),
        reads: AtomicUsize::new(0),
    };
    let time = Duration::from_micros(fastrand::Rng::with_seed(round).u64(200_000..1_000_000));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(round * CLIENTS + client));
        }
        std::thread::sleep(time);
        // The end of a `Gateway` is SIGKILL.
        drop(gateway);
    });
    load
}

/// Goal: no settlement that a read of the balance has shown is missing after `kill -9`, none is doubled, and the ledger is
/// consistent. Method: 20 rounds (300 in `make test-long`) on one store, JSON and streams, failures, retries and broken
/// streams; each round is killed at a random moment. What is used is held against what was shown, and against the number of
/// answers that the upstreams have begun, each of which costs the same.
#[test]
fn killed_under_load() {
    let (begun, folder) = (Arc::new(AtomicI64::new(0)), tempfile::tempdir().unwrap());
    let config = config(&begun);
    let (mut answers, mut reads) = (0, 0);
    let mut used = 0;
    let mut uncharged = 0;
    let rounds = if is_long() { 300 } else { 20 };
    let mut gateway = config.start_in(folder.path());
    for round in 0..rounds {
        let begun_before = begun.load(Ordering::SeqCst);
        let load = load_and_kill(gateway, used, round);
        verify_ledger(folder.path());
        let begun_now = begun.load(Ordering::SeqCst) - begun_before;
        gateway = config.start_in(folder.path());
        let shown = gateway.balance();
        let (done, acknowledged) = (load.done.into_inner(), load.shown.into_inner());
        assert_eq!(shown.total, CREDIT, "round {round}");
        assert!(shown.used >= acknowledged, "round {round}: {acknowledged} was acknowledged: {shown:?}");
        assert!(shown.used - used <= begun_now * PRICE, "round {round}: {begun_now} answers: {shown:?}");
        assert_eq!(shown.used % PRICE, 0, "round {round}");
        gateway.check_idle_sums(0);
        uncharged += (done - (shown.used - used) / PRICE).max(0);
        used = shown.used;
        answers += done;
        reads += load.reads.into_inner();
    }
    eprintln!(
        "{rounds} kills, {answers} answers, {reads} balance reads, {uncharged} answers uncharged, {used} nano-dollars used"
    );
    assert!(
        answers > 20 * rounds.cast_signed() && reads > 0,
        "there was load: {answers} answers, {reads} reads"
    );
}

/// What a client has read of a stream by now: moments and the tokens up to them.
type Delivered = Vec<(Instant, u64)>;

/// An upstream whose streams never end: so many words every few milliseconds.
fn endless() -> SocketAddr {
    scripted::start(|asked: &Asked| {
        let pace = Duration::from_millis(asked.model().parse().unwrap());
        let piece = [word("so it goes on and on, with number 123 "), Act::Wait(pace)];
        std::iter::once(stream_head()).chain(std::iter::repeat_n(piece, 20_000).flatten()).collect()
    })
}

/// Reads a stream until it is cut; the text counts as the gateway counts it, delta by delta.
fn follow(public: SocketAddr, model: &str) -> Delivered {
    let body = chat_body(model, true);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = http::connect(public).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let (mut text, mut delivered) = (Features::default(), Vec::new());
    for line in BufReader::new(connection).lines().map_while(Result::ok) {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: serde_json::Value = serde_json::from_str(data).unwrap();
        text.add_text(event["choices"][0]["delta"]["content"].as_str().unwrap());
        delivered.push((Instant::now(), Family::O200k.tokens(&text)));
    }
    delivered
}

/// The tokens that had been delivered at this moment.
fn tokens_at(delivered: &Delivered, moment: Instant) -> u64 {
    delivered.iter().take_while(|(at, _)| *at <= moment).last().map_or(0, |(_, tokens)| *tokens)
}

/// Goal: a stream that dies with the process costs at most what was delivered, and at least what had been delivered 2.5 s
/// before: a checkpoint is written every 2 s, plus the time of a commit. Method: streams of several paces, some so fast
/// that their reservation is extended, killed after more than 4 s, and again shortly before their third checkpoint; the
/// reading clients count with the gateway's own estimator.
#[test]
fn a_killed_stream_is_settled_at_its_checkpoint() {
    for millis in [4_600, 5_750] {
        kill_streams_after(Duration::from_millis(millis + fastrand::u64(0..150)));
    }
}

fn kill_streams_after(time: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let models = [("m/5", "5"), ("m/30", "30"), ("m/70", "70"), ("m/150", "150")];
    let priced = |config: Config, (id, _): &(&str, &str)| {
        config.model_with(id, "chat", r#"price: { input: "0", output: "10" }, tokenizer: o200k"#)
    };
    let config = models.iter().fold(Config::default(), priced);
    let config = config.channel("c", endless(), &models, "").account("credit: \"100\"");
    let gateway = config.start_in(folder.path());
    let public = gateway.public;
    let (killed, streams) = std::thread::scope(|scope| {
        let readers = models.map(|(model, _)| scope.spawn(move || follow(public, model)));
        std::thread::sleep(time);
        let killed = Instant::now();
        drop(gateway);
        (killed, readers.map(|reader| reader.join().unwrap()))
    });
    verify_ledger(folder.path());
    let gateway = config.start_in(folder.path());
    let price = |tokens: u64| tokens.cast_signed() * 10_000;
    let delivered = price(streams.iter().map(|stream| stream.last().unwrap().1).sum());
    let bound = killed - Duration::from_millis(2_500);
    let least = price(streams.iter().map(|stream| tokens_at(stream, bound)).sum());
    let used = gateway.balance().used;
    eprintln!("delivered {delivered}, 2.5 s before {least}, charged {used} nano-dollars");
    assert!((least..=delivered).contains(&used), "{least} <= {used} <= {delivered}");
    assert!(price(streams[0].last().unwrap().1) > 4_096 * 10_000, "the first reservation did not reach");
    gateway.check_idle_sums(used);
}
