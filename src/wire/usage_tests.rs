use super::*;
use proptest::prelude::*;

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

fn check(rows: &[(&str, &str, Usage)]) {
    for (name, json, usage) in rows {
        let reading = Reported::read(json.as_bytes()).finish();
        assert_eq!((reading.usage, reading.flawed), (Some(*usage), false), "{name}");
        assert_eq!(read(json.as_bytes()).usage, Some(*usage), "{name}");
    }
}

/// Goal: chat, completions and embeddings, as their providers and relays say it.
#[test]
fn reads_chat() {
    check(&[
        (
            "openai",
            r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":128,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
            Usage { cached: 1920, reasoning: 128, ..tokens(2006, 300) },
        ),
        ("embeddings", r#"{"prompt_tokens":9,"total_tokens":9}"#, tokens(9, 0)),
        (
            "deepseek",
            r#"{"prompt_tokens":29,"completion_tokens":100,"total_tokens":129,"prompt_cache_hit_tokens":20,"prompt_cache_miss_tokens":9,"completion_tokens_details":{"reasoning_tokens":60}}"#,
            Usage { cached: 20, reasoning: 60, ..tokens(29, 100) },
        ),
        (
            "moonshot",
            r#"{"prompt_tokens":1000,"completion_tokens":5,"total_tokens":1005,"cached_tokens":768}"#,
            Usage { cached: 768, ..tokens(1000, 5) },
        ),
        (
            "xai, with reasoning apart",
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"text_tokens":32,"audio_tokens":0,"image_tokens":0,"cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0},"num_sources_used":0}"#,
            Usage { cached: 6, reasoning: 94, ..tokens(32, 103) },
        ),
        (
            "a relay of the same, with thoughts alone",
            r#"{"prompt_tokens":21,"completion_tokens":0,"total_tokens":81,"completion_tokens_details":{"reasoning_tokens":60}}"#,
            Usage { reasoning: 60, ..tokens(21, 60) },
        ),
        (
            "google, with thoughts in the total alone",
            r#"{"completion_tokens":424,"prompt_tokens":20,"total_tokens":1016}"#,
            Usage { reasoning: 572, ..tokens(20, 996) },
        ),
        (
            "a relay of the same, with an empty figure for them",
            r#"{"completion_tokens":424,"prompt_tokens":20,"total_tokens":1016,"completion_tokens_details":{"reasoning_tokens":0}}"#,
            Usage { reasoning: 572, ..tokens(20, 996) },
        ),
        (
            "a total that nothing explains",
            r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":99,"completion_tokens_details":{"reasoning_tokens":3}}"#,
            Usage { reasoning: 3, ..tokens(9, 4) },
        ),
        (
            "a relay with the cache outside of its input",
            r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":5}}"#,
            Usage { cached: 5, ..tokens(9, 4) },
        ),
    ]);
}

/// Goal: relays, which add members, fill them with zeros, and say one thing in several ways.
#[test]
fn reads_relays() {
    check(&[
        (
            "openrouter, writing a cache",
            r#"{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":0},"cost":0.95,"cost_details":{"upstream_inference_cost":19},"prompt_tokens":194,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":100,"audio_tokens":0},"total_tokens":196}"#,
            Usage { cache_write: 100, ..tokens(194, 2) },
        ),
        (
            "openrouter, making an image",
            r#"{"prompt_tokens":274,"completion_tokens":1300,"total_tokens":1574,"prompt_tokens_details":{"cached_tokens":0,"image_tokens":258},"completion_tokens_details":{"reasoning_tokens":0,"image_tokens":1290}}"#,
            Usage { image_input: 258, image_output: 1290, ..tokens(274, 1300) },
        ),
        (
            "qwen",
            r#"{"prompt_tokens":1500,"completion_tokens":4,"total_tokens":1504,"prompt_tokens_details":{"cached_tokens":0,"cache_creation_input_tokens":1494,"cache_creation":{"ephemeral_5m_input_tokens":1494},"cache_type":"ephemeral"}}"#,
            Usage { cache_write: 1494, ..tokens(1500, 4) },
        ),
        (
            "a relay that adds Anthropic's names to a whole input",
            r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"cache_creation_tokens":50},"cache_read_input_tokens":1920,"cache_creation_input_tokens":50}"#,
            Usage { cached: 1920, cache_write: 50, ..tokens(2006, 300) },
        ),
        (
            "a relay with both spellings, one of them empty",
            r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0},"input_tokens":0,"output_tokens":0,"input_tokens_details":null}"#,
            tokens(9, 4),
        ),
        ("a member twice", r#"{"prompt_tokens":1,"completion_tokens":4,"prompt_tokens":9}"#, tokens(9, 4)),
        ("zero", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, tokens(0, 0)),
    ]);
}

