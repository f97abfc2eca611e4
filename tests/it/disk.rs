//! A disk that refuses (spec 8.2, 8.5; decisions, Store): paid requests wait for better times, free ones do not, and
//! nothing is lost. The trouble is real: a limit on the size of the process's files makes its writes fail.

use crate::support::money::{balance_of, read_balance, verify_ledger};
use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, Gateway, http};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

const TOKEN: &str = "token-of-the-operator";
/// What a paid request costs.
const PRICE: i64 = 10_000_000;
const CREDIT: i64 = 1_000_000_000_000;
const PRICED: &str = r#"price: { request: "0.01" }"#;
const MODELS: [(&str, &str); 3] = [("m/paid", "paid"), ("m/held", "held"), ("m/free", "free")];

/// An upstream that counts what is paid for; answers of the model `held` wait in the middle for the test.
fn upstream(asked: &Arc<AtomicUsize>, go: &Arc<AtomicBool>) -> SocketAddr {
    let (asked, go) = (Arc::clone(asked), Arc::clone(go));
    scripted::start(move |request: &Asked| {
        let model = request.model();
        asked.fetch_add(usize::from(model != "free"), Ordering::SeqCst);
        let stream = String::from_utf8_lossy(&request.body).contains(r#""stream":true"#);
        let acts = if stream { stream_answer() } else { json_answer() };
        let hold = (model == "held").then(|| Act::Until(Arc::clone(&go)));
        let (first, rest) = acts.split_at(acts.len() / 2);
        first.iter().cloned().chain(hold).chain(rest.iter().cloned()).collect()
    })
}

fn stream_answer() -> Vec<Act> {
    let event = |data: &str| chunk(format!("data: {data}\n\n").as_bytes());
    vec![
        chunked(200, &[("content-type".into(), "text/event-stream".into())]),
        event(r#"{"id":"u","choices":[{"index":0,"delta":{"content":"one"}}]}"#),
        event(r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#),
        [event("[DONE]"), chunk(b"")].into_iter().fold(Act::Write(Vec::new()), joined),
    ]
}

fn joined(one: Act, other: Act) -> Act {
    match (one, other) {
        (Act::Write(one), Act::Write(other)) => Act::Write([one, other].concat()),
        (_, other) => other,
    }
}

fn json_answer() -> Vec<Act> {
    let body = r#"{"id":"u","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"one"},"finish_reason":"stop"}]}"#;
    whole(200, &[("content-type".into(), "application/json".into())], body.as_bytes())
}

fn config(upstream: SocketAddr) -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model_with("m/paid", "chat", PRICED)
        .model_with("m/held", "chat", PRICED)
        .model("m/free", "chat")
        .channel("c", upstream, &MODELS, "")
        .account("credit: \"1000\"")
        .server("  drain: 0s")
}

/// Starts the gateway so that a write beyond the limit fails instead of ending the process.
fn start(config: &Config, folder: &Path) -> Gateway {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#, env!("CARGO_BIN_EXE_tidegate")]);
    config.start_by(shell, folder)
}

/// Lets no file of the gateway be written beyond so many bytes.
fn limit_files(gateway: &Gateway, bytes: &str) {
    let pid = gateway.child.id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    assert!(limited.expect("missing: prlimit (util-linux)").success());
}

fn stop(mut gateway: Gateway) {
    let pid = gateway.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

fn assert_refused(reply: &http::Reply) {
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "service_unavailable");
}

fn ready_text(gateway: &Gateway) -> String {
    let reply = http::get(gateway.admin, "/readyz").unwrap();
    assert_eq!(reply.status, 200, "free models are still served");
    reply.text()
}

/// What a gateway does while its disk refuses everything.
fn check_trouble(gateway: &Gateway, asked: &AtomicUsize) {
    let before = asked.load(Ordering::SeqCst);
    // The first one finds out; those after it are told at once.
    assert_refused(&gateway.chat("m/paid", false));
    gateway.wait_for("the trouble to be noticed", || gateway.sum("tidegate_store_well") == 0.0);
    for stream in [true, false] {
        assert_refused(&gateway.chat("m/paid", stream));
        assert_eq!(gateway.chat("m/free", stream).status, 200);
    }
    assert_eq!(asked.load(Ordering::SeqCst), before, "no upstream hears of what is refused");
    assert!(gateway.sum("tidegate_store_failures_total") >= 1.0);
    assert!(ready_text(gateway).contains("the store fails"), "{}", ready_text(gateway));
    gateway.wait_for("the log to say so", || gateway.said("the store fails"));
    gateway.count(1);
    assert_refused(&read_balance(gateway.public).unwrap());
}

/// Waits until the disk's recovery is noticed.
fn wait_for_health(gateway: &Gateway) {
    gateway.wait_for("the store to heal", || gateway.sum("tidegate_store_well") == 1.0);
    assert_eq!(ready_text(gateway), "ready\n");
}

/// Goal: while the disk refuses, paid requests get the generic 502 before any upstream is asked, free ones are served, and
/// `/readyz`, metrics and log say so; requests under way settle; when the disk works again, so does the gateway by itself,
/// and the balance is exact. Method: the limit on the size of files goes to zero and back, under four requests that are
/// held in the middle.
#[test]
fn a_disk_that_refuses_loses_nothing() {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let folder = tempfile::tempdir().unwrap();
    let config = config(upstream(&asked, &go));
    let gateway = start(&config, folder.path());
    assert_eq!(gateway.chat("m/paid", false).status, 200);
    std::thread::scope(|scope| {
        let _go = AtEnd(&go);
        let held = [true, true, true, false].map(|stream| {
            let gateway = &gateway;
            scope.spawn(move || gateway.chat("m/held", stream))
        });
        gateway.wait_for("requests under way", || asked.load(Ordering::SeqCst) == 5);
        assert_eq!(gateway.quota("outstanding_nanodollars"), 4.0 * PRICE as f64);
        limit_files(&gateway, "0");
        check_trouble(&gateway, &asked);
        go.store(true, Ordering::SeqCst);
        for reply in held.map(|request| request.join().unwrap()) {
            assert!(reply.status == 200 && reply.complete, "{}", reply.text());
        }
    });
    gateway.check_idle_sums(5 * PRICE);
    limit_files(&gateway, "unlimited");
    wait_for_health(&gateway);
    gateway.wait_for("the log to say so", || gateway.said("the store works again"));
    assert_eq!(gateway.chat("m/paid", true).status, 200);
    let shown = gateway.balance();
    assert_eq!((shown.used, shown.total), (6 * PRICE, CREDIT));
    gateway.check_idle_sums(6 * PRICE);
    stop(gateway);
    verify_ledger(folder.path());
    assert_eq!(config.start_in(folder.path()).balance(), shown);
}

/// Goal: what an operator makes while the disk refuses is told as not made, and is not; asked again when the disk works, it
/// is made once. A credit that was told as not booked is booked once, too.
#[test]
fn what_cannot_be_written_is_not_made() {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let folder = tempfile::tempdir().unwrap();
    let config = config(upstream(&asked, &go));
    let gateway = start(&config, folder.path());
    let post = |path: &str, body: &str| gateway.operate("POST", path, TOKEN, body).status;
    let changes = [
        ("/accounts", r#"{"id":"made"}"#, 201),
        ("/accounts/made/credit", r#"{"amount":"1","idempotency_key":"once"}"#, 200),
        ("/keys", r#"{"id":"made","account":"made"}"#, 201),
    ];
    limit_files(&gateway, "0");
    let refused = changes.map(|(path, body, _)| post(path, body));
    assert_eq!(refused, [503, 404, 404], "without the account there is nothing to credit, and no key of it");
    assert_eq!(post("/keys", r#"{"id":"other","account":"acme"}"#), 503);
    assert_eq!(post("/accounts/acme/credit", changes[1].1), 503);
    limit_files(&gateway, "unlimited");
    wait_for_health(&gateway);
    assert_eq!(changes.map(|(path, body, _)| post(path, body)), changes.map(|(_, _, status)| status));
    assert_eq!(post("/keys", r#"{"id":"other","account":"acme"}"#), 201);
    assert_eq!(post("/accounts/acme/credit", changes[1].1), 200);
    assert_eq!(gateway.balance().total, CREDIT + 1_000_000_000);
    stop(gateway);
    verify_ledger(folder.path());
    let gateway = start(&config, folder.path());
    let post = |path: &str, body: &str| gateway.operate("POST", path, TOKEN, body).status;
    assert_eq!(post("/keys", r#"{"id":"other","account":"acme"}"#), 409);
    assert_eq!(post("/accounts", changes[0].1), 409);
    stop(gateway);
}

/// Sets a flag at the end of its scope, so that a test that fails in it ends, too.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Paid requests until the test says that it is enough; how many were served.
fn load(gateway: &Gateway, enough: &AtomicBool) -> i64 {
    let mut served = 0;
    while !enough.load(Ordering::SeqCst) {
        let reply = gateway.chat("m/paid", fastrand::bool());
        assert!(matches!(reply.status, 200 | 502), "{} {}", reply.status, reply.text());
        served += i64::from(reply.status == 200);
    }
    served
}

/// Goal: whatever part of a commit the disk takes, the ledger is exact. Method: under load, the limit on the size of files
/// goes to a random place within the store's file and back, ten times; at the end what is used is the price of what was
/// served.
#[test]
fn a_disk_that_comes_and_goes() {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let folder = tempfile::tempdir().unwrap();
    let config = config(upstream(&asked, &go));
    let gateway = start(&config, folder.path());
    let enough = AtomicBool::new(false);
    let served = AtomicI64::new(0);
    std::thread::scope(|scope| {
        let _enough = AtEnd(&enough);
        for _ in 0..4 {
            scope.spawn(|| served.fetch_add(load(&gateway, &enough), Ordering::SeqCst));
        }
        for round in 0..10 {
            let sizes = std::fs::read_dir(folder.path().join("data")).unwrap();
            let size = sizes.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap();
            limit_files(&gateway, &fastrand::u64(0..size).to_string());
            std::thread::sleep(Duration::from_millis(fastrand::u64(20..300)));
            limit_files(&gateway, "unlimited");
            if round % 2 == 0 {
                gateway.wait_for("the store to heal", || gateway.sum("tidegate_store_well") == 1.0);
            }
        }
    });
    wait_for_health(&gateway);
    let used = served.into_inner() * PRICE;
    assert!(used > 0 && gateway.sum("tidegate_store_failures_total") > 0.0);
    let shown = gateway.balance();
    assert_eq!((shown.used, shown.total), (used, CREDIT));
    gateway.check_idle_sums(used);
    stop(gateway);
    verify_ledger(folder.path());
    assert_eq!(config.start_in(folder.path()).balance(), shown);
}

/// Goal: what was acknowledged before the disk failed is there after `kill -9` in the middle of the trouble.
#[test]
fn killed_while_the_disk_refuses() {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let folder = tempfile::tempdir().unwrap();
    let config = config(upstream(&asked, &go));
    let gateway = start(&config, folder.path());
    for stream in [true, false, true] {
        assert_eq!(gateway.chat("m/paid", stream).status, 200);
    }
    let shown = balance_of(&read_balance(gateway.public).unwrap());
    assert_eq!(shown.used, 3 * PRICE);
    limit_files(&gateway, "0");
    assert_refused(&gateway.chat("m/paid", false));
    gateway.wait_for("another attempt", || gateway.sum("tidegate_store_failures_total") >= 2.0);
    drop(gateway);
    verify_ledger(folder.path());
    let gateway = config.start_in(folder.path());
    assert_eq!(gateway.balance(), shown);
    gateway.check_idle_sums(0);
}
