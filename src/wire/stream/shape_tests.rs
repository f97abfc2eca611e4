//! Streams of odd shapes: reasons that say nothing, events of several lines, errors without the member `error`, and ends
//! that the gateway makes (spec 2.6).

use super::*;
use crate::core::failure::Class;
use crate::wire::caller::Caller;
use crate::wire::classify::Judge;
use crate::wire::custom::Custom;
use crate::wire::recorded::of_fault;

const CHAT_TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"one "},"finish_reason":null}]}"#;
const CHAT_STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const TEXT: &str = r#"{"choices":[{"index":0,"text":"one ","finish_reason":null}]}"#;
const TEXT_STOP: &str = r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#;
const START: &str = r#"{"type":"message_start","message":{"id":"msg_up","content":[],"stop_reason":null}}"#;
const DELTA: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one "}}"#;
const ENDED: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#;
const STOPPED: &str = r#"{"type":"message_stop"}"#;
const CREATED: &str = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_up","status":"in_progress","error":null}}"#;
const SAID: &str = r#"{"type":"response.output_text.delta","sequence_number":1,"delta":"one "}"#;
const COMPLETED: &str = r#"{"type":"response.completed","sequence_number":2,"response":{"id":"resp_up","status":"completed","error":null,"output":[{"type":"message"}]}}"#;
const DONE: &str = "[DONE]";

const CALLS: [Call; 4] = [Call::Chat, Call::Completions, Call::Messages, Call::Responses];

fn stream(call: Call) -> EventStream {
    EventStream::new(StreamOptions {
        call,
        identity: Identity::of(call, 1, "a", "pub/m"),
        wants_usage: false,
        created: 7,
        expected: Expected::default(),
    })
}

/// The events of a good stream: before its content, its content, its end.
fn good(call: Call) -> [Vec<&'static str>; 3] {
    match call {
        Call::Chat => [vec![], vec![CHAT_TEXT], vec![CHAT_STOP, DONE]],
        Call::Completions => [vec![], vec![TEXT], vec![TEXT_STOP, DONE]],
        Call::Messages => [vec![START], vec![DELTA], vec![ENDED, STOPPED]],
        _ => [vec![CREATED], vec![SAID], vec![COMPLETED]],
    }
}

/// Everything a client would read of these bytes, and how the stream ended.
fn run(call: Call, bytes: &str) -> (String, Step) {
    let mut stream = stream(call);
    let mut step = stream.push(bytes.as_bytes());
    if matches!(step, Step::Preamble | Step::Content) {
        step = stream.finish();
    }
    (String::from_utf8(stream.take().to_vec()).unwrap(), step)
}

