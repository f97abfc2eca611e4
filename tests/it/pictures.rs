//! The pictures of the documentation, drawn from a gateway with traffic.

use crate::support::browser::Browser;
use crate::support::scripted;
use crate::support::{Config, Gateway, Upstream, chat_body};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = "token-of-the-operator";
const SEARCH: &str = "key-of-the-search";
const LARGE: &str = "openai/gpt-5.5";
const SMALL: &str = "anthropic/claude-haiku";
const OPEN: &str = "open/llama-70b";
const TRIAL: &str = "google/gemini-pro";
const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":90,"total_tokens":102}}"#;
const BUSY: &str = r#"{"error":{"message":"Rate limit reached for organization, please slow down","code":"rate_limit_exceeded"}}"#;
const FULL: &str = r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#;
const DOWN: &str = r#"{"error":{"message":"upstream connect error: connection refused"}}"#;

/// An upstream that answers by turns: what the number of a request says.
fn moody(answer: impl Fn(usize) -> (u16, &'static str) + Send + Sync + 'static) -> SocketAddr {
    let count = AtomicUsize::new(0);
    scripted::start(move |_| {
        let (status, body) = answer(count.fetch_add(1, Ordering::Relaxed));
        let hint = [("retry-after".to_owned(), "40".to_owned())];
        scripted::whole(status, if status == 429 { &hint } else { &[] }, body.as_bytes())
    })
}

/// Channels of which some are well, one fails, one is told to slow down, and one is disabled by hand.
fn gateway(upstream: &Upstream) -> Gateway {
    let failing = moody(|turn| if turn < 900 { (200, GOOD) } else { (500, DOWN) });
    let limited = moody(|turn| if turn % 60 < 50 { (200, GOOD) } else { (429, BUSY) });
    let trial = moody(|turn| if turn % 90 < 88 { (200, GOOD) } else { (503, FULL) });
    let admin = format!(", token: {{ value: {TOKEN} }}");
    let east = [(LARGE, "x+chunks=30+chunk-delay=25"), (SMALL, "x+chunks=12+chunk-delay=20")];
    let reserve = [(OPEN, "x+chunks=10+chunk-delay=20"), (LARGE, "x")];
    let gateway = Config { admin, ..Config::default() }
        .account("credit: \"250\"")
        .model_with(LARGE, "chat", r#"price: { input: "1.25", output: "10" }"#)
        .model_with(SMALL, "chat", r#"price: { input: "1", output: "5" }"#)
        .model_with(TRIAL, "chat", r#"price: { input: "1.25", output: "10" }"#)
        .model(OPEN, "chat")
        .channel("east", upstream.addr, &east, ", weight: 3, limits: { concurrency: 40 }")
        .channel(
            "west",
            upstream.addr,
            &[(LARGE, "x+chunks=30+chunk-delay=35")],
            ", weight: 2, limits: { concurrency: 40 }",
        )
        .channel("south", limited, &[(SMALL, "x")], ", weight: 2")
        .channel("trial", trial, &[(TRIAL, "x")], "")
        .channel("spot", failing, &[(OPEN, "x")], "")
        .channel("reserve", upstream.addr, &reserve, ", priority: 1")
        .channel("former", upstream.addr, &[(LARGE, "x")], "")
        .limits("concurrency: 60")
        .key("search", SEARCH, ", limits: { rpm: 600 }")
        .start();
    assert_eq!(gateway.operate("POST", "/channels/former/disable", TOKEN, "").status, 200);
    gateway
}

/// Calls one model after another, now more and now less; what becomes of them is what is to be seen.
fn call(gateway: &Gateway, model: &str, ends: Instant) {
    let began = Instant::now();
    while Instant::now() < ends {
        let _ = gateway.chat(model, model == LARGE);
        let wave = (began.elapsed().as_secs_f64() / 45.0).sin() + 1.2;
        std::thread::sleep(Duration::from_millis((240.0 / wave) as u64));
    }
}

/// Calls with a key that comes near its limit.
fn search(gateway: &Gateway, ends: Instant) {
    let body = chat_body(OPEN, false);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {SEARCH}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    while Instant::now() < ends {
        let _ = gateway.raw(request.as_bytes());
        std::thread::sleep(Duration::from_millis(70));
    }
}

/// Draws the pictures of the status page: five minutes of traffic, over channels of which some fail.
#[test]
#[ignore = "takes five minutes, and writes docs/images"]
fn status_page() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let ends = Instant::now() + Duration::from_secs(320);
    let mut browser = Browser::open(&format!("http://{}/", gateway.admin), true);
    std::thread::scope(|scope| {
        for model in [LARGE, SMALL, OPEN, LARGE, TRIAL].repeat(3) {
            let gateway = &gateway;
            scope.spawn(move || call(gateway, model, ends));
        }
        scope.spawn(|| search(&gateway, ends));
        std::thread::sleep(Duration::from_secs(300));
        browser.wait_for("✕ ejected");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        std::fs::create_dir_all(&folder).unwrap();
        for (name, width, height, dark) in [("light", 1280, 1150, false), ("dark-phone", 390, 1500, true)] {
            let picture = browser.picture(width, height, dark);
            assert!(picture.len() < 200 * 1024, "{name}: {} bytes", picture.len());
            std::fs::write(folder.join(format!("status-{name}.png")), picture).unwrap();
        }
    });
}
