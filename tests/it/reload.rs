//! New configurations while requests run (spec 12.3).

use crate::support::{Config, Gateway, Upstream};
use assert_cmd::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = "token-of-the-operator";

fn config(upstream: &Upstream, weight: u32) -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model("m/x", "chat")
        .channel("stays", upstream.addr, &[("m/x", "x")], &format!(", weight: {weight}"))
}

/// `tidegate reload`: exit code, standard output, standard error.
fn reload(gateway: &Gateway) -> (Option<i32>, String, String) {
    let admin = gateway.admin.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output =
        command.args(["reload", "--admin", &admin]).env("TIDEGATE_ADMIN_TOKEN", TOKEN).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Goal: what has changed is told in words and is in force; a file with problems changes nothing and is told; a key that
/// was revoked stays so.
#[test]
fn changes_are_told_and_in_force() {
    let upstream = Upstream::start();
    let gateway = config(&upstream, 1).start();
    assert_eq!(gateway.chat("m/new", false).status, 503);
    let next = config(&upstream, 3)
        .model("m/new", "chat")
        .channel("added", upstream.addr, &[("m/new", "x")], "")
        .limits("rpm: 3");
    gateway.rewrite(&next.server("  threads: 63"));
    let (code, told, _) = reload(&gateway);
    assert_eq!(code, Some(0));
    for line in [
        "generation 2 is in force",
        "  model m/new: added",
        "  channel stays: weight 1 → 3",
        "  channel added: added",
        "  key tests: limits",
        "  server.threads: takes a restart",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    let statuses: Vec<u16> = (0..4).map(|_| gateway.chat("m/new", false).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(gateway.metrics()["tidegate_config_generation"], 2.0);

    gateway.rewrite_text("version: 1\nmodels: 7\n");
    let (code, _, told) = reload(&gateway);
    assert!(code == Some(78) && told.contains("models: must be a list, not a number"), "{told}");
    assert_eq!(gateway.metrics()["tidegate_config_last_reload_successful"], 0.0);
    assert_eq!(gateway.metrics()["tidegate_config_generation"], 2.0);
    assert_eq!(gateway.chat("m/new", false).status, 429, "the limit has kept its count");

    gateway.rewrite(&config(&upstream, 1));
    gateway.signal("HUP");
    gateway.wait_for("the third generation", || gateway.metrics()["tidegate_config_generation"] == 3.0);
    assert_eq!(gateway.chat("m/new", false).status, 503);
    assert_eq!(gateway.chat("m/x", false).status, 200, "the limit is gone");
    let left: Vec<String> = gateway
        .metrics()
        .into_keys()
        .filter(|name| name.contains("\"added\"") || name.contains("\"m/new\""))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    gateway.finish();
}

/// Goal: health, limits and permits of what stays the same carry over; a stream under way keeps its generation and its end.
#[test]
fn state_carries_over() {
    let upstream = Upstream::start();
    let start = |models: &str| {
        config(&upstream, 1)
            .model("m/long", "chat")
            .model("m/bad", "chat")
            .channel("long", upstream.addr, &[("m/long", "x+chunks=20+chunk-delay=100")], "")
            .channel("bad", upstream.addr, &[("m/bad", "fault/rate-openai")], models)
            .limits("concurrency: 2")
    };
    let gateway = start("").start();
    assert_eq!(gateway.chat("m/bad", false).status, 502);
    let rests =
        |gateway: &Gateway| gateway.metrics()[r#"tidegate_channel_state{channel="bad",state="cooling"}"#];
    assert_eq!(rests(&gateway), 1.0);
    let reply = std::thread::scope(|scope| {
        let stream = scope.spawn(|| gateway.chat("m/long", true));
        gateway.wait_for("the stream", || gateway.sum("tidegate_channel_in_flight") == 1.0);
        // A change elsewhere, and then one of the channel itself, whose credential and model stay.
        for (models, number) in [("", 2.0), (", weight: 5", 3.0)] {
            gateway.rewrite(&start(models).model("m/other", "chat"));
            assert_eq!(reload(&gateway).0, Some(0));
            assert_eq!((gateway.metrics()["tidegate_config_generation"], rests(&gateway)), (number, 1.0));
        }
        let second = scope.spawn(|| gateway.chat("m/long", true).status);
        gateway.wait_for("two streams", || gateway.sum("tidegate_channel_in_flight") == 2.0);
        assert_eq!(gateway.chat("m/x", false).status, 429, "the permit of the first is still held");
        assert_eq!(second.join().unwrap(), 200);
        stream.join().unwrap()
    });
    assert!(reply.complete && reply.text().ends_with("data: [DONE]\n\n"));
    gateway.finish();
}

/// Goal: 1,000 reloads under load, a third of them with bad files, fail no request, count their generations right and leave
/// memory flat.
#[test]
fn many_reloads_under_load() {
    const ROUNDS: u64 = 1_000;
    let upstream = Upstream::start();
    let gateway = config(&upstream, 1).start();
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for stream in [false, false, true, true] {
            let (gateway, done, sent) = (&gateway, &done, &sent);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(gateway.chat("m/x", stream).status, 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut resident = 0;
        for round in 0..ROUNDS {
            match round % 3 {
                2 => gateway.rewrite_text("version: 2"),
                odd => gateway.rewrite(&config(&upstream, 1 + odd as u32)),
            }
            let reply = gateway.operate("POST", "/reload", TOKEN, "");
            assert_eq!(reply.status, if round % 3 == 2 { 400 } else { 200 }, "{}", reply.text());
            if round == ROUNDS / 3 {
                resident = gateway.resident_bytes();
            }
        }
        let grown = gateway.resident_bytes().saturating_sub(resident);
        assert!(grown < 16 << 20, "grew by {grown} bytes");
        let deadline = Instant::now() + Duration::from_secs(10);
        while sent.load(Ordering::Relaxed) < 200 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(gateway.metrics()["tidegate_config_generation"] as u64, 1 + ROUNDS - ROUNDS / 3);
    gateway.finish();
}

/// Goal: while a model leaves and comes back under load and under scrapes, every request is counted once: the sum is the number of
/// requests sent, and nothing but the removed model's past is under `removed`.
#[test]
fn models_that_leave_under_load_are_counted() {
    let upstream = Upstream::start();
    let with = || {
        config(&upstream, 1).model("m/guest", "chat").channel("guest", upstream.addr, &[("m/guest", "x")], "")
    };
    let gateway = with().start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!([200, 503].contains(&gateway.chat("m/guest", false).status));
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                gateway.metrics();
            }
        });
        for round in 0..100 {
            gateway.rewrite(&if round % 2 == 0 { config(&upstream, 1) } else { with() });
            assert_eq!(gateway.operate("POST", "/reload", TOKEN, "").status, 200);
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    let of = |model: &str, code: &str| {
        let metrics = gateway.metrics();
        let series =
            format!(r#"tidegate_requests_total{{code="{code}",model="{model}",route="chat",status="#);
        metrics.iter().filter(|(name, _)| name.starts_with(&series)).map(|(_, count)| count).sum::<f64>()
    };
    assert!(of("removed", "ok") > 0.0 && of("other", "model_not_found") > 0.0);
    assert_eq!((of("other", "ok"), of("removed", "model_not_found")), (0.0, 0.0));
    gateway.finish();
}

/// Goal: a key of the file that was revoked at run time is told at each reload and by `check`, until it is restored or gone.
#[test]
fn revoked_keys_of_the_file_are_told() {
    let upstream = Upstream::start();
    let gateway = config(&upstream, 1).start();
    let file = gateway.store().parent().unwrap().join("tidegate.yaml");
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("check").arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(), (Some(0), format!("{}: ok\n", file.display())));
    assert_eq!(gateway.operate("POST", "/keys/tests/revoke", TOKEN, "").status, 200);
    let warned = "warning: keys[0].digest: this key is revoked, and is refused";
    let (code, told, _) = reload(&gateway);
    assert!(code == Some(0) && told.contains(warned), "{told}");
    let (code, told) = check();
    assert!(code == Some(0) && told.contains(warned) && told.contains("tidegate.yaml:"), "{told}");
    gateway.wait_for("the log to say so", || gateway.said("this key is revoked"));
    assert_eq!(gateway.operate("POST", "/keys/tests/restore", TOKEN, "").status, 200);
    assert!(!reload(&gateway).1.contains("revoked") && !check().1.contains("revoked"));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    gateway.finish();
}
