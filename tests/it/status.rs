//! The status page, its snapshot, and what an operator does by hand (spec 12.2, 13.1).

use crate::support::browser::Browser;
use crate::support::scripted;
use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};
use assert_cmd::Command;
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = "token-of-the-operator";
const HOSTILE: &str = "m/<script>alert('1')</script>&amp;{{time}}";

fn config() -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
}

fn post(gateway: &Gateway, path: &str) -> (u16, Value) {
    let reply = gateway.operate("POST", path, TOKEN, "");
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

fn snapshot(gateway: &Gateway) -> Value {
    http::get(gateway.admin, "/status.json").unwrap().json()
}

fn page(gateway: &Gateway) -> http::Reply {
    http::get(gateway.admin, "/").unwrap()
}

/// The row of a list with this `id`.
fn row<'a>(list: &'a Value, id: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id}: {list}"))
}

/// A command for this gateway: exit code, standard output, standard error.
fn run(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let admin = gateway.admin.to_string();
    command.args(arguments).args(["--admin", &admin]).env("TIDEGATE_ADMIN_TOKEN", TOKEN);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A gateway with a channel that is well, one that is told to slow down, and one that the configuration disables.
fn three_channels(upstream: &Upstream) -> Config {
    config()
        .account("credit: \"1.00\"")
        .model_with("m/paid", "chat", r#"price: { request: "0.01" }"#)
        .model("m/bad", "chat")
        .channel("good", upstream.addr, &[("m/paid", "x")], ", limits: { concurrency: 7 }")
        .channel("bad", upstream.addr, &[("m/bad", "fault/rate-openai")], "")
        .channel("retired", upstream.addr, &[("m/paid", "x")], ", enabled: false")
        .limits("rpm: 10")
}

/// Goal: after known traffic the snapshot says what happened, how channels stand and why, and never a key.
#[test]
fn the_snapshot_is_true() {
    let upstream = Upstream::start();
    let gateway = three_channels(&upstream).start();
    let statuses: Vec<u16> = (0..8).map(|_| gateway.chat("m/paid", false).status).collect();
    let refused = gateway.chat("m/bad", false);
    assert_eq!((statuses, refused.status), (vec![200; 8], 502));
    gateway.log_of(refused.request_id());
    let shown = snapshot(&gateway);
    assert_eq!(
        (&shown["version"], &shown["generation"], &shown["ready"]),
        (&env!("CARGO_PKG_VERSION").into(), &1.into(), &true.into())
    );
    assert_eq!((&shown["traffic"]["requests"], &shown["traffic"]["errors"]), (&9.into(), &1.into()));
    let near = &shown["limits"][0];
    assert_eq!(
        (&near["scope"], &near["id"], &near["dimension"]),
        (&"key".into(), &"tests".into(), &"requests_per_minute".into())
    );
    assert_eq!((&near["used"], &near["limit"]), (&9.into(), &10.into()));
    assert_eq!(
        (&shown["money"]["settled"], &shown["money"]["outstanding"], &shown["store"]["well"]),
        (&"0.08".into(), &"0".into(), &true.into())
    );

    let bad = row(&shown["channels"], "bad");
    assert_eq!((&bad["state"], &bad["enabled"]), (&"cooling".into(), &true.into()), "{bad}");
    assert!(bad["reason"].as_str().unwrap().starts_with("rate_limited ("), "{bad}");
    assert!(bad["left_ms"].as_u64().unwrap() > 100, "{bad}");
    assert_eq!(
        (&bad["last_failure"]["class"], &bad["last_failure"]["status"]),
        (&"rate_limited".into(), &429.into())
    );
    assert_eq!(bad["credentials"], serde_json::json!([0, 1]));
    let retired = row(&shown["channels"], "retired");
    assert_eq!((&retired["state"], &retired["reason"]), (&"disabled".into(), &"by the configuration".into()));
    let candidates = &row(&shown["models"], "m/bad")["candidates"];
    assert_eq!(*candidates, serde_json::json!([{ "channel": "bad", "state": "cooling", "share": 0.0 }]));
    let failure = &shown["failures"][0];
    assert_eq!(
        (failure["request_id"].as_str(), &failure["status"]),
        (Some(refused.request_id()), &502.into())
    );
    assert_eq!(
        (&failure["attempts"][0]["channel"], &failure["attempts"][0]["outcome"]),
        (&"bad".into(), &"rate_limited".into())
    );

    gateway.wait_for("a step of the history", || {
        snapshot(&gateway)["traffic"]["requests_per_second"].as_f64() > Some(0.0)
    });
    let shown = snapshot(&gateway);
    let good = row(&shown["channels"], "good");
    assert_eq!(
        (&good["success_1m"], &good["attempts_5m"], &good["limit"]),
        (&1.0.into(), &8.into(), &7.into()),
        "{good}"
    );
    assert!(
        good["first_token_ms"].as_f64().unwrap() > 0.0 && good["tokens_per_second"].as_f64().unwrap() > 0.0,
        "{good}"
    );
    assert_eq!(row(&shown["channels"], "bad")["success_5m"], 0.0);
    assert!(shown["traffic"]["overhead_p99_ms"].as_f64().unwrap() > 0.0, "{shown}");
    let history = &shown["history"];
    for figure in ["requests", "errors", "tokens", "in_flight", "overhead_p99_ms"] {
        assert_eq!(history[figure].as_array().unwrap().len(), history["requests"].as_array().unwrap().len());
    }
    let text = shown.to_string();
    assert!(!text.contains(KEY) && !text.contains("credential-of"), "{text}");
    gateway.finish();
}

/// Goal: the page needs no scripts and nobody else: the rows are in it, nothing in it points elsewhere, and nothing that
/// comes from outside is markup, neither a model's name nor an upstream's words.
#[test]
fn the_page_is_whole_and_inert() {
    let odd = scripted::start(|_| {
        scripted::whole(
            503,
            &[],
            br#"{"error":{"message":"<img src=//evil.example onerror=alert(1)> is \"busy\""}}"#,
        )
    });
    let gateway = config().model(HOSTILE, "chat").channel("c-1", odd, &[(HOSTILE, "x")], "").start();
    let body = chat_body(HOSTILE, false);
    assert_eq!(gateway.post("/v1/chat/completions", &body).status, 502);
    gateway.wait_for("the failure", || !snapshot(&gateway)["failures"].as_array().unwrap().is_empty());
    let reply = page(&gateway);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = reply.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    let html = reply.text();
    for outside in [
        "http://",
        "https://",
        "href=\"/",
        "@import",
        "url(",
        " style=",
        " onerror=\"",
        "<img",
        "<iframe",
        "<script src",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!((html.matches("<script").count(), html.matches("<link").count()), (1, 1));
    assert!(html.contains("m/&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;{{time}}"), "{html}");
    assert!(html.contains("&lt;img src="), "the upstream's words are shown: {html}");
    assert!(
        html.contains("role=\"rowheader\">c-1<") && html.contains("✕") || html.contains("<small>overloaded"),
        "{html}"
    );
    assert!(html.contains("overloaded (") && html.contains("<svg viewBox"), "{html}");
    gateway.finish();
}

/// Goal: off loopback the page without the token is a page that asks for it and says nothing; the snapshot is refused.
#[test]
fn off_loopback_the_page_asks_for_the_token() {
    let upstream = Upstream::start();
    let config = three_channels(&upstream);
    let gateway = config.start();
    let (folder, other) = (tempfile::tempdir().unwrap(), crate::support::free_address());
    let text = config.text(crate::support::free_address(), other);
    let everywhere = format!("0.0.0.0:{}", other.port());
    std::fs::write(folder.path().join("t.yaml"), text.replace(&other.to_string(), &everywhere)).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--log-level", "off", "-c", "t.yaml"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _ends = Ends(child.unwrap());
    gateway.wait_for("the other one", || http::get(other, "/livez").is_some());
    let locked = http::get(other, "/").unwrap();
    assert_eq!(locked.status, 401);
    let html = locked.text();
    assert!(html.contains("<body data-locked>") && html.contains("The admin token is needed"));
    assert!(!html.contains("m/paid") && !html.contains("retired") && !html.contains("Generation</dt>"));
    assert_eq!(http::get(other, "/status.json").unwrap().status, 401);
    let mut browser = Browser::open(&format!("http://{other}/"), true);
    assert!(!browser.dom().contains("m/paid"));
    browser.run("secret.value = 'wrong'; document.forms[0].requestSubmit()");
    browser.wait_for("The admin token is needed");
    browser.run(&format!("secret.value = '{TOKEN}'; document.forms[0].requestSubmit()"));
    browser.wait_for("m/paid");
    let open = format!("GET / HTTP/1.1\r\nhost: {other}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let open = http::exchange(other, open.as_bytes()).unwrap();
    assert!(open.status == 200 && open.text().contains("m/paid"));
    let foreign = "GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert_eq!(http::exchange(other, foreign.as_bytes()).unwrap().status, 403);
    gateway.finish();
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goal: a disabled channel gets no new traffic at once and over reloads, shows as such everywhere, and is back when it is
/// enabled; without the token nothing changes, and the configuration is not overruled.
#[test]
fn channels_are_disabled_and_enabled() {
    let upstream = Upstream::start();
    let config = |weight: u32| {
        config()
            .model("m/x", "chat")
            .channel("first", upstream.addr, &[("m/x", "x")], &format!(", weight: {weight}"))
            .channel("second", upstream.addr, &[("m/x", "x")], ", priority: 1")
            .channel("retired", upstream.addr, &[("m/x", "x")], ", enabled: false")
    };
    let gateway = config(1).start();
    let served_by = |gateway: &Gateway| {
        let reply = gateway.chat("m/x", false);
        (reply.status, gateway.log_of(reply.request_id())["channel"].as_str().map(str::to_owned))
    };
    let (first, second) = ((200, Some("first".to_owned())), (200, Some("second".to_owned())));
    assert_eq!(served_by(&gateway), first);
    for path in ["/channels/first/disable", "/channels/first/readmit", "/drain"] {
        assert_eq!(gateway.operate("POST", path, "", "").status, 401, "{path}");
        let reply = gateway.operate("GET", path, TOKEN, "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{path}");
    }
    assert_eq!(served_by(&gateway), first);
    let (status, told) = post(&gateway, "/channels/first/disable");
    assert_eq!(
        (status, told),
        (
            200,
            serde_json::json!({ "channel": "first", "state": "disabled", "enabled": false, "readmitted": 0 })
        )
    );
    assert_eq!(served_by(&gateway), second);
    for weight in [2, 3] {
        gateway.rewrite(&config(weight));
        assert_eq!(run(&gateway, &["reload"]).0, Some(0));
        assert_eq!(served_by(&gateway), second);
    }
    let state = |channel: &str| {
        gateway.metrics()[&format!(r#"tidegate_channel_state{{channel="{channel}",state="disabled"}}"#)]
    };
    assert_eq!((state("first"), state("second"), state("retired")), (1.0, 0.0, 1.0));
    let shown = snapshot(&gateway);
    assert_eq!(row(&shown["channels"], "first")["reason"], "by an operator");
    let (_, explained, _) = run(&gateway, &["explain", "m/x"]);
    assert!(explained.contains("first: not asked, disabled"), "{explained}");

    assert_eq!(run(&gateway, &["channel", "disable", "second"]).1, "channel second is disabled\n");
    assert_eq!(gateway.chat("m/x", false).status, 502);
    assert_eq!(run(&gateway, &["channel", "enable", "second"]).1, "channel second is up\n");
    let (_, json, _) = run(&gateway, &["channel", "enable", "first", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["enabled"], true);
    assert_eq!(served_by(&gateway), first);
    let (code, _, told) = run(&gateway, &["channel", "enable", "retired"]);
    assert!(code == Some(1) && told.contains("answered 409") && told.contains("enabled: false"), "{told}");
    for path in ["/channels/none/disable", "/channels/first/break", "/channels/first"] {
        assert_eq!(post(&gateway, path).0, 404, "{path}");
    }
    gateway.finish();
}

/// Goal: what rests, for long even, is back at an operator's word.
#[test]
fn channels_are_readmitted() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let upstream = scripted::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => scripted::whole(401, &[], br#"{"error":{"code":"invalid_api_key"}}"#),
        _ => scripted::whole(
            200,
            &[],
            br#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#,
        ),
    });
    let gateway = config().model("m/x", "chat").channel("c", upstream, &[("m/x", "x")], "").start();
    assert_eq!((gateway.chat("m/x", false).status, gateway.chat("m/x", false).status), (502, 502));
    let shown = snapshot(&gateway);
    assert_eq!(row(&shown["channels"], "c")["state"], "out");
    let left = row(&shown["channels"], "c")["left_ms"].as_u64();
    assert!(
        left.is_some_and(|left| (1..=2_200).contains(&left)),
        "a first refusal rests for seconds: {shown}"
    );
    assert_eq!(run(&gateway, &["channel", "readmit", "c"]).1, "channel c is up, 1 readmitted\n");
    assert_eq!(run(&gateway, &["channel", "readmit", "c"]).1, "channel c is up, 0 readmitted\n");
    assert_eq!(gateway.chat("m/x", false).status, 200);
    assert_eq!(
        gateway.metrics()[r#"tidegate_channel_health_changes_total{change="readmitted",channel="c"}"#],
        1.0
    );
    gateway.finish();
}

/// Goal: a drain by hand is one by SIGTERM: not ready, then the end, with exit code 0; asking twice is as asking once.
#[test]
fn a_drain_is_asked_for() {
    let upstream = Upstream::start();
    let mut gateway = three_channels(&upstream).server("  drain: 1s\n  grace: 60s").start();
    assert_eq!(post(&gateway, "/drain"), (200, serde_json::json!({ "draining": true })));
    gateway.wait_for("unreadiness", || {
        http::get(gateway.admin, "/readyz").is_some_and(|reply| reply.status == 503)
    });
    assert_eq!(snapshot(&gateway)["ready"], false);
    let (code, told, _) = run(&gateway, &["drain"]);
    assert!(code == Some(0) && told.contains("the gateway drains"), "{told}");
    assert_eq!(gateway.chat("m/paid", false).status, 200, "still accepting");
    let deadline = Instant::now() + Duration::from_secs(5);
    while gateway.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

/// Goal: the terminal shows what the page shows, once or again and again, for people or as JSON; shells learn the commands.
#[test]
fn commands() {
    let upstream = Upstream::start();
    let gateway = three_channels(&upstream).start();
    let refused = gateway.chat("m/bad", false);
    gateway.log_of(refused.request_id());
    let (code, told, _) = run(&gateway, &["status"]);
    assert_eq!(code, Some(0));
    let line = |begin: &str| {
        told.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {told}"))
    };
    assert!(line("Tidegate").contains("ready, generation 1"), "{told}");
    assert!(
        line("bad").contains("cooling")
            && line("bad").contains("rate_limited (")
            && line("bad").contains("left"),
        "{told}"
    );
    assert!(
        line("good").contains("0/7")
            && line("m/paid").contains("good 100.0%")
            && line("m/bad").ends_with("none"),
        "{told}"
    );
    let json = |arguments: &[&str]| {
        let (code, told, _) = run(&gateway, arguments);
        assert_eq!(code, Some(0));
        serde_json::from_str::<Value>(&told).unwrap_or_else(|e| panic!("{e}: {told}"))
    };
    assert_eq!(json(&["--format", "json", "status"])["generation"], 1);
    assert_eq!(json(&["explain", "m/paid", "--format", "json"])["candidates"][0]["channel"], "good");
    assert_eq!(json(&["why", refused.request_id(), "--format", "json"])["failures"][0]["status"], 502);
    assert_eq!(json(&["reload", "--format", "json"])["generation"], 2);

    let admin = gateway.admin.to_string();
    let watch = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["status", "--watch", "--admin", &admin])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut watch = Ends(watch.unwrap());
    let (mut out, mut seen) = (watch.0.stdout.take().unwrap(), String::new());
    while seen.matches("Tidegate ").count() < 2 {
        let mut piece = [0; 4096];
        let read = out.read(&mut piece).unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    let completions =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["completions", "bash"]).output().unwrap();
    let script = String::from_utf8(completions.stdout).unwrap();
    assert!(script.contains("_tidegate()") && script.contains("readmit"), "{script}");
    gateway.finish();
}

/// Goal: in a real browser the page shows an ejected channel with its reason, without scripts too; with scripts it follows
/// what happens, explains a request, and asks for nothing but itself and the gateway.
#[test]
fn chromium_shows_it() {
    let failing = scripted::start(|_| scripted::whole(500, &[], b"oops"));
    let upstream = Upstream::start();
    // The ejection lasts for longer than a browser takes to start.
    let health = "defaults: { retry: { budget_ratio: 10 }, health: { ejection: 600s } }\n";
    let gateway = Config { defaults: Some(health.to_owned()), ..config() }
        .model("m/x", "chat")
        .channel("failing", failing, &[("m/x", "x")], "")
        .channel("spare", upstream.addr, &[("m/x", "x")], ", priority: 1")
        .start();
    for _ in 0..6 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
    }
    gateway
        .wait_for("the ejection", || row(&snapshot(&gateway)["channels"], "failing")["state"] == "ejected");
    let here = format!("http://{}/", gateway.admin);
    for scripts in [false, true] {
        let mut browser = Browser::open(&here, scripts);
        let shown = browser.wait_for("✕ ejected");
        assert!(shown.contains("<small>broken (") && shown.contains(" left</small>"), "{shown}");
        assert!(shown.contains("● up") && shown.contains("1 of 2 channels up"), "{shown}");
        assert_eq!(shown.contains("Scripts are off: this"), !scripts || shown.contains("<noscript>"));
        assert_eq!(shown.contains("id=\"live-label\" hidden"), !scripts, "{shown}");
        if scripts {
            assert_eq!(post(&gateway, "/channels/spare/disable").0, 200);
            let shown = browser.wait_for("○ disabled");
            assert!(shown.contains("by an operator") && shown.contains("0 of 2 channels up"), "{shown}");
            browser.run("const form = document.getElementById('explain'); form.model.value = 'm/x'; form.requestSubmit()");
            browser.wait_for("The client would read 502 service_unavailable");
        }
        let own = |url: &String| {
            [&here, &format!("{here}status.json")].contains(&url)
                || url.starts_with(&format!("{here}explain?"))
        };
        assert!(browser.asked.iter().all(|url| own(url) || url == "data:,"), "{:?}", browser.asked);
        assert_eq!(
            (browser.asked.len() > 2, &browser.complaints),
            (scripts, &Vec::new()),
            "{:?}",
            browser.asked
        );
    }
    gateway.finish();
}
