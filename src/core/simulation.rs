//! Selection, health and failover in virtual time: seeded worlds of channels that fail, slow down, refuse and heal, and
//! what must hold in all of them (spec 9, 10.2).

use super::*;
use crate::core::api::{Api, ApiSet, ModelKind};
use crate::core::catalog::{Model, tiers};
use crate::core::channel::Turn;
use crate::core::failure::Next;
use crate::core::hot::Seat;
use crate::core::limits::{Limited, Limits, Scope};
use crate::core::retry::{Budget, CAPACITY};
use crate::core::select::select;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const ATTEMPTS_MAX: usize = 3;
const CHAT: Wanted<'_> =
    Wanted { api: Api::Chat, group: None, larger_than: None, input: 0, pinned: None, affinity: None };

/// How a channel answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Well,
    /// Every answer is a server error.
    Down,
    /// Every answer is a 429 with this hint, in seconds.
    Limited(u64),
    /// Answers take so many times as long.
    Slow(u64),
    /// So many of a hundred answers are server errors.
    Flaky(u64),
    /// Every answer is a 401.
    Refused,
    /// Every answer is that there is no such model.
    Missing,
}

/// One channel of a world: its place in the tiers, its share, and what it does from when on.
#[derive(Debug, Clone)]
struct Script {
    priority: u32,
    weight: u32,
    modes: Vec<(u64, Mode)>,
}

impl Script {
    fn well() -> Self {
        Self { priority: 0, weight: 1, modes: vec![] }
    }

    fn at(&self, now: u64) -> Mode {
        self.modes.iter().rev().find(|(from, _)| *from <= now).map_or(Mode::Well, |(_, mode)| *mode)
    }
}

/// An attempt under way.
struct Under {
    channel: usize,
    visit: Visit,
    began: u64,
    arrived: u64,
    tried: Vec<ChannelId>,
}

/// One finished attempt.
#[derive(Debug, Clone, Copy)]
struct Done {
    channel: usize,
    at: u64,
    ok: bool,
    took: u64,
}

struct World {
    scripts: Vec<Script>,
    catalog: Catalog,
    board: Board,
    budget: Budget,
    random: fastrand::Rng,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    under_way: Vec<Option<Under>>,
    done: Vec<Done>,
    requests: u64,
    served: u64,
    attempts: u64,
}

impl World {
    fn new(scripts: Vec<Script>, seed: u64) -> Self {
        let candidates = scripts.iter().enumerate().map(|(index, script)| Candidate {
            channel: ChannelId::new(index),
            slot: 0,
            upstream_model: "m".into(),
            priority: script.priority,
            weight: script.weight,
            apis: ApiSet::from_iter([Api::Chat]),
            context_window: None,
            groups: Arc::new([]),
        });
        let tiers = tiers(candidates.collect());
        let model = Model { tiers, ..Model::free("m", ModelKind::Chat) };
        let health =
            Seat::row(scripts.len()).map(|seat| Arc::new(ChannelHealth::new(seat, 1, 1, unlimited())));
        let weights = scripts.iter().map(|script| script.weight);
        Self {
            catalog: Catalog::new(vec![model]),
            board: Board::new(health.zip(weights), Times::default()),
            budget: Budget::new(0.1),
            random: fastrand::Rng::with_seed(seed),
            queue: BinaryHeap::new(),
            under_way: Vec::new(),
            done: Vec::new(),
            requests: 0,
            served: 0,
            attempts: 0,
            scripts,
        }
    }

    fn candidates(&self) -> Vec<&Candidate> {
        self.catalog
            .served_by(ChannelId::new(0))
            .next()
            .unwrap()
            .1
            .flat_map(|tier| &tier.candidates)
            .collect()
    }

    /// Runs so many requests a second from `from` to `to`, and everything that follows from them.
    fn run(&mut self, from: u64, to: u64, per_second: u64) {
        let mut arrival = from;
        loop {
            let due = self.queue.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            if arrival < to && arrival <= due {
                self.requests += 1;
                self.budget.deposit();
                self.attempt(arrival, arrival, vec![]);
                arrival += SECOND / per_second;
            } else if let Some(Reverse((at, index))) = self.queue.pop() {
                self.finish(at, index);
            } else {
                return;
            }
        }
    }

