use super::*;
use crate::core::failure::{Capability, Effect, Next};
use crate::wire::custom::CustomRow;
use crate::wire::endpoint::Call;
use crate::wire::report::plain_code;
use proptest::prelude::*;

fn verdict(status: u16, body: &str) -> Verdict {
    verdict_for(r#"{"model":"openai/gpt","temperature":9}"#, status, body)
}

/// The verdict on an answer to a caller who sent `request`.
fn verdict_for(request: &str, status: u16, body: &str) -> Verdict {
    let caller = Caller::new(request.as_bytes(), "openai/gpt", "gpt-up");
    let judge = Judge { caller: &caller, custom: Custom::default(), now: 0 };
    judge.classify(Answer { status, headers: &HeaderMap::new(), body: body.as_bytes() })
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

/// Answers that no rule was written from: status, words, code, and what they are.
const OTHER_DIALECTS: &[(u16, &str, &str, Class)] = {
    use Class::*;
    &[
        (
            404,
            "This is a chat model, so it is not supported in the v1/completions endpoint.",
            "",
            CallerMistake,
        ),
        (400, "Invalid 'messages': array too long.", "array_above_max_length", CallerMistake),
        (422, "messages.1.content.0.tool_use_id: unexpected value", "", CallerMistake),
        (400, "Range of max_tokens should be [1, 8192]", "InvalidParameter", CallerMistake),
        (400, "Extra inputs are not permitted, field: 'temperature'", "", CallerMistake),
        (400, "Your input was flagged by our filter", "", ContentRefused),
        (403, "Your chosen model requires moderation and your input was flagged", "403", ContentRefused),
        (400, "Output blocked by guardrail policy", "", ContentRefused),
        (400, "x", "InputTextSensitiveContentDetected", ContentRefused),
        (400, "input length and max_tokens exceed context limit: 190000 + 20000 > 200000", "", CallerMistake),
        (
            400,
            "Prompt contains 32801 tokens, too large for model with 32768 maximum context length",
            "",
            ContextTooLong,
        ),
        (
            422,
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097.",
            "",
            ContextTooLong,
        ),
        (
            400,
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192",
            "",
            ContextTooLong,
        ),
        (400, "the request exceeds the available context size", "exceed_context_size_error", ContextTooLong),
        (500, "输入内容超过上下文最大长度", "", ContextTooLong),
        (413, "Payload too large", "", BodyTooLarge),
        (401, "Access denied due to invalid key or wrong endpoint", "401", CredentialRefused),
        (403, "Your API key was reported as leaked.", "PERMISSION_DENIED", CredentialRefused),
        (
            403,
            "The security token included in the request is expired",
            "ExpiredTokenException",
            CredentialRefused,
        ),
        (401, "无效的令牌", "", CredentialRefused),
        (400, "You have reached your specified API usage limits.", "", AccountEmpty),
        (403, "Sorry, your account balance is insufficient", "30001", AccountEmpty),
        (403, "用户额度不足", "", AccountEmpty),
        (400, "Budget has been exceeded! Max budget: 0.05", "budget_exceeded", AccountEmpty),
        (402, "This request requires more credits, or fewer max_tokens.", "402", AccountEmpty),
        (403, "no", "AccessDenied.Unpurchased", AccountEmpty),
        (403, "Access denied due to Virtual Network/Firewall rules.", "403", AddressRefused),
        (403, "no", "unsupported_country_region_territory", AddressRefused),
        (429, "You have reached the rate limit specific to this model", "model_rate_limit", RateLimited),
        (
            429,
            "Your team's rate limit is 1 requests per second",
            "Some resource has been exhausted",
            RateLimited,
        ),
        (400, "You have too many on-demand requests", "ServiceQuotaExceededException", RateLimited),
        (429, "Request too large for m on tokens per min (TPM): Limit 1, Requested 2", "", TooLargeForTier),
        (429, "当前分组上游负载已饱和，请稍后再试", "", Overloaded),
        (503, "The server is overloaded or not ready yet.", "service_unavailable", Overloaded),
        (498, "flex tier capacity exceeded", "capacity_exceeded", Overloaded),
        (500, "llama runner process has terminated", "", Broken),
        (504, "The request timed out", "DEADLINE_EXCEEDED", Broken),
        (404, "Resource not found", "404", Misconfigured),
        (400, "Unsupported api version", "", Misconfigured),
        (403, "Project does not have access to model x", "model_not_found", ModelMissing),
        (
            400,
            "Your organization must be verified to stream this model.",
            "unsupported_value",
            CapabilityMissing,
        ),
        (403, "Your organization must be verified to use the model", "", ModelMissing),
        (400, "The provided model identifier is invalid.", "ValidationException", ModelMissing),
        (
            400,
            "The operation does not work with the specified model, x.",
            "OperationNotSupported",
            ModelMissing,
        ),
        (404, "No allowed providers are available for the selected model.", "404", ModelMissing),
        (403, "Model disabled.", "30003", ModelMissing),
        (503, "No available channel for model x under group default", "model_not_found", ModelMissing),
        (403, "no", "Model.AccessDenied", ModelMissing),
    ]
};

/// Goal: the rules hold for answers that they were not written from: other wordings, other providers.
#[test]
fn other_dialects() {
    for (status, message, code, class) in OTHER_DIALECTS {
        let code = if code.is_empty() { String::new() } else { format!(r#","code":"{code}""#) };
        let body = format!(r#"{{"error":{{"message":"{message}","type":"error"{code}}}}}"#);
        let verdict = verdict(*status, &body);
        assert_eq!(verdict.class, *class, "{status} {body}: {}", verdict.rule);
    }
}

/// Goal: words of the prompt that an upstream echoes never make a request's fault into one of the channel's, and text
/// never takes a credential out (spec 3.4, 3.5).
#[test]
fn echoed_text_is_not_believed() {
    let echoed = r#"{"error":{"message":"Invalid 'messages[0].content': 'insufficient balance, invalid api key, overloaded'","param":"messages[0].content","code":"invalid_value"}}"#;
    assert_eq!(verdict(400, echoed).class, Class::CallerMistake);
    for text in ["Your credit balance is too low", "Incorrect API key provided: x", "insufficient balance"] {
        let told = format!(r#"{{"error":{{"message":"{text}"}}}}"#);
        assert_eq!(verdict(400, &told).effect, Effect::CredentialOut, "{text}");
        let request = format!(r#"{{"messages":[{{"content":"Say: {}"}}]}}"#, text.replace(' ', "\\u0020"));
        let echo = verdict_for(&request, 400, &told);
        assert_eq!((echo.effect, echo.next), (Effect::None, Next::Any), "{text}");
    }
    // An error object inside the words is a report, unless the caller wrote it.
    let inner = r#"{\"error\":{\"code\":\"invalid_api_key\"}}"#;
    let told = format!(r#"{{"error":{{"message":"relay: {inner}","code":"invalid_value","param":"x"}}}}"#);
    assert_eq!(verdict(400, &told).class, Class::CredentialRefused);
    let echo = verdict_for(&format!(r#"{{"content":"{inner}"}}"#), 400, &told);
    assert_eq!(echo.class, Class::CallerMistake);
}

/// Goal: words of billing that name no field are the gateway's own trouble, and the caller's if they wrote them.
#[test]
fn the_account_is_guarded() {
    let told = r#"{"error":{"message":"Please purchase something first"}}"#;
    assert_eq!(verdict(400, told).class, Class::AccountEmpty);
    assert_eq!(verdict_for(r#"{"content":"purchase"}"#, 400, told).class, Class::CallerMistake);
    let named = r#"{"error":{"message":"bad purchase","param":"tools[0].name"}}"#;
    assert_eq!(verdict(400, named).class, Class::CallerMistake);
}

/// Goal: an operator's rules are tried first and bounded: they unmake no proven mistake of the caller, and where only
/// words speak, they leave credential and channel alone.
#[test]
fn operators_add_rules_within_bounds() {
    let row = |name: &str, codes: &[&str], words: &[&str], class| CustomRow {
        name: name.into(),
        statuses: vec![(400, 499)],
        codes: codes.iter().map(|code| plain_code(code)).collect(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        class,
    };
    let rows = [
        row("by code", &["TenantPaused"], &[], Class::AccountEmpty),
        row("by words", &[], &["tenant"], Class::AccountEmpty),
    ];
    let caller = Caller::new(b"{}", "p/m", "m");
    let custom = Custom { rows: &rows, statuses: &[(418, 429)] };
    let judge = |status, body: &str| {
        let answer = Answer { status, headers: &HeaderMap::new(), body: body.as_bytes() };
        Judge { caller: &caller, custom, now: 0 }.classify(answer)
    };
    let by_code = judge(400, r#"{"error":{"code":"tenant_paused"}}"#);
    assert_eq!((&*by_code.rule, by_code.effect), ("by code", Effect::CredentialOut));
    let by_words = judge(400, r#"{"error":{"message":"Tenant paused"}}"#);
    assert_eq!(
        (&*by_words.rule, by_words.class, by_words.effect),
        ("by words", Class::AccountEmpty, Effect::None)
    );
    let proven = judge(400, r#"{"error":{"message":"tenant","param":"temperature"}}"#);
    assert_eq!(proven.class, Class::CallerMistake);
    assert_eq!(judge(500, r#"{"error":{"message":"tenant"}}"#).class, Class::Broken);
    assert_eq!(judge(418, "").class, Class::RateLimited);
}

/// Goal: the codes of all rows are written in the form that codes are compared in.
#[test]
fn rows_are_written_plainly() {
    let all = rules::rows().chain(DEFAULTS).chain([&REQUEST_SCOPED]);
    for code in all.clone().flat_map(|row| row.its_codes()) {
        let stem = code.trim_end_matches('*');
        let bare: String = stem.chars().filter(|c| c.is_alphanumeric()).collect();
        assert_eq!(plain_code(stem), bare, "{code}");
    }
    let mut names: Vec<_> = all.map(|row| row.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each row has a name of its own");
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
        ("", rules::EMPTY.name),
        ("<html>", rules::PAGE.name),
        ("null", rules::NOT_JSON.name),
        (r#"{"choices":[{"me"#, rules::NOT_JSON.name),
        (r#"{"choices":[]}"#, rules::NO_CONTENT.name),
        (r#"{"id":"x"}"#, rules::NO_CONTENT.name),
        (r#"{"error":{"message":"x"}}"#, ERROR_IN_SUCCESS.name),
        (r#"{"success":false,"code":401}"#, ERROR_IN_SUCCESS.name),
    ] {
        assert_eq!(looks_failed(body.as_bytes(), Call::Chat).map(|row| row.name), Some(row), "{body}");
    }
    assert!(looks_failed(br#"{"error":null,"choices":[{"text":"a"}]}"#, Call::Chat).is_none());
    assert!(looks_failed(br#"{"data":[{"embedding":[1]}]}"#, Call::Embeddings).is_none());
    let compacted =
        br#"{"object":"response.compaction","output":[{"type":"compaction","encrypted_content":"x"}]}"#;
    assert!(looks_failed(compacted, Call::Compact).is_none());
    let empty =
        looks_failed(br#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#, Call::Chat);
    assert_eq!(
        empty.map(|row| (row.name, row.its_effect())),
        Some((rules::NOTHING_IN_IT.name, Effect::None))
    );
    assert!(looks_failed(br#"{"input_tokens":0}"#, Call::CountTokens).is_none());
    for none in [r#"{"input_tokens":null}"#, r#"{"input_tokens":"7"}"#, r#"{"content":[{}]}"#] {
        assert!(looks_failed(none.as_bytes(), Call::CountTokens).is_some(), "{none}");
    }
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
        let caller = Caller::new(b"{}", "p/m", "m");
        let judge = Judge { caller: &caller, custom: Custom::default(), now: 0 };
        let _ = judge.classify(Answer { status, headers: &HeaderMap::new(), body: &decoded(&body, 1000) });
        let _ = looks_failed(&body, Call::Chat);
    }
}

/// Goal: an answer lets a video be submitted elsewhere only if it is a refusal in so many words (spec 10.8).
#[test]
fn refusals_are_told_from_doubt() {
    let coded = |code: &str| format!(r#"{{"error":{{"message":"no","code":"{code}"}}}}"#);
    let refused = [
        (400, coded("invalid_value")),
        (401, String::new()),
        (402, coded("x")),
        (404, "404 page not found".into()),
        (413, "<html></html>".into()),
        (429, coded("x")),
        (500, coded("insufficient_quota")),
        (503, coded("x")),
        (503, "The engine is currently overloaded".into()),
        (529, coded("overloaded_error")),
    ];
    let doubtful = [
        (200, coded("overloaded")),
        (202, "{}".into()),
        (303, String::new()),
        (408, coded("timeout")),
        (409, coded("in_progress")),
        (499, coded("x")),
        (500, coded("server_error")),
        (502, "<html></html>".into()),
        (503, String::new()),
        (503, "<html></html>".into()),
        (504, coded("timeout")),
        (524, "error code: 524".into()),
    ];
    for (accepted, answers) in [(Accepted::No, &refused[..]), (Accepted::Perhaps, &doubtful)] {
        for (status, body) in answers {
            assert_eq!(verdict(*status, body).accepted, accepted, "{status} {body}");
        }
    }
    let envoy =
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    assert_eq!(verdict(503, envoy).accepted, Accepted::Perhaps, "it may have been reset at work");
}

/// Goal: a capability that the channel lacks is told from a missing model and from the caller's mistake; it has no effect on
/// health, and others are tried (spec 3.2).
#[test]
fn missing_capabilities_are_told_apart() {
    for (status, body, capability) in [
        (
            500,
            r#"{"error":{"code":500,"message":"image input is not supported - hint: you may need to provide the mmproj","type":"server_error"}}"#,
            Capability::Images,
        ),
        (
            400,
            r#"{"object":"error","message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","type":"BadRequestError","code":400}"#,
            Capability::Tools,
        ),
        (
            400,
            r#"{"error":{"message":"Your organization must be verified to stream this model.","param":"stream","code":"unsupported_value"}}"#,
            Capability::Streaming,
        ),
        (
            404,
            r#"{"error":{"message":"No endpoints found that support tool use","code":404}}"#,
            Capability::Tools,
        ),
        (400, r#"{"error":{"message":"x does not support thinking"}}"#, Capability::Reasoning),
        (
            501,
            r#"{"error":{"code":501,"message":"This server does not support logprobs","type":"not_supported_error"}}"#,
            Capability::Logprobs,
        ),
    ] {
        let verdict = verdict(status, body);
        assert_eq!(
            (verdict.class, verdict.capability),
            (Class::CapabilityMissing, Some(capability)),
            "{body}"
        );
        assert_eq!((verdict.effect, verdict.next), (Effect::None, Next::Any), "{body}");
    }
    let route = r#"{"error":{"code":501,"message":"This server does not support embeddings","type":"not_supported_error"}}"#;
    assert_eq!(verdict(501, route).class, Class::Misconfigured);
    for body in [
        r#"{"error":{"message":"Unsupported image format: image/tiff is not supported"}}"#,
        r#"{"error":{"message":"Unsupported parameter: 'tools' is not supported with this model.","param":"tools","code":"unsupported_parameter"}}"#,
    ] {
        assert_eq!(verdict(400, body).class, Class::CallerMistake, "{body}");
    }
}

/// Goal: a member that only the gateway wrote is never the caller's fault, and one that the caller wrote is (spec 1.6).
#[test]
fn refusals_of_what_the_gateway_wrote_are_its_own() {
    let stream = r#"{"model":"openai/gpt","stream":true}"#;
    for (status, body) in [
        (400, r#"{"message":"Bad request: json: unknown field \"stream_options\"\n"}"#),
        (
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Unknown parameter","param":"stream_options.include_usage","code":"unknown_parameter"}}"#,
        ),
    ] {
        let refused = verdict_for(stream, status, body);
        assert_eq!(refused.refused_addition, Some("stream_options"), "{body}");
        assert_eq!((refused.class, refused.next), (Class::Misconfigured, Next::Any), "{body}");
        let own = r#"{"model":"openai/gpt","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(verdict_for(own, status, body).class, Class::CallerMistake, "{body}");
        assert_eq!(verdict_for(r#"{"model":"openai/gpt"}"#, status, body).refused_addition, None, "{body}");
    }
    // The word in a prompt may be an echo: the request is sent again without the member, and nothing is held against anybody.
    let talk = r#"{"stream":true,"messages":[{"role":"user","content":"what is stream_options?"}]}"#;
    let echo = verdict_for(talk, 400, r#"{"message":"unknown field stream_options"}"#);
    assert_eq!((echo.refused_addition, echo.effect), (Some("stream_options"), Effect::None));
    let bounded = Caller::new(br#"{"model":"m"}"#, "p/m", "m").with_added(vec!["max_completion_tokens"]);
    let judge = Judge { caller: &bounded, custom: Custom::default(), now: 0 };
    let judged = |body: &str| {
        judge
            .classify(Answer { status: 400, headers: &HeaderMap::new(), body: body.as_bytes() })
            .refused_addition
    };
    let unknown = r#"{"error":{"message":"Unrecognized request argument supplied: max_completion_tokens"}}"#;
    assert_eq!(judged(unknown), Some("max_completion_tokens"));
    let value = r#"{"error":{"message":"max_completion_tokens must be at least 1"}}"#;
    assert_eq!(judged(value), None);
}

/// Goal: what tells the caller what to change is kept, with the code of the upstream's meaning, also where a vendor is named.
#[test]
fn the_callers_own_words_are_kept() {
    let request = r#"{"model":"openai/gpt","metadata":{},"presence_penalty":1,"parallel_tool_calls":true}"#;
    for (body, message, fault) in [
        (
            r#"{"error_code":"BAD_REQUEST","message":"BAD_REQUEST: Model eu.vendor.claude-opus-5 does not support the temperature parameter."}"#,
            "Model openai/gpt does not support the temperature parameter.",
            RequestFault::UnsupportedParameter,
        ),
        (
            r#"{"error":{"message":"Azure OpenAI does not support the parallel_tool_calls parameter."}}"#,
            "The parameter parallel_tool_calls is not supported by this model.",
            RequestFault::UnsupportedParameter,
        ),
        (
            r#"{"error":"Model x does not support parameter presencePenalty."}"#,
            "Model x does not support parameter presencePenalty.",
            RequestFault::UnsupportedParameter,
        ),
        (
            r#"{"error":{"message":"metadata: Extra inputs are not permitted"}}"#,
            "metadata: Extra inputs are not permitted",
            RequestFault::UnsupportedParameter,
        ),
        (
            r#"{"error":{"message":"A maximum of 4 blocks with cache_control may be provided. Found 5."}}"#,
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
            RequestFault::InvalidValue,
        ),
        (
            r#"{"error":{"message":"temperature must be below 2 (request id: 20250825193859193009991279596944)"}}"#,
            "temperature must be below 2",
            RequestFault::InvalidValue,
        ),
    ] {
        let verdict = verdict_for(request, 400, body);
        assert_eq!(verdict.class, Class::CallerMistake, "{body}: {}", verdict.rule);
        assert_eq!(verdict.message.as_deref(), Some(message), "{body}");
        assert_eq!(verdict.fault, fault, "{body}");
    }
}

/// Goal: an error inside a 200 is judged by its codes as under any other status.
#[test]
fn codes_prove_under_any_status() {
    for (body, class) in [
        (r#"{"error":{"code":"1302","message":"x"}}"#, Class::RateLimited),
        (r#"{"error":{"code":"1113","message":"x"}}"#, Class::AccountEmpty),
        (r#"{"error":{"code":"1305","message":"x"}}"#, Class::Overloaded),
        (r#"{"error":{"code":"1261","message":"x"}}"#, Class::ContextTooLong),
        (
            r#"{"error":{"type":"invalid_request_error","message":"temperature is bad"}}"#,
            Class::CallerMistake,
        ),
        (r#"{"error":{"type":"overloaded_error","message":"x"}}"#, Class::Overloaded),
        (r#"{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"x"}}}"#, Class::RateLimited),
    ] {
        assert_eq!(verdict(200, body).class, class, "{body}: {}", verdict(200, body).rule);
    }
    let server =
        r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#;
    assert_eq!(verdict(500, server).class, Class::ContextTooLong);
    let field = r#"{"error":{"message":"string too long","code":"string_above_max_length","param":"messages[2].tool_calls[0].id"}}"#;
    assert_eq!(verdict(400, field).class, Class::CallerMistake);
}
