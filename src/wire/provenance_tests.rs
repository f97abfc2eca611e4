use super::*;
use crate::wire::seal::Sealer;
use crate::wire::splice::splice;
use proptest::prelude::*;
use serde_json::{Value, json};

const ORIGIN: Origin = Origin { channel: 7, credential: 9 };

fn mark() -> Bytes {
    Sealer::new(b"key").unwrap().mark(ORIGIN, "acme", [3; 12]).unwrap()
}

fn marked_text(json: &str, size: usize) -> String {
    let (mut marker, mut out) = (Marker::new(mark()), BytesMut::new());
    json.as_bytes().chunks(size.max(1)).for_each(|piece| marker.push(piece, &mut out));
    String::from_utf8(out.to_vec()).unwrap()
}

/// Goal: what is signed or encrypted gets the mark wherever answers and events have it, in pieces of any size; nothing
/// else does: what a tool is given, empty values, and text that looks like it.
#[test]
fn marks_stand_where_reasoning_does() {
    let m = String::from_utf8(mark().to_vec()).unwrap();
    for json in [
        r#"{"output":[{"type":"reasoning","summary":[{"text":"\"encrypted_content\":\"x\""}],"encrypted_content":"@abc"},{"type":"message","content":[{"text":"encrypted_content"}]},{"type":"compaction","encrypted_content": "@d"}]}"#,
        r#"{"type":"response.output_item.done","item":{"id":"rs","encrypted_content":"@abc"}}"#,
        r#"{"type":"response.completed","response":{"output":[{"encrypted_content":"@abc"},{"encrypted_content":""},{"encrypted_content":null}]}}"#,
        r#"{"content":[{"type":"thinking","thinking":"hm","signature":"@abc"},{"type":"redacted_thinking","data":"@x"},{"type":"tool_use","input":{"signature":"s","data":"d","content":[{"signature":"t"}]}}]}"#,
        r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"@abc"}}"#,
        r#"{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"@abc"}}"#,
        r#"{"signature":"x","data":"y","encrypted_content":"z","deep":{"a":{"b":{"c":{"d":[{"signature":"q"}]}}}},"content":[{"signature":"@\"z"}]}"#,
        r#"{"a\"b":"\\","content":[{"c\\":"{","signature":"@abc"}]}"#,
        r#"{"metadata":{"content":"x"},"content":[{"a":[1,{"signature":"n"}],"signature":"@abc"}]}"#,
    ] {
        let before = json.replace('@', "");
        for size in [1, 2, 7, json.len()] {
            assert_eq!(marked_text(&before, size), json.replace('@', &m), "{json}");
        }
    }
}

/// Goal: a mark says its origin to the account alone that was given it, and has one length.
#[test]
fn marks_open_for_their_account() {
    let (sealer, mark) = (Sealer::new(b"key").unwrap(), String::from_utf8(mark().to_vec()).unwrap());
    assert!(mark.len() == MARK_LEN && mark.starts_with(PREFIX) && MARK_LEN.is_multiple_of(4));
    assert_eq!(sealer.origin(&mark, "acme"), Some(ORIGIN));
    assert_eq!(sealer.origin(&mark, "rival"), None);
    assert_eq!(Sealer::new(b"other").unwrap().origin(&mark, "acme"), None);
    for nonsense in ["", PREFIX, "TideGate!!!!", &mark[..MARK_LEN - 1]] {
        assert_eq!(sealer.origin(nonsense, "acme"), None, "{nonsense}");
    }
}

fn edited(body: &str, left_out: &dyn Fn(usize) -> bool) -> (Value, Vec<bool>) {
    let value: Value = serde_json::from_str(body).unwrap();
    let list = if value.get("input").is_some() { "input" } else { "messages" };
    let members: Members<'_> = serde_json::from_str(body).unwrap();
    let conversation = members.0.iter().find(|(name, _)| name == list).unwrap().1;
    let found = find(conversation.get(), body.as_bytes());
    let parts = splice(&Bytes::copy_from_slice(body.as_bytes()), edits(&found, left_out)).parts().concat();
    let droppable = found.iter().map(|sealed| sealed.is_droppable).collect();
    (serde_json::from_slice(&parts).unwrap(), droppable)
}