    /// Begins the next attempt of a request, if there is one.
    fn attempt(&mut self, now: u64, arrived: u64, tried: Vec<ChannelId>) {
        if tried.len() >= ATTEMPTS_MAX {
            return;
        }
        let (model, view) = (self.catalog.find("m").unwrap().1, Now { board: &self.board, now, tokens: 1 });
        let drawn = select(&model.tiers, CHAT, &tried, &view, &mut || self.random.u64(..));
        let Some(candidate) = drawn else { return };
        assert!(!tried.contains(&candidate.channel), "a channel was drawn twice");
        let earlier =
            model.candidates().filter(|other| other.priority < candidate.priority && other.weight > 0);
        for other in earlier {
            assert!(tried.contains(&other.channel) || !view.is_usable(other), "a tier was passed by");
        }
        let index = candidate.channel.index();
        let health = Arc::clone(self.board.channel(candidate.channel).unwrap());
        let visit = health
            .try_enter(0, Turn::Next(self.attempts as usize), 1, now)
            .expect("in one thread nobody is faster");
        if !tried.is_empty() && !self.budget.try_spend(now) {
            return;
        }
        self.attempts += 1;
        let took = match self.scripts[index].at(now) {
            Mode::Well | Mode::Flaky(_) => self.random.u64(80 * MILLI..120 * MILLI),
            Mode::Slow(times) => times * self.random.u64(80 * MILLI..120 * MILLI),
            Mode::Down | Mode::Limited(_) | Mode::Refused | Mode::Missing => 5 * MILLI,
        };
        self.under_way.push(Some(Under { channel: index, visit, began: now, arrived, tried }));
        self.queue.push(Reverse((now + took, self.under_way.len() - 1)));
    }

    fn finish(&mut self, now: u64, index: usize) {
        let Under { channel, visit, began, arrived, mut tried } = self.under_way[index].take().unwrap();
        let verdict = match self.scripts[channel].at(began) {
            Mode::Down => Some(Verdict::new(Class::Broken, "down")),
            Mode::Flaky(percent) if self.random.u64(..100) < percent => {
                Some(Verdict::new(Class::Broken, "flaky"))
            }
            Mode::Limited(seconds) => Some(Verdict {
                retry_after: Some(Duration::from_secs(seconds)),
                ..Verdict::new(Class::RateLimited, "limited")
            }),
            Mode::Refused => Some(Verdict::new(Class::CredentialRefused, "refused")),
            Mode::Missing => Some(Verdict::new(Class::ModelMissing, "missing")),
            _ => None,
        };
        self.done.push(Done { channel, at: began, ok: verdict.is_none(), took: now - arrived });
        match verdict {
            None => {
                self.board.answered(&visit, Duration::from_nanos(now - began));
                self.board.completed(visit, now);
                self.served += 1;
            }
            Some(verdict) => {
                let candidate = self.candidates()[self.position(channel)].clone();
                let jitter = self.random.u64(..);
                self.board.failed(&self.catalog, &candidate, visit, &verdict, now, jitter);
                assert_eq!(verdict.next, Next::Any);
                tried.push(ChannelId::new(channel));
                self.attempt(now, arrived, tried);
            }
        }
        self.check(now);
    }

    fn position(&self, channel: usize) -> usize {
        self.candidates().iter().position(|candidate| candidate.channel.index() == channel).unwrap()
    }

    /// What holds at every moment.
    fn check(&self, now: u64) {
        let ejected = |candidate: &&Candidate| {
            let standing = self.board.channel(candidate.channel).unwrap().unit.standing(now);
            matches!(standing, Standing::Ejected(_) | Standing::Due | Standing::Probing)
        };
        let all = self.candidates().into_iter().filter(|candidate| candidate.weight > 0).all(|c| ejected(&c));
        let shown = || {
            (0..self.scripts.len())
                .map(|i| {
                    let h = self.board.channel(ChannelId::new(i)).unwrap();
                    format!(
                        "{:?}/{:?} e{}",
                        h.unit.standing(now),
                        h.models[0].standing(now),
                        h.unit.ejections()
                    )
                })
                .collect::<Vec<_>>()
        };
        assert!(
            !all,
            "the last channel of the model was ejected at {now}: {:?} {:?}",
            shown(),
            &self.done[self.done.len().saturating_sub(12)..]
        );
        let extra = self.attempts.saturating_sub(self.requests);
        let allowed = u64::from(CAPACITY) + self.requests / 10 + now / SECOND;
        assert!(extra <= allowed, "{extra} extra attempts of {allowed}");
    }

