//! The parts of a channel that take no traffic or fail, with the reason of each, for those who look (spec 13.1).

use super::Shared;
use super::inspect::millis_of;
use crate::core::channel::ChannelHealth;
use crate::core::unit::{Standing, Unit};
use crate::telemetry::snapshot::{CauseView, CredentialRow};
use std::sync::Arc;
use std::time::Duration;

/// Credentials of one channel that are listed at most.
const CREDENTIALS_MAX: usize = 20;

/// The failure behind the state that a unit is in now; `None` where it is up.
pub(super) fn cause(shared: &Shared, unit: &Unit, now: u64) -> Option<CauseView> {
    let cause = unit.cause.last().filter(|_| unit.standing(now) != Standing::Up)?;
    Some(CauseView {
        class: cause.class.as_str(),
        rule: cause.rule.clone(),
        request_id: Arc::clone(&cause.request_id),
        since_ms: shared.unix_millis_at(cause.since),
    })
}

/// The failure that keeps a channel, or a model on it, from traffic: of several that of the part that rests longest.
pub(super) fn decisive_cause(
    shared: &Shared,
    health: &ChannelHealth,
    slot: Option<usize>,
    now: u64,
) -> Option<CauseView> {
    let left = |unit: &&Arc<Unit>| unit.standing(now).left().unwrap_or(Duration::MAX);
    let credentials = || health.credentials.iter();
    let usable = credentials().any(|unit| unit.standing(now).is_usable());
    let credential = if usable { None } else { credentials().min_by_key(left) };
    let model = slot.and_then(|slot| health.models.get(slot));
    let parts = [Some(&health.unit), model, credential].into_iter().flatten();
    let longest = parts.filter(|unit| unit.standing(now) != Standing::Up).max_by_key(left)?;
    cause(shared, longest, now)
}

/// The credentials of a channel that are not up, by their positions.
pub(super) fn credentials(shared: &Shared, health: &ChannelHealth, now: u64) -> Vec<CredentialRow> {
    let standings =
        (1..).zip(&health.credentials).map(|(position, unit)| (position, unit, unit.standing(now)));
    let rows =
        standings.filter(|(.., standing)| *standing != Standing::Up).map(|(position, unit, standing)| {
            let left_ms = standing.left().map(millis_of);
            CredentialRow { position, state: standing.as_str(), left_ms, cause: cause(shared, unit, now) }
        });
    rows.take(CREDENTIALS_MAX).collect()
}
