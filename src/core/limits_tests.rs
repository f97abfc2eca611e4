use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SECOND: u64 = 1_000_000_000;
const NONE: Limited = Limited { rpm: None, tpm: None, concurrency: None, shadow: false };

fn ask(input: u64, output: u64) -> Ask {
    Ask { input, output, now: SECOND }
}

fn one(dimension: Dimension, limit: u32) -> Limited {
    match dimension {
        Dimension::Requests => Limited { rpm: Some(limit), ..NONE },
        Dimension::Tokens => Limited { tpm: Some(limit.into()), ..NONE },
        Dimension::Concurrency => Limited { concurrency: Some(limit), ..NONE },
    }
}

fn all(limits: &[Arc<Limits>]) -> Vec<&Arc<Limits>> {
    limits.iter().collect()
}

/// What is left at an instant: requests, tokens, and what runs.
fn state(limits: &Limits, now: u64) -> (Option<u64>, Option<u64>, u32) {
    let counters = limits.lock();
    let left = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| bucket.standing(now).remaining);
    (left(&counters.requests), left(&counters.tokens), counters.running)
}

/// Goal: with L = 100 and 1,000 attempts at once exactly 100 are admitted, in each dimension, over any number of levels
/// of any order (spec 6.2).
#[test]
fn exactly_the_limit_is_admitted() {
    let scopes = [Scope::Global, Scope::Account, Scope::Key, Scope::Model];
    for dimension in Dimension::ALL {
        for levels in 1..=4 {
            let limits: Vec<_> =
                scopes[..levels].iter().map(|scope| Limits::new(*scope, one(dimension, 100))).collect();
            let (limits, start) = (&limits, &std::sync::Barrier::new(8));
            let admitted: usize = std::thread::scope(|scope| {
                let attempts = |thread: usize| {
                    start.wait();
                    let turned: Vec<_> = limits.iter().cycle().skip(thread).take(levels).collect();
                    (0..125).filter_map(|_| try_admit(&turned, ask(1, 0)).ok()).collect::<Vec<_>>()
                };
                let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || attempts(thread))).collect();
                let held: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
                assert!(limits.iter().all(|limits| limits.running() == 100));
                held.iter().map(Vec::len).sum()
            });
            assert_eq!(admitted, 100, "{dimension:?} over {levels}");
            assert!(limits.iter().all(|limits| limits.running() == 0), "all slots are back");
        }
    }
}

/// Goal: requests that a small limit refuses never disturb a large one: exactly as many as fit get through.
/// Method: a crowd is refused by its key without pause, while others ask for exactly what the gateway as a whole has.
#[test]
fn who_is_refused_disturbs_nobody() {
    for dimension in Dimension::ALL {
        for _ in 0..20 {
            let large = &Limits::new(Scope::Global, one(dimension, 100));
            let small = &Limits::new(Scope::Key, one(dimension, 0));
            let done = &AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            assert!(try_admit(&[large, small], ask(1, 0)).is_err());
                        }
                    });
                }
                let threads: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| [(); 25].map(|()| try_admit(&[large], ask(1, 0)))))
                    .collect();
                let held: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
                done.store(true, Ordering::Relaxed);
                assert!(held.iter().flatten().all(Result::is_ok), "{dimension:?}");
            });
        }
    }
}

/// Goal: a refusal at any level, in any dimension, leaves all the others as they were (spec 6.2), and a look foretells it.
#[test]
fn a_refusal_takes_nothing() {
    let roomy = Limited { rpm: Some(10), tpm: Some(1_000), concurrency: Some(5), shadow: false };
    for dimension in Dimension::ALL {
        for refusing in 0..3 {
            let limits: Vec<_> = [Scope::Global, Scope::Account, Scope::Key]
                .into_iter()
                .enumerate()
                .map(|(index, scope)| {
                    Limits::new(scope, if index == refusing { one(dimension, 0) } else { roomy })
                })
                .collect();
            let before: Vec<_> = limits.iter().map(|limits| state(limits, SECOND)).collect();
            let exceeded = try_admit(&all(&limits), ask(10, 10)).unwrap_err();
            assert_eq!((exceeded.scope, exceeded.dimension), (limits[refusing].scope(), dimension));
            assert_eq!(check(&all(&limits), ask(10, 10)), Err(exceeded), "what a look foretells");
            assert_eq!(limits.iter().map(|limits| state(limits, SECOND)).collect::<Vec<_>>(), before);
        }
    }
}

