//! Secrets and prompts in an upstream's words, found by their value (spec 2.12, 13.3).
//!
//! An upstream may echo the credential that it was shown, or what the caller wrote, in any spelling. Words for an operator
//! are therefore compared with the values themselves: letter case, separators and escapes do not count, a fragment is
//! enough, and where a word is masked its ends are. It runs on failures alone and copies nothing of a request's body.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use std::borrow::Cow;
use std::collections::HashSet;

/// The replacement of words that were taken out.
const GONE: &str = "[…]";
/// The length of a piece of a secret that is one, in letters and digits.
const FRAGMENT: usize = 6;
/// The length of an end of a secret that counts as a word of its own, in letters and digits.
const END: usize = 4;
/// The same in a word that is masked.
const MASKED_END: usize = 2;
/// The length of a piece of a secret in a message to a client, in letters and digits.
const TOLD_FRAGMENT: usize = 12;
/// The length of a quotation of the caller, in bytes, where white space counts as one.
const QUOTED: usize = 24;
/// The same in letters and digits alone, for words that are spaced or punctuated otherwise.
const QUOTED_LETTERS: usize = 16;
/// The longest text that is looked at, in bytes; an operator is shown less.
const TEXT_MAX: usize = 2_048;
/// The largest body that is searched for quotations, in bytes; with a larger one no words are kept.
const BODY_MAX: usize = 2 * 1024 * 1024;
/// Characters that stand for hidden ones.
const MASKS: [char; 9] = ['*', '…', '•', '·', '#', '█', '●', '_', '.'];
/// Base64 that may be cut anywhere.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// A text without the words that hold a part of one of the secrets, or a quotation of the caller's body.
#[must_use]
pub fn without_secrets(text: &str, secrets: &[&str], body: &[u8]) -> String {
    let text = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or(text);
    if body.len() > BODY_MAX {
        return if text.trim().is_empty() { String::new() } else { GONE.to_owned() };
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let decoded: Vec<Cow<'_, str>> = words.iter().map(|word| decoded(word)).collect();
    let mut gone: Vec<bool> = decoded.iter().map(|word| is_masked_out(word)).collect();
    mark_pieces(&decoded, secrets, FRAGMENT, &mut gone);
    mark_ends(&decoded, secrets, &mut gone);
    mark_quotations(&decoded, body, Form::Letters, &mut gone);
    mark_quotations(&decoded, body, Form::Spaced, &mut gone);
    let mut kept: Vec<&str> =
        words.iter().zip(&gone).map(|(word, gone)| if *gone { GONE } else { *word }).collect();
    kept.dedup_by(|one, other| *one == GONE && *other == GONE);
    kept.join(" ")
}

/// Reports a text with a long piece of one of the secrets, in any spelling.
#[must_use]
pub fn tells(text: &str, secrets: &[&str]) -> bool {
    let decoded: Vec<Cow<'_, str>> = text.split_whitespace().map(decoded).collect();
    let mut gone = vec![false; decoded.len()];
    mark_pieces(&decoded, secrets, TOLD_FRAGMENT, &mut gone);
    gone.contains(&true)
}

/// Letters and digits in lower case, and whatever is not ASCII.
fn letters(text: &[u8]) -> Vec<u8> {
    let kept = |byte: &&u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    text.iter().filter(kept).map(u8::to_ascii_lowercase).collect()
}

/// A word with its escapes undone: percent signs, those of JSON, and entities of HTML, also one inside the other.
fn decoded(word: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(word);
    for _ in 0..3 {
        let before = text.len();
        if text.contains('%') {
            text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned().into();
        }
        if text.contains(['\\', '&']) {
            text = unescaped(&text).into();
        }
        if text.len() == before {
            break;
        }
    }
    text
}

/// Named entities of HTML that stand in secrets.
const ENTITIES: [(&str, char); 6] =
    [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("apos;", '\''), ("sol;", '/')];

/// `\u0041`, `\x41`, `&#65;`, `&#x41;` and `&amp;` as the characters that they spell.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find(['\\', '&']) {
        let (before, escape) = rest.split_at(found);
        out.push_str(before);
        let spelled = match escape.as_bytes() {
            [b'\\', b'u', ..] => number(escape.get(2..6), escape.get(6..), 16),
            [b'\\', b'x', ..] => number(escape.get(2..4), escape.get(4..), 16),
            [b'&', b'#', b'x' | b'X', ..] => entity(escape.get(3..), 16),
            [b'&', b'#', ..] => entity(escape.get(2..), 10),
            [b'&', ..] => named(escape.get(1..)),
            _ => None,
        };
        if let Some((character, after)) = spelled {
            out.push(character);
            rest = after;
        } else {
            out.extend(escape.chars().next());
            rest = escape.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

fn number<'a>(digits: Option<&str>, after: Option<&'a str>, radix: u32) -> Option<(char, &'a str)> {
    let value = char::from_u32(u32::from_str_radix(digits?, radix).ok()?)?;
    Some((value, after.unwrap_or_default()))
}

fn entity(text: Option<&str>, radix: u32) -> Option<(char, &str)> {
    let (digits, after) = text?.split_once(';')?;
    number(Some(digits), Some(after), radix)
}

fn named(text: Option<&str>) -> Option<(char, &str)> {
    let text = text?;
    ENTITIES.iter().find_map(|(name, character)| Some((*character, text.strip_prefix(name)?)))
}

/// Marks the words with a piece of a secret, as it is, backwards, or in base64 or hexadecimal digits; and those over which
/// a piece is spread.
fn mark_pieces(words: &[Cow<'_, str>], secrets: &[&str], length: usize, gone: &mut [bool]) {
    let needles: Vec<Vec<u8>> = secrets.iter().map(|secret| letters(secret.as_bytes())).collect();
    let pieces: HashSet<&[u8]> = needles.iter().flat_map(|needle| needle.windows(length)).collect();
    let short: Vec<(&str, &[u8])> = secrets
        .iter()
        .zip(&needles)
        .filter(|(secret, needle)| needle.len() < length && secret.len() >= END)
        .map(|(secret, needle)| (*secret, needle.as_slice()))
        .collect();
    if pieces.is_empty() && short.is_empty() {
        return;
    }
    let plain: Vec<Vec<u8>> = words.iter().map(|word| letters(word.as_bytes())).collect();
    mark_where(&plain, length, gone, |window| pieces.contains(window));
    for ((word, plain), gone) in words.iter().zip(&plain).zip(gone) {
        let has_piece = |text: &[u8]| {
            text.windows(length).any(|window| pieces.contains(window))
                || short
                    .iter()
                    .any(|(_, needle)| needle.len() >= END && memchr::memmem::find(text, needle).is_some())
        };
        *gone = *gone
            || short.iter().any(|(secret, _)| word.contains(secret))
            || has_piece(plain)
            || codings(word, plain).iter().any(|text| has_piece(&letters(text)));
    }
}

/// Texts that a word may be the coding of.
fn codings(word: &str, plain: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = vec![plain.iter().rev().copied().collect()];
    for run in plain.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() >= 2 * END) {
        for skip in 0..2 {
            let pairs = run.get(skip..).unwrap_or_default().chunks_exact(2);
            let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            texts.push(pairs.filter_map(digits).collect());
        }
    }
    let in_code = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    for run in word.split(|c: char| !in_code(c)).filter(|run| run.len() >= END) {
        let run = run.replace('-', "+").replace('_', "/");
        for skip in 0..4 {
            let rest = run.get(skip..).unwrap_or_default();
            // A single character at the end holds no whole byte.
            let whole =
                if rest.len() % 4 == 1 { rest.get(..rest.len() - 1).unwrap_or_default() } else { rest };
            texts.extend(BASE64.decode(whole));
        }
    }
    texts
}

/// Marks the words whose windows of this length are found, joined to one text.
fn mark_where(words: &[Vec<u8>], length: usize, gone: &mut [bool], mut found: impl FnMut(&[u8]) -> bool) {
    let text: Vec<u8> = words.concat();
    let owners: Vec<usize> =
        words.iter().enumerate().flat_map(|(index, word)| std::iter::repeat_n(index, word.len())).collect();
    for (at, window) in text.windows(length).enumerate() {
        if !found(window) {
            continue;
        }
        for owner in owners.get(at..at + length).unwrap_or_default() {
            if let Some(gone) = gone.get_mut(*owner) {
                *gone = true;
            }
        }
    }
}

/// Reports a word in which a mask stands for most of something.
fn is_masked_out(word: &str) -> bool {
    ["***", "•••", "███", "●●●"].iter().any(|mask| word.contains(mask))
}

/// Marks the words that are the beginning or the end of a secret, alone or around the mask of the rest.
fn mark_ends(words: &[Cow<'_, str>], secrets: &[&str], gone: &mut [bool]) {
    let needles: Vec<Vec<u8>> = secrets.iter().map(|secret| letters(secret.as_bytes())).collect();
    let is_mask = |word: Option<&Cow<'_, str>>| {
        word.is_some_and(|word| !word.is_empty() && !word.contains(char::is_alphanumeric) && is_masked(word))
    };
    for (index, (word, gone)) in words.iter().zip(gone).enumerate() {
        let beside = index.checked_sub(1).is_some_and(|before| is_mask(words.get(before)))
            || is_mask(words.get(index + 1));
        let least = if beside || is_masked(word) { MASKED_END } else { END };
        *gone = *gone || parts(word).iter().any(|part| is_end(part, least, &needles));
    }
}

fn is_masked(word: &str) -> bool {
    word.contains(['*', '…', '•', '·', '#', '█', '●', '_']) || word.contains("..") || word.contains("xxx")
}

/// The parts of a word that may be an end: between separators, between masks, and the whole.
fn parts(word: &str) -> Vec<Vec<u8>> {
    let between = word.split(|c: char| !c.is_alphanumeric());
    let unmasked = word.split(MASKS);
    between.chain(unmasked).chain([word]).map(|part| letters(part.as_bytes())).collect()
}

fn is_end(part: &[u8], least: usize, needles: &[Vec<u8>]) -> bool {
    // A mask may be made of letters.
    let (head, tail) = match memchr::memmem::find(part, b"xxx") {
        Some(at) => {
            let last = part.iter().rposition(|byte| *byte == b'x').unwrap_or(at);
            (part.get(..at).unwrap_or_default(), part.get(last + 1..).unwrap_or_default())
        }
        None => (part, part),
    };
    needles.iter().any(|needle| {
        needle.len() >= END
            && (head.len() >= least && needle.starts_with(head)
                || tail.len() >= least && needle.ends_with(tail))
    })
}

/// The form in which a text and a body are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Letters and digits alone.
    Letters,
    /// All bytes, with one space for any white space.
    Spaced,
}

