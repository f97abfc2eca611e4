//! Several credentials at one channel, and what a refused one costs (spec 3.4, 9.6, 9.7), over the wire.

use crate::support::scripted::{self, Asked};
use crate::support::{Config, Gateway, Upstream};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;

/// A channel with these credentials in place of its own.
fn with_credentials(mut config: Config, id: &str, credentials: &[&str]) -> Config {
    let own = format!("[{{ value: credential-of-{id} }}]");
    let pool: Vec<_> = credentials.iter().map(|value| format!("{{ value: {value} }}")).collect();
    let channel = config.channels.last_mut().expect("there is a channel");
    assert!(channel.contains(&own));
    *channel = channel.replace(&own, &format!("[{}]", pool.join(", ")));
    config
}

fn attempts(gateway: &Gateway, request_id: &str) -> usize {
    gateway.log_of(request_id)["attempts"].as_array().map_or(0, Vec::len)
}

/// Goal: where a credential is refused, empty or limited, another one of its channel serves the same request, as an attempt
/// of its own; what is the channel's own fault is not tried under another credential.
#[test]
fn another_credential_of_the_channel_is_tried_next() {
    for (status, body, serves) in [
        (401, r#"{"error":{"code":"invalid_api_key"}}"#, true),
        (403, r#"{"error":{"code":"invalid_api_key"}}"#, true),
        (429, r#"{"error":{"code":"rate_limit_exceeded"}}"#, true),
        (429, r#"{"error":{"code":"insufficient_quota"}}"#, true),
        (402, r#"{"error":{"message":"pay"}}"#, true),
        (500, r#"{"error":{"message":"oops"}}"#, false),
        (503, r#"{"error":{"message":"oops"}}"#, false),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let upstream = scripted::start(move |request: &Asked| {
            if request.head.to_lowercase().contains("bearer good") {
                return scripted::whole(200, &[], GOOD.as_bytes());
            }
            count.fetch_add(1, Ordering::Relaxed);
            scripted::whole(status, &[], body.as_bytes())
        });
        let config = Config::default().model("m/x", "chat").channel("c", upstream, &[("m/x", "x")], "");
        let gateway = with_credentials(config, "c", &["good", "bad"]).start();
        let replies = [(); 2].map(|()| gateway.chat("m/x", false));
        let statuses = replies.iter().map(|reply| reply.status).collect::<HashSet<_>>();
        let tried: Vec<_> = replies.iter().map(|reply| attempts(&gateway, reply.request_id())).collect();
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{status} {body}");
        assert_eq!(statuses == HashSet::from([200]), serves, "{status} {body}: {statuses:?}");
        assert_eq!(tried.iter().sum::<usize>(), 2 + usize::from(serves), "{status} {body}");
        gateway.finish();
    }
}

/// Goal: when all credentials of a channel are refused, each is tried once, and then the next channel.
#[test]
fn each_credential_is_tried_once() {
    let refused = scripted::start(|_| scripted::whole(401, &[], br#"{"error":{"code":"invalid_api_key"}}"#));
    let spare = scripted::start(|_| scripted::whole(200, &[], GOOD.as_bytes()));
    let config = Config::default().model("m/x", "chat").channel("pool", refused, &[("m/x", "x")], "");
    let gateway = with_credentials(config, "pool", &["one", "two"])
        .channel("spare", spare, &[("m/x", "x")], ", priority: 1")
        .start();
    let reply = gateway.chat("m/x", false);
    assert_eq!((reply.status, attempts(&gateway, reply.request_id())), (200, 3));
    gateway.finish();
}

/// Goal: a login that was broken for a moment costs a gateway with one credential seconds, not an hour, and while it is broken
/// it is asked by one request at a time.
#[test]
fn a_refused_login_is_back_within_seconds_of_its_repair() {
    let (broken, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_broken, count) = (Arc::clone(&broken), Arc::clone(&asked));
    let upstream = scripted::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        match is_broken.load(Ordering::Relaxed) {
            true => scripted::whole(401, &[], br#"{"error":{"code":"invalid_api_key"}}"#),
            false => scripted::whole(200, &[], GOOD.as_bytes()),
        }
    });
    let gateway = Config::default().model("m/x", "chat").channel("c", upstream, &[("m/x", "x")], "").start();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(gateway.chat("m/x", false).status, 502);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the first, and a probe after two seconds");
    broken.store(false, Ordering::Relaxed);
    let repaired = Instant::now();
    gateway.wait_for("the repaired login", || gateway.chat("m/x", false).status == 200);
    assert!(repaired.elapsed() < Duration::from_millis(5_600), "{:?}", repaired.elapsed());
    gateway.finish();
}

/// Goal: sessions of one user spread over channels, and each stays: by the header of its client, or else by its first message,
/// whatever stands before it and whatever marks it gets in later turns (spec 9.6).
#[test]
fn sessions_of_one_user_spread_and_each_stays() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("one", upstream.addr, &[("m/x", "x")], "")
        .channel("two", upstream.addr, &[("m/x", "x")], "")
        .start();
    let channel_of = |path: &str, header: &str, body: &str| {
        let reply = gateway.post_with(path, body, &format!("{header}\r\n"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        gateway.log_of(reply.request_id())["channel"].as_str().unwrap().to_owned()
    };
    let stay_and_spread = |turn: &dyn Fn(usize, usize) -> String| {
        let stays = |session| {
            let turns: HashSet<_> = (0..3).map(|number| turn(session, number)).collect();
            assert_eq!(turns.len(), 1, "session {session} moved");
            turns.into_iter().next().unwrap()
        };
        assert_eq!((0..12).map(stays).collect::<HashSet<_>>().len(), 2);
    };
    for header in ["x-claude-code-session-id", "session-id", "conversation"] {
        stay_and_spread(&|session, _| {
            let body = r#"{"model":"m/x","messages":[{"role":"user","content":"hi"}]}"#;
            channel_of("/v1/chat/completions", &format!("{header}: s-{session}"), body)
        });
    }
    stay_and_spread(&|session, _| {
        let body = format!(r#"{{"model":"m/x","input":"hi","conversation":"conv_{session}"}}"#);
        channel_of("/v1/responses", "x-a: b", &body)
    });
    stay_and_spread(&|session, turn| {
        let answers =
            r#",{"role":"assistant","content":"yes"},{"role":"user","content":"more"}"#.repeat(turn);
        let body = format!(
            r#"{{"model":"m/x","tools":[],"messages":[{{"role":"system","content":"Now it is {turn}"}},{{"role":"user","content":"task {session}"}}{answers}]}}"#
        );
        channel_of("/v1/chat/completions", "x-a: b", &body)
    });
    stay_and_spread(&|session, turn| {
        let mark = if turn == 0 { r#","cache_control":{"type":"ephemeral"}"# } else { "" };
        let answers =
            r#",{"role":"assistant","content":"yes"},{"role":"user","content":"more"}"#.repeat(turn);
        let body = format!(
            r#"{{"model":"m/x","max_tokens":9,"system":"be good","thinking":{{"type":"adaptive"}},"messages":[{{"role":"user","content":[{{"type":"text","text":"task {session}"{mark}}}]}}{answers}]}}"#
        );
        channel_of("/v1/messages", "x-a: b", &body)
    });
    gateway.finish();
}
