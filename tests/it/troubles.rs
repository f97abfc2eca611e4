//! What an operator finds when something is wrong: at the page, in the log and in a terminal (spec 2.12, 12.2, 13.1).

use crate::support::browser::Browser;
use crate::support::{Config, Gateway, Upstream, chat_body, http};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;

const TOKEN: &str = "token-of-the-operator";

fn config() -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
}

/// A command of this gateway: exit code, standard output, standard error.
fn run(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = gateway.admin.to_string();
    told(command(&[arguments, &["--admin", &admin]].concat()).env("TIDEGATE_ADMIN_TOKEN", TOKEN))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments);
    command
}

fn told(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn snapshot(gateway: &Gateway) -> Value {
    http::get(gateway.admin, "/status.json").unwrap().json()
}

/// A call of a model by another key than that of the tests.
fn chat_as(gateway: &Gateway, key: &str, model: &str) -> http::Reply {
    let body = chat_body(model, false);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    gateway.raw(request.as_bytes())
}

/// The ids of a list's rows, in order.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// Goal: a 502 for which no channel was asked has its cause everywhere an operator looks: which channels there were, and why
/// each was not asked. A request that succeeded has none, and names that clients make up push no failure out of sight.
#[test]
fn a_failure_without_an_attempt_has_a_cause() {
    let upstream = Upstream::start();
    let gateway = config()
        .model("m/x", "chat")
        .model("m/y", "chat")
        .channel("limited", upstream.addr, &[("m/x", "fault/rate-openai")], "")
        .channel("idle", upstream.addr, &[("m/x", "x"), ("m/y", "x")], "")
        .start();
    assert_eq!(run(&gateway, &["channel", "disable", "idle"]).0, Some(0));
    assert_eq!(gateway.chat("m/x", false).status, 502);
    let refused = gateway.chat("m/y", false);
    assert_eq!(refused.status, 502);
    let id = refused.request_id();
    let logged = gateway.log_of(id);
    assert_eq!(
        (&logged["attempts"], &logged["excluded"]),
        (&serde_json::json!([]), &serde_json::json!([{ "channel": "idle", "reason": "disabled" }])),
    );
    for _ in 0..3 {
        assert_eq!(gateway.chat("m/made-up", false).status, 503);
    }
    gateway.wait_for("all in the log", || gateway.log().len() == 5);
    let failures = http::get(gateway.admin, "/failures?format=json").unwrap().json();
    assert_eq!(failures["failures"].as_array().unwrap().len(), 2, "{failures}");
    assert_eq!(failures["failures"][0]["excluded"][0]["channel"], "idle");
    let (code, text, _) = run(&gateway, &["why", id]);
    assert!(code == Some(0) && text.contains("not asked idle: disabled"), "{text}");
    let page = http::get(gateway.admin, "/").unwrap().text();
    assert!(page.contains("<div>idle: not asked, disabled</div>"), "{page}");

    assert_eq!(run(&gateway, &["channel", "enable", "idle"]).0, Some(0));
    let good = gateway.chat("m/y", false);
    assert_eq!((good.status, gateway.log_of(good.request_id()).get("excluded")), (200, None));
    gateway.finish();
}

/// Goal: of many channels and models those come first that are not well, also where all have room; a model that nobody serves
/// is shown as such, and so is a key whose quota is nearly spent.
#[test]
fn what_is_not_well_comes_first() {
    let upstream = Upstream::start();
    let mut wide = config()
        .model("m/fine", "chat")
        .model("m/nobody", "chat")
        .model("m/out", "chat")
        .model_with("m/paid", "chat", r#"price: { request: "0.30" }"#)
        .account("credit: \"5\"")
        .key("small", "key-with-a-small-quota", ", quota: \"1.00\"");
    for index in 0..200 {
        wide = wide.channel(&format!("c-{index:03}"), upstream.addr, &[("m/fine", "x"), ("m/paid", "x")], "");
    }
    let gateway = wide.channel("z-last", upstream.addr, &[("m/out", "fault/rate-openai")], "").start();
    assert_eq!(gateway.chat("m/out", false).status, 502);
    for _ in 0..3 {
        assert_eq!(chat_as(&gateway, "key-with-a-small-quota", "m/paid").status, 200);
    }
    assert_eq!(run(&gateway, &["channel", "disable", "c-150"]).0, Some(0));
    gateway.wait_for("the quota", || !snapshot(&gateway)["quotas"].as_array().unwrap().is_empty());
    let shown = snapshot(&gateway);
    assert_eq!(ids(&shown["channels"])[..3], ["c-150", "z-last", "c-000"]);
    assert_eq!(ids(&shown["channels"]).len(), 201);
    let models = ids(&shown["models"]);
    assert_eq!((models.len(), &models[2..]), (4, &["m/fine", "m/paid"][..]));
    assert!(models[..2].contains(&"m/nobody") && models[..2].contains(&"m/out"), "{models:?}");
    assert_eq!(
        shown["quotas"],
        serde_json::json!([{ "key": "small", "used": "0.9", "quota": "1", "percent": 90 }])
    );
    let page = http::get(gateway.admin, "/").unwrap().text();
    assert!(page.contains("not offered: no enabled channel, or no price"));
    assert!(page.contains(">key small<") && page.contains("$0.9 of $1 (90 %)"));
    let (_, text, _) = run(&gateway, &["status"]);
    assert!(text.contains("0.9 of 1 USD (90 %)"), "{text}");
    gateway.finish();
}

/// Goal: a page that is open while the gateway hangs says that what it shows is old, and goes on when the gateway does.
#[test]
fn a_page_of_a_gateway_that_hangs_is_old() {
    let upstream = Upstream::start();
    let gateway = config().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let mut browser = Browser::open(&format!("http://{}/", gateway.admin), true);
    browser.wait_for(">● ready");
    gateway.signal("STOP");
    let shown = browser.wait_for(">✕ no answer from the gateway: what is shown is old<");
    gateway.signal("CONT");
    assert!(shown.contains(" old</span>"), "{shown}");
    let shown = browser.wait_for(">● ready");
    assert!(!shown.contains(">✕ no answer from the gateway"), "{shown}");
    gateway.finish();
}

/// Goal: what has not changed stays where it is while the page goes on, so that somebody can copy from it or read on; what
/// somebody has chosen is not taken from under their hands.
#[test]
fn a_live_page_can_be_read() {
    let upstream = Upstream::start();
    let gateway = config()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "fault/rate-openai")], "")
        .start();
    assert_eq!(gateway.chat("m/x", false).status, 502);
    gateway.wait_for("the failure", || !snapshot(&gateway)["failures"].as_array().unwrap().is_empty());
    let mut browser = Browser::open(&format!("http://{}/", gateway.admin), true);
    browser.wait_for("rate_limited");
    let polls = |browser: &Browser| browser.asked.iter().filter(|url| url.ends_with("status.json")).count();
    let wait = |browser: &mut Browser, more: usize| {
        let enough = polls(browser) + more;
        while polls(browser) < enough {
            browser.dom();
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait(&mut browser, 2);
    browser.run("window.kept = document.querySelector('#failures tbody tr'); window.age = document.getElementById('age').textContent");
    wait(&mut browser, 3);
    browser.run("if (!kept.isConnected || age === document.getElementById('age').textContent) throw new Error('lost')");
    browser.run("getSelection().selectAllChildren(kept)");
    assert_eq!(gateway.chat("m/x", false).status, 502);
    wait(&mut browser, 3);
    browser.run("if (!kept.isConnected) throw new Error('taken'); getSelection().removeAllRanges()");
    wait(&mut browser, 3);
    browser.run("if (document.querySelectorAll('#failures tbody tr').length !== 2) throw new Error('old')");
    gateway.finish();
}

/// Goal: with `--format json` standard output is one JSON value whatever happens, and the exit code says the rest.
#[test]
fn json_is_json_also_when_it_fails() {
    let upstream = Upstream::start();
    let gateway = config()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .account("credit: \"5\"")
        .start();
    let json = |(code, out, err): (Option<i32>, String, String)| {
        assert_eq!(err, "");
        assert_eq!(out.lines().count(), 1, "{out}");
        let value: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        (code, value)
    };
    let ask = |arguments: &[&str]| json(run(&gateway, &[arguments, &["--format", "json"]].concat()));
    for (arguments, member) in [
        (&["status"][..], "version"),
        (&["healthcheck"], "ready"),
        (&["explain", "m/x"], "candidates"),
        (&["reload"], "generation"),
        (&["channel", "readmit", "c"], "state"),
        (&["credit", "acme", "1", "--once", "a"], "booked"),
        (&["keys", "create", "made", "--account", "acme"], "key"),
        (&["keys", "revoke", "made"], "revoked"),
    ] {
        let (code, value) = ask(arguments);
        assert!(
            code == Some(0) && !value[member].is_null() && value["error"].is_null(),
            "{arguments:?}: {value}"
        );
    }
    for (arguments, words) in [
        (&["why", "req-none"][..], "not among the last failures"),
        (&["channel", "enable", "none"], "answered 404: there is no channel none"),
        (&["credit", "none", "1", "--once", "b"], "answered 404: there is no account none"),
        (&["keys", "revoke", "none"], "answered 404: there is no key none"),
        (&["credit", "acme", "much", "--once", "c"], "answered 400: amount must be a decimal number"),
    ] {
        let (code, value) = ask(arguments);
        assert!(
            code == Some(1) && value["error"].as_str().unwrap().contains(words),
            "{arguments:?}: {value}"
        );
    }
    gateway.rewrite_text("version: 2\n");
    let (code, value) = ask(&["reload"]);
    assert!(code == Some(78) && value["error"].as_str().unwrap().contains("version: must be"), "{value}");
    let (code, value) = json(told(&mut command(&["status", "--admin", "127.0.0.1:9", "--format", "json"])));
    assert!(code == Some(1) && value["error"].as_str().unwrap().contains("no gateway answers"), "{value}");
    let bad = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&bad, "version: 2\nmodels: 7\n").unwrap();
    let file = bad.path().to_str().unwrap();
    let (code, value) = json(told(&mut command(&["--format", "json", "check", "-c", file])));
    assert_eq!((code, value["problems"].as_array().unwrap().len()), (Some(78), 3), "{value}");
    let (code, value) = json(told(&mut command(&["--format", "json", "ledger", "verify", "/nowhere"])));
    assert!(code == Some(1) && value["error"].is_string(), "{value}");
    let (code, value) = json(told(&mut command(&["--format", "json", "keys", "new"])));
    assert!(code == Some(0) && value["digest"].as_str().unwrap().starts_with("sha256:"), "{value}");
    gateway.finish();
}

