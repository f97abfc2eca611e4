//! Whether a request fits a context, counted where an estimate cannot tell (spec 4.1, 2.11).
//!
//! What the provider frames in its own way is left out of the count: images, files and the schemas of tools. So nobody is
//! refused who might fit, and what passes here may still be too long for the upstream, whose answer then says so. Without
//! counting, only text is refused that no vocabulary could make short enough.

use super::envelope::Members;
use super::prompt::{self, Member};
use crate::core::estimate::{Family, Piece, Prompt};
use bpe_openai::Tokenizer;
use serde_json::value::RawValue;

/// Bytes of the longest token of any vocabulary.
const TOKEN_BYTES_MAX: u64 = 128;
/// An estimate this much below the limit, in hundredths, cannot be wrong enough.
const ESTIMATE_MARGIN: u64 = 135;
/// Counting goes on so far beyond the limit, as a part of it, to tell the client by how much to cut.
const BEYOND: u64 = 4;

/// Whether an input fits a limit of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does, or only the upstream knows better.
    Fits,
    /// It does not; how many tokens it is, where it was counted to the end.
    TooLong(Option<u64>),
    /// It has to be counted.
    Undecided,
}

/// Decides without counting, where that is possible.
#[must_use]
pub fn quick(prompt: &Prompt, family: Family, limit: u64) -> Fit {
    let frame = prompt.frame();
    let least = frame.saturating_add(prompt.text_bytes / TOKEN_BYTES_MAX);
    let most = frame.saturating_add(prompt.text_bytes);
    let likely = prompt.text_tokens(family).saturating_mul(ESTIMATE_MARGIN) / 100;
    if least > limit {
        Fit::TooLong(None)
    } else if most <= limit || likely < limit {
        Fit::Fits
    } else {
        Fit::Undecided
    }
}

/// Counts the text of a validated body, no further than needed; [`Fit::Undecided`] without a vocabulary of the family.
///
/// It takes time in proportion to the limit, milliseconds for a large one: not for a thread that serves others.
#[must_use]
pub fn count(body: &str, family: Family, limit: u64) -> Fit {
    let Some(vocabulary) = vocabulary(family) else { return Fit::Undecided };
    let Ok(members) = serde_json::from_str::<Members<'_>>(body) else { return Fit::Undecided };
    let mut counter = Counter::new(vocabulary, limit);
    for (name, value) in &members.0 {
        if let Some(member) = Member::named(name) {
            prompt::read(member, value, |piece| counter.add(piece));
        }
    }
    counter.fit(limit)
}

/// The largest input of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// About how many tokens it is.
    pub estimated: u64,
    /// Whether all inputs fit the limit, each by itself.
    pub fit: Fit,
}

/// Looks at each input of a batch in this member of a validated body; `None` where it is no batch.
///
/// It takes time in proportion to the body: not for a thread that serves others.
#[must_use]
pub fn largest(body: &str, member: &str, family: Family, limit: u64) -> Option<Largest> {
    let members = serde_json::from_str::<Members<'_>>(body).ok()?;
    let (_, batch) = members.0.iter().rev().find(|(name, _)| name == member)?;
    let mut largest = Largest { estimated: 0, fit: Fit::Fits };
    for input in prompt::inputs(batch)? {
        let mut prompt = Prompt::default();
        prompt::read(Member::Text, input, |piece| prompt.add(piece));
        largest.estimated = largest.estimated.max(prompt.text_tokens(family));
        let fit = match quick(&prompt, family, limit) {
            Fit::Undecided => count_input(input, family, limit),
            decided => decided,
        };
        match (fit, largest.fit) {
            (Fit::Fits, _) => {}
            (Fit::TooLong(more), Fit::TooLong(count)) => largest.fit = Fit::TooLong(count.max(more)),
            (Fit::Undecided, Fit::TooLong(_)) => {}
            (fit, _) => largest.fit = fit,
        }
    }
    Some(largest)
}

/// Counts the text of one input.
fn count_input(input: &RawValue, family: Family, limit: u64) -> Fit {
    let Some(vocabulary) = vocabulary(family) else { return Fit::Undecided };
    let mut counter = Counter::new(vocabulary, limit);
    prompt::read(Member::Text, input, |piece| counter.add(piece));
    counter.fit(limit)
}

/// Reads the vocabulary of a family, if there is one, so that the first request does not wait for it.
pub fn warm(family: Family) {
    let _ = vocabulary(family);
}

/// The tokens of one text, if there is a vocabulary of the family.
#[must_use]
pub fn tokens(text: &str, family: Family) -> Option<u64> {
    vocabulary(family).map(|vocabulary| vocabulary.count(text) as u64)
}

fn vocabulary(family: Family) -> Option<&'static Tokenizer> {
    match family {
        Family::O200k => Some(bpe_openai::o200k_base()),
        Family::Cl100k => Some(bpe_openai::cl100k_base()),
        _ => None,
    }
}

struct Counter {
    vocabulary: &'static Tokenizer,
    /// What is not text.
    frame: Prompt,
    text: u64,
    /// Beyond this nothing is counted any more.
    cap: u64,
}

impl Counter {
    fn new(vocabulary: &'static Tokenizer, limit: u64) -> Self {
        Self { vocabulary, frame: Prompt::default(), text: 0, cap: limit.saturating_add(limit / BEYOND) }
    }

    fn fit(&self, limit: u64) -> Fit {
        match self.total() {
            total if total <= limit => Fit::Fits,
            total => Fit::TooLong(Some(total).filter(|total| *total <= self.cap)),
        }
    }

    fn total(&self) -> u64 {
        self.text.saturating_add(self.frame.frame())
    }

    fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(text) => self.add_text(text),
            Piece::Schema(_) | Piece::Image { .. } | Piece::Bulk(_) => {}
            Piece::Message | Piece::Name | Piece::Listed => self.frame.add(piece),
        }
    }

    fn add_text(&mut self, text: &str) {
        let Some(left) = self.cap.checked_sub(self.total()) else { return };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let counted = self.vocabulary.count_till_limit(&self.vocabulary.normalize(text), left);
        self.text = counted.map_or(u64::MAX, |tokens| self.text.saturating_add(tokens as u64));
    }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
