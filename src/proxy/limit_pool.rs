//! The limits of everything that has some, kept while they stay the same: a new generation of the configuration, or a key
//! that is made or revoked, forgets no counter (spec 12.3).

use crate::core::limits::{Dimension, Limited, Limits, Scope};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What limits belong to.
type Owner = (Scope, Box<str>);

/// Limits by what they belong to.
#[derive(Default)]
pub(crate) struct LimitPool(Mutex<HashMap<Owner, Arc<Limits>>>);

impl LimitPool {
    /// The limits of a thing: those that it had, unless they have changed.
    pub(crate) fn of(&self, scope: Scope, id: &str, limited: Limited) -> Arc<Limits> {
        // What is not bounded is not counted, so that a million keys without limits can share theirs.
        let id = if is_unbounded(limited) { "" } else { id };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = known.entry((scope, id.into())).or_insert_with(|| Limits::new(scope, limited));
        if limits.limited() != limited && !id.is_empty() {
            *limits = Limits::new(scope, limited);
        }
        Arc::clone(limits)
    }

    /// What limits in shadow mode would have refused, over all things of a scope.
    pub(crate) fn would_refuse(&self) -> HashMap<(Scope, Dimension), u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = HashMap::new();
        for ((scope, _), limits) in known.iter() {
            for dimension in Dimension::ALL {
                *sums.entry((*scope, dimension)).or_default() += limits.would_refuse(dimension);
            }
        }
        sums
    }
}

fn is_unbounded(limited: Limited) -> bool {
    let Limited { rpm, tpm, concurrency, shadow: _ } = limited;
    rpm.is_none() && tpm.is_none() && concurrency.is_none()
}
