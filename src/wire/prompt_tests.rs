use super::*;
use crate::core::estimate::Prompt;
use proptest::prelude::*;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The pieces of a member's value, written one after the other.
fn pieces(member: &str, json: &str) -> String {
    let value: &RawValue = serde_json::from_str(json).unwrap();
    let mut found = String::new();
    read(Member::named(member).unwrap(), value, |piece| {
        let _ = match piece {
            Piece::Text(text) => write!(found, "<{text}>"),
            Piece::Schema(text) => write!(found, "schema<{text}>"),
            Piece::Message => write!(found, "+"),
            Piece::Name => write!(found, "name"),
            Piece::Listed => write!(found, "#"),
            Piece::Image { low } => write!(found, "{}", if low { "small image " } else { "image " }),
            Piece::Bulk(tokens) => write!(found, "bulk {tokens} "),
        };
    });
    found
}

fn prompt(member: &str, json: &str) -> Prompt {
    let value: &RawValue = serde_json::from_str(json).unwrap();
    let mut prompt = Prompt::default();
    read(Member::named(member).unwrap(), value, |piece| prompt.add(piece));
    prompt
}

/// Goal: a chat gives its text, names, tool calls and messages, and nothing of its small words.
#[test]
fn reads_a_chat() {
    let messages = r#" [ {"role":"system","content":"be brief"},
        {"role":"user","name":"ann","content":[{"type":"text","text":"one\ntwo"},{"type":"text","text":"three"}]},
        {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"call_1","type":"function","index":0,
         "function":{"name":"find","arguments":"{\"q\":\"x\"}"}}]},
        {"role":"tool","tool_call_id":"call_1","\u0063ontent":"found","refusal":false} ] "#;
    assert_eq!(
        pieces("messages", messages),
        "+<be brief>+name<ann><one\ntwo><three>+<hm>name<find><{\"q\":\"x\"}>+<found>"
    );
}

/// Goal: the items of Responses are read, reasoning that is encrypted by its size only.
#[test]
fn reads_items() {
    let sealed = "A".repeat(78);
    let input = format!(
        r#"[{{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":
             [{{"type":"output_text","text":"hello","annotations":[{{"url":"u","title":"t"}}],"logprobs":[]}}]}},
            {{"type":"reasoning","id":"rs_1","summary":[{{"type":"summary_text","text":"thought"}}],"encrypted_content":"{sealed}"}},
            {{"type":"function_call","call_id":"c","name":"f","arguments":"{{}}"}},
            {{"type":"function_call_output","call_id":"c","output":"done"}},
            {{"type":"image_generation_call","id":"i","result":"AAAA"}},
            {{"role":"user","content":[{{"type":"input_image","detail":"low","image_url":"data:image/png;base64,AAAA"}},
             {{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"}},
             {{"type":"input_file","file_id":"file-1"}}]}}]"#
    );
    assert_eq!(
        pieces("input", &input),
        "+<hello>+<thought>bulk 10 +name<f><{}>+<done>+image +small image bulk 1 image "
    );
    assert_eq!(pieces("input", r#""hello""#), "+<hello>");
    assert_eq!(pieces("instructions", r#""be brief""#), "+<be brief>");
    assert_eq!(pieces("instructions", "null"), "");
}

/// Goal: the blocks of Messages are read: tool use, results, thinking, documents, images.
#[test]
fn reads_blocks() {
    let system = r#"[{"type":"text","text":"be brief","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
    assert_eq!(pieces("system", system), "+<be brief>");
    let messages = r#"[{"role":"user","content":[
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
            {"type":"image","source":{"type":"url","url":"https://x/y"},"cache_control":{"type":"ephemeral"}},
            {"type":"image","source":{"type":"file","file_id":"file_1"}},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"words"},"title":"a title"},
            {"type":"document","source":{"data":"AAAA","type":"base64","media_type":"application/pdf"}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"AAAA"},
            {"type":"redacted_thinking","data":"AAAAAAAAAAAAAA"},
            {"type":"tool_use","id":"toolu_1","name":"f","input":{"a":[1,2],"b\"":"c\u00e9"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"done"}]}]}]"#;
    assert_eq!(
        pieces("messages", messages),
        "+image image image <words><a title>bulk 1 +<hm>bulk 2 name<f><{\"a\":[1,2],\"b\"\":\"cé\"}>+<done>"
    );
}

