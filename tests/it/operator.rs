//! What an operator can find out and correct: recorded answers, the cause of a failed request, rules of their own
//! (spec 2.12, 3.4, 13.1).

use crate::support::http::exchange;
use crate::support::{Config, Gateway, Upstream, http, scripted};
use assert_cmd::Command;
use serde_json::Value;

fn tidegate(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Goal: a recorded answer is judged, from a file or from standard input: row, class, verdict, the client's bytes.
#[test]
fn recorded_answers_are_classified() {
    let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\n\r\n{\"error\":{\"code\":\"rate_limit_exceeded\"}}";
    let (code, told, _) = tidegate(&["classify", "-"], answer);
    assert_eq!(code, 0);
    for line in [
        "row     code: rate limited",
        "class   rate_limited",
        "retry   any",
        "effect  credential_rests",
        "hint    7s",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(
        told.contains("HTTP/1.1 502\n") && told.contains("\"message\":\"Service temporarily unavailable\""),
        "{told}"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer.json");
    let long = r#"{"status":400,"body":{"error":{"message":"prompt is too long: 11 tokens > 10 maximum"}}}"#;
    std::fs::write(&file, long).unwrap();
    let (_, told, _) = tidegate(&["classify", "--api", "messages", file.to_str().unwrap()], "");
    assert!(
        told.contains("prompt is too long: 11 tokens > 10 maximum") && told.contains("request_too_large"),
        "{told}"
    );
    let (_, told, _) = tidegate(&["classify", "-"], "HTTP/1.1 200 OK\n\n{\"choices\":[{\"text\":\"a\"}]}");
    assert_eq!(told, "passes to the client\n");
    for (arguments, input, code, words) in [
        (&["classify", "-"][..], "nonsense", 2, "expected what `curl -i` prints"),
        (&["classify", "/nowhere"], "", 1, "/nowhere: No such file"),
        (&["classify", "--channel", "x", "-"], "", 2, "-c <FILE>"),
    ] {
        let (ended, _, told) = tidegate(arguments, input);
        assert!(ended == code && told.contains(words), "{ended} {told}");
    }
}

/// A gateway whose only channel answers 418 with an odd error, and its rules.
fn gateway(rules: &str) -> Gateway {
    let upstream = scripted::start(|_| {
        scripted::whole(418, &[], br#"{"error":{"message":"Tenant blue is paused","code":"TenantPaused"}}"#)
    });
    let mut config = Config::default().model("m/x", "chat");
    config.rest = rules.to_owned();
    config.channel("odd", upstream, &[("m/x", "x")], ", status_map: { 418: 503 }").start()
}

/// Goal: the hidden cause of a failure is shown to the operator, by id and as a list, and to nobody under a foreign name;
/// a rule of the operator's decides and is named.
#[test]
fn failures_are_explained() {
    let rules = "classify:\n  - { name: paused, code: [tenant_paused], class: account_empty }\n";
    let gateway = gateway(rules);
    let reply = gateway.chat("m/x", false);
    assert_eq!((reply.status, reply.text().contains("Tenant")), (502, false));
    let id = reply.request_id();
    gateway.log_of(id);
    // A line for each failure, so that one can search them with the tools of the shell.
    let listed = http::get(gateway.admin, &format!("/failures?id={id}")).unwrap();
    assert_eq!(listed.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = listed.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    let attempt = &lines[0]["attempts"][0];
    assert_eq!(attempt["outcome"], "account_empty");
    assert_eq!((&attempt["rule"], &attempt["upstream_status"]), (&Value::from("paused"), &Value::from(418)));
    assert_eq!(attempt["words"], "Tenant blue is paused");
    assert_eq!(http::get(gateway.admin, "/failures?limit=0").unwrap().text(), "");
    let whole = http::get(gateway.admin, "/failures?limit=1&format=json").unwrap().json();
    assert_eq!(whole["failures"][0], lines[0]);
    let admin = gateway.admin.to_string();
    let (code, told, _) = tidegate(&["why", id, "--admin", &admin], "");
    assert_eq!(code, 0);
    for words in [
        "attempt 1 at odd: status 418, account_empty (rule: paused)",
        "upstream said: Tenant blue is paused",
        "was told 502 service_unavailable",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (code, _, told) = tidegate(&["why", "req-unknown", "--admin", &admin], "");
    assert!(code == 1 && told.contains("not among the last failures"), "{told}");
    let (code, told, _) = tidegate(&["failures", "--admin", &admin], "");
    assert_eq!((code, told.lines().count()), (0, 1), "{told}");
    for words in [id, "m/x", "502 service_unavailable", "odd: 418 account_empty (paused)"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    for (filter, count) in [
        (["--channel", "odd"], 1),
        (["--channel", "even"], 0),
        (["--model", "m/x"], 1),
        (["--class", "account_empty"], 1),
        (["--class", "broken"], 0),
    ] {
        let arguments = [&["failures", "--format", "json", "--admin", &admin][..], &filter].concat();
        let (code, told, _) = tidegate(&arguments, "");
        assert_eq!((code, told.lines().count()), (0, count), "{filter:?}: {told}");
    }
    let foreign = "GET /failures HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert_eq!(exchange(gateway.admin, foreign.as_bytes()).unwrap().status, 403);
    let (code, _, told) = tidegate(&["why", "x", "--admin", "127.0.0.1:9"], "");
    assert!(code == 1 && told.contains("no gateway answers at 127.0.0.1:9"), "{told}");
    gateway.finish();
}

/// Goal: rules and maps that would go beyond their bounds are refused, with the place and a hint (spec 3.4).
#[test]
fn rules_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    for (rules, more, problem) in [
        (
            "classify: [{ name: a, text: [busy], class: caller_mistake }]\n",
            "",
            "classify[0].class: cannot be given by a rule",
        ),
        ("classify: [{ name: a, class: overloaded }]\n", "", "classify[0]: would match every answer"),
        (
            "classify: [{ name: a, text: [a], class: overloaded }]\n",
            "",
            "classify[0].text[0]: must have 4 bytes",
        ),
        ("classify: [{ name: a, text: [busy], class: overlaoded }]\n", "", "did you mean overloaded?"),
        ("", ", status_map: { 500: 400 }", "must not be a status that blames the caller"),
        ("", ", status_map: { 200: 500 }", "must be under a status from 300 to 599"),
    ] {
        let mut config = Config::default().model("m/x", "chat");
        config.rest = rules.to_owned();
        let addr = ([127, 0, 0, 1], 9).into();
        let config = config.channel("c", addr, &[("m/x", "x")], more);
        std::fs::write(&file, config.text(addr, addr)).unwrap();
        let (code, _, told) = tidegate(&["check", "-c", file.to_str().unwrap()], "");
        assert!(code == 78 && told.contains(problem), "{problem}: {told}");
    }
}

/// Goal: an input that is too long for one channel goes to one with a larger declared window, and to no other (spec 3.2).
#[test]
fn a_larger_window_is_tried() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat, context_window: 1000")
        .model("m/same", "chat, context_window: 1000")
        .channel("small", upstream.addr, &[("m/x", "fault/context-400"), ("m/same", "fault/context-400")], "")
        .channel("equal", upstream.addr, &[("m/x", "equal"), ("m/same", "equal")], ", priority: 1")
        .channel("large", upstream.addr, &[("m/x", "large")], ", priority: 2, context_window: 2000")
        .start();
    let reply = gateway.chat("m/x", false);
    assert_eq!(reply.status, 200);
    assert_eq!(gateway.log_of(reply.request_id())["channel"], "large");
    assert_eq!(gateway.chat("m/same", false).status, 413);
    gateway.finish();
}
