use super::*;
use crate::core::api::ApiSet;
use crate::core::catalog::tiers;
use proptest::prelude::*;
use std::sync::Arc;

const CHAT: Wanted<'_> =
    Wanted { api: Api::Chat, group: None, larger_than: None, input: 0, pinned: None, affinity: None };

/// A view in which all is well, but for some channels.
struct Still(Vec<usize>);

impl View for Still {
    fn is_calm(&self, channel: ChannelId) -> bool {
        !self.0.contains(&channel.index())
    }

    fn cost(&self, _: ChannelId) -> f32 {
        0.0
    }

    fn is_usable(&self, candidate: &Candidate) -> bool {
        self.is_calm(candidate.channel)
    }

    fn share(&self, _: &Candidate) -> f64 {
        1.0
    }
}

fn candidate(index: usize, priority: u32, weight: u32) -> Candidate {
    Candidate {
        channel: ChannelId::new(index),
        slot: 0,
        upstream_model: "m".into(),
        priority,
        weight,
        apis: ApiSet::from_iter([Api::Chat]),
        context_window: None,
        groups: Arc::new([]),
    }
}

fn drawer(seed: u64) -> impl FnMut() -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    move || random.u64(..)
}

/// Goal: when all is well the share of a channel follows its weight within 2 % over 100,000 draws.
#[test]
fn shares_follow_weights() {
    let tiers = tiers(vec![candidate(0, 0, 1), candidate(1, 0, 3), candidate(2, 0, 0), candidate(3, 1, 9)]);
    let (mut random, mut drawn) = (drawer(7), [0u32; 4]);
    for _ in 0..100_000 {
        let channel = select(&tiers, CHAT, &[], &Still(vec![]), &mut random).unwrap().channel;
        drawn[channel.index()] += 1;
    }
    assert_eq!((drawn[2], drawn[3]), (0, 0));
    assert!((f64::from(drawn[1]) / 75_000.0 - 1.0).abs() < 0.02, "{drawn:?}");
}

/// Goal: API, group and window are respected, a channel without weight gets nothing, and one usable channel among a
/// thousand that are not is found.
#[test]
fn unfit_channels_are_not_drawn() {
    let draw = |candidates: Vec<Candidate>, wanted| {
        select(&tiers(candidates), wanted, &[], &Still(vec![]), &mut drawer(1)).map(|c| c.channel.index())
    };
    let grouped = || Candidate { groups: Arc::new(["gold".into()]), ..candidate(0, 0, 1) };
    assert_eq!(draw(vec![grouped()], CHAT), None);
    assert_eq!(draw(vec![grouped()], Wanted { group: Some("gold"), ..CHAT }), Some(0));
    assert_eq!(draw(vec![grouped()], Wanted { group: Some("gold"), api: Api::Images, ..CHAT }), None);
    assert_eq!(draw(vec![candidate(0, 0, 0)], CHAT), None);
    let window = |own| vec![Candidate { context_window: own, ..candidate(0, 0, 1) }];
    let larger = Wanted { larger_than: Some(10), ..CHAT };
    assert_eq!([None, Some(10), Some(11)].map(|own| draw(window(own), larger)), [None, None, Some(0)]);
    let many = tiers((0..1_000).map(|index| candidate(index, 0, 1)).collect());
    let view = Still((0..1_000).filter(|index| *index != 777).collect());
    assert_eq!(select(&many, CHAT, &[], &view, &mut drawer(1)).unwrap().channel.index(), 777);
}

/// Goal: requests that belong together go to one channel while it can be used, and fail over like any other.
#[test]
fn affinity_holds_and_never_blocks() {
    let tiers = tiers((0..10).map(|index| candidate(index, 0, 1)).collect());
    let wanted = |number| Wanted { affinity: Some(number), ..CHAT };
    let mut random = drawer(3);
    for number in (0..64u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let mut draw = |failed: &[ChannelId], out: Vec<usize>| {
            select(&tiers, wanted(number), failed, &Still(out), &mut random).unwrap().channel
        };
        let favourite = draw(&[], vec![]);
        assert!((0..20).all(|_| draw(&[], vec![]) == favourite));
        assert_ne!(draw(&[favourite], vec![]), favourite);
        assert_ne!(draw(&[], vec![favourite.index()]), favourite);
    }
}

/// A view in which one channel is dearer.
struct Slow(usize);

impl View for Slow {
    fn is_calm(&self, _: ChannelId) -> bool {
        true
    }

    fn cost(&self, channel: ChannelId) -> f32 {
        if channel.index() == self.0 { 10.0 } else { 1.0 }
    }

    fn is_usable(&self, _: &Candidate) -> bool {
        true
    }

    fn share(&self, _: &Candidate) -> f64 {
        1.0
    }
}

/// Goal: a channel that is ten times dearer gets less than a third of its weight, and still enough to be seen to heal.
#[test]
fn dear_channels_get_little() {
    let tiers = tiers((0..4).map(|index| candidate(index, 0, 1)).collect());
    let mut random = drawer(5);
    let mut draw = || select(&tiers, CHAT, &[], &Slow(2), &mut random).unwrap().channel.index() == 2;
    let share = (0..100_000).filter(|_| draw()).count();
    assert!((4_000..8_333).contains(&share), "{share}");
}