impl Form {
    const fn length(self) -> usize {
        match self {
            Self::Letters => QUOTED_LETTERS,
            Self::Spaced => QUOTED,
        }
    }

    fn push(self, out: &mut Vec<u8>, byte: u8) {
        match self {
            Self::Letters if byte.is_ascii_alphanumeric() || !byte.is_ascii() => {
                out.push(byte.to_ascii_lowercase());
            }
            Self::Letters => {}
            Self::Spaced if byte.is_ascii_whitespace() => {
                if out.last() != Some(&b' ') {
                    out.push(b' ');
                }
            }
            Self::Spaced => out.push(byte.to_ascii_lowercase()),
        }
    }

    fn of(self, word: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(word.len() + 1);
        word.bytes().chain([b' ']).for_each(|byte| self.push(&mut out, byte));
        out
    }
}

/// Marks the words that quote the body of a request.
fn mark_quotations(words: &[Cow<'_, str>], body: &[u8], form: Form, gone: &mut [bool]) {
    let plain: Vec<Vec<u8>> = words.iter().map(|word| form.of(word)).collect();
    let text: Vec<u8> = plain.concat();
    let windows: HashSet<&[u8]> = text.windows(form.length()).collect();
    if windows.is_empty() || body.is_empty() {
        return;
    }
    // Most pieces of a body are told from those of the text by a few bits of their first bytes.
    let mut filter = vec![0_u64; FILTER_WORDS];
    for window in &windows {
        let (word, bit) = slot(window);
        if let Some(word) = filter.get_mut(word) {
            *word |= bit;
        }
    }
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    for_pieces(body, form, |piece| {
        let (word, bit) = slot(piece);
        if filter.get(word).is_some_and(|word| word & bit != 0) && windows.contains(piece) {
            seen.insert(piece.to_vec());
        }
    });
    if !seen.is_empty() {
        mark_where(&plain, form.length(), gone, |window| seen.contains(window));
    }
}

/// Words of 64 bits in the filter.
const FILTER_WORDS: usize = 1_024;

/// The place of a piece in the filter.
fn slot(piece: &[u8]) -> (usize, u64) {
    let first = piece.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let hash = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (usize::try_from(hash >> 6).unwrap_or(0) % FILTER_WORDS, 1 << (hash & 63))
}

/// Calls `see` with each piece of the body, with escapes of JSON undone.
fn for_pieces(body: &[u8], form: Form, mut see: impl FnMut(&[u8])) {
    let length = form.length();
    let mut ring: Vec<u8> = Vec::with_capacity(2 * STRIDE);
    let mut rest = body;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'\\' {
            rest = unescape_into(&mut ring, form, after);
        } else {
            form.push(&mut ring, *byte);
        }
        if ring.len() >= 2 * STRIDE {
            ring.windows(length).for_each(&mut see);
            ring.drain(..ring.len() + 1 - length);
        }
    }
    ring.windows(length).for_each(&mut see);
}

/// Adds the character that an escape of JSON spells, and returns the rest behind it.
fn unescape_into<'b>(ring: &mut Vec<u8>, form: Form, escape: &'b [u8]) -> &'b [u8] {
    match escape {
        [b'u', a, b, c, d, rest @ ..] => {
            let digits = [*a, *b, *c, *d];
            let code =
                std::str::from_utf8(&digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
            // Half of a pair is in no word; the text has the whole character, and is compared around it.
            let character = code.and_then(char::from_u32).unwrap_or(' ');
            let mut buffer = [0; 4];
            character.encode_utf8(&mut buffer).bytes().for_each(|byte| form.push(ring, byte));
            rest
        }
        [b'n' | b'r' | b't' | b'b' | b'f', rest @ ..] => {
            form.push(ring, b' ');
            rest
        }
        [byte, rest @ ..] => {
            form.push(ring, *byte);
            rest
        }
        [] => escape,
    }
}

/// The part of a body that is looked at together, in bytes.
const STRIDE: usize = 4_096;

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
