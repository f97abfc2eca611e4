use super::*;

/// Goal: the beginning of a large answer decides as soon as it can, and not before.
#[test]
fn beginnings_decide() {
    for (prefix, expected) in [
        (r#"{"id":"x","choices":[{"me"#, Beginning::Content),
        (r#"{"error":null,"data":[{"#, Beginning::Content),
        (r#"{"error":{"message":"x"},"da"#, Beginning::Error),
        (r#"{"id":"x","obj"#, Beginning::Undecided),
        (r#"{"note":"aaaaaaa"#, Beginning::Undecided),
        ("<html>", Beginning::Error),
        (r#"{"id":x"#, Beginning::Error),
    ] {
        assert_eq!(beginning(prefix.as_bytes()), expected, "{prefix}");
    }
}

/// Goal: the list of videos is called what clients look for, whatever the upstream calls it; one that is called so is left
/// alone, and no other answer is touched (spec 11.5).
#[test]
fn videos_are_called_videos() {
    let told = |call: Call, body: &str| {
        let out = rewrite(body.as_bytes(), Identity::of(call, 1, "r", "m")).body;
        String::from_utf8(out.to_vec()).unwrap()
    };
    for (before, after) in [
        (
            r#"{"data":[{"url":"https://x/a"}],"id":7}"#,
            r#"{"videos":[{"url":"https://x/a"}],"id":"gate-1-r","model":"m"}"#,
        ),
        (
            r#"{"data":[{"fps":1}],"videos":[{"url":"y"}]}"#,
            r#"{"data":[{"fps":1}],"videos":[{"url":"y"}],"id":"gate-1-r","model":"m"}"#,
        ),
    ] {
        assert_eq!(told(Call::Video, before), after);
    }
    assert_eq!(told(Call::ImageEdits, r#"{"data":[]}"#), r#"{"data":[]}"#);
    let mut identity = Identity::of(Call::Video, 1, "r", "m").unchanged();
    let (begun, mut out) = (br#"{"data":[{"b64_json":"AA"#, BytesMut::new());
    identity.look_at(begun);
    identity.watching_rewriter().push(begun, &mut out);
    assert_eq!(&out[..], br#"{"videos":[{"b64_json":"AA"#);
}

/// Goal: an error behind the content of an answer that is already being sent does not pass, whoever gives it; what says
/// that there is none passes (spec 2.6).
#[test]
fn late_errors_are_failures() {
    for (rest, fails) in [
        (r#","error":null,"status":"completed","type":"x","success":true}"#, false),
        (r#","error":{},"status":null}"#, false),
        (r#","error":{"message":"secret"}}"#, true),
        (r#","error":"secret"}"#, true),
        (r#","status":"failed","error":{"message":"secret"}}"#, true),
        (r#","status":"cancelled"}"#, true),
        (r#","type":"error","message":"secret"}"#, true),
        (r#","success":false,"message":"secret"}"#, true),
        (r#","choices":[{"index":0},{"finish_reason":"error","m":"secret"}]}"#, true),
        (r#","choices":[{"index":0,"finish_reason":"stop"}]}"#, false),
    ] {
        let (call, member) =
            if rest.contains("choices") { (Call::Chat, "citations") } else { (Call::Responses, "output") };
        for identity in [Identity::of(call, 1, "r", "m"), Identity::new("g", "m").unchanged()] {
            let untouched = identity.is_unchanged();
            let (mut rewriter, mut out) = (identity.watching_rewriter(), BytesMut::new());
            let begun = format!(r#"{{"{member}":["words"]{rest}"#);
            rewriter.push(begun.as_bytes(), &mut out);
            assert_eq!((rewriter.has_failed(), rewriter.is_complete()), (fails, !fails), "{rest}");
            let out = String::from_utf8(out.to_vec()).unwrap();
            assert!(out.contains("words") && !out.contains("secret"), "{out}");
            assert!(fails || !untouched || out == begun, "{out}");
        }
    }
}

/// Goal: the answer carries the gateway's id and the public model, and no trace of the upstream.
#[test]
fn carries_the_gateways_names() {
    let body = br#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-5.5-2026","system_fingerprint":"fp","choices":[{"message":{"content":"\"model\""}}],"usage":{"prompt_tokens":1},"service_tier":"x"}"#;
    let Rewritten { body, usage, dropped } = rewrite(body, Identity::new("gate-1-a", "openai/gpt-5.5"));
    assert_eq!(dropped, 0);
    assert_eq!(
        &body[..],
        br#"{"id":"gate-1-a","object":"chat.completion","model":"openai/gpt-5.5","choices":[{"message":{"content":"\"model\""}}],"usage":{"prompt_tokens":1}}"#
    );
    assert_eq!(usage.as_deref(), Some(&br#"{"prompt_tokens":1}"#[..]));
}

/// Goal: a choice that ended with an error is a failure whatever else is in it; one that ended for want of room is one only if
/// it said nothing, in a conversation as in a completion (spec 2.6).
#[test]
fn bad_ends_are_known() {
    for (choice, bad) in [
        (r#"{"finish_reason":"error","message":{"content":"words"}}"#, true),
        (r#"{"finish_reason":"error","message":"words"}"#, true),
        (r#"{"finish_reason":"error","text":7}"#, true),
        (r#"{"finish_reason":"stop","message":{"content":"\"error\""}}"#, false),
        (r#"{"finish_reason":0,"message":{"content":"\"error\""}}"#, false),
        (r#"{"finish_reason":"model_context_window_exceeded","message":{"content":""}}"#, true),
        (r#"{"finish_reason":"model_context_window_exceeded","message":{"content":"words"}}"#, false),
        (r#"{"finish_reason":"model_context_window_exceeded","text":"words"}"#, false),
        (r#"{"finish_reason":"model_context_window_exceeded","text":""}"#, true),
    ] {
        let body = format!(r#"{{"note":"error","choices":[{{"index":0}},{choice}]}}"#);
        let outline: Outline<'_> = serde_json::from_str(&body).unwrap();
        assert_eq!(outline.ended_badly(body.as_bytes()), bad, "{choice}");
    }
}