    /// The share of attempts that a channel got in a time.
    fn share(&self, channel: usize, from: u64, to: u64) -> f64 {
        let in_time = self.done.iter().filter(|done| (from..to).contains(&done.at));
        let (own, all) =
            in_time.fold((0, 0), |(own, all), d| (own + u32::from(d.channel == channel), all + 1));
        f64::from(own) / f64::from(all.max(1))
    }

    fn p99(&self, except: usize, from: u64, to: u64) -> u64 {
        let ok = self.done.iter().filter(|d| d.ok && d.channel != except && (from..to).contains(&d.at));
        let mut took: Vec<u64> = ok.map(|done| done.took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// A channel that shares its row with no other.
fn unlimited() -> Arc<Limits> {
    Limits::new(Scope::Channel, Limited::default())
}

fn alone(models: usize, credentials: usize, limits: Arc<Limits>) -> Arc<ChannelHealth> {
    Arc::new(ChannelHealth::new(Seat::row(1).next().unwrap(), models, credentials, limits))
}

fn scripted(modes: &[&[(u64, Mode)]]) -> Vec<Script> {
    let timed = |modes: &&[(u64, Mode)]| modes.iter().map(|(from, mode)| (from * SECOND, *mode)).collect();
    modes.iter().map(|modes| Script { modes: timed(modes), ..Script::well() }).collect()
}

/// Goal: in random worlds (tiers, weights, outages, brown-outs, storms of 429, flapping) the invariants hold at every
/// step, and once all is well every channel of the first tier carries traffic again. Method: 300 seeds; what is checked
/// stands in [`World::check`] and [`World::attempt`].
#[test]
fn random_worlds() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let script = |random: &mut fastrand::Rng| {
            let modes = (0..random.u64(..6)).map(|_| {
                let kinds = [
                    Mode::Down,
                    Mode::Well,
                    Mode::Limited(random.u64(1..20)),
                    Mode::Slow(random.u64(2..20)),
                    Mode::Flaky(random.u64(5..95)),
                ];
                (random.u64(..60) * SECOND, kinds[random.usize(..kinds.len())])
            });
            let mut modes: Vec<_> = modes.collect();
            modes.sort_by_key(|(from, _)| *from);
            modes.push((60 * SECOND, Mode::Well));
            Script { priority: random.u32(..3), weight: random.u32(..5), modes }
        };
        let mut scripts: Vec<_> = (0..random.usize(1..8)).map(|_| script(&mut random)).collect();
        scripts[0].weight = scripts[0].weight.max(1);
        let mut world = World::new(scripts, seed);
        world.run(0, 60 * SECOND, 20);
        // The longest ejection a world of a minute can bring about is over by then, and the budget is full again.
        world.run(300 * SECOND, 420 * SECOND, 20);
        let first = world.scripts.iter().filter(|s| s.weight > 0).map(|s| s.priority).min().unwrap();
        for (index, script) in world.scripts.iter().enumerate() {
            let carries = world.share(index, 360 * SECOND, 420 * SECOND) > 0.0;
            assert!(
                carries || script.weight == 0 || script.priority != first,
                "seed {seed}: {index} {script:?}"
            );
        }
        let late = world.done.iter().filter(|done| done.at >= 300 * SECOND);
        assert!(late.clone().count() >= 2_400 && late.clone().all(|done| done.ok), "seed {seed}");
    }
}

/// Goal: a total outage at constant load does not multiply it, and ends as soon as a channel answers again.
#[test]
fn an_outage_does_not_multiply_load() {
    let down = [(10, Mode::Down), (70, Mode::Well)];
    let mut world = World::new(scripted(&[&down, &down, &down]), 1);
    world.run(0, 120 * SECOND, 50);
    let in_outage = world.done.iter().filter(|done| (10..70).contains(&(done.at / SECOND))).count();
    assert!(in_outage as f64 <= 1.1 * 3_000.0 + 20.0 + 60.0, "{in_outage}");
    let healed = world.done.iter().filter(|done| done.at >= 70 * SECOND);
    assert!(healed.clone().all(|done| done.ok) && healed.count() >= 2_500);
}

/// Goal: a channel that becomes ten times slower has less than a third of its weight within ten seconds, and what the
/// others serve is as quick as before.
#[test]
fn a_slow_channel_does_not_drag_the_others() {
    let mut world = World::new(scripted(&[&[(30, Mode::Slow(10))], &[], &[], &[]]), 2);
    world.run(0, 90 * SECOND, 100);
    assert!((world.share(0, 0, 30 * SECOND) - 0.25).abs() < 0.03);
    let slow = world.share(0, 40 * SECOND, 90 * SECOND);
    assert!(slow > 0.0 && slow < 0.25 / 3.0, "{slow}");
    let (before, after) = (world.p99(0, 0, 30 * SECOND), world.p99(0, 40 * SECOND, 90 * SECOND));
    assert!(after < before * 11 / 10, "{before} {after}");
}

/// Goal: a 429 with `Retry-After: 7` is obeyed for seven seconds, and no longer than eight.
#[test]
fn a_429_is_obeyed() {
    let mut world = World::new(scripted(&[&[(10, Mode::Limited(7)), (11, Mode::Well)], &[]]), 3);
    world.run(0, 60 * SECOND, 100);
    let refused = world.done.iter().find(|done| !done.ok).unwrap().at + 5 * MILLI;
    let mut later = world.done.iter().filter(|done| done.channel == 0 && done.at > refused);
    let back = later.next().unwrap();
    let after = Duration::from_nanos(back.at - refused);
    assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&after), "{after:?}");
    assert_eq!(world.served, world.requests, "the other channel served meanwhile");
}