/// Goal: tools and forms of the answer count as their JSON.
#[test]
fn reads_schemas_as_they_stand() {
    let tools = r#"[{"type": "function","function":{"name":"f","description":"a \u4e2d","parameters":{}}}]"#;
    let text =
        r#"schema<[{"type": "function","function":{"name":"f","description":"a 中","parameters":{}}}]>"#;
    assert_eq!(pieces("tools", tools), text);
    assert_eq!(pieces("response_format", r#"{"type":"json_object"}"#), r#"schema<{"type":"json_object"}>"#);
}

/// Goal: images, sounds and videos in parts of a chat are counted, and never as text.
#[test]
fn reads_media() {
    let sound = "A".repeat(1_000);
    let messages = format!(
        r#"[{{"role":"user","content":[
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,AAAA","detail":"low"}}}},
            {{"image_url":{{"detail":"high","url":"https://x/y"}},"type":"image_url"}},
            {{"type":"image_url","image_url":"https://x/y"}},
            {{"type":"input_audio","input_audio":{{"data":"{sound}","format":"wav"}}}},
            {{"type":"video_url","video_url":{{"url":"https://x/y"}}}},
            {{"type":"file","file":{{"file_id":"f"}}}}]}}]"#
    );
    assert_eq!(pieces("messages", &messages), "+small image image image bulk 5 bulk 1 image image ");
}

