use super::*;
use crate::core::failure::{Effect, Next};
use proptest::prelude::*;

const CALLER: Caller<'_> = Caller {
    body: br#"{"model":"openai/gpt","temperature":9}"#,
    public_model: "openai/gpt",
    upstream_model: "gpt-up",
};

fn verdict(status: u16, body: &str) -> Verdict {
    classify(Answer { status, headers: &HeaderMap::new(), body: body.as_bytes() }, &CALLER, 0)
}

/// Goal: the main rows of spec 3.2, each in an own wording, under statuses that mislead.
#[test]
fn main_rows() {
    use Class::*;
    for (status, body, class) in [
        (
            400,
            r#"{"error":{"message":"temperature must be below 2","param":"temperature","code":"invalid_value"}}"#,
            CallerMistake,
        ),
        (422, r#"{"detail":[{"loc":["body","temperature"],"msg":"too high","type":"x"}]}"#, CallerMistake),
        (400, r#"{"error":{"message":"refused","code":"content_filter"}}"#, ContentRefused),
        (
            500,
            r#"{"error":{"message":"The maximum context length is 10 tokens","type":"t"}}"#,
            ContextTooLong,
        ),
        (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, ContextTooLong),
        (413, "<html><h1>413 Request Entity Too Large</h1></html>", BodyTooLarge),
        (401, r#"{"error":{"message":"who?"}}"#, CredentialRefused),
        (
            400,
            r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
            CredentialRefused,
        ),
        (402, "", AccountEmpty),
        (429, r#"{"error":{"message":"x","code":"insufficient_quota"}}"#, AccountEmpty),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to go on."}}"#,
            AccountEmpty,
        ),
        (403, "error code: 1015", AddressRefused),
        (429, r#"{"error":{"message":"slow down"}}"#, RateLimited),
        (
            413,
            r#"{"error":{"message":"Request too large for m on tokens per minute (TPM)"}}"#,
            TooLargeForTier,
        ),
        (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded),
        (500, r#"{"error":{"message":"当前分组上游负载已饱和","type":"new_api_error"}}"#, Overloaded),
        (500, "oops", Broken),
        (404, "404 page not found", Misconfigured),
        (
            404,
            r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#,
            ModelMissing,
        ),
        (302, "", Misconfigured),
        (200, r#"{"error":{"message":"Internal Server Error","code":500}}"#, Broken),
        (200, r#"{"error":{"message":"wait","code":429}}"#, RateLimited),
    ] {
        assert_eq!(verdict(status, body).class, class, "{status} {body}: {}", verdict(status, body).rule);
    }
}

/// Goal: words of the prompt that an upstream echoes never make a request's fault into one of the channel's, and text
/// never takes a credential out (spec 3.4, 3.5).
#[test]
fn echoed_text_is_not_believed() {
    let echoed = r#"{"error":{"message":"Invalid 'messages[0].content': 'insufficient balance, invalid api key, overloaded'","param":"messages[0].content","code":"invalid_value"}}"#;
    assert_eq!(verdict(400, echoed).class, Class::CallerMistake);
    for text in ["insufficient balance", "invalid api key", "your billing plan"] {
        let verdict = verdict(400, &format!(r#"{{"error":{{"message":"{text}"}}}}"#));
        assert_ne!(verdict.effect, Effect::CredentialOut, "{text}");
        assert_eq!(verdict.class.next(), Next::Any, "{text}");
    }
}

/// Goal: words pass only with a positive signal (spec 3.6).
#[test]
fn words_need_a_signal() {
    let told = verdict(400, r#"{"error":{"message":"temperature must be below 2","param":"temperature"}}"#);
    assert_eq!(told.message.as_deref(), Some("temperature must be below 2"));
    assert_eq!(told.param.as_deref(), Some("temperature"));
    let silent = verdict(400, r#"{"error":{"message":"Tenant blue is in maintenance"}}"#);
    assert_eq!((silent.class, silent.message), (Class::CallerMistake, None));
}

/// Goal: what looks like a success is judged, too (spec 3.1).
#[test]
fn successes_are_judged() {
    for (body, row) in [
        ("", Row::EMPTY.name),
        ("<html>", Row::NOT_JSON.name),
        ("null", Row::NOT_JSON.name),
        (r#"{"choices":[{"me"#, Row::NOT_JSON.name),
        (r#"{"choices":[]}"#, Row::NO_CONTENT.name),
        (r#"{"id":"x"}"#, Row::NO_CONTENT.name),
        (r#"{"error":{"message":"x"}}"#, ERROR_IN_SUCCESS.name),
        (r#"{"success":false,"code":401}"#, ERROR_IN_SUCCESS.name),
    ] {
        assert_eq!(looks_failed(body.as_bytes(), Api::Chat).map(|row| row.name), Some(row), "{body}");
    }
    assert!(looks_failed(br#"{"error":null,"choices":[{}]}"#, Api::Chat).is_none());
    assert!(looks_failed(br#"{"data":[{}]}"#, Api::Embeddings).is_none());
}

/// Goal: compression is found by its magic bytes and bounded.
#[test]
fn bodies_are_decoded() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[b'a'; 100_000]).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(decoded(&gzip, 10).len(), 10);
    assert_eq!(decoded(b"plain", 10), &b"plain"[..]);
    assert_eq!(decoded(&[0x1f, 0x8b, 0xff], 10), &[0x1f, 0x8b, 0xff][..]);
}

proptest! {
    /// Goal: any answer gives a verdict, and 401, 402, 403, 404 and 429 of a provider are never the caller's (spec 3.3).
    #[test]
    fn provider_statuses_stay_ours(status in prop::sample::select(vec![401u16, 402, 403, 404, 429]), text in "[a-z ]{0,40}") {
        let public = crate::wire::error::PublicError::of(
            &crate::core::refusal::Failure::Upstream(verdict(status, &format!(r#"{{"error":{{"message":"{text}"}}}}"#))), 503);
        prop_assert!(![401, 402, 403, 404, 429].contains(&public.status()));
    }

    #[test]
    fn never_panics(status in 100u16..999, body: Vec<u8>) {
        let _ = classify(Answer { status, headers: &HeaderMap::new(), body: &decoded(&body, 1000) }, &CALLER, 0);
        let _ = looks_failed(&body, Api::Chat);
    }
}
