//! What one rule of the classifier is, and when it matches.
//!
//! A [`Row`] looks at one report: status, form, codes, field and words. Every part that is given has to match. Rows are
//! data: [`super::rules`] has the table, and an operator adds rows of the same parts in the configuration
//! ([`super::custom`]).

use super::reading::Form;
use super::report::Report;
use crate::core::failure::{Capability, Class, Effect, Next};

/// Alternatives, each a list of words that all occur in the text.
pub type Texts = &'static [&'static [&'static str]];

/// One rule of the built-in table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, for the operator.
    pub name: &'static str,
    /// What it says.
    pub class: Class,
    statuses: &'static [(u16, u16)],
    forms: &'static [Form],
    codes: &'static [&'static str],
    params: &'static [&'static str],
    texts: Texts,
    also: Texts,
    unless: Texts,
    words: &'static [&'static str],
    effect: Option<Effect>,
    next: Option<Next>,
    firm: bool,
    capability: Option<Capability>,
}

/// What a row looks at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The status that counts.
    pub status: u16,
    /// What the body is.
    pub form: Form,
    /// The layer in question.
    pub report: &'a Report,
}

/// Why a row matched: what its verdict may be trusted with (spec 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Status, form, codes, field.
    Structure,
    /// These words.
    Words(Vec<&'static str>),
}

impl Row {
    /// A row that matches everything, to be narrowed.
    pub(super) const fn new(name: &'static str, class: Class) -> Self {
        Self {
            name,
            class,
            statuses: &[],
            forms: &[],
            codes: &[],
            params: &[],
            texts: &[],
            also: &[],
            unless: &[],
            words: &[],
            effect: None,
            next: None,
            firm: false,
            capability: None,
        }
    }

    /// With a status inside one of these ranges, ends included.
    pub(super) const fn status(mut self, statuses: &'static [(u16, u16)]) -> Self {
        self.statuses = statuses;
        self
    }

    /// In a body of one of these forms.
    pub(super) const fn forms(mut self, forms: &'static [Form]) -> Self {
        self.forms = forms;
        self
    }

    /// With one of these codes; separators do not count, a final `*` stands for any ending.
    pub(super) const fn codes(mut self, codes: &'static [&'static str]) -> Self {
        self.codes = codes;
        self
    }

    /// That blames one of these fields; after a `*` it is the last step of a path, without its index.
    pub(super) const fn params(mut self, params: &'static [&'static str]) -> Self {
        self.params = params;
        self
    }

    /// With all words of one of these lists.
    pub(super) const fn texts(mut self, texts: Texts) -> Self {
        self.texts = texts;
        self
    }

    /// And with all words of one of these lists, too.
    pub(super) const fn also(mut self, texts: Texts) -> Self {
        self.also = texts;
        self
    }

    /// But not with all words of one of these lists.
    pub(super) const fn unless(mut self, texts: Texts) -> Self {
        self.unless = texts;
        self
    }

    /// With one of these as a word of its own.
    pub(super) const fn words(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    /// With another effect than its class has.
    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Even where a code or a field blames the request.
    pub(super) const fn firm(mut self) -> Self {
        self.firm = true;
        self
    }

    /// About a capability that the channel lacks.
    pub(super) const fn lacking(mut self, capability: Capability) -> Self {
        self.capability = Some(capability);
        self
    }

    /// With another reach of the search than its class has.
    pub(super) const fn next(mut self, next: Next) -> Self {
        self.next = Some(next);
        self
    }

    /// What the row does to channel or credential.
    #[must_use]
    pub fn its_effect(&self) -> Effect {
        self.effect.unwrap_or(self.class.effect())
    }

    /// What the channel lacks by it.
    #[must_use]
    pub fn its_capability(&self) -> Option<Capability> {
        self.capability
    }

    /// How far the search goes on.
    #[must_use]
    pub fn its_next(&self) -> Next {
        self.next.unwrap_or(self.class.next())
    }

    /// Whether the row believes words.
    #[must_use]
    pub fn is_text(&self) -> bool {
        !self.texts.is_empty() || !self.words.is_empty()
    }

    /// Whether the row holds even where a code or a field blames the request.
    #[must_use]
    pub fn is_firm(&self) -> bool {
        self.firm
    }

    /// Whether the row believes single words.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        !self.words.is_empty()
    }

    /// The codes of the row.
    #[must_use]
    pub fn its_codes(&self) -> &'static [&'static str] {
        self.codes
    }

    /// Whether the row speaks of this report, and by what evidence.
    #[must_use]
    pub fn matches(&self, facts: Facts<'_>) -> Option<Evidence> {
        let Facts { status, form, report } = facts;
        let structure = (self.statuses.is_empty() || within(self.statuses, status))
            && (self.forms.is_empty() || self.forms.contains(&form))
            && (self.codes.is_empty() || self.codes.iter().any(|code| has_code(report, code)))
            && (self.params.is_empty() || report.param.as_deref().is_some_and(|param| self.blames(param)));
        if !structure || found(self.unless, &report.text).is_some() {
            return None;
        }
        if !self.is_text() {
            return Some(Evidence::Structure);
        }
        let mut evidence = Vec::new();
        for texts in [self.texts, self.also].into_iter().filter(|texts| !texts.is_empty()) {
            evidence.extend_from_slice(found(texts, &report.text)?);
        }
        if !self.words.is_empty() {
            evidence.push(self.words.iter().find(|word| stands_in(&report.text, word))?);
        }
        Some(Evidence::Words(evidence))
    }

    /// Whether the field, or the last step of its path, is one of the row's.
    fn blames(&self, param: &str) -> bool {
        let last = || param.rsplit('.').next().unwrap_or(param);
        self.params.iter().any(|own| match own.strip_prefix('*') {
            Some(name) => {
                last() == name || last().strip_prefix(name).is_some_and(|rest| rest.starts_with('['))
            }
            None => param == *own,
        })
    }
}

/// Whether a status is in one of the ranges.
pub(super) fn within(ranges: &[(u16, u16)], status: u16) -> bool {
    ranges.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

/// Whether a report has a code, as a row writes it.
pub(super) fn has_code(report: &Report, written: &str) -> bool {
    let (stem, open) = written.strip_suffix('*').map_or((written, false), |stem| (stem, true));
    let wanted = || stem.chars().filter(|c| c.is_alphanumeric());
    report.codes.iter().any(|code| {
        let mut rest = code.chars();
        wanted().all(|c| rest.next() == Some(c)) && (open || rest.next().is_none())
    })
}

/// The first alternative of which all words occur.
pub(super) fn found(texts: Texts, text: &str) -> Option<&'static [&'static str]> {
    texts.iter().copied().find(|words| words.iter().all(|word| text.contains(word)))
}

/// Whether a word stands in a text by itself, not as part of a name.
fn stands_in(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|part| part.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|part| part.chars().next());
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '_')
    })
}
