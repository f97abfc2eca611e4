use super::*;
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
        (vec![STOP, DONE], Step::Done),
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