/// Goal: for people the same commands answer with a sentence.
#[test]
fn people_read_sentences() {
    let upstream = Upstream::start();
    let gateway = config()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .account("credit: \"5\"")
        .start();
    let out = |arguments: &[&str]| run(&gateway, arguments).1;
    assert_eq!(out(&["credit", "acme", "1.50", "--once", "a"]), "1.50 USD are booked to acme\n");
    assert_eq!(out(&["credit", "acme", "1.50", "--once", "a"]), "a was booked before, nothing has changed\n");
    assert!(out(&["keys", "create", "made", "--account", "acme"]).starts_with("key:    tg_"));
    let revoked = "the key made is revoked; to take it back: tidegate keys restore made\n";
    assert_eq!(out(&["keys", "revoke", "made"]), revoked);
    gateway.finish();
}

/// Goal: a proxy that the environment names, as in a company's containers, neither hinders the commands nor hears the token.
#[test]
fn no_proxy_hears_the_token() {
    let upstream = Upstream::start();
    let gateway = config().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let admin = gateway.admin.to_string();
    let mut healthcheck = command(&["healthcheck", "--admin", &admin]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        healthcheck.env(name, "http://127.0.0.1:9");
    }
    assert_eq!(told(&mut healthcheck), (Some(0), "ready\n".into(), String::new()));
    gateway.finish();
}