/// Goal: of several refusals one that never fits answers first, then the longest wait, concurrency only alone.
#[test]
fn the_refusal_that_helps_most_answers() {
    let limited = Limited { rpm: Some(1), tpm: Some(6_000), concurrency: Some(1), shadow: false };
    let key = Limits::new(Scope::Key, limited);
    let account = Limits::new(Scope::Account, Limited { rpm: Some(2), ..NONE });
    let small = Limits::new(Scope::Model, Limited { tpm: Some(50), ..NONE });
    let both = [&key, &account];
    let first = try_admit(&both, ask(100, 50)).unwrap();
    assert_eq!(try_admit(&[&small, &key, &account], ask(100, 50)).unwrap_err().scope, Scope::Model);
    let exceeded = try_admit(&both, ask(100, 50)).unwrap_err();
    assert_eq!((exceeded.scope, exceeded.dimension, exceeded.limit), (Scope::Key, Dimension::Requests, 1));
    assert_eq!(exceeded.denied.unwrap().wait, Some(Duration::from_secs(60)));
    let later = Ask { now: 61 * SECOND, ..ask(100, 50) };
    let exceeded = try_admit(&both, later).unwrap_err();
    assert_eq!((exceeded.dimension, exceeded.limit, exceeded.denied), (Dimension::Concurrency, 1, None));
    drop(first);
    assert!(try_admit(&both, later).is_ok());
}

/// Goal: an input larger than the limit never fits; a large answer takes at most the whole limit (spec 6.4, 6.5).
#[test]
fn only_the_input_can_be_too_large() {
    let limits = Limits::new(Scope::Key, Limited { tpm: Some(1_000), ..NONE });
    let exceeded = try_admit(&[&limits], ask(1_001, 0)).unwrap_err();
    assert_eq!((exceeded.dimension, exceeded.denied.unwrap().wait), (Dimension::Tokens, None));
    let admission = try_admit(&[&limits], ask(1_000, 4_096)).unwrap();
    assert_eq!(admission.tightest_tokens().unwrap().remaining, 0);
    assert_eq!(
        try_admit(&[&limits], ask(500, 0)).unwrap_err().denied.unwrap().wait,
        Some(Duration::from_secs(30))
    );
    drop(admission);
    assert_eq!(state(&limits, SECOND), (None, Some(1_000), 0));
}

/// Goal: real usage takes the place of the estimate, once; without it all tokens come back, and the request stays
/// counted (spec 6.4).
#[test]
fn usage_corrects_the_estimate_once() {
    let limited = Limited { rpm: Some(10), tpm: Some(1_000), ..NONE };
    let (key, account) = (Limits::new(Scope::Key, limited), Limits::new(Scope::Account, limited));
    let both = || [state(&key, SECOND), state(&account, SECOND)];
    let mut less = try_admit(&[&key, &account], ask(100, 100)).unwrap();
    assert_eq!(both(), [(Some(9), Some(800), 1); 2]);
    less.correct(50, SECOND);
    less.correct(700, SECOND);
    assert_eq!(both(), [(Some(9), Some(950), 1); 2]);
    drop(less);
    let mut more = try_admit(&[&account, &key], ask(100, 100)).unwrap();
    more.correct(1_550, SECOND);
    drop(more);
    assert_eq!(both(), [(Some(8), Some(0), 0); 2]);
    let later = Ask { now: 38 * SECOND, ..ask(1, 0) };
    assert!(try_admit(&[&key], Ask { now: 37 * SECOND, ..later }).is_err(), "a debt of 600 tokens");
    drop(try_admit(&[&key, &account], later).unwrap());
    assert_eq!(state(&key, 38 * SECOND), (Some(9), Some(16), 0));
}

