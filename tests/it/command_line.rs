//! The command line and its exit codes (spec 12.2).

use crate::support::{Config, Upstream, free_address};
use assert_cmd::Command;
use std::net::TcpListener;

fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Goal: a good file is 0, a bad one 78 with all its problems, in every spelling of the command.
#[test]
fn files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = Config::default().model("m/x", "chat").channel("c", free_address(), &[("m/x", "x")], "");
    let good = write("good.yaml", &good.text(free_address(), free_address()));
    let bad = write("bad.yaml", "version: 7\nmodels: []\nchannels: 3\nunknown: 1\n");
    for arguments in [
        &["check", "-c", &good][..],
        &["check", "--config", &good],
        &["check", &good],
        &["-t", "-c", &good],
        &["-t", "--config", &good],
    ] {
        let output = tidegate(arguments).assert().success();
        assert_eq!(text(&output.get_output().stdout), format!("{good}: ok\n"));
    }
    for arguments in [&["check", "-c", &bad][..], &["-t", "-c", &bad], &["run", "-c", &bad]] {
        let told = text(&tidegate(arguments).assert().code(78).get_output().stderr);
        let expected = format!(
            "{bad}:1:10: version: must be 1\n{bad}:3:11: channels: must be a list, not a number\n\
             {bad}:4:1: unknown: is unknown (known: version, sandbox, defaults, store, limits, server, admin, errors, cors, \
             models, channels, classify, accounts, keys, keys_file)\n"
        );
        assert_eq!(told, expected);
    }
    let missing = tidegate(&["check", "-c", "no-such-file.yaml"]).assert().code(78);
    assert_eq!(text(&missing.get_output().stderr), "no-such-file.yaml: no such file\n");
}

/// Goal: standard output of a gateway is its access log and nothing else; the greeting is on standard error, in the form that is
/// asked for.
#[test]
fn standard_output_is_the_access_log() {
    use std::process::{Command, Stdio};
    let upstream = Upstream::start();
    for format in ["text", "json"] {
        let (public, admin) = (free_address(), free_address());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.yaml");
        let config = Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "");
        std::fs::write(&file, config.text(public, admin)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "--format", format, "--log-level", "error", "--config", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while crate::support::http::get(public, "/v1/models").is_none() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let out = text(&output.stdout);
        assert!(out.lines().count() >= 1);
        for line in out.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {out}"));
            assert!(line["request_id"].is_string(), "{line}");
        }
        let err = text(&output.stderr);
        let first = err.lines().next().unwrap();
        if format == "json" {
            let greeting: serde_json::Value =
                serde_json::from_str(first).unwrap_or_else(|e| panic!("{e}: {err}"));
            assert_eq!(greeting["clients"][0], format!("http://{public}/v1"));
            assert_eq!(greeting["metrics"], format!("http://{admin}/metrics"));
        } else {
            assert!(
                first.starts_with("Tidegate ") && err.contains(&format!("  clients   http://{public}/v1")),
                "{err}"
            );
        }
    }
}

/// Goal: what is printed has colour on a terminal, unless `NO_COLOR` is set, and never in a pipe.
/// Method: `script` runs the command on a terminal of its own.
#[test]
fn colour_is_for_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let config = Config::default().model("m/x", "chat").channel("c", free_address(), &[("m/x", "x")], "");
    std::fs::write(&file, config.text(free_address(), free_address())).unwrap();
    let command = format!("{} check {}", env!("CARGO_BIN_EXE_tidegate"), file.display());
    let on_terminal = |no_color: bool| {
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm-256color");
        if no_color {
            script.env("NO_COLOR", "1");
        }
        text(&script.output().unwrap().stdout)
    };
    let coloured = on_terminal(false);
    assert!(coloured.contains("\u{1b}[32mok\u{1b}[0m"), "{coloured:?}");
    assert_eq!(on_terminal(true).trim_end(), format!("{}: ok", file.display()));
    let piped = tidegate(&["check", file.to_str().unwrap()]).assert().success();
    assert_eq!(text(&piped.get_output().stdout), format!("{}: ok\n", file.display()));
}

