//! The failure that took a channel, a model on it or a credential out of traffic, kept for operators.

use super::failure::Class;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// The verdict behind a state of health, and the request that met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The class of the failure.
    pub class: Class,
    /// The rule that decided the class.
    pub rule: Cow<'static, str>,
    /// The request that failed.
    pub request_id: Arc<str>,
    /// When the state began, in nanoseconds of the clock of health.
    pub since: u64,
}

/// The cause of a unit's last state other than up. Written once per change of state, read by operators alone.
#[derive(Debug, Default)]
pub struct CauseCell(Mutex<Option<Arc<Cause>>>);

impl CauseCell {
    /// Replaces the cause.
    pub fn set(&self, cause: Arc<Cause>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    /// Returns the last cause, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Cause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