/// Goal: a shadow refuses nothing, counts what it would refuse by what would answer, takes nothing then, and does not
/// show; what another limit refuses is not counted (spec 6.1).
#[test]
fn a_shadow_counts_and_refuses_nothing() {
    let limited = Limited { rpm: Some(4), tpm: Some(100), concurrency: Some(1), shadow: true };
    let shadow = Limits::new(Scope::Key, limited);
    let real = Limits::new(Scope::Account, Limited { rpm: Some(5), ..NONE });
    let both = [&shadow, &real];
    let mut held: Vec<_> = (0..2).map(|_| try_admit(&both, ask(10, 10)).unwrap()).collect();
    assert_eq!(state(&shadow, SECOND), (Some(3), Some(80), 1));
    held.push(try_admit(&both, ask(101, 0)).unwrap());
    assert_eq!(held[2].tightest_requests().unwrap().limit, 5);
    assert_eq!(held[0].tightest_tokens(), None);
    drop(held);
    assert_eq!(state(&shadow, SECOND), (Some(3), Some(100), 0));
    let mut large = try_admit(&both, ask(100, 0)).unwrap();
    large.correct(90, SECOND);
    drop(large);
    drop(try_admit(&both, ask(20, 0)).unwrap());
    assert!(try_admit(&both, ask(200, 0)).is_err());
    assert_eq!(Dimension::ALL.map(|dimension| shadow.would_refuse(dimension)), [0, 2, 1]);
    assert_eq!(Dimension::ALL.map(|dimension| real.would_refuse(dimension)), [0; 3]);
}

/// Goal: success headers show the limit with the fewest left, of equals the smaller (spec 2.7).
#[test]
fn the_tightest_limit_shows() {
    let limits = |scope, rpm, tpm| Limits::new(scope, Limited { rpm, tpm, ..NONE });
    let account = limits(Scope::Account, Some(100), Some(500));
    let key = limits(Scope::Key, Some(10), None);
    let model = limits(Scope::Model, Some(9), Some(10_000));
    drop(try_admit(&[&model], ask(0, 0)).unwrap());
    let admission = try_admit(&[&account, &key, &model], ask(5, 5)).unwrap();
    assert_eq!(admission.tightest_requests().map(|tight| (tight.limit, tight.remaining)), Some((9, 7)));
    assert_eq!(admission.tightest_tokens().map(|tight| (tight.limit, tight.remaining)), Some((500, 490)));
    drop(try_admit(&[&key], ask(0, 0)).unwrap());
    let equal = limits(Scope::Model, Some(8), None);
    let admission = try_admit(&[&key, &equal], ask(0, 0)).unwrap();
    assert_eq!(admission.tightest_requests().map(|tight| (tight.limit, tight.remaining)), Some((8, 7)));
}

/// Goal: a channel at its own limit has no room, one without limits always has (spec 6.6); what is given twice counts
/// once.
#[test]
fn a_channel_has_room_or_not() {
    let limited = Limited { rpm: Some(3), tpm: Some(100), concurrency: Some(1), shadow: false };
    let channel = Limits::new(Scope::Channel, limited);
    assert!(channel.has_room(50, SECOND));
    let visit = channel.try_enter(50, SECOND).unwrap();
    assert!(!channel.has_room(0, SECOND) && channel.try_enter(0, SECOND).is_none());
    drop(visit);
    assert!(channel.has_room(1_000, SECOND), "it takes the whole limit");
    let mut visit = channel.try_enter(1_000, SECOND).unwrap();
    visit.correct(60, SECOND);
    drop(visit);
    assert!(!channel.has_room(41, SECOND) && channel.has_room(40, SECOND));
    drop(try_admit(&[&channel, &channel], ask(1, 1)).unwrap());
    assert_eq!(state(&channel, SECOND), (Some(0), Some(40), 0));
    assert!(!channel.has_room(1, SECOND));
    let shadow = Limits::new(Scope::Channel, Limited { shadow: true, ..one(Dimension::Requests, 0) });
    assert!(shadow.has_room(1, SECOND) && shadow.try_enter(1, SECOND).is_some());
    let free = Limits::new(Scope::Channel, NONE);
    assert!(free.is_unbounded() && free.has_room(u64::MAX, 0) && free.try_enter(u64::MAX, 0).is_some());
    assert_eq!((free.scope(), free.limited(), free.running()), (Scope::Channel, NONE, 0));
}