/// Goal: Responses, images and Messages, which all say `input_tokens` and mean two things by it.
#[test]
fn reads_the_other_languages() {
    check(&[
        (
            "responses",
            r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":8},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}"#,
            Usage { cached: 8, reasoning: 64, ..tokens(36, 87) },
        ),
        (
            "responses, writing a cache",
            r#"{"input_tokens":2000,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":1900},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":2007}"#,
            Usage { cache_write: 1900, ..tokens(2000, 7) },
        ),
        (
            "images, of which all output is one",
            r#"{"total_tokens":4566,"input_tokens":406,"output_tokens":4160,"input_tokens_details":{"text_tokens":18,"image_tokens":388}}"#,
            Usage { image_input: 388, image_output: 4160, ..tokens(406, 4160) },
        ),
        (
            "images, with text beside",
            r#"{"total_tokens":1468,"input_tokens":50,"output_tokens":1418,"input_tokens_details":{"text_tokens":50,"image_tokens":0},"output_tokens_details":{"text_tokens":362,"image_tokens":1056}}"#,
            Usage { image_output: 1056, ..tokens(50, 1418) },
        ),
        (
            "messages",
            r#"{"input_tokens":25,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"output_tokens":15,"service_tier":"standard"}"#,
            tokens(25, 15),
        ),
        (
            "messages, with a cache",
            r#"{"input_tokens":9,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":503,"output_tokens_details":{"thinking_tokens":400},"server_tool_use":{"web_search_requests":1}}"#,
            Usage {
                cached: 1800,
                cache_write: 248,
                cache_write_1h: 100,
                reasoning: 400,
                ..tokens(2057, 503)
            },
        ),
        (
            "messages, with lifetimes alone",
            r#"{"input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":5}"#,
            Usage { cache_write: 248, cache_write_1h: 100, ..tokens(257, 5) },
        ),
        (
            "messages, with a total that a relay made up",
            r#"{"input_tokens":9,"cache_read_input_tokens":100,"output_tokens":5,"total_tokens":14}"#,
            Usage { cached: 100, ..tokens(109, 5) },
        ),
    ]);
}

/// Goal: one call is the same usage, whoever reports it.
#[test]
fn dialects_agree() {
    let expected = Usage { cached: 1800, cache_write: 248, reasoning: 400, ..tokens(2057, 503) };
    check(&[
        (
            "anthropic",
            r#"{"input_tokens":9,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800,"cache_creation":{"ephemeral_5m_input_tokens":248,"ephemeral_1h_input_tokens":0},"output_tokens":503,"output_tokens_details":{"thinking_tokens":400}}"#,
            expected,
        ),
        (
            "chat",
            r#"{"prompt_tokens":2057,"completion_tokens":503,"total_tokens":2560,"prompt_tokens_details":{"cached_tokens":1800,"cache_write_tokens":248},"completion_tokens_details":{"reasoning_tokens":400}}"#,
            expected,
        ),
        (
            "chat, with reasoning apart",
            r#"{"prompt_tokens":2057,"completion_tokens":103,"total_tokens":2560,"prompt_tokens_details":{"cached_tokens":1800,"cache_write_tokens":248},"completion_tokens_details":{"reasoning_tokens":400}}"#,
            expected,
        ),
        (
            "responses",
            r#"{"input_tokens":2057,"output_tokens":503,"total_tokens":2560,"input_tokens_details":{"cached_tokens":1800,"cache_write_tokens":248},"output_tokens_details":{"reasoning_tokens":400}}"#,
            expected,
        ),
    ]);
}