/// Goal: a channel that heals is back by a probe, at first with a small share, then with its own.
#[test]
fn a_healed_channel_starts_slowly() {
    let mut world = World::new(scripted(&[&[(5, Mode::Down), (12, Mode::Well)], &[], &[]]), 4);
    world.run(0, 90 * SECOND, 100);
    let back =
        world.done.iter().find(|done| done.channel == 0 && done.ok && done.at > 12 * SECOND).unwrap().at;
    assert!(back < 25 * SECOND, "{}", back / SECOND);
    let share = world.share(0, back, back + 4 * SECOND);
    assert!(share > 0.0 && share < 0.2, "{share}");
    assert!((world.share(0, 60 * SECOND, 90 * SECOND) - 0.333).abs() < 0.05);
    assert_eq!(world.served, world.requests);
}

/// Goal: a provider whose login is broken for two minutes takes a gateway with one credential out for as long and a few
/// seconds more, and is asked by one request every few seconds meanwhile; the same for a missing model (spec 3.4).
#[test]
fn service_returns_within_seconds_of_a_repair() {
    for mode in [Mode::Refused, Mode::Missing] {
        let mut world = World::new(scripted(&[&[(10, mode), (130, Mode::Well)]]), 9);
        world.run(0, 200 * SECOND, 50);
        let back = world.done.iter().find(|done| done.ok && done.at > 10 * SECOND).unwrap().at;
        assert!(back < 136 * SECOND, "{mode:?}: {}", back / SECOND);
        let asked = world.done.iter().filter(|done| !done.ok && done.at > 11 * SECOND).count();
        assert!((20..=40).contains(&asked), "{mode:?}: {asked} probes");
        let late = world.done.iter().filter(|done| done.at > back + SECOND);
        assert!(late.clone().all(|done| done.ok) && late.count() > 3_000);
    }
}

/// Goal: where another channel serves meanwhile, a refusal is probed more and more seldom, and clients notice nothing.
#[test]
fn refusals_are_probed_more_and_more_seldom() {
    for mode in [Mode::Refused, Mode::Missing] {
        let mut world = World::new(scripted(&[&[(10, mode), (610, Mode::Well)], &[]]), 10);
        world.run(0, 1_300 * SECOND, 50);
        let failed: Vec<_> = world.done.iter().filter(|done| !done.ok).map(|done| done.at).collect();
        let probes = failed.iter().filter(|at| **at > 11 * SECOND).count();
        assert!((6..=9).contains(&probes), "{mode:?}: {probes} probes in ten minutes");
        assert_eq!(world.served, world.requests, "{mode:?}");
        assert!(world.share(0, 1_250 * SECOND, 1_300 * SECOND) > 0.4, "{mode:?}: it is back");
    }
}

