use super::*;
use crate::core::estimate::Features;
use proptest::prelude::*;

const ROLE: &str =
    r#"{"id":"u","model":"um","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
const TEXT: &str =
    r#"{"id":"u","model":"um","choices":[{"index":0,"delta":{"content":"hi"}}],"system_fingerprint":"fp"}"#;
const STOP: &str = r#"{"id":"u","model":"um","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"id":"u","model":"um","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
const ERROR: &str = r#"{"error":{"message":"secret-host overloaded"}}"#;
const DONE: &str = "[DONE]";

fn stream(wants_usage: bool) -> EventStream {
    EventStream::new(StreamOptions {
        call: Call::Chat,
        identity: Identity::new("gate-1", "pub/m"),
        wants_usage,
        created: 7,
        expected: Expected::default(),
    })
}

fn of_call(call: Call) -> EventStream {
    EventStream::new(StreamOptions {
        call,
        identity: Identity::new("gate-1", "pub/m"),
        wants_usage: false,
        created: 7,
        expected: Expected::default(),
    })
}

fn sse(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// Everything a client would read, and how the stream ended.
fn run(wants_usage: bool, events: &[&str]) -> (String, Step) {
    let mut stream = stream(wants_usage);
    let mut step = stream.push(sse(events).as_bytes());
    if matches!(step, Step::Preamble | Step::Content) {
        step = stream.finish();
    }
    (String::from_utf8(stream.take().to_vec()).unwrap(), step)
}

/// Goal: names are the gateway's in every chunk, usage is hidden, `[DONE]` ends it.
#[test]
fn a_good_stream_passes() {
    let (text, step) = run(false, &[ROLE, TEXT, STOP, USAGE, DONE]);
    assert_eq!(step, Step::Done);
    assert_eq!(
        text,
        sse(&[
            r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#,
            r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            DONE
        ])
    );
}

/// Goal: a usage that stands in a choice counts as one, reaches the client where usage belongs, and only if it asked
/// (spec 1.6).
#[test]
fn usage_in_choices_is_moved() {
    let stop = r#"{"id":"u","model":"um","choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":1}}]}"#;
    let text = r#"{"id":"u","model":"um","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
    let own = r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    for wants in [false, true] {
        let (told, step) = run(wants, &[ROLE, text, text, stop, DONE]);
        assert_eq!((step, told.matches("\"content\":\"hi\"}}]}").count()), (Step::Done, 2), "{told}");
        assert!(told.contains(own), "{told}");
        let at_end = r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        assert_eq!(
            (told.matches("usage").count(), told.contains(at_end)),
            (usize::from(wants), wants),
            "{told}"
        );
    }
    let mut stream = stream(false);
    stream.push(sse(&[ROLE, text, stop, DONE]).as_bytes());
    let (usage, source) = stream.usage();
    assert_eq!((usage.input, usage.output, source), (3, 1, UsageSource::Reported));
}

/// Goal: an error is one in whatever language it is told, and nothing of it passes; events of Responses are none of another
/// language.
#[test]
fn errors_are_known_in_every_language() {
    for call in [Call::Chat, Call::Completions, Call::Messages, Call::Responses, Call::ImageEdits] {
        for error in [
            ERROR,
            r#"{"type":"error","error":{"message":"secret"}}"#,
            r#"{"type":"upstream_error","error":{"message":"secret"}}"#,
            r#"{"type":"error","message":"secret","sequence_number":1}"#,
        ] {
            let mut stream = of_call(call);
            let step = stream.push(sse(&[error]).as_bytes());
            assert_eq!(step, Step::Failed(Fault::ErrorEvent(error.into())), "{call:?}");
            assert!(stream.take().is_empty());
        }
    }
    let failed = r#"{"type":"response.failed","response":{"error":{"message":"secret"}}}"#;
    let created = r#"{"type":"response.created","response":{}}"#;
    for call in [Call::Messages, Call::ImageGenerations] {
        let step = of_call(call).push(sse(&[failed]).as_bytes());
        assert_eq!(step, Step::Failed(Fault::ErrorEvent(failed.into())));
        assert_eq!(of_call(call).push(sse(&[created]).as_bytes()), Step::Failed(Fault::NotAnEvent));
    }
}

/// Goal: a type that cannot be the name of an event is not written as one: nobody can put lines of their own into a stream.
#[test]
fn types_are_names_or_nothing() {
    for kind in ["a\\ndata: [DONE]", "a\\r\\n\\r\\n", "", "\\u0000"] {
        for call in [Call::Messages, Call::Responses, Call::ImageEdits] {
            let mut stream = of_call(call);
            let step =
                stream.push(sse(&[&format!(r#"{{"type":"{kind}","delta":{{"text":"x"}}}}"#)]).as_bytes());
            assert_eq!(step, Step::Failed(Fault::NotAnEvent), "{call:?} {kind}");
            assert!(stream.take().is_empty());
        }
    }
}

/// Goal: what Azure says of its filters reaches nobody, in whatever mode they run, but what they held back does
/// (spec 1.5, 2.8).
#[test]
fn filters_are_not_told_of() {
    let prompt = r#"{"id":"","object":"","created":0,"model":"","prompt_filter_results":[{"prompt_index":0}],"choices":[],"usage":null}"#;
    let checked =
        TEXT.replace(r#""index":0,"#, r#""content_filter_results":{"hate":{"filtered":false}},"index":0,"#);
    let note = r#"{"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,"content_filter_results":{},"content_filter_offsets":{"check_offset":44}}],"usage":null}"#;
    let held_back = note.replace(r#""finish_reason":null"#, r#""finish_reason":"content_filter""#);
    let text = r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
    let stop = r#"{"id":"gate-1","model":"pub/m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let end = r#"{"id":"gate-1","object":"chat.completion.chunk","created":7,"model":"pub/m","choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}"#;
    for (events, expected) in [
        (vec![prompt, &checked, STOP, DONE], vec![text, stop, DONE]),
        (vec![prompt, TEXT, note, STOP, note, DONE], vec![text, stop, DONE]),
        (vec![prompt, TEXT, note, &held_back, DONE], vec![text, end, DONE]),
        (vec![prompt, &held_back, DONE], vec![end, DONE]),
    ] {
        assert_eq!(run(false, &events), (sse(&expected), Step::Done));
    }
    let mut trusted = EventStream::new(StreamOptions {
        call: Call::Chat,
        identity: Identity::new("gate-1", "pub/m").unchanged(),
        wants_usage: false,
        created: 7,
        expected: Expected::default(),
    });
    assert_eq!(trusted.push(sse(&[&checked, note, STOP, DONE]).as_bytes()), Step::Done);
    let passed = String::from_utf8(trusted.take().to_vec()).unwrap();
    assert!(passed.contains("hate") && passed.contains("check_offset"), "{passed}");
}

/// Goal: a client that asked gets usage exactly once, before `[DONE]`, wherever the upstream put it (spec 1.6).
#[test]
fn usage_comes_once_when_asked_for() {
    let in_chunk = TEXT.replace("\"system_fingerprint\":\"fp\"", "\"usage\":{\"prompt_tokens\":3}");
    for events in
        [vec![ROLE, TEXT, STOP, USAGE, DONE], vec![&in_chunk, STOP, DONE], vec![&in_chunk, STOP, USAGE]]
    {
        let (text, step) = run(true, &events);
        assert_eq!((step, text.matches("\"usage\":{").count()), (Step::Done, 1), "{text}");
        assert!(text.trim_end().ends_with("}}\n\ndata: [DONE]") || text.contains(",\"usage\":{"), "{text}");
        assert!(!run(false, &events).0.contains("usage"));
    }
}

/// Goal: the completion rules of spec 2.6.
#[test]
fn completion_rules() {
    for (events, step) in [
        (vec![TEXT, STOP], Step::Done),
        (vec![TEXT, DONE], Step::Done),
        (vec![TEXT, STOP, ERROR], Step::Done),
        (vec![TEXT, STOP, DONE, ERROR], Step::Done),
        (vec![STOP, DONE], Step::Failed(Fault::NoContent)),
        (vec![ROLE, STOP, USAGE, DONE], Step::Failed(Fault::NoContent)),
        (vec![ROLE, USAGE, DONE], Step::Failed(Fault::NoContent)),
        (vec![TEXT], Step::Failed(Fault::Cut)),
        (vec![ROLE], Step::Failed(Fault::Empty)),
        (vec![ROLE, DONE], Step::Failed(Fault::Empty)),
        (vec![], Step::Failed(Fault::Empty)),
        (vec![TEXT, ERROR], Step::Failed(Fault::ErrorEvent(ERROR.into()))),
        (vec![ROLE, ERROR], Step::Failed(Fault::ErrorEvent(ERROR.into()))),
        (
            vec![TEXT, "{\"choices\":[{\"finish_reason\":\"error\"}]}"],
            Step::Failed(Fault::ErrorEvent("{\"choices\":[{\"finish_reason\":\"error\"}]}".into())),
        ),
        (vec![TEXT, "not json"], Step::Failed(Fault::NotAnEvent)),
        (vec![TEXT, "{\"choices\":[{\"index\":1,\"finish_reason\":\"stop\"}]}"], Step::Failed(Fault::Cut)),
    ] {
        let (text, ended) = run(false, &events);
        assert_eq!(ended, step, "{events:?}");
        assert!(!text.contains("secret-host"));
        if ended == Step::Done {
            assert_eq!(text.matches("finish_reason\":\"stop").count(), 1, "{text}");
            assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        }
    }
}

/// Goal: preamble does not commit, content does, and the gate is bounded (spec 10.1).
#[test]
fn the_gate_opens_at_content() {
    let mut gate = stream(false);
    assert_eq!(gate.push(sse(&[ROLE, "", ROLE]).as_bytes()), Step::Preamble);
    assert_eq!(gate.push(b": wait\n\n"), Step::Preamble);
    assert_eq!(gate.push(sse(&[TEXT]).as_bytes()), Step::Content);
    assert_eq!(gate.take().windows(6).filter(|w| w == b"data: ").count(), 3);
    assert_eq!(gate.push(b": OPENROUTER\n\n"), Step::Content);
    assert_eq!(&gate.take()[..], b": keep-alive\n\n");
    let mut flooded = stream(false);
    assert_eq!(flooded.push(sse(&[ROLE; 70]).as_bytes()), Step::Failed(Fault::GateFull));
}

/// Goal: half a character is shown as a replacement, not taken for the end of the stream.
#[test]
fn cut_characters_pass() {
    let mut stream = stream(false);
    let mut event = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xc3".to_vec();
    event.extend(b"\"}}]}\n\n");
    assert_eq!(stream.push(&event), Step::Content);
    assert!(String::from_utf8(stream.take().to_vec()).unwrap().contains("a\u{fffd}"));
}

proptest! {
    /// Goal: however the network cuts it, the client reads the same bytes.
    #[test]
    fn chunking_changes_nothing(size in 1usize..80, wants_usage: bool) {
        let whole = sse(&[ROLE, TEXT, TEXT, STOP, USAGE, DONE]);
        let mut pieces = stream(wants_usage);
        let mut read = Vec::new();
        for piece in whole.as_bytes().chunks(size) {
            if pieces.push(piece) != Step::Preamble {
                read.extend(pieces.take());
            }
        }
        prop_assert_eq!(String::from_utf8(read).unwrap(), run(wants_usage, &[ROLE, TEXT, TEXT, STOP, USAGE, DONE]).0);
    }

    /// Goal: nothing an upstream sends makes it panic.
    #[test]
    fn never_panics(pieces in prop::collection::vec(".{0,40}", 0..8)) {
        let mut any = stream(true);
        for piece in pieces {
            any.push(format!("data: {piece}\n\n").as_bytes());
        }
        any.finish();
    }
}

/// Everything a client would read of a stream in a language whose events have names, and how it ended.
fn run_named(call: Call, events: &[&str]) -> (String, Step) {
    let identity = Identity::of(call, 1, "a", "pub/m");
    let mut stream = EventStream::new(StreamOptions {
        call,
        identity,
        wants_usage: false,
        created: 7,
        expected: Expected::default(),
    });
    let mut step = Step::Preamble;
    for event in events {
        step = stream.push(format!("data: {event}\n\n").as_bytes());
        if matches!(step, Step::Done | Step::Failed(_)) {
            break;
        }
    }
    if matches!(step, Step::Preamble | Step::Content) {
        step = stream.finish();
    }
    (String::from_utf8(stream.take().to_vec()).unwrap(), step)
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_up","model":"um","content":[],"usage":{"input_tokens":3}}}"#;
const PING: &str = r#"{"type":"ping"}"#;
const BLOCK: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const DELTA: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#;
const TOOL: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
const ENDED: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#;
const MESSAGE_STOP: &str = r#"{"type":"message_stop"}"#;
const SAID_ERROR: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"secret-host"}}"#;

/// Goal: a Messages stream has the gateway's names, its events are named, and the completion rules hold (spec 2.6).
#[test]
fn messages_are_spoken() {
    let (text, step) = run_named(Call::Messages, &[START, PING, BLOCK, DELTA, ENDED, MESSAGE_STOP]);
    assert_eq!(step, Step::Done);
    assert!(text.starts_with("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_gate_1a\",\"model\":\"pub/m\","));
    assert!(text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{text}");
    for (events, expected) in [
        (vec![START, BLOCK, DELTA, ENDED], Step::Done),
        (vec![START, BLOCK, DELTA, MESSAGE_STOP], Step::Done),
        (vec![START, TOOL, ENDED, MESSAGE_STOP], Step::Done),
        (vec![START, BLOCK, DELTA, ENDED, SAID_ERROR], Step::Done),
        (vec![START, ENDED, MESSAGE_STOP], Step::Failed(Fault::NoContent)),
        (vec![START, BLOCK, DELTA], Step::Failed(Fault::Cut)),
        (vec![START, BLOCK, DELTA, DONE], Step::Failed(Fault::Cut)),
        (vec![START, PING, BLOCK], Step::Failed(Fault::Empty)),
        (vec![START, MESSAGE_STOP], Step::Failed(Fault::Empty)),
        (vec![START, PING, SAID_ERROR], Step::Failed(Fault::ErrorEvent(SAID_ERROR.into()))),
        (vec![START, BLOCK, DELTA, SAID_ERROR], Step::Failed(Fault::ErrorEvent(SAID_ERROR.into()))),
        (vec![START, "[1]"], Step::Failed(Fault::NotAnEvent)),
    ] {
        let (text, step) = run_named(Call::Messages, &events);
        assert_eq!(step, expected, "{events:?}");
        assert!(!text.contains("secret-host"));
        if step == Step::Done {
            assert_eq!(text.matches("\"stop_reason\":\"end_turn\"").count(), 1, "{text}");
            assert_eq!(text.matches("event: message_stop").count(), 1, "{text}");
        }
    }
}

const CREATED: &str = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_up","model":"um","status":"in_progress","service_tier":"x"}}"#;
const ADDED: &str =
    r#"{"type":"response.output_item.added","sequence_number":1,"item":{"type":"message","id":"i"}}"#;
const CALLED: &str =
    r#"{"type":"response.output_item.added","sequence_number":1,"item":{"type":"function_call","id":"i"}}"#;
const EMPTY_DELTA: &str = r#"{"type":"response.output_text.delta","sequence_number":2,"delta":""}"#;
const SAID: &str = r#"{"type":"response.output_text.delta","sequence_number":2,"delta":"hi"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","sequence_number":3,"response":{"id":"resp_up","model":"um","usage":{"input_tokens":3,"output_tokens":4}}}"#;
const FAILED: &str = r#"{"type":"response.failed","sequence_number":3,"response":{"id":"resp_up","error":{"code":"server_error","message":"secret-host"}}}"#;

/// Goal: the same for a Responses stream; its errors go on counting.
#[test]
fn responses_are_spoken() {
    let (text, step) = run_named(Call::Responses, &[CREATED, ADDED, EMPTY_DELTA, SAID, COMPLETED]);
    assert_eq!(step, Step::Done);
    assert_eq!(text.matches("\"id\":\"resp-gate-1-a\",\"model\":\"pub/m\"").count(), 2, "{text}");
    assert!(!text.contains("service_tier") && text.starts_with("event: response.created\n"), "{text}");
    for (events, expected) in [
        (vec![CREATED, CALLED, COMPLETED], Step::Done),
        (vec![CREATED, COMPLETED, FAILED], Step::Done),
        (vec![CREATED, ADDED, EMPTY_DELTA], Step::Failed(Fault::Empty)),
        (vec![CREATED, SAID], Step::Failed(Fault::Cut)),
        (vec![CREATED, SAID, DONE], Step::Failed(Fault::Cut)),
        (vec![CREATED, FAILED], Step::Failed(Fault::ErrorEvent(FAILED.into()))),
        (vec![CREATED, SAID, SAID_ERROR], Step::Failed(Fault::ErrorEvent(SAID_ERROR.into()))),
    ] {
        let (text, step) = run_named(Call::Responses, &events);
        assert_eq!(step, expected, "{events:?}");
        assert!(!text.contains("secret-host"));
    }
    let options = StreamOptions {
        call: Call::Responses,
        identity: Identity::new("r", "m"),
        wants_usage: false,
        created: 7,
        expected: Expected::default(),
    };
    let mut stream = EventStream::new(options);
    stream.push(format!("data: {SAID}\n\n").as_bytes());
    let error = stream.error(&PublicError::unavailable(), "req");
    assert!(error.contains("\"sequence_number\":3") && error.contains("\"sequence_number\":4"), "{error}");
}

/// Goal: usage of every language is read, and merged where it comes in parts (spec 7.1).
#[test]
fn usage_is_read_in_every_language() {
    let usage = |call, events: &[&str]| {
        let options = StreamOptions {
            call,
            identity: Identity::new("r", "m"),
            wants_usage: false,
            created: 7,
            expected: Expected::default(),
        };
        let mut stream = EventStream::new(options);
        stream.push(sse(events).as_bytes());
        {
            let (usage, source) = stream.usage();
            (source == UsageSource::Reported).then_some((usage.input, usage.output))
        }
    };
    assert_eq!(usage(Call::Chat, &[TEXT, STOP, USAGE]), Some((3, 1)));
    assert_eq!(usage(Call::Messages, &[START, BLOCK, DELTA, ENDED]), Some((3, 4)));
    assert_eq!(usage(Call::Responses, &[CREATED, SAID, COMPLETED]), Some((3, 4)));
}

/// Goal: an answer without any choice, taken at the word of its usage, is no success without a finish reason either.
#[test]
fn an_answer_without_a_choice_has_a_finish_reason() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    for call in [Call::Chat, Call::Completions] {
        let (text, usage, _) = used(call, true, &[usage, DONE]);
        assert_eq!(text.matches(r#""finish_reason":"stop""#).count(), 1, "{text}");
        assert_eq!((usage.input, usage.output, text.ends_with("data: [DONE]\n\n")), (3, 1, true), "{text}");
    }
}

/// Texts between which a pattern can fit, and some that break it: quotes, escapes, control characters, nothing.
fn told() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-zé ]{1,6}", 1 => "[a\"\\\\\n_{}:,]{0,6}", 1 => Just("_filter_\",\"usage\":{}".into())]
}

/// Events of one language, alike and unlike each other, with these texts in them.
fn events_of(call: Call, texts: &[(u8, String)]) -> Vec<String> {
    let event = |(number, (kind, text)): (usize, &(u8, String))| {
        let text = serde_json::json!(text);
        match (call, kind % 6) {
            (Call::Chat, 0) => format!(
                r#"{{"id":"u","choices":[{{"index":0,"delta":{{"content":{text}}},"content_filter_results":{{}}}}],"usage":null}}"#
            ),
            (Call::Chat, 1) => {
                format!(
                    r#"{{"choices":[{{"index":1,"delta":{{"content":{text},"reasoning":{text}}}}}],"model":"um"}}"#
                )
            }
            (Call::Chat, _) => format!(
                r#"{{"id":"u","model":"um","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}],"obfuscation":{text},"service_tier":"x"}}"#
            ),
            (Call::Messages, 0) => format!(
                r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"input_json_delta","partial_json":{text}}}}}"#
            ),
            (Call::Messages, 1) => {
                format!(
                    r#"{{"index":0,"type":"content_block_delta","delta":{{"thinking":{text},"type":"thinking_delta"}}}}"#
                )
            }
            (Call::Messages, _) => format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{text}}}}}"#
            ),
            (_, 0) => {
                format!(
                    r#"{{"type":"response.function_call_arguments.delta","sequence_number":{number},"delta":{text}}}"#
                )
            }
            (_, 1) => {
                format!(r#"{{"type":"response.output_text.done","sequence_number":{number},"text":{text}}}"#)
            }
            (_, _) => format!(
                r#"{{"type":"response.output_text.delta","obfuscation":{text},"delta":{text},"sequence_number":{number},"request_id":"r"}}"#
            ),
        }
    };
    texts.iter().enumerate().map(event).collect()
}