/// Goal: names are those of metrics, logs and error codes.
#[test]
fn names_are_stable() {
    let scopes = [Scope::Global, Scope::Account, Scope::Key, Scope::Model, Scope::Channel];
    assert_eq!(scopes.map(Scope::as_str), ["global", "account", "key", "model", "channel"]);
    let names = ["requests_per_minute", "tokens_per_minute", "concurrency"];
    assert_eq!(Dimension::ALL.map(Dimension::as_str), names);
}

/// Goal: no drift over 100,000 mixed requests from several threads: afterwards there is exactly what usage left
/// (spec 6.4).
#[test]
fn mixed_requests_do_not_drift() {
    let limited =
        Limited { rpm: Some(1_000_000), tpm: Some(1_000_000_000), concurrency: Some(6), shadow: false };
    let limits = [Scope::Global, Scope::Account, Scope::Key].map(|scope| Limits::new(scope, limited));
    let (used, count) = (&AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let limits = &limits;
            scope.spawn(move || {
                for turn in 0..25_000 {
                    let mut admission = try_admit(&all(limits), ask(turn % 3_000, 4_096)).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    if (turn + thread) % 5 > 0 {
                        let actual = turn * 7 % 9_000;
                        admission.correct(actual, SECOND);
                        used.fetch_add(actual, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let left = (
        Some(1_000_000 - count.load(Ordering::Relaxed)),
        Some(1_000_000_000 - used.load(Ordering::Relaxed)),
        0,
    );
    assert!(limits.iter().all(|limits| state(limits, SECOND) == left));
}

/// The naive model of one thing: what is there of each, as exact fractions.
#[derive(Clone, Copy)]
struct Model {
    limited: Limited,
    /// In 60,000,000,000ths.
    requests: i128,
    tokens: i128,
    running: u32,
}

const PARTS: i128 = 60_000_000_000;

impl Model {
    fn whole(limit: Option<u64>) -> i128 {
        limit.map_or(i128::MAX / 4, |limit| i128::from(limit) * PARTS)
    }

    fn new(limited: Limited) -> Self {
        let (requests, tokens) = (Self::whole(limited.rpm.map(u64::from)), Self::whole(limited.tpm));
        Self { limited, requests, tokens, running: 0 }
    }

    fn pass(&mut self, nanos: u64) {
        let gain = |there: &mut i128, limit: Option<u64>| {
            let gained = i128::from(nanos) * i128::from(limit.unwrap_or(0));
            *there = (*there + gained).min(Self::whole(limit));
        };
        gain(&mut self.requests, self.limited.rpm.map(u64::from));
        gain(&mut self.tokens, self.limited.tpm);
    }

    fn share(&self, ask: Ask) -> u64 {
        self.limited.tpm.map_or(0, |limit| (ask.input + ask.output).min(limit))
    }

    fn admits(&self, ask: Ask) -> bool {
        self.requests >= PARTS
            && self.tokens >= i128::from(self.share(ask)) * PARTS
            && self.limited.tpm.is_none_or(|limit| ask.input <= limit)
            && self.limited.concurrency.is_none_or(|limit| self.running < limit)
    }

    fn use_tokens(&mut self, tokens: i128) {
        let whole = Self::whole(self.limited.tpm);
        let lowest = if self.limited.tpm.is_some() { -10 * whole } else { 0 };
        self.tokens = (self.tokens - tokens * PARTS).clamp(lowest, whole);
    }
}

fn limited() -> impl Strategy<Value = Limited> {
    let maybe = |range: std::ops::Range<u32>| prop::option::of(range);
    (maybe(0..20), maybe(0..2_000), maybe(0..6), prop::bool::weighted(0.2)).prop_map(
        |(rpm, tpm, concurrency, shadow)| Limited { rpm, tpm: tpm.map(u64::from), concurrency, shadow },
    )
}

proptest! {
    /// Goal: over any levels and any schedule, a request is admitted exactly when all levels of the model admit it, and
    /// every level is afterwards what the model is, to the unit.
    /// Method: random limits on three levels, one of them in use by some requests only; requests begin, are corrected,
    /// end and fail in any order.
    #[test]
    fn admission_is_the_model(
        configured in prop::array::uniform3(limited()),
        steps in prop::collection::vec((0u64..20 * SECOND, 0u64..900, 0u64..900, 0u8..6, 0usize..8), 1..150),
    ) {
        let scopes = [Scope::Global, Scope::Account, Scope::Key];
        let limits: Vec<_> =
            scopes.into_iter().zip(configured).map(|(scope, limited)| Limits::new(scope, limited)).collect();
        let mut models = configured.map(Model::new);
        let mut would = [0; 3];
        let mut held: Vec<(Admission, [Option<u64>; 3])> = Vec::new();
        let mut now = SECOND;
        for (pause, input, output, what, which) in steps {
            now += pause;
            models.iter_mut().for_each(|model| model.pass(pause));
            if what < 3 || held.is_empty() {
                let ask = Ask { input, output, now };
                let levels = if what == 2 { 1..3 } else { 0..3 };
                let admission = try_admit(&all(&limits[levels.clone()]), ask);
                let all = models[levels.clone()].iter().all(|model| model.limited.shadow || model.admits(ask));
                prop_assert_eq!(admission.is_ok(), all);
                if let Ok(admission) = admission {
                    let mut taken = [None; 3];
                    for level in levels.filter(|level| !limits[*level].is_unbounded()) {
                        let model = &mut models[level];
                        if !model.admits(ask) {
                            would[level] += 1;
                            continue;
                        }
                        taken[level] = Some(model.share(ask));
                        model.use_tokens(model.share(ask).into());
                        model.running += 1;
                        model.requests = if model.limited.rpm.is_some() { model.requests - PARTS } else { model.requests };
                    }
                    held.push((admission, taken));
                }
            } else {
                let (mut admission, taken) = held.swap_remove(which % held.len());
                let actual = (what < 5).then_some(output * 3);
                if let Some(actual) = actual {
                    admission.correct(actual, now);
                }
                drop(admission);
                for (model, taken) in models.iter_mut().zip(taken) {
                    let Some(taken) = taken else { continue };
                    model.running -= 1;
                    if model.limited.tpm.is_some() {
                        model.use_tokens(i128::from(actual.unwrap_or(0)) - i128::from(taken));
                    }
                }
            }
            for (limits, model) in limits.iter().zip(&models) {
                let whole = |there: i128| u64::try_from(there.max(0) / PARTS).unwrap();
                let requests = model.limited.rpm.map(|_| whole(model.requests));
                let tokens = model.limited.tpm.map(|_| whole(model.tokens));
                prop_assert_eq!(state(limits, now), (requests, tokens, model.running));
            }
        }
        let counted: Vec<u64> = limits
            .iter()
            .map(|limits| Dimension::ALL.map(|dimension| limits.would_refuse(dimension)).iter().sum())
            .collect();
        prop_assert_eq!(counted, would);
        drop(held);
        prop_assert!(limits.iter().all(|limits| limits.running() == 0));
    }
}

/// Goal: what is used of each bound is shown, and comes back with time and with the request.
#[test]
fn usage_is_shown() {
    let limited = Limited { rpm: Some(10), tpm: Some(1_000), concurrency: Some(2), shadow: false };
    let limits = Limits::new(Scope::Key, limited);
    let held = limits.try_enter(900, 0).unwrap();
    let shown = |now| limits.usage(now).iter().map(|used| (used.used, used.limit)).collect::<Vec<_>>();
    assert_eq!(shown(0), [(1, 10), (900, 1_000), (1, 2)]);
    assert!((limits.usage(0)[1].ratio() - 0.9).abs() < 1e-9);
    assert_eq!(shown(30 * SECOND), [(0, 10), (400, 1_000), (1, 2)]);
    drop(held);
    assert_eq!(shown(60 * SECOND), [(0, 10), (0, 1_000), (0, 2)]);
    assert_eq!(Limits::new(Scope::Key, Limited::default()).usage(0), []);
}