/// Goal: in random worlds of refusals, missing models and outages everything that heals carries traffic again.
#[test]
fn refusals_come_and_go() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let script = |random: &mut fastrand::Rng| {
            let kinds = [Mode::Down, Mode::Well, Mode::Limited(3), Mode::Refused, Mode::Missing];
            let mode = |random: &mut fastrand::Rng| (random.u64(..60) * SECOND, kinds[random.usize(..5)]);
            let mut modes: Vec<_> = (0..random.usize(..6)).map(|_| mode(random)).collect();
            modes.sort_by_key(|(from, _)| *from);
            modes.push((60 * SECOND, Mode::Well));
            Script { modes, ..Script::well() }
        };
        let scripts: Vec<_> = (0..random.usize(1..6)).map(|_| script(&mut random)).collect();
        let mut world = World::new(scripts, seed);
        world.run(0, 420 * SECOND, 20);
        world.run(900 * SECOND, 960 * SECOND, 20);
        let late = world.done.iter().filter(|done| done.at >= 900 * SECOND);
        assert!(late.clone().count() >= 1_190 && late.clone().all(|done| done.ok), "seed {seed}");
        for index in 0..world.scripts.len() {
            assert!(world.share(index, 900 * SECOND, 960 * SECOND) > 0.0, "seed {seed}: {index}");
        }
    }
}

/// Goal: a channel whose address is blocked is probed after seconds where it is the last, and its other states are seen as
/// what they are: a channel that fails and is kept is failing, not up (spec 9.4).
#[test]
fn the_last_channel_is_failing_or_probed_soon() {
    let world = World::new(scripted(&[&[]]), 11);
    let candidate = world.candidates()[0].clone();
    let health = Arc::clone(world.board.channel(candidate.channel).unwrap());
    let fail = |class, effect: Option<Effect>, now| {
        let visit = health.try_enter(0, Turn::Next(0), 1, now).expect("it takes traffic");
        let verdict = Verdict::new(class, "rule");
        let verdict = Verdict { effect: effect.unwrap_or(verdict.effect), ..verdict };
        world.board.failed(&world.catalog, &candidate, visit, &verdict, now, 0)
    };
    for now in 0..4 {
        assert_eq!(fail(Class::Broken, None, now), None);
    }
    assert_eq!(fail(Class::Broken, None, 4), Some(Change::Kept));
    assert_eq!((health.overall(4), health.standing(0, 4)), (Standing::Failing, Standing::Failing));
    assert!(!health.is_calm());
    let visit = health.try_enter(0, Turn::Next(0), 1, 5).unwrap();
    assert_eq!(world.board.completed(visit, 5), None);
    assert_eq!(
        (health.overall(5), health.standing(0, 5), health.is_calm()),
        (Standing::Up, Standing::Up, true)
    );
    let mut now = SECOND;
    for seconds in [2, 4, 5, 5] {
        fail(Class::AddressRefused, Some(Effect::ChannelOut), now);
        assert_eq!(health.overall(now), Standing::Out(Duration::from_secs(seconds)));
        now += seconds * SECOND;
    }
}

/// Goal: what the caller does wrong, and what a client that left did not wait for, moves nothing.
#[test]
fn callers_move_nothing() {
    let mut world = World::new(scripted(&[&[], &[]]), 5);
    let candidate = world.candidates()[0].clone();
    let health = Arc::clone(world.board.channel(candidate.channel).unwrap());
    for class in [
        Class::CallerMistake,
        Class::ContentRefused,
        Class::ContextTooLong,
        Class::BodyTooLarge,
        Class::TooLargeForTier,
        Class::CapabilityMissing,
    ] {
        for now in 0..50 {
            let visit = health.try_enter(0, Turn::Next(0), 1, now).unwrap();
            world.board.failed(&world.catalog, &candidate, visit, &Verdict::new(class, "caller"), now, 7);
            drop(health.try_enter(0, Turn::Next(0), 1, now).unwrap());
        }
    }
    assert_eq!((health.standing(0, 50), health.load().in_flight()), (Standing::Up, 0));
    assert!((health.load().success() - 1.0).abs() < f32::EPSILON);
    world.run(SECOND, 2 * SECOND, 10);
    assert_eq!(world.served, world.requests);
}