/// Goal: what was taken away by a typing error is told: a method that is not meant, a body that breaks off.
#[test]
fn changes_are_not_made_by_halves() {
    use std::io::{Read, Write};
    let upstream = Upstream::start();
    let gateway = config().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let mut connection = http::connect(gateway.admin).unwrap();
    let head = format!(
        "POST /drain HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\n\r\nhalf"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = connection.read_to_end(&mut Vec::new());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(http::get(gateway.admin, "/readyz").unwrap().status, 200);
    assert_eq!(gateway.operate("DELETE", "/keys/tests", TOKEN, "").status, 405);
    gateway.finish();
}

/// Goal: on a terminal `ledger verify` says what it is at; its answer is the same, and a pipe gets nothing else.
/// Method: `script` gives it a terminal.
#[test]
fn verify_says_how_far_it_is() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let gateway = config()
        .model_with("m/paid", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream.addr, &[("m/paid", "x")], "")
        .account("credit: \"5\"")
        .start_in(folder.path());
    assert_eq!(gateway.chat("m/paid", false).status, 200);
    let store = gateway.store();
    gateway.finish();
    let verify = format!("{} ledger verify {}", env!("CARGO_BIN_EXE_tidegate"), store.display());
    let (code, shown, _) = told(Command::new("script").args(["-qec", &verify, "/dev/null"]));
    assert_eq!(code, Some(0), "{shown}");
    for words in
        ["checking the pages of 1 MiB", "checking the rules of the ledger", "the ledger is consistent\r\n"]
    {
        assert!(shown.contains(words), "{words}: {shown:?}");
    }
    let piped = told(&mut command(&["ledger", "verify", store.to_str().unwrap()]));
    assert_eq!(piped, (Some(0), "the ledger is consistent\n".into(), String::new()));
}