/// Goal: tokens given by number count one each, texts in lists are texts.
#[test]
fn reads_lists_of_tokens_and_texts() {
    assert_eq!(pieces("prompt", "[1, 22 ,333]"), "###");
    assert_eq!(pieces("prompt", "[[1,2],[3]]"), "###");
    assert_eq!(pieces("input", "[[1,2],[3]]"), "###");
    assert_eq!(pieces("input", r#"["a","b"]"#), "<a><b>");
    assert_eq!(pieces("prompt", r#""say \"it\"""#), "<say \"it\">");
    assert_eq!(pieces("prompt", "7"), "");
    assert_eq!(Member::named("model"), None);
}

/// Goal: half a pair of surrogates, which clients send, is a character and no error.
#[test]
fn decodes_every_escape() {
    let text = r#""\ud83d\ude42 \ud83d \ude42x \ud83d\u0041 \"\\\/\b\f\n\r\t\u00e9 end""#;
    let decoded = "🙂 \u{fffd} \u{fffd}x \u{fffd}A \"\\/\u{8}\u{c}\n\r\té end";
    assert_eq!(pieces("prompt", text), format!("<{decoded}>"));
}

/// Goal: text that hides under the name of a small word is text.
#[test]
fn counts_long_labels_as_text() {
    let long = "word ".repeat(100);
    let messages = format!(r#"[{{"role":"{long}","content":"x","cache_control":{{"type":"{long}"}}}}]"#);
    assert!(prompt("messages", &messages).text_tokens(crate::core::estimate::Family::O200k) > 190);
}

/// Goal: a body of images takes no time worth naming, and gives no text.
#[test]
fn skips_a_large_image() {
    let data = "iVBORw0KGgo/".repeat(10_000_000 / 12);
    let url = format!(
        r#"[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]"#
    );
    let source = format!(
        r#"[{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]}}]"#
    );
    for messages in [url, source] {
        let began = Instant::now();
        let found = prompt("messages", &messages);
        let expected = Prompt { messages: 1, images: 1, ..Prompt::default() };
        assert_eq!(found, expected);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// Goal: deep nesting, and shapes that only look like messages, do no harm and count for no more than their bytes.
#[test]
fn fake_shapes_are_harmless() {
    let deep = format!("{}\"x\"{}", "[{\"content\":".repeat(20_000), "}]".repeat(20_000));
    let images = format!("[{}]", vec![r#"{"image_url":{"image_url":{"image_url":0}}}"#; 100].join(","));
    for json in [
        &deep,
        &images,
        r#"{"messages":{"role":{"role":[]}}}"#,
        r#"[[[[{}]]],{"type":{"type":"text"},"data":"x","source":[1,{"url":{"data":7}}]}]"#,
        r#"[{"name":["a"],"name":{"name":"b"},"detail":["low"],"image_url":null,"data":{"data":"x"}}]"#,
        r#"[{"input":"a","arguments":{"a":"b"},"input_audio":null,"file_data":[],"result":3}]"#,
    ] {
        for member in ["messages", "input", "system", "prompt", "tools"] {
            let value: Box<RawValue> = RawValue::from_string(json.to_owned()).unwrap();
            let found = prompt(member, value.get());
            let bytes = json.len() as u64;
            assert!(found.text_bytes + found.messages + found.names + found.listed + found.bulk <= bytes);
            assert!(found.images <= 300);
        }
    }
}

proptest! {
    /// Goal: whatever stands in a body, it is read to its end, and no text is counted twice.
    #[test]
    fn reads_any_json(json in json(), member in prop::sample::select(vec!["messages", "input", "system", "prompt", "tools"])) {
        let found = prompt(member, &json);
        prop_assert!(found.text_bytes <= json.len() as u64);
    }

    /// Goal: text without meaning does no harm either.
    #[test]
    fn survives_what_is_not_json(text in "[\\[\\]{}\",:\\\\ud8a0é1 \n]{0,60}") {
        for conversation in [true, false] {
            let mut reader = Reader { rest: &text, sink: |_: Piece<'_>| (), scratch: String::new() };
            if conversation { reader.list(DEPTH_MAX, true) } else { reader.value(DEPTH_MAX) }
        }
    }

    /// Goal: decoding agrees with a full parser.
    #[test]
    fn decodes_as_a_parser_does(text in "[a\"\\\\\n\u{1}\u{7f}é中🙂]{0,20}") {
        let json = serde_json::to_string(&text).unwrap();
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        for json in [json, format!("\"{escaped}\"")] {
            let value: String = serde_json::from_str(&json).unwrap();
            let mut scratch = String::new();
            prop_assert_eq!(decoded(unquoted(&json), &mut scratch), value.as_str());
        }
    }
}

/// Values that use the names which mean something.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-1.5e3".to_owned()),
        "[a-zé\"\\\\]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""data:image/png;base64,AAAA""#.to_owned()),
    ];
    let names = [
        "role",
        "content",
        "type",
        "text",
        "name",
        "data",
        "source",
        "image_url",
        "url",
        "input",
        "result",
        "detail",
        "media_type",
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let member = (prop::sample::select(names.to_vec()), inner.clone());
        let object =
            prop::collection::vec(member.prop_map(|(name, value)| format!("\"{name}\" : {value}")), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[ {} ]", items.join(" , "))),
            object.prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// Goal: an image of a video's prompt is an image in every spelling, as an address, as data and as an object.
#[test]
fn source_images_are_images() {
    for name in ["image", "input_image", "input_image_url", "input_image_b64", "image_url"] {
        for image in [r#""https://x/a.png""#, r#""iVBORw0KGgoAAAANSUhEUg""#, r#"{"url":"https://x/a.png"}"#] {
            let prompt = format!(r#"{{"text":"a tide","{name}":{image}}}"#);
            assert_eq!(pieces("prompt", &prompt), "<a tide>image ", "{prompt}");
        }
    }
}
