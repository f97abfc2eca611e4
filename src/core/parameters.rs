//! Members of a request that a model or a channel does not take, and what becomes of them.

use std::sync::Arc;

/// What becomes of a member that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// A request that has it is refused, or goes to another channel.
    Reject,
    /// The request goes on without it.
    Drop,
}

/// The members that somebody does not take, by name: `seed`, or `reasoning.effort` for one inside another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsupported(Arc<[(Box<str>, Treatment)]>);

impl Unsupported {
    /// What becomes of a member; `None` if it is taken.
    #[must_use]
    pub fn treatment(&self, name: &str) -> Option<Treatment> {
        self.0.iter().find(|(own, _)| **own == *name).map(|(_, treatment)| *treatment)
    }

    /// The names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }
}

impl FromIterator<(Box<str>, Treatment)> for Unsupported {
    fn from_iter<T: IntoIterator<Item = (Box<str>, Treatment)>>(members: T) -> Self {
        Self(members.into_iter().collect())
    }
}