/// What a stream of a call that is expected to read seven tokens makes of these events: the client's text, and its usage.
fn used(call: Call, wants_usage: bool, events: &[&str]) -> (String, Usage, UsageSource) {
    let mut stream = EventStream::new(StreamOptions {
        call,
        identity: Identity::new("gate-1", "pub/m"),
        wants_usage,
        created: 7,
        expected: Expected { input: 7, image_tokens: 1_000, ..Expected::default() },
    });
    stream.push(sse(events).as_bytes());
    stream.finish();
    let (usage, source) = stream.usage();
    (String::from_utf8(stream.take().to_vec()).unwrap(), usage, source)
}

/// Goal: however an upstream spreads its reports, no zero and no part of one wipes what was reported before, what is missing
/// is counted, what came after a report is added, and the client reads the same (spec 7.1).
#[test]
fn reports_of_a_chat_stream_add_up() {
    let with = |usage: &str| format!(r#"{{"id":"u","choices":[],"usage":{usage}}}"#);
    let role = |usage: &str| {
        format!(r#"{{"id":"u","choices":[{{"index":0,"delta":{{"role":"assistant"}}}}],"usage":{usage}}}"#)
    };
    let real = with(r#"{"prompt_tokens":1000,"completion_tokens":5,"total_tokens":1005}"#);
    let early = role(r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13}"#);
    let words = vec![TEXT; 80];
    let counted = used(Call::Chat, false, &words).1.output;
    assert!((70..=90).contains(&counted), "{counted}");
    let groq =
        r#"{"id":"u","choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":12,"completion_tokens":5}}}"#;
    let (part, zeros, null, rest) = (
        with(r#"{"prompt_tokens_details":{"cached_tokens":900}}"#),
        with(r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#),
        with(r#"{"prompt_tokens":12,"completion_tokens":null}"#),
        with(r#"{"prompt_tokens":12,"total_tokens":40}"#),
    );
    for (events, expected) in [
        ([&[TEXT, STOP, &real, &part][..], &[DONE]].concat(), (1_000, 5, UsageSource::Reported)),
        ([&[TEXT, STOP, &real, &zeros][..], &[DONE]].concat(), (1_000, 5, UsageSource::Reported)),
        ([&[TEXT, STOP, &real, &with("{}")][..], &[DONE]].concat(), (1_000, 5, UsageSource::Reported)),
        ([&[&*early][..], &words, &[STOP, DONE]].concat(), (12, counted + 1, UsageSource::OutputEstimated)),
        (
            [&[&*early][..], &words, &[STOP, &zeros, DONE]].concat(),
            (12, counted + 1, UsageSource::OutputEstimated),
        ),
        ([&words[..], &[STOP, &null, DONE]].concat(), (12, counted, UsageSource::OutputEstimated)),
        ([&words[..], &[STOP, &zeros, DONE]].concat(), (7, counted, UsageSource::Estimated)),
        ([&words[..], &[STOP, &rest, DONE]].concat(), (12, 28, UsageSource::Reported)),
        ([&words[..], &[STOP, groq, DONE]].concat(), (12, 5, UsageSource::Reported)),
        ([&words[..], &[STOP, DONE]].concat(), (7, counted, UsageSource::Estimated)),
    ] {
        let (told, usage, source) = used(Call::Chat, true, &events);
        assert_eq!((usage.input, usage.output, source), expected, "{}", events.last().unwrap());
        let last = told.split("data: ").find(|event| event.contains("\"usage\"")).unwrap();
        let read: serde_json::Value = serde_json::from_str(last.trim()).unwrap();
        let figure = |name: &str| read["usage"][name].as_u64();
        assert_eq!(
            (figure("prompt_tokens"), figure("completion_tokens")),
            (Some(expected.0), Some(expected.1))
        );
        assert_eq!(told.matches("\"usage\"").count(), 1, "{told}");
    }
}

/// Goal: the same for Messages, whose clients replace what they read at the start by what they read at the end.
#[test]
fn reports_of_a_messages_stream_add_up() {
    let start = r#"{"type":"message_start","message":{"id":"m","model":"um","content":[],"usage":{"input_tokens":15,"cache_read_input_tokens":100,"output_tokens":1}}}"#;
    let delta =
        |rest: &str| format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{rest}}}"#);
    for (rest, expected, told_usage) in [
        (
            r#","usage":{"input_tokens":0,"output_tokens":20}"#,
            (115, 20, UsageSource::Reported),
            r#"{"input_tokens":15,"cache_read_input_tokens":100,"output_tokens":20}"#,
        ),
        (
            r#","usage":{"cache_read_input_tokens":0,"output_tokens":20}"#,
            (115, 20, UsageSource::Reported),
            r#"{"input_tokens":15,"cache_read_input_tokens":100,"output_tokens":20}"#,
        ),
        (r#","usage":{"output_tokens":20}"#, (115, 20, UsageSource::Reported), r#"{"output_tokens":20}"#),
        (
            "",
            (115, 2, UsageSource::OutputEstimated),
            r#"{"input_tokens":15,"cache_read_input_tokens":100,"output_tokens":2}"#,
        ),
        (
            r#","usage":{"output_tokens":-3}"#,
            (115, 2, UsageSource::OutputEstimated),
            r#"{"input_tokens":15,"cache_read_input_tokens":100,"output_tokens":2}"#,
        ),
    ] {
        let end = delta(rest);
        let (told, usage, source) = used(Call::Messages, false, &[start, BLOCK, DELTA, &end, MESSAGE_STOP]);
        assert_eq!((usage.input, usage.output, source), expected, "{rest}");
        assert!(told.contains(&format!(r#""usage":{told_usage}}}"#)), "{rest}: {told}");
    }
}

/// Goal: an answer without a word is one where the upstream says why, and in Responses where the final state has it.
#[test]
fn an_empty_stream_is_an_answer_where_it_is_explained() {
    let finish = |reason: &str| {
        format!(r#"{{"id":"u","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#)
    };
    let (length, filtered) = (finish("length"), finish("content_filter"));
    let thought = r#"{"id":"u","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":9}}}"#;
    let stopped = |reason: &str| {
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":0}}}}"#
        )
    };
    let (refusal, bound) = (stopped("refusal"), stopped("max_tokens"));
    let response = |rest: &str| format!(r#"{{"type":"response.completed","response":{{"id":"r",{rest}}}}}"#);
    let said = response(
        r#""status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"one two"}]}]"#,
    );
    let nothing =
        response(r#""status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":1}"#);
    let no = Step::Failed(Fault::NoContent);
    for (call, events, step) in [
        (Call::Chat, vec![ROLE, &*length, USAGE, DONE], Step::Done),
        (Call::Chat, vec![ROLE, &*length, DONE], no.clone()),
        (Call::Chat, vec![ROLE, &*filtered, DONE], Step::Done),
        (Call::Chat, vec![ROLE, STOP, thought, DONE], Step::Done),
        (Call::Messages, vec![START, &*refusal, MESSAGE_STOP], Step::Done),
        (Call::Messages, vec![START, &*bound, MESSAGE_STOP], Step::Done),
        (Call::Responses, vec![CREATED, &*said], Step::Done),
        (Call::Responses, vec![CREATED, &*nothing], no),
    ] {
        assert_eq!(of_call(call).push(sse(&events).as_bytes()), step, "{events:?}");
    }
    let (_, usage, source) = used(Call::Responses, false, &[CREATED, &said]);
    assert_eq!((usage.input, usage.output, source), (7, 2, UsageSource::Estimated));
}

proptest! {
    /// Goal: a stream whose events are recognised by their look says and counts the same as one whose events are all parsed.
    /// Every event is shown to a stream of its own as well, which knows no pattern yet.
    #[test]
    fn patterns_change_nothing(texts in prop::collection::vec((any::<u8>(), told()), 1..40)) {
        for call in [Call::Chat, Call::Messages, Call::Responses] {
            let named = || {
                EventStream::new(StreamOptions {
                    call,
                    identity: Identity::of(call, 1, "a", "pub/m"),
                    wants_usage: false,
                    created: 7,
                    expected: Expected::default(),
                })
            };
            let (mut whole, mut apart, mut counted) = (named(), BytesMut::new(), Features::default());
            for event in events_of(call, &texts) {
                let framed = format!("data: {event}\n\n");
                let mut alone = named();
                prop_assert_eq!(whole.push(framed.as_bytes()) == Step::Content, whole.has_content());
                alone.push(framed.as_bytes());
                apart.extend_from_slice(&alone.take());
                counted.merge(&alone.shell.tally.delivered());
            }
            prop_assert_eq!(whole.take(), apart);
            prop_assert_eq!(whole.shell.tally.delivered(), counted);
        }
    }
}