fn sse(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn is_failed(step: &Step) -> bool {
    matches!(step, Step::Failed(_))
}

/// Goal: a reason that says nothing is none: what is cut after it was cut, and the client reads null. Only a documented
/// reason ends a stream, and another one passes.
#[test]
fn a_reason_that_says_nothing_ends_nothing() {
    for reason in ["", "null"] {
        let said = |text: &str| {
            format!(
                r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":"{reason}"}}]}}"#
            )
        };
        let (told, step) = run(Call::Chat, &sse(&[&said("one "), &said("two")]));
        assert_eq!((step, told.matches(r#""finish_reason":null"#).count()), (Step::Failed(Fault::Cut), 2));
        let (told, step) = run(Call::Chat, &sse(&[&said("one "), CHAT_STOP]));
        assert_eq!(step, Step::Done);
        assert!(
            told.contains(r#""finish_reason":null"#) && !told.contains(r#""finish_reason":"""#),
            "{told}"
        );
        let role = said("").replace("content", "role");
        assert_eq!(run(Call::Chat, &sse(&[&role])).1, Step::Failed(Fault::Empty));
        let text = format!(r#"{{"choices":[{{"index":0,"text":"one","finish_reason":"{reason}"}}]}}"#);
        assert_eq!(run(Call::Completions, &sse(&[&text])).1, Step::Failed(Fault::Cut));
        let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}}}}"#);
        let (told, step) = run(Call::Messages, &sse(&[START, DELTA, &delta]));
        assert_eq!(step, Step::Failed(Fault::Cut));
        assert!(told.contains(r#""stop_reason":null}}"#), "{told}");
        let start = START.replace(r#""stop_reason":null"#, &format!(r#""stop_reason":"{reason}""#));
        assert!(run(Call::Messages, &sse(&[&start, DELTA, ENDED])).0.contains(r#""stop_reason":null"#));
    }
    let eos = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"eos"}]}"#;
    assert_eq!(run(Call::Chat, &sse(&[eos, eos])).1, Step::Failed(Fault::Cut));
    let (told, step) = run(Call::Chat, &sse(&[eos, DONE]));
    assert!(step == Step::Done && told.contains("\"eos\"") && told.contains(r#""finish_reason":"stop""#));
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"bored"}}"#;
    assert_eq!(run(Call::Messages, &sse(&[START, DELTA, delta])).1, Step::Failed(Fault::Cut));
    let (told, step) = run(Call::Messages, &sse(&[START, DELTA, delta, STOPPED]));
    assert!(step == Step::Done && told.contains("\"bored\"") && told.contains("\"end_turn\""), "{told}");
}

/// Goal: an event of several lines of data is one event with one line for the client, in every language.
#[test]
fn events_of_several_lines_stay_one() {
    for call in CALLS {
        let events = good(call).concat();
        let pretty = |event: &&str| match serde_json::from_str::<serde_json::Value>(event) {
            Ok(value) => serde_json::to_string_pretty(&value).unwrap().replace('\n', "\ndata: "),
            Err(_) => (*event).to_owned(),
        };
        for end in ["\n", "\r\n"] {
            let bytes: String =
                events.iter().map(|event| format!("data: {}\n\n", pretty(event))).collect::<String>();
            let (told, step) = run(call, &bytes.replace('\n', end));
            assert_eq!(step, Step::Done, "{call:?}");
            for line in told.lines().filter(|line| !line.is_empty()) {
                let data = line.strip_prefix("data: ");
                let whole = data.is_none_or(|data| {
                    data == DONE || serde_json::from_str::<serde_json::Value>(data).is_ok()
                });
                assert!(whole && (data.is_some() || line.starts_with("event: ")), "{call:?}: {line}");
            }
            let plain = run(call, &sse(&events)).0;
            assert_eq!(told.matches("data: ").count(), plain.matches("data: ").count(), "{told}");
        }
    }
    // A text that was cut at its newlines is no JSON, and is not made one.
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"a\ndata: b\"}}]}\n\n";
    assert_eq!(run(Call::Chat, cut).1, Step::Failed(Fault::NotAnEvent));
}

/// Errors as servers write them, without a member `error` that is an object.
const ERRORS: [&str; 16] = [
    r#"{"object":"error","message":"WORDS","code":500}"#,
    r#"{"object":"error","message":"WORDS","type":"BadRequestError","param":null,"code":400}"#,
    r#"{"detail":"WORDS"}"#,
    r#"{"detail":[{"msg":"WORDS"}]}"#,
    r#"{"text":"WORDS","error_code":50002}"#,
    r#"{"code":10013,"message":"WORDS"}"#,
    r#"{"success":false,"errors":[{"message":"WORDS"}]}"#,
    r#"{"error_code":336103,"error_msg":"WORDS"}"#,
    r#"{"error":"WORDS"}"#,
    r#"{"errorMessage":"WORDS"}"#,
    r#"{"status":"error","msg":"WORDS"}"#,
    r#"{"message":"WORDS"}"#,
    r#"{"type":"bad_request","message":"WORDS"}"#,
    r#"[{"error":{"code":400,"message":"WORDS"}}]"#,
    r#"{"status":400,"title":"Bad","detail":"WORDS"}"#,
    r#""WORDS""#,
];

/// Goal: an error is one whatever its members are called, in every language, before content and after; nothing of it passes,
/// and a context that is too long is known as that.
#[test]
fn errors_of_any_shape_are_errors() {
    let words = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens";
    let caller = Caller::new(b"{}", "p/m", "m");
    let judge = Judge { caller: &caller, custom: Custom::default(), now: 0 };
    for call in CALLS {
        let [before, content, end] = good(call);
        for error in ERRORS.map(|error| error.replace("WORDS", words)) {
            let lines = [format!("data: {error}\n\n"), format!("error: {error}\n\n"), format!("{error}\n\n")];
            let bare = if error.starts_with('{') { 3 } else { 2 };
            for line in &lines[..bare] {
                for prefix in [vec![], before.clone(), [before.clone(), content.clone()].concat()] {
                    let (told, step) = run(call, &format!("{}{line}{}", sse(&prefix), sse(&end)));
                    let Step::Failed(fault) = &step else { panic!("{call:?} {line}: {told}") };
                    assert!(!told.contains("maximum"), "{call:?} {line}: {told}");
                    assert_eq!(of_fault(fault, &judge).class, Class::ContextTooLong, "{call:?} {line}");
                }
            }
        }
        let after = [before, content, end.clone()].concat();
        let late = format!("{}data: {}\n\n", sse(&after[..after.len() - 1]), ERRORS[0]);
        assert_eq!(run(call, &late).1 == Step::Done, call != Call::Responses, "{call:?}");
    }
}

/// Goal: what is harmless stays so: housekeeping between the events of a stream changes nothing of its end.
#[test]
fn housekeeping_is_no_error() {
    let everywhere = [r#"{"type":"ping"}"#, "{}", r#"{"type":"vendor.queue","position":3}"#];
    let in_chat = [
        r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m"}"#,
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"base_resp":{"status_code":0,"status_msg":""}}"#,
        r#"{"code":0,"message":"","x_groq":{"id":"r"}}"#,
    ];
    let in_responses = [
        r#"{"type":"response.code_interpreter_call_code.done","sequence_number":1,"code":"print(1)"}"#,
        r#"{"type":"response.reasoning_summary_part.added","sequence_number":1,"part":{}}"#,
        r#"{"type":"response.mcp_call.failed","sequence_number":1,"item_id":"i"}"#,
        r#"{"type":"keepalive","sequence_number":1}"#,
    ];
    for call in CALLS {
        let more: &[&str] = match call {
            Call::Chat | Call::Completions => &in_chat,
            Call::Responses => &in_responses,
            _ => &[],
        };
        for quiet in everywhere.iter().chain(more) {
            let [before, content, end] = good(call);
            let events = [vec![*quiet], before, vec![*quiet], content, vec![*quiet], end].concat();
            assert_eq!(run(call, &sse(&events)).1, Step::Done, "{call:?} {quiet}");
        }
    }
    for call in CALLS {
        let unknown = r#"{"foo":{"bar":1}}"#;
        assert!(is_failed(&run(call, &sse(&[unknown])).1), "{call:?}");
    }
}

/// Goal: a response that says that it failed has failed, whatever its event is called.
#[test]
fn a_response_is_judged_by_what_it_says() {
    let error = r#""error":{"code":"server_error","message":"secret"}"#;
    for (kind, status) in [
        ("completed", "failed"),
        ("incomplete", "incomplete"),
        ("completed", "completed"),
        ("cancelled", "cancelled"),
        ("in_progress", "failed"),
    ] {
        let event = format!(
            r#"{{"type":"response.{kind}","sequence_number":2,"response":{{"id":"u","status":"{status}",{error},"output":[]}}}}"#
        );
        for before in [vec![CREATED], vec![CREATED, SAID]] {
            let (told, step) = run(Call::Responses, &sse(&[before, vec![&event]].concat()));
            assert_eq!(step, Step::Failed(Fault::ErrorEvent(event.clone().into())), "{kind} {status}");
            assert!(!told.contains("secret"));
        }
    }
    let incomplete = COMPLETED.replace("completed", "incomplete");
    assert_eq!(run(Call::Responses, &sse(&[CREATED, SAID, &incomplete])).1, Step::Done);
    let begun = r#"{"type":"message_start","message":{"type":"error","error":{"message":"secret"}}}"#;
    assert!(is_failed(&run(Call::Messages, &sse(&[begun])).1));
}

/// Goal: the end that the gateway makes says that tools were called where they were.
#[test]
fn a_made_end_tells_of_tools() {
    let called = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}"#;
    let other = r#"{"choices":[{"index":1,"delta":{"content":"x"}}]}"#;
    let older = r#"{"choices":[{"index":2,"delta":{"function_call":{"name":"f","arguments":"{}"}}}]}"#;
    let (told, step) = run(Call::Chat, &sse(&[called, other, older, DONE]));
    assert_eq!(step, Step::Done);
    for end in [
        r#"{"index":0,"delta":{},"finish_reason":"tool_calls"}"#,
        r#"{"index":1,"delta":{},"finish_reason":"stop"}"#,
        r#"{"index":2,"delta":{},"finish_reason":"function_call"}"#,
    ] {
        assert_eq!(told.matches(end).count(), 1, "{told}");
    }
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
    let (told, step) = run(Call::Messages, &sse(&[START, DELTA, block, STOPPED]));
    assert!(step == Step::Done && told.contains(r#""stop_reason":"tool_use""#), "{told}");
    let server = block.replace("tool_use", "server_tool_use");
    let (told, _) = run(Call::Messages, &sse(&[START, &server, DELTA, STOPPED]));
    assert!(told.contains(r#""stop_reason":"end_turn""#), "{told}");
}

/// Goal: what every official client reads leniently passes in the form that all read.
#[test]
fn lenient_shapes_pass() {
    let text = r#"{"choices":[{"index":null,"delta":{"content":"one "}}],"error":null}"#;
    for last in [
        r#"{"choices":[{"index":0,"delta":[],"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":null,"delta":"","finish_reason":"stop"}],"error":null}"#,
        r#"{"choices":[{"delta":null,"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"finish_reason":"stop"}]}"#,
    ] {
        let (told, step) = run(Call::Chat, &format!("\u{feff}{}", sse(&[text, text, last, DONE])));
        assert_eq!(step, Step::Done, "{last}");
        assert!(!told.contains("error") && !told.contains(r#""index":null"#), "{told}");
        assert!(!told.contains(r#""delta":[]"#) && !told.contains(r#""delta":"""#), "{told}");
        assert_eq!(told.matches("one ").count(), 2, "{told}");
    }
    let mut counted = stream(Call::Chat);
    counted.push(sse(&[text]).as_bytes());
    assert!(counted.has_content());
}
