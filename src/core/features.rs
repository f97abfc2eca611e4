//! What a text is made of, in numbers from which its tokens can be guessed (spec 7.2).
//!
//! [`Features`] counts runs of characters by their class, in one pass over the bytes. A text that arrives in parts is
//! counted a little high, for no run spans two parts.

/// Counts of what is in a text; a byte adds to few of them, so they cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    counts: [u64; Features::NAMES.len()],
}

const WORD: usize = 0;
const WORD_GT6: usize = 1;
const WORD_GT12: usize = 2;
const CAMEL: usize = 3;
const DIGIT3: usize = 4;
const PUNCT_RUN: usize = 5;
const PUNCT_EXTRA: usize = 6;
const NL_RUN: usize = 7;
const SP_RUN_EXTRA: usize = 8;
const WS64: usize = 9;
const LAT2: usize = 10;
const CYR_GRK: usize = 11;
const HEB: usize = 12;
const ARAB: usize = 13;
const INDIC: usize = 14;
const THAI: usize = 15;
const HANGUL: usize = 16;
const KANA: usize = 17;
const HAN: usize = 18;
const EMOJI4: usize = 19;
const OTHER3: usize = 20;
const OTHER2_4: usize = 21;

/// What an ASCII character is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Newline,
    Blank,
    Punctuation,
    /// A byte of a character outside ASCII.
    Wide,
}

const fn classify(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'\n' | b'\r' => Class::Newline,
        b' ' | b'\t' => Class::Blank,
        0x80.. => Class::Wide,
        _ => Class::Punctuation,
    }
}

/// The class of every byte: every prompt goes through it, and a table takes a quarter of the time of comparing.
#[allow(
    clippy::indexing_slicing,
    reason = "the loop ends within the table, and it is the compiler that runs it"
)]
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Wide; 256];
    let mut byte = 0;
    while byte < 0x80 {
        classes[byte as usize] = classify(byte);
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Wide)
}

/// The feature of a character outside ASCII, by its first two bytes.
const fn wide(lead: u8, next: u8) -> usize {
    match (lead, next) {
        (0xC2..=0xCD, _) => LAT2,
        (0xCE..=0xD4, _) => CYR_GRK,
        (0xD5..=0xD7, _) => HEB,
        (0xD8..=0xDF, _) => ARAB,
        (0xE0, 0xA4..=0xB7) => INDIC,
        (0xE0, 0xB8..=0xBB) => THAI,
        (0xE1, 0x84..=0x87) | (0xEA, 0xB0..) | (0xEB..=0xED, _) => HANGUL,
        (0xE3, 0x81..=0x83) => KANA,
        (0xE3..=0xE9, _) | (0xEF, 0xBC..=0xBD) => HAN,
        (0xF0, 0x9F) => EMOJI4,
        (0xE0..=0xEF, _) => OTHER3,
        _ => OTHER2_4,
    }
}

impl Features {
    /// What is counted, in the order of a [`Family`](super::family::Family)'s weights.
    pub const NAMES: [&'static str; 22] = [
        "word",
        "word_gt6",
        "word_gt12_half",
        "camel",
        "digit3",
        "punct_run",
        "punct_extra",
        "nl_run",
        "sp_run_extra",
        "ws64",
        "lat2",
        "cyr_grk",
        "heb",
        "arab",
        "indic",
        "thai",
        "hangul",
        "kana",
        "han",
        "emoji4",
        "other3",
        "other2_4",
    ];

    /// Counts a text, in time linear in its length.
    pub fn add_text(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(&first) = rest.first() {
            let class_of_run = class(first);
            let end = rest.iter().position(|byte| class(*byte) != class_of_run).unwrap_or(rest.len());
            let (run, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.add_run(class_of_run, run);
            rest = tail;
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// The counts, in the order of [`Features::NAMES`].
    #[must_use]
    pub fn counts(&self) -> &[u64; Self::NAMES.len()] {
        &self.counts
    }

    #[inline]
    fn add_run(&mut self, class: Class, run: &[u8]) {
        let length = run.len() as u64;
        match class {
            Class::Letter => self.add_word(run, length),
            Class::Digit => self.counts[DIGIT3] += length.div_ceil(3),
            Class::Newline => {
                self.counts[NL_RUN] += 1;
                self.counts[WS64] += length / 16;
            }
            Class::Blank => {
                self.counts[SP_RUN_EXTRA] += u64::from(length > 1);
                self.counts[WS64] += length / 64;
            }
            Class::Punctuation => {
                self.counts[PUNCT_RUN] += 1;
                self.counts[PUNCT_EXTRA] += length - 1;
            }
            Class::Wide => self.add_wide(run),
        }
    }

    #[inline]
    fn add_word(&mut self, word: &[u8], length: u64) {
        self.counts[WORD] += 1;
        self.counts[WORD_GT6] += length.clamp(6, 12) - 6;
        self.counts[WORD_GT12] += length.saturating_sub(12);
        let switches = word.iter().zip(word.iter().skip(1));
        // The bit that makes a letter lower-case.
        let switches = switches.filter(|(before, after)| *before & !*after & 0x20 != 0);
        self.counts[CAMEL] += switches.count() as u64;
    }

    #[inline]
    fn add_wide(&mut self, run: &[u8]) {
        let seconds = run.iter().skip(1).chain(std::iter::once(&0));
        for (lead, next) in run.iter().zip(seconds).filter(|(byte, _)| **byte >= 0xC0) {
            if let Some(count) = self.counts.get_mut(wide(*lead, *next)) {
                *count += 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
