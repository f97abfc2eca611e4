//! What operators see of channels, models on them and credentials that fail: page, commands, metrics and log (spec 13.1, 13.2).

use crate::protocols::Authority;
use crate::support::scripted;
use crate::support::{Config, Gateway, Upstream, http};
use assert_cmd::Command;
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;
const TOKEN: &str = "token-of-the-operator";

/// A command for this gateway with these variables; standard output.
fn run(gateway: &Gateway, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let admin = gateway.admin.to_string();
    command.args(arguments).args(["--admin", &admin]).env("TIDEGATE_ADMIN_TOKEN", TOKEN);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn snapshot(gateway: &Gateway) -> Value {
    http::get(gateway.admin, "/status.json").unwrap().json()
}

/// Goal: with every upstream dead nothing looks healthy: the channel that is kept as the last is failing, in red, on the page, in
/// `status` and in `explain`; the gauge says so, `/readyz` stays 200, and all is well again with the first answer.
#[test]
fn a_total_outage_looks_like_one() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let upstream = scripted::start(move |_| match is_broken.load(Ordering::Relaxed) {
        true => scripted::whole(500, &[], b"oops"),
        false => scripted::whole(200, &[], GOOD.as_bytes()),
    });
    // What is ejected stays so while the test looks.
    let health = "defaults: { retry: { budget_ratio: 10 }, health: { ejection: 600s } }\n";
    let config = Config { defaults: Some(health.to_owned()), ..Config::default() }.model("m/x", "chat");
    let config =
        ["a", "b"].iter().fold(config, |config, id| config.channel(id, upstream, &[("m/x", "x")], ""));
    let gateway = config.start();
    for _ in 0..15 {
        assert_eq!(gateway.chat("m/x", false).status, 502);
    }
    let shown = snapshot(&gateway);
    assert_eq!((&shown["outage"], &shown["ready"]), (&true.into(), &true.into()), "{shown}");
    let channels = shown["channels"].as_array().unwrap();
    let failing = channels.iter().find(|row| row["state"] == "failing").unwrap_or_else(|| panic!("{shown}"));
    let id = failing["id"].as_str().unwrap();
    assert!(failing["reason"].as_str().unwrap().starts_with("broken ("), "{failing}");
    let metrics = gateway.metrics();
    let state =
        |state: &str| metrics[&format!(r#"tidegate_channel_state{{channel="{id}",state="{state}"}}"#)];
    assert_eq!((state("failing"), state("up")), (1.0, 0.0));
    let page = http::get(gateway.admin, "/").unwrap().text();
    for red in [
        "<span class=\"state bad\">✕ failing</span>",
        "<span class=\"state bad\">✕ outage: no channel is well</span>",
    ] {
        assert!(page.contains(red), "{red}: {page}");
    }
    assert!(page.contains("0 of 2 channels up"), "{page}");
    let red = [("CLICOLOR_FORCE", "1")];
    let told = run(&gateway, &["status"], &red);
    for red in
        ["\u{1b}[1m\u{1b}[31mOUTAGE: no channel is well\u{1b}[0m", "\u{1b}[1m\u{1b}[31mfailing\u{1b}[0m"]
    {
        assert!(told.contains(red), "{red}: {told}");
    }
    assert!(told.contains(&format!("\u{1b}[1m\u{1b}[31m{id} 100.0% failing")), "{told}");
    assert!(run(&gateway, &["explain", "m/x"], &red).contains("\u{1b}[1m\u{1b}[31mfailing\u{1b}[0m"));
    let plain = run(&gateway, &["status"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(plain.contains("OUTAGE: no channel is well") && !plain.contains('\u{1b}'), "{plain}");
    assert_eq!(http::get(gateway.admin, "/readyz").unwrap().status, 200);
    let line = format!("channel {id}: up -> failing: broken (rule: ");
    assert_eq!(gateway.lines_saying(&line).len(), 1, "{line}");

    broken.store(false, Ordering::Relaxed);
    gateway.wait_for("an answer", || gateway.chat("m/x", false).status == 200);
    gateway.wait_for("the end of the outage", || snapshot(&gateway)["outage"] == false);
    gateway.finish();
}

/// A gateway whose channel `pool` has two credentials, the second of which is refused for long, and a spare channel.
fn pool() -> Gateway {
    let upstream = scripted::start(|asked| match asked.head.contains("bearer bad") {
        true => {
            let hint = [("retry-after".to_owned(), "3840".to_owned())];
            scripted::whole(401, &hint, br#"{"error":{"code":"invalid_api_key"}}"#)
        }
        false => scripted::whole(200, &[], GOOD.as_bytes()),
    });
    let mut config = Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model("m/x", "chat")
        .channel("pool", upstream, &[("m/x", "x")], "")
        .channel("spare", upstream, &[("m/x", "x")], ", priority: 1");
    config.channels[0] =
        config.channels[0].replace("{ value: credential-of-pool }", "{ value: good }, { value: bad }");
    config.start()
}

/// Goal: of two credentials of a channel one is refused: the channel is up, and everything says which credential is out, for how
/// long and why; the log says it once; an operator brings it back.
#[test]
fn a_refused_credential_is_shown_everywhere() {
    let gateway = pool();
    for _ in 0..6 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
    }
    let state = |credential: &str, state: &str| {
        let labels = format!(r#"channel="pool",credential="{credential}",state="{state}""#);
        gateway.metrics()[&format!("tidegate_credential_state{{{labels}}}")]
    };
    assert_eq!((state("1", "up"), state("2", "up"), state("2", "out")), (1.0, 0.0, 1.0));
    let shown = snapshot(&gateway);
    let channel = shown["channels"].as_array().unwrap().iter().find(|row| row["id"] == "pool").unwrap();
    assert_eq!((&channel["state"], &channel["credentials"]), (&"up".into(), &serde_json::json!([1, 2])));
    let credential = &channel["resting_credentials"][0];
    assert_eq!((&credential["position"], &credential["state"]), (&2.into(), &"out".into()), "{channel}");
    assert_eq!(credential["cause"]["class"], "credential_refused");
    let request = credential["cause"]["request_id"].as_str().unwrap();
    assert!(run(&gateway, &["why", request], &[]).contains("credential_refused"));

    let page = http::get(gateway.admin, "/").unwrap().text();
    assert!(
        page.contains("credential 2 of 2 out, 1 h ") && page.contains(": credential_refused ("),
        "{page}"
    );
    let told = run(&gateway, &["status"], &[]);
    assert!(told.contains("credential 2 of 2 out, 1 h ") && told.contains("credential_refused ("), "{told}");
    let told = run(&gateway, &["explain", "m/x"], &[]);
    let line = told
        .lines()
        .find(|line| line.contains("credential 2: out for 1 h "))
        .unwrap_or_else(|| panic!("{told}"));
    assert!(
        line.contains(" min more, because of credential_refused (rule: ") && line.contains(request),
        "{told}"
    );
    let json: Value =
        serde_json::from_str(&run(&gateway, &["explain", "m/x", "--format", "json"], &[])).unwrap();
    assert!(json["candidates"][0]["credentials"][0]["left_ms"].as_u64() > Some(3_600_000), "{json}");

    let line = "channel pool, credential 2 of 2: up -> out for 1 h ";
    assert_eq!(gateway.lines_saying(line).len(), 1, "{line}");
    assert!(
        gateway.lines_saying(line)[0].contains("WARN") && gateway.lines_saying(line)[0].contains(request)
    );
    run(&gateway, &["channel", "readmit", "pool"], &[]);
    assert_eq!((state("2", "up"), state("2", "out")), (1.0, 0.0));
    gateway.finish();
}

/// Goal: each change of a channel's, a model's or a credential's health is one line with what, from, to, for how long, why and by
/// which request, cooling included.
#[test]
fn each_change_of_health_is_one_line() {
    let upstream = scripted::start(|asked| {
        let hint = [("retry-after".to_owned(), "40".to_owned())];
        match asked.model().as_str() {
            "limited" => scripted::whole(429, &hint, br#"{"error":{"code":"rate_limit_exceeded"}}"#),
            "missing" => scripted::whole(404, &[], br#"{"error":{"code":"model_not_found"}}"#),
            "broken" => scripted::whole(500, &[], b"oops"),
            _ => scripted::whole(200, &[], GOOD.as_bytes()),
        }
    });
    let mut config = Config::default();
    for name in ["limited", "missing", "broken"] {
        let model = format!("m/{name}");
        config = config.model(&model, "chat").channel(name, upstream, &[(&model, name)], "");
        config = config.channel(&format!("spare-{name}"), upstream, &[(&model, "x")], ", priority: 1");
    }
    let gateway = config.start();
    for name in ["limited", "missing", "broken"] {
        for _ in 0..7 {
            assert_eq!(gateway.chat(&format!("m/{name}"), false).status, 200);
        }
    }
    for (begin, why) in [
        ("channel limited, credential 1 of 1: up -> cooling for 4", ": rate_limited (rule: "),
        ("channel missing, model m/missing: up -> missing for 2", ": model_missing (rule: "),
        ("channel broken: up -> ejected for 1", ": broken (rule: "),
    ] {
        let lines = gateway.lines_saying(begin);
        assert_eq!(lines.len(), 1, "{begin}: {lines:?}");
        assert!(lines[0].contains(why) && lines[0].contains("), request "), "{}", lines[0]);
    }
    gateway.finish();
}

/// Goal: what a request wants and does not find at a channel is told alone, without the state of the channel's health.
#[test]
fn reasons_are_not_mixed() {
    let upstream = scripted::start(|asked| match asked.head.contains("/messages") {
        true => {
            let hint = [("retry-after".to_owned(), "600".to_owned())];
            scripted::whole(
                401,
                &hint,
                br#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#,
            )
        }
        false => scripted::whole(200, &[], GOOD.as_bytes()),
    });
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("other", upstream, &[("m/x", "x")], ", apis: [messages]")
        .channel("own", upstream, &[("m/x", "x")], ", apis: [chat]")
        .start();
    let body = r#"{"model":"m/x","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(gateway.post("/v1/messages", body).status, 502);
    let of_chat: Value =
        serde_json::from_str(&run(&gateway, &["explain", "m/x", "--format", "json"], &[])).unwrap();
    let excluded = &of_chat["excluded"][0];
    assert_eq!(
        (&excluded["reason"], &excluded["left_ms"], &excluded["cause"]),
        (&"api".into(), &Value::Null, &Value::Null)
    );
    let told = run(&gateway, &["explain", "m/x"], &[]);
    assert!(
        told.contains("other: not asked, api: it does not speak this API\n") || told.ends_with("this API\n"),
        "{told}"
    );
    assert!(!told.contains("more"), "{told}");
    let told = run(&gateway, &["explain", "m/x", "--api", "messages"], &[]);
    assert!(told.contains("other: not asked, out") || told.contains("other: not asked, probing"), "{told}");
    assert!(told.contains("because of credential_refused (rule: "), "{told}");
    gateway.finish();
}

/// Goal: `status` wraps its tables to the terminal and breaks no figure; without a terminal no line is broken.
#[test]
fn status_fits_the_terminal() {
    let gateway = pool();
    for _ in 0..4 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
    }
    for width in [60, 80, 120, 200] {
        let columns = width.to_string();
        let told = run(&gateway, &["status"], &[("COLUMNS", &columns)]);
        let rows = told.lines().skip_while(|line| !line.starts_with("CHANNEL")).collect::<Vec<_>>();
        assert!(rows.iter().all(|line| line.chars().count() <= width.max(70)), "{width}: {told}");
        assert!(rows[0].contains("FIRST TOKEN"), "{told}");
    }
    let whole = run(&gateway, &["status"], &[]);
    assert!(
        whole.lines().any(|line| line.starts_with("pool ") && line.contains("credential_refused (")),
        "{whole}"
    );
    gateway.finish();
}

/// Goal: what the gateway costs, what is left of balances, and the process itself are measured.
#[test]
fn costs_balances_and_the_process_are_measured() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .account("credit: \"1.00\"")
        .further_account("free", "billing: none")
        .model_with("m/paid", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream.addr, &[("m/paid", "x")], "")
        .start();
    for _ in 0..3 {
        assert_eq!(gateway.chat("m/paid", false).status, 200);
    }
    let cost = r#"tidegate_cost_nanodollars_total{model="m/paid"}"#;
    gateway.wait_for("the costs", || gateway.metrics().get(cost) == Some(&30_000_000.0));
    let metrics = gateway.metrics();
    assert_eq!(metrics[r#"tidegate_account_balance_nanodollars{account="acme"}"#], 970_000_000.0);
    assert!(!metrics.keys().any(|name| name.contains(r#"account="free""#)));
    for name in
        ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"]
    {
        assert!(metrics[name] > 1.0, "{name}");
    }
    assert!(!metrics.keys().any(|name| name.starts_with("tidegate_certificate_expiry")), "there is no TLS");
    gateway.finish();
}

/// Goal: clients that do not get through a handshake, or leave in the middle of one, leave no errors in the log; when the
/// certificate expires is a metric.
#[test]
fn benign_handshakes_are_no_errors() {
    let authority = Authority::new();
    let (cert, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let (upstream, h2c) = (Upstream::start(), crate::support::free_address());
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .server(&format!("  tls: {{ cert: \"{cert}\", key: \"{key}\" }}\n  listen_h2c: [\"{h2c}\"]"))
        .start();
    for address in [gateway.public, h2c, gateway.admin] {
        for bytes in [
            &b""[..],
            b"GET / HTTP/1.1\r\nhost: x\r\n",
            b"\x16\x03\x01\x00\x05hello",
            b"PRI * HTTP/2.0\r\n\r\nSM",
        ] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
        }
    }
    let expiry = r#"tidegate_certificate_expiry_timestamp_seconds{listener="public"}"#;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(gateway.metrics()[expiry] > now.as_secs_f64());
    std::thread::sleep(std::time::Duration::from_millis(500));
    let errors = gateway.lines_saying("ERROR");
    assert!(errors.is_empty(), "{errors:?}");
}