/// Goal: candidates of more kinds than a face can tell apart, and channels with numbers too large for it, are still told
/// apart; and a face has the four bytes that its words promise.
#[test]
fn faces_forget_nothing() {
    assert_eq!(size_of::<Face>(), 4);
    let larger = Wanted { larger_than: Some(290), ..CHAT };
    let window = |index: usize| Candidate { context_window: Some(index as u64), ..candidate(index, 0, 1) };
    let many = tiers((0..300).map(window).collect());
    let mut random = drawer(11);
    for _ in 0..1_000 {
        let drawn = select(&many, larger, &[], &Still(vec![]), &mut random).unwrap();
        assert!((291..300).contains(&drawn.channel.index()));
    }
    let far = tiers([5, (1 << 24) + 5].map(|index| candidate(index, 0, 1)).to_vec());
    let drawn = select(&far, CHAT, &[ChannelId::new(5)], &Still(vec![]), &mut random);
    assert_eq!(drawn.unwrap().channel.index(), (1 << 24) + 5);
}

/// A candidate of any sort, and whether it can be used.
fn any_candidate() -> impl Strategy<Value = (Candidate, bool)> {
    let groups = prop::sample::select(vec![vec![], vec!["gold"], vec!["gold", "red"], vec!["blue"]]);
    let apis = prop::sample::subsequence(vec![Api::Chat, Api::Messages, Api::Images], 0..=3);
    let window = prop::option::of(0u64..4);
    (0u32..3, 0u32..3, groups, apis, window, prop::bool::weighted(0.8)).prop_map(
        |(priority, weight, groups, apis, context_window, usable)| {
            let groups = groups.into_iter().map(Into::into).collect();
            let apis = apis.into_iter().collect();
            (Candidate { groups, apis, context_window, ..candidate(0, priority, weight) }, usable)
        },
    )
}

proptest! {
    /// Goal: whatever is wanted, what is drawn is a candidate of the first tier in which any would do, and nothing is drawn
    /// only where none would. Method: the sentence itself, over random candidates.
    #[test]
    fn what_is_drawn_fits(
        world in prop::collection::vec(any_candidate(), 0..9),
        api in prop::sample::select(vec![Api::Chat, Api::Messages]),
        group in prop::option::of(prop::sample::select(vec!["gold", "red", "none"])),
        larger_than in prop::option::weighted(0.3, 0u64..4),
        pinned in prop::option::weighted(0.2, 0usize..9),
        affinity: Option<u64>,
        failed in prop::collection::vec(0usize..9, 0..3),
        seed: u64,
    ) {
        let numbered = world.into_iter().enumerate();
        let world: Vec<_> = numbered.map(|(i, (c, usable))| (Candidate { channel: ChannelId::new(i), ..c }, usable)).collect();
        let pinned = pinned.map(ChannelId::new);
        let wanted = Wanted { api, group, larger_than, input: 0, pinned, affinity };
        let failed: Vec<_> = failed.into_iter().map(ChannelId::new).collect();
        let would_do = |(candidate, usable): &&(Candidate, bool)| {
            *usable && !failed.contains(&candidate.channel) && wanted.mismatch(candidate).is_none()
        };
        let first = world.iter().filter(would_do).map(|(candidate, _)| candidate.priority).min();
        let allowed: Vec<_> =
            world.iter().filter(would_do).map(|(c, _)| c).filter(|c| Some(c.priority) == first).map(|c| c.channel).collect();
        let view = Still(world.iter().filter(|(_, usable)| !usable).map(|(c, _)| c.channel.index()).collect());
        let tiers = tiers(world.iter().map(|(candidate, _)| candidate.clone()).collect());
        let drawn = select(&tiers, wanted, &failed, &view, &mut drawer(seed)).map(|candidate| candidate.channel);
        prop_assert_eq!(drawn.is_none(), allowed.is_empty());
        prop_assert!(drawn.is_none_or(|drawn| allowed.contains(&drawn)));
    }

    /// Goal: drawing until none is left names every channel with weight once, and tiers in order (spec 9.2).
    #[test]
    fn a_tier_is_used_up_before_the_next(shape in prop::collection::vec((0u32..4, 0u32..5), 0..12), seed: u64) {
        let candidates: Vec<_> = shape.iter().enumerate().map(|(i, (p, w))| candidate(i, *p, *w)).collect();
        let (tiers, mut random) = (tiers(candidates), drawer(seed));
        let (mut failed, mut priorities) = (Vec::new(), Vec::new());
        while let Some(drawn) = select(&tiers, CHAT, &failed, &Still(vec![]), &mut random) {
            prop_assert!(!failed.contains(&drawn.channel));
            failed.push(drawn.channel);
            priorities.push(drawn.priority);
        }
        prop_assert!(priorities.is_sorted());
        prop_assert_eq!(failed.len(), shape.iter().filter(|(_, weight)| *weight > 0).count());
    }
}