/// Goal: what is no count was not reported, parts stay within their whole, and both are told.
#[test]
fn nonsense_is_told() {
    for (json, usage) in [
        (r#"{"prompt_tokens":-9,"completion_tokens":1.5}"#, None),
        (r#"{"prompt_tokens":null,"completion_tokens":"4"}"#, None),
        (r#"{"prompt_tokens":18446744073709551615,"completion_tokens":4}"#, Some(tokens(0, 4))),
        (r#"{"prompt_tokens":1099511627777,"completion_tokens":4}"#, Some(tokens(0, 4))),
        (r#"{"prompt_tokens":1e3,"completion_tokens":4}"#, Some(tokens(0, 4))),
        (r#"{"prompt_tokens":9,"completion_tokens":true}"#, Some(tokens(9, 0))),
        (r#"{"prompt_tokens":9,"prompt_tokens_details":[1],"completion_tokens":4}"#, Some(tokens(9, 4))),
        (
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":-1},"completion_tokens":4}"#,
            Some(tokens(9, 4)),
        ),
        (
            r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":20,"image_tokens":21},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":5,"image_tokens":6}}"#,
            Some(Usage { cached: 9, image_input: 9, image_output: 4, reasoning: 4, ..tokens(9, 4) }),
        ),
        (
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":5},"completion_tokens":4}"#,
            Some(Usage { cached: 5, cache_write: 4, ..tokens(9, 4) }),
        ),
        (
            r#"{"input_tokens":9,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":6},"output_tokens":4}"#,
            Some(Usage { cache_write: 5, cache_write_1h: 5, ..tokens(14, 4) }),
        ),
        ("[", None),
        ("7", None),
    ] {
        let reading = Reported::read(json.as_bytes()).finish();
        assert_eq!((reading.usage, reading.flawed), (usage, true), "{json}");
    }
    for nothing in ["{}", "null", r#"{"total_tokens":null,"prompt_tokens_details":null}"#] {
        let reading = Reported::read(nothing.as_bytes()).finish();
        assert_eq!(reading, Reading::default(), "{nothing}");
    }
}

/// Goal: reports of one answer merge figure by figure; the last one counts, but no zero replaces more, and what is not
/// reported stays.
#[test]
fn reports_merge() {
    let merge = |reports: &[&str]| {
        let merged = reports
            .iter()
            .fold(Reported::default(), |before, json| before.merged(Reported::read(json.as_bytes())));
        let reading = merged.finish();
        (reading.usage, reading.flawed)
    };
    let start = r#"{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6},"output_tokens":1}"#;
    let parts = Usage { cached: 100, cache_write: 10, cache_write_1h: 6, ..Usage::default() };
    for (later, expected) in [
        (vec![r#"{"output_tokens":15}"#], Usage { input: 135, output: 15, ..parts }),
        (
            vec![r#"{"output_tokens":15}"#, r#"{"output_tokens":40}"#],
            Usage { input: 135, output: 40, ..parts },
        ),
        // A tool on the provider's side made the input grow; its cache stays outside of it.
        (vec![r#"{"input_tokens":1025,"output_tokens":15}"#], Usage { input: 1135, output: 15, ..parts }),
        (
            vec![
                r#"{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":null,"output_tokens":0}"#,
            ],
            Usage { input: 135, output: 1, ..parts },
        ),
        (vec!["{}", "null"], Usage { input: 135, output: 1, ..parts }),
    ] {
        let reports: Vec<&str> = std::iter::once(start).chain(later).collect();
        assert_eq!(merge(&reports), (Some(expected), false), "{reports:?}");
    }
    let flawed = [r#"{"input_tokens":25}"#, r#"{"output_tokens":-1}"#, r#"{"output_tokens":15}"#];
    assert_eq!(merge(&flawed), (Some(tokens(25, 15)), true));
    let cumulative = [
        r#"{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}"#,
        r#"{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}"#,
    ];
    assert_eq!(merge(&cumulative), (Some(tokens(9, 7)), false));
    let real = r#"{"prompt_tokens":1000,"completion_tokens":5,"total_tokens":1005,"prompt_tokens_details":{"cached_tokens":900}}"#;
    for last in [
        "{}",
        "null",
        r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"prompt_tokens_details":{"cached_tokens":0}}"#,
        r#"{"prompt_tokens_details":{"cached_tokens":900}}"#,
        r#"{"prompt_tokens":null,"completion_tokens":null}"#,
    ] {
        assert_eq!(merge(&[real, last]), (Some(Usage { cached: 900, ..tokens(1000, 5) }), false), "{last}");
    }
    let thought = r#"{"prompt_tokens":20,"completion_tokens":4,"total_tokens":30}"#;
    let (more, zeros) = (r#"{"completion_tokens":8}"#, r#"{"total_tokens":0}"#);
    assert_eq!(merge(&[thought, zeros]), (Some(Usage { reasoning: 6, ..tokens(20, 10) }), false));
    assert_eq!(merge(&[thought, more]), (Some(tokens(20, 8)), false), "the total was that of fewer words");
    assert_eq!(merge(&[]), (None, false));
}

/// Goal: a side that no report has, or that is zero because nothing was known, is counted and marked; the other side stays as
/// reported. What came after the last report is added to it (spec 7.1, 7.2).
#[test]
fn sides_that_were_not_reported_are_counted() {
    use UsageSource::{Estimated, InputEstimated, OutputEstimated, Reported};
    let counted = Counted { input: 7, output: 30, ..Counted::default() };
    let after = Counted { since: 12, ..counted };
    let vectors = Counted { input: 7, no_output: true, ..Counted::default() };
    for (json, counted, expected) in [
        (r#"{"prompt_tokens":9,"completion_tokens":4}"#, counted, (9, 4, Reported)),
        (r#"{"prompt_tokens":9,"completion_tokens":4}"#, after, (9, 16, OutputEstimated)),
        (r#"{"prompt_tokens":9,"completion_tokens":null}"#, counted, (9, 30, OutputEstimated)),
        (r#"{"prompt_tokens":9,"completion_tokens":-4}"#, counted, (9, 30, OutputEstimated)),
        (r#"{"prompt_tokens":9,"completion_tokens":1.5}"#, counted, (9, 30, OutputEstimated)),
        (r#"{"prompt_tokens":9}"#, counted, (9, 30, OutputEstimated)),
        (r#"{"prompt_tokens":9,"completion_tokens":0}"#, counted, (9, 30, OutputEstimated)),
        (r#"{"prompt_tokens":9,"completion_tokens":0}"#, Counted { output: 0, ..counted }, (9, 0, Reported)),
        (r#"{"completion_tokens":4}"#, counted, (7, 4, InputEstimated)),
        (r#"{"prompt_tokens":-9,"completion_tokens":4}"#, counted, (7, 4, InputEstimated)),
        (r#"{"input_tokens":0,"output_tokens":4}"#, counted, (7, 4, InputEstimated)),
        (r#"{"input_tokens":0,"cache_read_input_tokens":50,"output_tokens":4}"#, counted, (50, 4, Reported)),
        (r#"{"cache_read_input_tokens":50,"output_tokens":4}"#, counted, (50, 4, InputEstimated)),
        (r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, counted, (7, 30, Estimated)),
        ("{}", counted, (7, 30, Estimated)),
        (r#"{"total_tokens":210}"#, counted, (7, 30, Estimated)),
        (r#"{"prompt_tokens":12,"total_tokens":40}"#, counted, (12, 28, Reported)),
        (r#"{"completion_tokens":28,"total_tokens":40}"#, counted, (12, 28, Reported)),
        (r#"{"prompt_tokens":12,"total_tokens":12}"#, counted, (12, 30, OutputEstimated)),
        (r#"{"total_tokens":210}"#, vectors, (210, 0, Reported)),
        (r#"{"prompt_tokens":0,"total_tokens":210}"#, vectors, (210, 0, Reported)),
        (r#"{"prompt_tokens":0,"total_tokens":210}"#, counted, (7, 30, Estimated)),
        (r#"{"prompt_tokens":9,"total_tokens":9}"#, vectors, (9, 0, Reported)),
        ("{}", vectors, (7, 0, InputEstimated)),
    ] {
        let (usage, source) = read(json.as_bytes()).resolve(&counted);
        assert_eq!((usage.input, usage.output, source), expected, "{json}");
    }
}

/// Goal: usage is found beside the member that is called so, and what a tool of the provider used is added to it.
#[test]
fn usage_stands_in_other_places() {
    let groq = br#"{"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":9,"completion_tokens":4}}}"#;
    assert_eq!(read_answer(None, groq).usage, Some(tokens(9, 4)));
    let body = br#"{"output":[],"tool_usage":{"image_gen":{"input_tokens":100,"input_tokens_details":{"image_tokens":60,"text_tokens":40},"output_tokens":1056,"total_tokens":1156},"web_search":{"num_requests":1}}}"#;
    let usage = read_answer(Some(br#"{"input_tokens":36,"output_tokens":87}"#), body).usage;
    assert_eq!(usage, Some(Usage { image_input: 60, image_output: 1056, ..tokens(136, 1143) }));
    let created =
        r#"{"prompt_tokens":50,"completion_tokens":4,"prompt_tokens_details":{"cached_creation_tokens":20}}"#;
    check(&[("written to a cache, in another word", created, Usage { cache_write: 20, ..tokens(50, 4) })]);
}

/// Goal: the objects that clients read merge as the figures do, and the three figures that all read are always there.
#[test]
fn clients_read_what_is_charged() {
    let merge = |before: &str, later: &str| {
        let (merged, overruled) = Objects::merge(before.as_bytes(), later.as_bytes());
        (String::from_utf8(merged.to_vec()).unwrap(), overruled)
    };
    for (before, later, merged, overruled) in [
        (
            r#"{"input_tokens":15,"output_tokens":1}"#,
            r#"{"input_tokens":0,"output_tokens":20}"#,
            r#"{"input_tokens":15,"output_tokens":20}"#,
            true,
        ),
        (
            r#"{"a":5,"d":{"b":7,"c":1}}"#,
            r#"{"d":{"b":0,"c":2},"e":null}"#,
            r#"{"a":5,"d":{"b":7,"c":2},"e":null}"#,
            true,
        ),
        (r#"{"a":5}"#, r#"{"a":6}"#, r#"{"a":6}"#, false),
        (r#"{"a":5}"#, r#"{"a":-1}"#, r#"{"a":5}"#, true),
        (r#"{"a":0}"#, "{}", r#"{"a":0}"#, false),
        ("7", r#"{"a":1}"#, r#"{"a":1}"#, false),
        (r#"{"a":1}"#, "null", r#"{"a":1}"#, true),
    ] {
        assert_eq!(merge(before, later), (merged.to_owned(), overruled), "{before} {later}");
    }
    let complete = |object: &str, source| {
        String::from_utf8(Objects::complete(object.as_bytes(), &tokens(12, 81), source).to_vec()).unwrap()
    };
    let good = r#"{"prompt_tokens":12,"completion_tokens":81,"total_tokens":93,"x":1}"#;
    assert_eq!(complete(good, UsageSource::Reported), good);
    for (object, source) in [
        (
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13,"x":1}"#,
            UsageSource::OutputEstimated,
        ),
        (r#"{"prompt_tokens":12,"completion_tokens":null,"x":1}"#, UsageSource::OutputEstimated),
        (r#"{"prompt_tokens":12,"x":1,"total_tokens":93}"#, UsageSource::Reported),
        (r#"{"x":1}"#, UsageSource::Estimated),
    ] {
        let read: serde_json::Value = serde_json::from_str(&complete(object, source)).unwrap();
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(good).unwrap(), "{object}");
    }
    assert_eq!(Objects::set(br#"{"a":1}"#, "b", "2").unwrap(), r#"{"a":1,"b":2}"#);
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(OBJECT_MAX));
    assert_eq!(merge(&long, r#"{"b":1}"#), (r#"{"b":1}"#.to_owned(), false), "nothing grows without a bound");
}

proptest! {
    /// Goal: whatever is reported, parts stay within their wholes, and a report merged with itself stays as it is.
    #[test]
    fn parts_stay_within(
        values in prop::collection::vec(
            prop_oneof![Just("null".to_owned()), (0u64..40).prop_map(|n| n.to_string()), any::<i64>().prop_map(|n| n.to_string())],
            13,
        ),
        chat: bool,
    ) {
        let (read, written) = if chat { ("prompt", "completion") } else { ("input", "output") };
        let value = |at: usize| &values[at];
        let json = format!(
            r#"{{"{read}_tokens":{},"{written}_tokens":{},"total_tokens":{},"cache_read_input_tokens":{},"cache_creation_input_tokens":{},
            "cache_creation":{{"ephemeral_5m_input_tokens":{},"ephemeral_1h_input_tokens":{}}},
            "{read}_tokens_details":{{"cached_tokens":{},"image_tokens":{},"cache_write_tokens":{}}},
            "{written}_tokens_details":{{"reasoning_tokens":{},"image_tokens":{}}},"cached_tokens":{}}}"#,
            value(0), value(1), value(2), value(3), value(4), value(5), value(6), value(7), value(8), value(9), value(10),
            value(11), value(12),
        );
        let reported = Reported::read(json.as_bytes());
        prop_assert_eq!(reported.merged(reported), reported);
        if let Some(usage) = reported.finish().usage {
            prop_assert!(usage.cached + usage.cache_write <= usage.input);
            prop_assert!(usage.cache_write_1h <= usage.cache_write && usage.image_input <= usage.input);
            prop_assert!(usage.reasoning <= usage.output && usage.image_output <= usage.output);
        }
    }
}
