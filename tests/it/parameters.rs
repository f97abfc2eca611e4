//! Rules about members of requests: bounds of a model, and what it or a channel does not take (spec 1.4, 2.2, 4.1).

use crate::support::{Config, Gateway, Upstream, http};

fn chat(gateway: &Gateway, model: &str, more: &str) -> http::Reply {
    gateway.post("/v1/chat/completions", &body(model, more))
}

fn body(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}",{more}"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// What a reply says: its status, code and parameter.
fn told(reply: &http::Reply) -> (u16, String, String) {
    let error = &reply.json()["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (reply.status, text("code"), text("param"))
}

fn sent(upstream: &Upstream) -> String {
    String::from_utf8(upstream.stats.last_request().unwrap().body.to_vec()).unwrap()
}

/// Goal: numbers up to the model's bounds pass, larger ones are the caller's mistake that names the member, in each
/// language, and no upstream hears of it.
#[test]
fn bounds_are_the_models() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("a/b", "chat", "free: true, output_max: 100, n_max: 2")
        .channel("one", upstream.addr, &[("a/b", "x")], "")
        .start();
    for param in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        let reply = chat(&gateway, "a/b", &format!(r#""{param}":101,"#));
        assert_eq!(told(&reply), (400, "invalid_value".into(), param.into()));
        assert!(reply.text().contains("must be at most 100 for this model"), "{}", reply.text());
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    for param in ["n", "best_of"] {
        let reply = chat(&gateway, "a/b", &format!(r#""{param}":3,"#));
        assert_eq!(told(&reply), (400, "invalid_value".into(), param.into()));
    }
    let reply = gateway.post("/v1/messages", &body("a/b", r#""max_tokens":101,"#));
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (400, &"invalid_request_error".into()));
    assert!(reply.text().contains("The parameter max_tokens must be at most 100"), "{}", reply.text());
    assert_eq!(upstream.stats.requests(), 0);
    for more in [r#""max_tokens":100,"n":2,"#, r#""max_tokens":null,"n":null,"max_completion_tokens":1,"#, ""]
    {
        assert_eq!(chat(&gateway, "a/b", more).status, 200, "{more}");
    }
    gateway.finish();
}

/// Goal: what a model does not take is refused before any upstream, or left out with everything else byte for byte; a null
/// is no member, and a member that is there twice has no treatment.
#[test]
fn models_reject_and_drop() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let rules = "free: true, unsupported: { logprobs: reject, reasoning.effort: reject, seed: drop, user.name: drop }";
    let gateway = Config::default()
        .model_with("a/b", "chat", rules)
        .channel("one", upstream.addr, &[("a/b", "x")], "")
        .start();
    for (more, param) in [
        (r#""logprobs":false,"#, "logprobs"),
        (r#""log\u0070robs":1,"seed":3,"#, "logprobs"),
        (r#""reasoning":{"effort":"low"},"#, "reasoning.effort"),
    ] {
        assert_eq!(told(&chat(&gateway, "a/b", more)), (400, "unsupported_parameter".into(), param.into()));
    }
    let twice = chat(&gateway, "a/b", r#""seed":1,"seed":2,"#);
    assert_eq!(told(&twice), (400, "invalid_value".into(), "seed".into()));
    let stream = chat(&gateway, "a/b", r#""stream":true,"logprobs":true,"#);
    assert_eq!((stream.status, stream.header("content-type")), (400, Some("application/json")));
    assert_eq!(upstream.stats.requests(), 0);
    let written =
        r#"{ "seed" : 1 , "x":1.00E2,"model":"a/b" , "user":{"name":1},"messages":[ ], "logprobs":null}"#;
    let reply = gateway.post("/v1/chat/completions", written);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let expected = r#"{ "x":1.00E2,"model":"x" , "user":{},"messages":[ ], "logprobs":null}"#;
    assert_eq!(sent(&upstream), expected);
    let last = r#"{"messages":[],"stream":true,"model":"a/b","seed":7 }"#;
    assert_eq!(gateway.post("/v1/chat/completions", last).status, 200);
    let expected = r#"{"messages":[],"stream":true,"model":"x","stream_options":{"include_usage":true} }"#;
    assert_eq!(sent(&upstream), expected);
    gateway.finish();
}

/// Goal: what one channel does not take goes without it to this channel alone, whole to the next, and past a channel that
/// rejects it; when all reject it, the caller is told.
#[test]
fn channels_reject_and_drop() {
    let (first, second) = (Upstream::start(), Upstream::start());
    first.stats.record_bodies(true);
    second.stats.record_bodies(true);
    let gateway = Config::default()
        .model("a/b", "chat")
        .model_with("over/ruled", "chat", "free: true, unsupported: { top_k: drop }")
        .channel(
            "one",
            first.addr,
            &[("a/b", "fault/overload-openai"), ("over/ruled", "x")],
            ", unsupported: { seed: drop, top_k: reject }",
        )
        .channel("two", second.addr, &[("a/b", "x")], ", priority: 1, unsupported: { logprobs: reject }")
        .start();
    let reply = chat(&gateway, "a/b", r#""seed":1,"#);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!sent(&first).contains("seed") && sent(&second).contains(r#","seed":1,"#), "{}", sent(&second));
    let before = first.stats.requests();
    assert_eq!(chat(&gateway, "a/b", r#""top_k":1,"#).status, 200);
    assert_eq!(first.stats.requests(), before, "a channel that rejects it is not asked");
    let asked = second.stats.requests();
    let reply = chat(&gateway, "a/b", r#""top_k":1,"logprobs":true,"#);
    assert_eq!(told(&reply), (400, "unsupported_parameter".into(), "top_k".into()));
    assert_eq!((first.stats.requests(), second.stats.requests()), (before, asked));
    assert_eq!(chat(&gateway, "over/ruled", r#""top_k":1,"#).status, 200, "the model's own rule comes first");
    assert!(!sent(&first).contains("top_k"));
    gateway.finish();
}

/// Goal: a large body is walked without being slow for others, and is cut as exactly as a small one.
#[test]
fn large_bodies_are_cut_too() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = Config::default()
        .model_with("a/b", "chat", "free: true, unsupported: { seed: drop }")
        .channel("one", upstream.addr, &[("a/b", "a/b")], "")
        .start();
    let filler = "x".repeat(3 << 20);
    let large = body("a/b", &format!(r#""seed":1,"metadata":{{"filler":"{filler}"}},"#));
    assert_eq!(gateway.post("/v1/chat/completions", &large).status, 200);
    assert_eq!(sent(&upstream), large.replace(r#""seed":1,"#, ""));
    gateway.finish();
}
