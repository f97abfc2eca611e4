use super::*;
use crate::core::estimate::ImageRule;
use std::time::{Duration, Instant};

fn body(text: &str) -> String {
    let content = serde_json::to_string(text).unwrap();
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}],"tools":[{{"name":"f"}}]}}"#)
}

/// The estimate of a body.
fn estimated(body: &str) -> Prompt {
    let members: Members<'_> = serde_json::from_str(body).unwrap();
    let mut prompt = Prompt::default();
    for (name, value) in &members.0 {
        if let Some(member) = Member::named(name) {
            prompt::read(member, value, |piece| prompt.add(piece));
        }
    }
    prompt
}

/// Goal: what is certain is decided without counting, at both ends.
#[test]
fn decides_quickly_where_it_can() {
    let prompt = estimated(&body(&"word ".repeat(1_000)));
    let fit = |limit| quick(&prompt, Family::O200k, limit);
    assert_eq!(fit(6_000), Fit::Fits);
    assert_eq!(fit(1_500), Fit::Fits);
    assert_eq!(fit(1_200), Fit::Undecided);
    assert_eq!(fit(800), Fit::Undecided);
    assert_eq!(fit(40), Fit::TooLong(None));
}

/// Goal: images never make an input too long here; only the upstream knows what it makes of them.
#[test]
fn images_are_left_to_the_upstream() {
    let data = "A".repeat(2_000_000);
    let body = format!(
        r#"{{"messages":[{{"content":[{{"image_url":{{"url":"data:image/png;base64,{data}"}}}},{{"text":"hi"}}]}}]}}"#
    );
    let prompt = estimated(&body);
    assert!(prompt.tokens(Family::O200k, ImageRule::default()) > 4_096);
    assert_eq!(quick(&prompt, Family::O200k, 1_000), Fit::Fits);
    assert_eq!(count(&body, Family::O200k, 1_000), Fit::Fits);
}

/// Goal: the count is exact at the limit, says how much it is when that is near, and needs a vocabulary.
#[test]
fn counts_exactly() {
    let body = body(&"word ".repeat(1_000));
    // A thousand words and the space at the end, one message, the reply; tools are the upstream's.
    let tokens = 1_001 + 3 + 3;
    for family in [Family::O200k, Family::Cl100k] {
        assert_eq!(count(&body, family, tokens), Fit::Fits);
        assert_eq!(count(&body, family, tokens - 1), Fit::TooLong(Some(tokens)));
        assert_eq!(count(&body, family, 900), Fit::TooLong(Some(tokens)));
        assert_eq!(count(&body, family, 100), Fit::TooLong(None));
        assert_eq!(count(&body, family, 0), Fit::TooLong(None));
    }
    assert_eq!(count(&body, Family::Qwen2, 100), Fit::Undecided);
    assert_eq!(count("not json", Family::O200k, 100), Fit::Undecided);
    assert_eq!(count(r#"{"input":[[1,2],[3]]}"#, Family::O200k, 3), Fit::Fits);
}

/// Goal: what costs other counters their life costs this one nothing: runs of one character.
#[test]
fn hostile_texts_are_counted_in_linear_time() {
    warm(Family::O200k);
    for text in [" ", "a", "\n", "A", "é", "中", "\u{301}", "1", "!", " \n", "\u{200b}"] {
        let body = body(&text.repeat(300_000 / text.len()));
        let began = Instant::now();
        assert_ne!(count(&body, Family::O200k, 10_000_000), Fit::Undecided, "{text:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{text:?}: {:?}", began.elapsed());
        assert_ne!(count(&body, Family::O200k, 1_000), Fit::Undecided);
    }
}