/// Goal: credentials have states of their own and take turns; with the last one gone the channel is (spec 9.7).
#[test]
fn credentials_rest_by_themselves() {
    let world = World::new(scripted(&[&[], &[]]), 6);
    let health = alone(1, 3, unlimited());
    let board = Board::new([(Arc::clone(&health), 1)], Times::default());
    let candidate = world.candidates()[0].clone();
    let used = |turn| health.try_enter(0, Turn::Next(turn), 1, 0).and_then(|visit| visit.credential);
    assert_eq!([0, 1, 2, 3].map(used), [Some(0), Some(1), Some(2), Some(0)]);
    let refuse = |turn, class| {
        let visit = health.try_enter(0, Turn::Next(turn), 1, 0).unwrap();
        board.failed(&world.catalog, &candidate, visit, &Verdict::new(class, "rule"), 0, 0);
    };
    refuse(1, Class::CredentialRefused);
    assert_eq!([0, 1, 2, 3].map(used), [Some(0), Some(2), Some(2), Some(0)]);
    refuse(0, Class::RateLimited);
    refuse(2, Class::AccountEmpty);
    assert_eq!((used(0), health.standing(0, 0)), (None, Standing::Cooling(Duration::from_secs(1))));
    assert_eq!(health.standing(0, SECOND), Standing::Up);
}

/// Goal: a channel that is full is passed by, and neither is a failure (spec 6.6).
#[test]
fn full_channels_are_passed_by() {
    let limited = Limited { concurrency: Some(2), rpm: Some(3), ..Limited::default() };
    let limits = Limits::new(Scope::Channel, limited);
    let health = alone(1, 0, limits);
    let (one, two) = (health.try_enter(0, Turn::Next(0), 1, 0), health.try_enter(0, Turn::Next(0), 1, 0));
    assert!(
        one.is_some()
            && two.is_some()
            && health.try_enter(0, Turn::Next(0), 1, 0).is_none()
            && !health.has_room(1, 0)
    );
    drop((one, two));
    assert!(
        health.try_enter(0, Turn::Next(0), 1, 0).is_some()
            && health.try_enter(0, Turn::Next(0), 1, 0).is_none(),
        "three a minute"
    );
    assert_eq!((health.standing(0, 0), health.load().in_flight()), (Standing::Up, 0));
    // Nobody waits for the end of its rest, since it may be full then.
    health.unit.rest(0, Some(Duration::from_secs(1)), Backoff { first: CHANNEL, max: CHANNEL }, 0);
    let candidate = World::new(scripted(&[&[]]), 8).candidates()[0].clone();
    let board = Board::new([(Arc::clone(&health), 1)], Times::default());
    let nothing = |now| Now { board: &board, now, tokens: 1 }.nothing([&candidate].into_iter(), CHAT, &[]);
    assert_eq!(nothing(0), Nothing::Resting(None));
}

/// Goal: a channel that is kept while others come and go takes its health and its load along, wherever it stands now.
#[test]
fn a_kept_channel_keeps_its_state() {
    let candidate = World::new(scripted(&[&[], &[]]), 7).candidates()[0].clone();
    let row = |channels| {
        let healths = Seat::row(channels).map(|seat| ChannelHealth::new(seat, 1, 1, unlimited()));
        healths.map(|health| (Arc::new(health), 1)).collect::<Vec<_>>()
    };
    let before = row(3);
    let kept = Arc::clone(&before[2].0);
    let old = Board::new(before, Times::default());
    let mut after = row(2);
    after.insert(1, (Arc::clone(&kept), 1));
    let new = Board::new(after, Times::default());
    let at = |channel| Candidate { channel: ChannelId::new(channel), ..candidate.clone() };
    // What the old generation still does counts in the new one, and for this channel alone.
    let visit = old.channel(ChannelId::new(2)).unwrap().try_enter(0, Turn::Next(0), 1, 1).unwrap();
    old.answered(&visit, Duration::from_secs(1));
    let view = Now { board: &new, now: 1, tokens: 1 };
    assert_eq!([0, 1, 2].map(|channel| view.cost(ChannelId::new(channel)) > 0.0), [false, true, false]);
    old.failed(&Catalog::default(), &at(2), visit, &Verdict::new(Class::RateLimited, "limited"), 1, 0);
    assert_eq!([0, 1, 2].map(|channel| view.is_usable(&at(channel))), [true, false, true]);
    assert_eq!([0, 1, 2].map(|channel| view.is_calm(ChannelId::new(channel))), [true, false, true]);
}