/// Goal: with the longest names there can be, in both widths and both schemes, nothing is wider than the screen, every field has
/// a name to be read out, and whoever has a keyboard alone reaches and uses every control.
#[test]
fn the_page_fits_and_is_reached_by_keyboard() {
    let (upstream, long) = (Upstream::start(), "c".repeat(64));
    let model = format!("m/{}\\\"'<b>&amp;", "x".repeat(180));
    let shown = model.replace("\\\"", "\"");
    let gateway = config()
        .model(&model, "chat")
        .channel(&long, upstream.addr, &[(&model, "fault/rate-openai")], "")
        .limits("rpm: 1")
        .start();
    let body =
        serde_json::json!({ "model": shown, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    assert_eq!(gateway.post("/v1/chat/completions", &body).status, 502);
    gateway.wait_for("the failure", || !snapshot(&gateway)["failures"].as_array().unwrap().is_empty());
    let here = format!("http://{}/", gateway.admin);
    for scripts in [true, false] {
        let mut browser = Browser::open(&here, scripts);
        browser.wait_for(&"x".repeat(180));
        for (width, dark) in [(360, true), (1280, false)] {
            browser.picture(width, 900, dark);
            let wide = "[...document.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && \
                !e.closest('thead')).map((e) => e.tagName + e.textContent.slice(0, 40))";
            browser.run(&format!(
                "if (document.documentElement.scrollWidth > innerWidth) throw new Error(JSON.stringify({wide}))"
            ));
        }
        browser.run(
            "for (const field of document.querySelectorAll('input, select')) \
             if (!field.labels.length || !field.labels[0].textContent.trim()) throw new Error(field.outerHTML)",
        );
        browser.run(
            "for (const table of document.querySelectorAll('table')) \
             if (!table.querySelector('thead th[scope=col]') || !table.querySelector('tbody th[scope=row]')) throw new Error(table.outerHTML)",
        );
        if scripts {
            browser.run(
                "if (document.documentElement.lang !== 'en') throw new Error('lang'); document.body.focus()",
            );
            for control in ["live", "model", "key", "api", "tokens", ""] {
                browser.press("Tab", 9);
                browser.run(&format!(
                    "{{ const at = document.activeElement; if ((at.name ?? at.id ?? '') !== '{control}' && at.id !== '{control}') \
                     throw new Error(at.outerHTML); \
                     if (getComputedStyle(at).outlineStyle !== 'solid') throw new Error('no outline: ' + at.outerHTML); }}"
                ));
            }
            browser.run("document.querySelector('#explain input').value = 'm/none'");
            browser.press("Enter", 13);
            browser.wait_for("The client would read 503 model_not_found");
        }
    }
    gateway.finish();
}
