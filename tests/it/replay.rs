//! Bodies that are kept for another attempt (spec 10.6).

use crate::support::{Config, Gateway, Upstream, free_address};

/// A model whose first channel fails, one whose first channel is not there, and one with long streams; `replay_max` as given.
fn gateway(upstream: &Upstream, replay_max: &str) -> Gateway {
    Config::default()
        .model("m/fails", "chat")
        .model("m/away", "chat")
        .model("m/long", "chat")
        .channel("fails", upstream.addr, &[("m/fails", "fault/status-500")], "")
        .channel("away", free_address(), &[("m/away", "x")], "")
        .channel("long", upstream.addr, &[("m/long", "x+chunks=20+chunk-delay=100")], "")
        .channel("spare", upstream.addr, &[("m/fails", "gpt"), ("m/away", "gpt")], ", priority: 1")
        .server(&format!("  replay_max: {replay_max}"))
        .start()
}

fn ask(gateway: &Gateway, model: &str, bytes: usize) -> u16 {
    let text = "x".repeat(bytes);
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    gateway.post("/v1/chat/completions", &body).status
}

/// Goal: a request whose body does not fit beside the others runs, but is not tried again once an upstream has had it; it is
/// counted. As long as nobody has had it, it may go elsewhere. What fits fails over as always.
#[test]
fn what_is_not_kept_is_tried_once() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "10KiB");
    let counted = |gateway: &Gateway| gateway.metrics()["tidegate_not_replayable_total"];
    assert_eq!((ask(&gateway, "m/fails", 100), counted(&gateway)), (200, 0.0));
    assert_eq!((ask(&gateway, "m/fails", 20_000), counted(&gateway)), (502, 1.0));
    let attempts = gateway.metrics()[r#"tidegate_attempts_total{channel="spare",outcome="success"}"#];
    assert_eq!(attempts, 1.0, "the spare channel was asked once, for the small one");
    assert_eq!((ask(&gateway, "m/away", 20_000), counted(&gateway)), (200, 2.0));
    gateway.finish();
}

/// Goal: what is kept is given back when the answer is on its way, not at its end, and then another request finds the room.
#[test]
fn a_stream_under_way_keeps_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "30KiB");
    let text = "x".repeat(20_000);
    let body =
        format!(r#"{{"model":"m/long","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| gateway.post("/v1/chat/completions", &body));
        gateway.wait_for("the body to be kept", || gateway.metrics()["tidegate_replay_bytes"] > 20_000.0);
        gateway.wait_for("the body to be let go", || gateway.metrics()["tidegate_replay_bytes"] == 0.0);
        assert_eq!(gateway.sum("tidegate_channel_in_flight"), 1.0, "the stream is under way");
        assert_eq!(ask(&gateway, "m/fails", 20_000), 200);
        assert!(stream.join().unwrap().complete);
    });
    assert_eq!(gateway.metrics()["tidegate_not_replayable_total"], 0.0);
    gateway.finish();
}
