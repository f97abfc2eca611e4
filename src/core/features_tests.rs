use super::*;
use proptest::prelude::*;

fn features(text: &str) -> Features {
    let mut features = Features::default();
    features.add_text(text);
    features
}

/// The features that are not zero, by name.
fn found(text: &str) -> Vec<(&'static str, u64)> {
    let features = features(text);
    Features::NAMES.into_iter().zip(*features.counts()).filter(|(_, count)| *count > 0).collect()
}

/// The description of the features, taken word by word: slow and plain.
fn naive(text: &str) -> [u64; 22] {
    let kind = |c: char| match c {
        'a'..='z' | 'A'..='Z' => 0,
        '0'..='9' => 1,
        '\n' | '\r' => 2,
        ' ' | '\t' => 3,
        '\u{80}'.. => 4,
        _ => 5,
    };
    let mut counts = [0; 22];
    let chars: Vec<char> = text.chars().collect();
    for run in chars.chunk_by(|a, b| kind(*a) == kind(*b)) {
        let length = run.len() as u64;
        match kind(run[0]) {
            0 => {
                counts[0] += 1;
                counts[1] += length.min(12).saturating_sub(6);
                counts[2] += length.saturating_sub(12);
                let switch = |pair: &&[char]| pair[0].is_lowercase() && pair[1].is_uppercase();
                counts[3] += run.windows(2).filter(switch).count() as u64;
            }
            1 => counts[4] += length.div_ceil(3),
            2 => {
                counts[7] += 1;
                counts[9] += length / 16;
            }
            3 => {
                counts[8] += u64::from(length >= 2);
                counts[9] += length / 64;
            }
            5 => {
                counts[5] += 1;
                counts[6] += length - 1;
            }
            _ => run.iter().for_each(|c| counts[naive_wide(*c)] += 1),
        }
    }
    counts
}

/// The feature of a character by its code point.
fn naive_wide(c: char) -> usize {
    match u32::from(c) {
        0x80..0x380 => 10,
        0x380..0x540 => 11,
        0x540..0x600 => 12,
        0x600..0x800 => 13,
        0x900..0xE00 => 14,
        0xE00..0xF00 => 15,
        0x1100..0x1200 | 0xAC00..0xE000 => 16,
        0x3040..0x3100 => 17,
        0x3000..0xA000 | 0xFF00..0xFF80 => 18,
        0x1F000..0x20000 => 19,
        0x800..0x10000 => 20,
        _ => 21,
    }
}

/// Goal: each class of characters is counted as the description of the features says.
#[test]
fn counts_runs_by_class() {
    assert_eq!(found(""), []);
    assert_eq!(found("a bc d"), [("word", 3)]);
    assert_eq!(found("extraordinarily"), [("word", 1), ("word_gt6", 6), ("word_gt12_half", 3)]);
    assert_eq!(found("camelCaseWord"), [("word", 1), ("word_gt6", 6), ("word_gt12_half", 1), ("camel", 2)]);
    assert_eq!(found("1234 5"), [("digit3", 3)]);
    assert_eq!(found("(){};\u{7f}"), [("punct_run", 1), ("punct_extra", 5)]);
    assert_eq!(found("\r\n\n \t \n"), [("nl_run", 2), ("sp_run_extra", 1)]);
    assert_eq!(found(&" ".repeat(130)), [("sp_run_extra", 1), ("ws64", 2)]);
    assert_eq!(found(&"\n".repeat(33)), [("nl_run", 1), ("ws64", 2)]);
    assert_eq!(
        found("éßжהعअไ한かア中，🙂"),
        [
            ("lat2", 2),
            ("cyr_grk", 1),
            ("heb", 1),
            ("arab", 1),
            ("indic", 1),
            ("thai", 1),
            ("hangul", 1),
            ("kana", 2),
            ("han", 2),
            ("emoji4", 1)
        ]
    );
    assert_eq!(found("“€ \u{10348}"), [("other3", 2), ("other2_4", 1)]);
}

/// Goal: merged counts are those of both texts.
#[test]
fn merges() {
    let mut one = features("one two");
    one.merge(&features(" (three)"));
    assert_eq!(one, features("one two (three)"));
}

proptest! {
    /// Goal: the pass over bytes counts what the description does, on any text.
    #[test]
    fn agrees_with_the_description(text in "([a-cX-Z]{0,15}|[0-9]{0,5}|[ \t]{0,70}|[\r\n]{0,20}|[!-/]{0,4}|\\PC{0,3}|[à-üжяא-תあア中한🙂ไ])*") {
        let found = features(&text);
        prop_assert_eq!(found.counts(), &naive(&text));
    }
}
