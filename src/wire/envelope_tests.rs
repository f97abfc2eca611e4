use super::*;
use proptest::prelude::*;

fn parse(body: &str) -> Result<Envelope<'_>, Refusal> {
    Envelope::parse(body.as_bytes(), Call::Chat)
}

/// Goal: the governed members are found with their spans, in any order, spelling and surroundings.
#[test]
fn finds_the_governed_members() {
    let body =
        r#" {"messages":[{"model":"no","stream":true}], "mod\u0065l" : "a\/b", "stream":true,"x":1e999} "#;
    let envelope = parse(body).unwrap();
    assert_eq!(envelope.model, "a/b");
    assert_eq!(&body[envelope.places.model.clone()], r#""a\/b""#);
    assert!(envelope.stream);
    assert_eq!(envelope.places.usage, UsageOption::NoOptions(None));
}

/// Goal: what one parser would read differently from another is refused (spec 4.2).
#[test]
fn refuses_what_parsers_read_differently() {
    for (body, param) in [
        (r#"{"model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","\u006dodel":"b"}"#, "model"),
        (r#"{"model":"a","Model":"b"}"#, "model"),
        ("{\"model\":\"a\",\"\u{17f}tream\":true}", "stream"),
        (r#"{"model":"a","stream":1}"#, "stream"),
        (r#"{"model":"a","stream":"true"}"#, "stream"),
        (r#"{"model":1}"#, "model"),
        (r#"{"model":""}"#, "model"),
        (r#"{"model":"a","n":0}"#, "n"),
        (r#"{"model":"a","n":-1}"#, "n"),
        (r#"{"model":"a","n":1000000}"#, "n"),
        (r#"{"model":"a","max_tokens":1.5}"#, "max_tokens"),
        (r#"{"model":"a","max_tokens":-0}"#, "max_tokens"),
        (r#"{"model":"a","max_tokens":"9"}"#, "max_tokens"),
        (r#"{"model":"a","max_completion_tokens":18446744073709551616}"#, "max_completion_tokens"),
        (r#"{"model":"a","stream_options":[]}"#, "stream_options"),
        (r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#, "stream_options"),
        (r#"{"model":"a","stream_options":{"include_usage":0}}"#, "stream_options"),
    ] {
        match parse(body) {
            Err(Refusal::InvalidValue { param: found, .. }) => assert_eq!(found, param, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert_eq!(parse("{}").unwrap_err(), Refusal::MissingParameter("model"));
}

/// Goal: integers count however they are spelled, what is out of bounds is refused with the bounds, and a message of no tokens
/// may be asked for (it fills the provider's cache).
#[test]
fn bounds_of_answers_are_integers() {
    let bound = |call, value: &str| {
        let body = format!(r#"{{"model":"a","max_tokens":{value}}}"#);
        Envelope::parse(body.as_bytes(), call).map(|envelope| envelope.places.output_bound(call))
    };
    for (value, tokens) in [("100", 100), ("100.0", 100), ("1e2", 100), ("1.0E+2", 100), ("0.1e4", 1_000)] {
        assert_eq!(bound(Call::Messages, value), Ok(Some(tokens)), "{value}");
        assert_eq!(bound(Call::Chat, value), Ok(Some(tokens)), "{value}");
    }
    assert_eq!((bound(Call::Messages, "0"), bound(Call::Messages, "0.0")), (Ok(Some(0)), Ok(Some(0))));
    let refused = |why| Err(Refusal::InvalidValue { param: "max_tokens", why });
    for value in ["-1", "-1.0", "1.5", "1e9", "1e400", "true"] {
        let least_0 = "must be an integer between 0 and 100000000";
        assert_eq!(bound(Call::Messages, value), refused(least_0), "{value}");
        assert_eq!(
            bound(Call::Chat, value),
            refused("must be an integer between 1 and 100000000"),
            "{value}"
        );
    }
    assert!(bound(Call::Chat, "0").is_err() && bound(Call::Completions, "0").is_err());
    let n = parse(r#"{"model":"a","n":129}"#).unwrap_err();
    assert_eq!(n, Refusal::InvalidValue { param: "n", why: "must be an integer between 1 and 128" });
}

/// Goal: broken JSON is refused with the place of the fault; deep nesting cannot overflow the stack.
#[test]
fn refuses_what_is_not_json() {
    for body in [
        "",
        "{",
        r#"{"model":"a",}"#,
        r#"{"model":"a"}{}"#,
        r#"{"model":"a","n":01}"#,
        "\u{feff}{}",
        "{'model':1}",
    ] {
        assert!(matches!(parse(body), Err(Refusal::InvalidJson { .. })), "{body}");
    }
    assert_eq!(parse("{\n \"model\": x}").unwrap_err(), Refusal::InvalidJson { line: 2, column: 11 });
    assert_eq!(
        Envelope::parse(b"{\n\"model\":\"\xff\"}", Call::Chat).unwrap_err(),
        Refusal::InvalidJson { line: 2, column: 10 }
    );
    assert!(matches!(parse("[1]"), Err(Refusal::NotARequest(_))));
    let deep = format!(r#"{{"model":"a","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(parse(&deep), Err(Refusal::NotARequest(_))));
    let allowed = format!(r#"{{"model":"a","x":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(parse(&allowed).is_ok());
}

/// Goal: every form of `stream_options` is told apart, with the place to edit.
#[test]
fn reads_the_usage_option() {
    for (options, expected) in [
        (r#"{"include_usage":true}"#, None),
        (r#"{"include_usage": false}"#, Some("false")),
        (r#"{"a":1,"include_usage":null}"#, Some("null")),
        ("null", Some("null")),
    ] {
        let body = format!(r#"{{"model":"a","stream_options":{options}}}"#);
        let place = match parse(&body).unwrap().places.usage {
            UsageOption::Asked => None,
            UsageOption::Declined(span) | UsageOption::NoOptions(Some(span)) => Some(body[span].to_owned()),
            other => panic!("{other:?}"),
        };
        assert_eq!(place.as_deref(), expected, "{options}");
    }
    let body = r#"{"model":"a","stream_options":{ }}"#;
    assert_eq!(parse(body).unwrap().places.usage, UsageOption::Absent { at: 31, more: false });
}

proptest! {
    /// Goal: no bytes make it panic, and what it accepts serde_json accepts too, with the same model.
    #[test]
    fn agrees_with_serde_json(tail in r#"[\[\]{}:,"a-e0-9\\ ntu.-]{0,40}"#) {
        let body = format!(r#"{{"model":"m","x":{tail}}}"#);
        if let Ok(envelope) = parse(&body) {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(value["model"].as_str(), Some(&*envelope.model));
        }
    }

    /// Goal: arbitrary bytes never panic.
    #[test]
    fn never_panics(body: Vec<u8>) {
        let _ = Envelope::parse(&body, Call::Chat);
    }
}

/// Goal: the seconds of a video are the most that any of their names says, in any spelling that a parser might take.
#[test]
fn seconds_are_found() {
    let seconds = |members: &str| {
        let body = format!(r#"{{"model":"m",{members}}}"#);
        Envelope::parse(body.as_bytes(), Call::Chat).unwrap().seconds
    };
    assert_eq!(seconds(r#""seconds":"4""#), Some(4));
    assert_eq!(seconds(r#""seconds":4,"duration":7.5,"n":1"#), Some(8));
    assert_eq!(seconds(r#""Seconds":9,"seconds":4"#), Some(9));
    assert_eq!(seconds(r#""duration":"auto","x":{"seconds":3}"#), None);
}