/// Goal: on the way back marks are cut off, and what another account cannot read is left out with its comma; what the API
/// needs is told apart: a compaction, the thoughts before a tool's result, all that a message has.
#[test]
fn requests_are_unmarked() {
    let m = String::from_utf8(mark().to_vec()).unwrap();
    let body = r#"{"model":"m", "input":[ {"type":"reasoning","encrypted_content":"@abc"} , {"role":"user","content":"TideGate"},{"type":"reasoning","encrypted_content":"plain"},{"type":"compaction","encrypted_content":"@x"}]}"#;
    let (kept, droppable) = edited(&body.replace('@', &m), &|_| false);
    assert_eq!(
        (kept, droppable),
        (serde_json::from_str(&body.replace('@', "")).unwrap(), vec![true, true, false])
    );
    let (without, _) = edited(&body.replace('@', &m), &|index| index < 2);
    assert_eq!(
        without["input"],
        json!([{"role":"user","content":"TideGate"},{"type":"compaction","encrypted_content":"x"}])
    );
    let thinking = r#"{"type":"thinking","thinking":"hm","signature":"@abc"}"#.replace('@', &m);
    let message = |content: &str| format!(r#"{{"role":"assistant","content":[{content}]}}"#);
    let [early, late, bare] = [
        message(&format!(r#"{thinking},{{"type":"text","text":"a"}},{thinking}"#)),
        message(&format!(r#"{thinking},{{"type":"tool_use","input":{{}}}}"#)),
        message(&thinking),
    ];
    let result = r#"{"role":"user","content":[{"type":"tool_result","content":"r"}]}"#;
    let body = format!(r#"{{"messages":[{early},{bare},{late},{result}]}}"#);
    let (without, droppable) = edited(&body, &|index| index < 2);
    assert_eq!(droppable, [true, true, false, false]);
    assert_eq!(without["messages"][0]["content"], json!([{"type":"text","text":"a"}]));
    assert_eq!(without["messages"][2]["content"][0]["signature"], "abc");
}

proptest! {
    /// Goal: whatever is left out, the rest equals the same edit of the parsed value, and arbitrary bytes never panic.
    #[test]
    fn equals_an_edit_of_the_value(kinds in prop::collection::vec(0..3u8, 1..8), left_out: u8, pretty: bool, noise: Vec<u8>) {
        let m = String::from_utf8(mark().to_vec()).unwrap();
        let item = |(n, kind): (usize, &u8)| match kind {
            0 => json!({"role": "user", "content": format!("{n}")}),
            1 => json!({"type": "reasoning", "n": n, "encrypted_content": format!("{m}abc")}),
            _ => json!({"type": "reasoning", "n": n, "encrypted_content": "abc"}),
        };
        let value = json!({"input": kinds.iter().enumerate().map(item).collect::<Vec<_>>()});
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let is_out = |index: usize| left_out >> index & 1 == 1;
        let mut seen = 0;
        let kept = kinds.iter().enumerate().filter(|(_, kind)| {
            seen += usize::from(**kind > 0);
            **kind == 0 || !is_out(seen - 1)
        });
        let mut expected: Vec<Value> = kept.map(item).collect();
        for item in &mut expected {
            if item.get("encrypted_content").is_some() {
                item["encrypted_content"] = "abc".into();
            }
        }
        prop_assert_eq!(edited(&body.unwrap(), &is_out).0["input"].clone(), Value::from(expected));
        let mut out = BytesMut::new();
        Marker::new(mark()).push(&noise, &mut out);
        prop_assert!(out.len() >= noise.len());
    }
}
