//! Rules that an operator adds (spec 3.4; `classify:` and `status_map` in the configuration).
//!
//! They are tried before the built-in rows, and are bounded: they never make a caller's mistake, and never unmake one
//! that the upstream's own code or field proves; and where only words spoke, they leave channel and credential alone
//! (spec 3.5). So a wrong rule costs an attempt, not a channel.

use super::rule::{Facts, has_code, within};
use crate::core::failure::{Class, Effect};

/// One rule of an operator: every part that is given has to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRow {
    /// Its name, in logs.
    pub name: String,
    /// Ranges of statuses, ends included.
    pub statuses: Vec<(u16, u16)>,
    /// Codes, one of which the upstream's error has; spelled as the upstream does.
    pub codes: Vec<String>,
    /// Words that all occur, in lower case.
    pub words: Vec<String>,
    /// What it says.
    pub class: Class,
}

/// What an operator says about the answers of one channel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Custom<'a> {
    /// Rules for all channels.
    pub rows: &'a [CustomRow],
    /// Statuses that this channel's upstream sends, and those that they are taken for.
    pub statuses: &'a [(u16, u16)],
}

impl CustomRow {
    /// The classes that a rule may give: all but those that only the gateway can know.
    pub const CLASSES: [Class; 12] = [
        Class::ContentRefused,
        Class::ContextTooLong,
        Class::BodyTooLarge,
        Class::CredentialRefused,
        Class::AccountEmpty,
        Class::AddressRefused,
        Class::RateLimited,
        Class::Overloaded,
        Class::Broken,
        Class::Misconfigured,
        Class::ModelMissing,
        Class::NotUnderstood,
    ];

    /// Whether the rule speaks of this report.
    #[must_use]
    pub fn matches(&self, facts: Facts<'_>) -> bool {
        let report = facts.report;
        (self.statuses.is_empty() || within(&self.statuses, facts.status))
            && (self.codes.is_empty() || self.codes.iter().any(|code| has_code(report, code)))
            && self.words.iter().all(|word| report.text.contains(word.as_str()))
    }

    /// What it does to channel or credential: nothing, where only words spoke.
    #[must_use]
    pub fn effect(&self) -> Effect {
        if self.codes.is_empty() && !self.words.is_empty() { Effect::None } else { self.class.effect() }
    }
}

impl Custom<'_> {
    /// The status that one of the upstream's is taken for.
    #[must_use]
    pub fn status(&self, sent: u16) -> u16 {
        self.statuses.iter().find(|(from, _)| *from == sent).map_or(sent, |(_, to)| *to)
    }

    /// The first rule that speaks of this report.
    #[must_use]
    pub fn row(&self, facts: Facts<'_>) -> Option<&CustomRow> {
        self.rows.iter().find(|row| row.matches(facts))
    }
}
