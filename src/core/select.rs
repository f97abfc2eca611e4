//! Which channel gets the next attempt (spec 9.1, 9.2).
//!
//! Tier before tier; inside a tier by weight; never a channel that failed this request. A pure function of the
//! candidates and one random number: no lock, no allocation.

use super::api::Api;
use super::catalog::Candidate;
use super::id::ChannelId;

/// What a request needs of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The API it has to speak.
    pub api: Api,
    /// The group of the caller's key.
    pub group: Option<&'a str>,
    /// A context window that has proved too small: only a declared larger one will do (spec 3.2).
    pub larger_than: Option<u64>,
}

/// Draws the next channel: the lowest tier with a candidate that speaks the API, serves the group, has weight and is
/// not among `failed`; inside it, with a chance in proportion to weight. `random` is one uniform number.
#[must_use]
pub fn select<'a>(
    candidates: &'a [Candidate],
    wanted: Wanted<'_>,
    failed: &[ChannelId],
    random: u64,
) -> Option<&'a Candidate> {
    let usable = |candidate: &&Candidate| {
        candidate.weight > 0
            && candidate.apis.contains(wanted.api)
            && candidate.serves(wanted.group)
            && wanted.larger_than.is_none_or(|small| candidate.context_window.is_some_and(|own| own > small))
            && !failed.contains(&candidate.channel)
    };
    let tier = candidates.iter().find(usable)?.priority;
    let in_tier = || candidates.iter().filter(usable).filter(|candidate| candidate.priority == tier);
    let total: u64 = in_tier().map(|candidate| u64::from(candidate.weight)).sum();
    let mut ticket = random % total.max(1);
    in_tier().find(|candidate| {
        let weight = u64::from(candidate.weight);
        let drawn = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        drawn
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::api::ApiSet;
    use proptest::prelude::*;
    use std::sync::Arc;

    const CHAT: Wanted<'_> = Wanted { api: Api::Chat, group: None, larger_than: None };

    fn candidate(index: usize, priority: u32, weight: u32) -> Candidate {
        Candidate {
            channel: ChannelId::new(index),
            upstream_model: "m".into(),
            priority,
            weight,
            apis: ApiSet::from_iter([Api::Chat]),
            context_window: None,
            groups: Arc::new([]),
        }
    }

    /// Goal: the share of a channel follows its weight within 2 % over 100,000 draws.
    #[test]
    fn shares_follow_weights() {
        let candidates = [candidate(0, 0, 1), candidate(1, 0, 3), candidate(2, 0, 0), candidate(3, 1, 9)];
        let mut random = fastrand::Rng::with_seed(7);
        let mut drawn = [0u32; 4];
        for _ in 0..100_000 {
            drawn[select(&candidates, CHAT, &[], random.u64(..)).unwrap().channel.index()] += 1;
        }
        assert_eq!((drawn[2], drawn[3]), (0, 0));
        assert!((f64::from(drawn[1]) / 75_000.0 - 1.0).abs() < 0.02, "{drawn:?}");
    }

    /// Goal: API and group are respected, and a channel without weight gets nothing.
    #[test]
    fn unfit_channels_are_not_drawn() {
        let mut grouped = candidate(0, 0, 1);
        grouped.groups = Arc::new(["gold".into()]);
        let candidates = [grouped];
        assert!(select(&candidates, CHAT, &[], 0).is_none());
        assert!(select(&candidates, Wanted { group: Some("gold"), ..CHAT }, &[], 0).is_some());
        assert!(
            select(&candidates, Wanted { group: Some("gold"), api: Api::Images, ..CHAT }, &[], 0).is_none()
        );
        assert!(select(&[candidate(0, 0, 0)], CHAT, &[], 0).is_none());
    }

    proptest! {
        /// Goal: drawing until none is left names every channel with weight once, and tiers in order (spec 9.2).
        #[test]
        fn a_tier_is_used_up_before_the_next(mut shape in prop::collection::vec((0u32..4, 0u32..5), 0..12), seed: u64) {
            shape.sort_by_key(|(priority, _)| *priority);
            let candidates: Vec<_> = shape.iter().enumerate().map(|(i, (p, w))| candidate(i, *p, *w)).collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut failed, mut tiers) = (Vec::new(), Vec::new());
            while let Some(drawn) = select(&candidates, CHAT, &failed, random.u64(..)) {
                prop_assert!(!failed.contains(&drawn.channel));
                failed.push(drawn.channel);
                tiers.push(drawn.priority);
            }
            prop_assert!(tiers.is_sorted());
            prop_assert_eq!(failed.len(), shape.iter().filter(|(_, weight)| *weight > 0).count());
        }
    }
}