/// Goal: a review without secrets checks the rest of a file, and says so.
#[test]
fn files_are_checked_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let config = Config { admin: ", token: { env: NOT_IN_THIS_ENVIRONMENT }".into(), ..Config::default() };
    let config = config.model("m/x", "chat").channel("c", free_address(), &[("m/x", "x")], "");
    std::fs::write(&file, config.text(free_address(), free_address())).unwrap();
    let file = file.to_str().unwrap();
    tidegate(&["check", file]).assert().code(78);
    let checked = tidegate(&["check", "--without-secrets", file]).assert().success();
    assert_eq!(text(&checked.get_output().stdout), format!("{file}: ok, secrets apart\n"));
}

/// Goal: a command line that makes no sense is 2, an address that is taken is 1, in one line.
#[test]
fn failures_have_codes() {
    tidegate(&["frobnicate"]).assert().code(2);
    tidegate(&[]).assert().code(2);
    tidegate(&["-t", "keys", "new"]).assert().code(2);
    tidegate(&["--format", "markdown", "status"]).assert().code(2);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let config = Config::default().model("m/x", "chat").channel("c", free_address(), &[("m/x", "x")], "");
    std::fs::write(&file, config.text(taken.local_addr().unwrap(), free_address())).unwrap();
    let told = tidegate(&["run", "-c", file.to_str().unwrap()]).assert().code(1);
    let told = text(&told.get_output().stderr);
    assert!(
        told.starts_with(&format!("tidegate: cannot listen at {}", taken.local_addr().unwrap())),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1);
}

/// Goal: a new key has a digest that `hash` finds again; a key that was not copied in full is told.
#[test]
fn keys_are_made_and_hashed() {
    let made = tidegate(&["keys", "new"]).assert().success();
    let made = text(&made.get_output().stdout);
    let field = |name: &str| made.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (key, digest) = (field("key:"), field("digest:"));
    assert!(key.starts_with("tg_"));
    let hashed = tidegate(&["keys", "hash"]).write_stdin(format!("{key}\n")).assert().success();
    assert_eq!(text(&hashed.get_output().stdout).trim(), digest);
    tidegate(&["keys", "hash"]).write_stdin(&key[..30]).assert().code(2);
    tidegate(&["keys", "hash"]).write_stdin("").assert().code(2);
    tidegate(&["keys", "hash"]).write_stdin("brought-along").assert().success();
}

/// Goal: no key, credential or prompt is ever written, at the most talkative level (spec 5.2, 13.3).
/// Method: canaries in all of them, for answers and failures, then a look at everything that was printed.
#[test]
fn secrets_are_not_written() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let upstream = Upstream::start();
    let (public, admin) = (free_address(), free_address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let config = Config::default().model("m/x", "chat").model("m/bad", "chat").channel(
        "c",
        upstream.addr,
        &[("m/x", "x"), ("m/bad", "fault/bad-param-400")],
        "",
    );
    std::fs::write(&file, config.text(public, admin)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--log-level", "trace", "-c", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while crate::support::http::get(admin, "/readyz").is_none_or(|reply| reply.status != 200) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for (model, key) in
        [("m/x", crate::support::KEY), ("m/bad", crate::support::KEY), ("m/x", "wrong-canary-key")]
    {
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"prompt-canary"}}]}}"#);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        crate::support::http::exchange(public, request.as_bytes()).unwrap();
    }
    let metrics = crate::support::http::get(admin, "/metrics").unwrap().text();
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    child.wait().unwrap();
    assert_eq!(out.lines().filter(|line| line.starts_with('{')).count(), 3, "{out}");
    for canary in [crate::support::KEY, "wrong-canary-key", "credential-of-c", "prompt-canary"] {
        for (place, written) in [("standard output", &out), ("standard error", &err), ("metrics", &metrics)] {
            assert!(!written.contains(canary), "{canary} is in {place}");
        }
    }
}
