//! The last fifteen minutes, in steps of five seconds (spec 13.1).
//!
//! A pure value. Somebody reads the counters every [`STEP`] and hands the [`Reading`] over; what is kept are the differences,
//! in a ring of constant length. Channels and models are remembered for five minutes, and only while something happens
//! there, so that ten thousand quiet ones take no room. Counters begin anew when a reload has taken their series away.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// The time between two readings.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept: fifteen minutes.
pub const STEPS_MAX: usize = 180;
/// Steps for which channels and models are remembered: five minutes.
const TALLIED: u64 = 60;

/// Counters at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Requests received and finished.
    pub requests: u64,
    /// Those that were answered with a status from 500 on.
    pub errors: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Calls by the bucket of their overhead, none of them in two; the last is what lies above all bounds.
    pub overhead: Vec<u64>,
    /// Attempts at each channel that say something about it.
    pub channels: HashMap<String, Attempts>,
    /// Output tokens, by channel and model.
    pub tokens: HashMap<(String, String), u64>,
    /// Requests of each model.
    pub models: HashMap<String, u64>,
}

/// Attempts by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Their answers were the client's.
    pub successes: u64,
    /// They failed in a way that says something about the channel.
    pub failures: u64,
}

/// What happened in one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// How long it was.
    pub span: Duration,
    /// Requests finished.
    pub requests: u64,
    /// Of these, answered with a status from 500 on.
    pub errors: u64,
    /// Output tokens of answered requests.
    pub tokens: u64,
    /// Requests under way at its end.
    pub in_flight: u64,
    /// Calls by the bucket of their overhead.
    overhead: Vec<u64>,
}

/// What happened per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Requests finished.
    pub requests: f64,
    /// Of these, answered with a status from 500 on.
    pub errors: f64,
    /// Output tokens.
    pub tokens: f64,
}

/// What happened at a channel, or with a model, in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that succeeded; of a model, its requests.
    pub successes: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Output tokens.
    pub tokens: u64,
}

impl Tally {
    /// The part of the attempts that succeeded; `None` if there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "attempts of five minutes")]
    pub fn success(&self) -> Option<f64> {
        let all = self.successes + self.failures;
        (all > 0).then(|| self.successes as f64 / all as f64)
    }

    fn add(&mut self, other: Self) {
        self.successes += other.successes;
        self.failures += other.failures;
        self.tokens += other.tokens;
    }
}

/// What is remembered of one name: steps in which something happened, by their numbers.
type Tallies = HashMap<String, VecDeque<(u64, Tally)>>;

/// The last fifteen minutes.
#[derive(Debug)]
pub struct History {
    bounds: &'static [f64],
    steps: VecDeque<Step>,
    /// The number of the last step.
    number: u64,
    channels: Tallies,
    models: Tallies,
    before: Option<(u64, Reading)>,
}

impl History {
    /// A history without any step; `bounds` are the upper ends of the buckets of overhead, in seconds.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            steps: VecDeque::with_capacity(STEPS_MAX),
            number: 0,
            channels: HashMap::new(),
            models: HashMap::new(),
            before: None,
        }
    }

    /// Takes a reading at `now`, in nanoseconds of a clock that does not go back. The first one is where counting begins.
    pub fn record(&mut self, now: u64, mut reading: Reading) {
        let Some((then, before)) = self.before.take() else {
            self.before = Some((now, reading));
            return;
        };
        self.number += 1;
        let tokens = gains(&before.tokens, &reading.tokens);
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(Step {
            span: Duration::from_nanos(now.saturating_sub(then)),
            requests: reading.requests.saturating_sub(before.requests),
            errors: reading.errors.saturating_sub(before.errors),
            tokens: tokens.iter().map(|(_, tokens)| tokens).sum(),
            in_flight: reading.in_flight,
            overhead: gains_of_buckets(&before.overhead, &reading.overhead),
        });
        self.tally(&before, &reading, &tokens);
        self.forget();
        // A sum over series that are being moved may lack some for a moment; what comes back is not new.
        reading.requests = reading.requests.max(before.requests);
        reading.errors = reading.errors.max(before.errors);
        self.before = Some((now, reading));
    }

    fn tally(&mut self, before: &Reading, reading: &Reading, tokens: &[(&(String, String), u64)]) {
        let number = self.number;
        for (channel, now) in &reading.channels {
            let then = before.channels.get(channel).copied().unwrap_or_default();
            let successes = gain(then.successes, now.successes);
            note(
                &mut self.channels,
                channel,
                number,
                Tally { successes, failures: gain(then.failures, now.failures), tokens: 0 },
            );
        }
        for ((channel, _), tokens) in tokens {
            note(&mut self.channels, channel, number, Tally { tokens: *tokens, ..Tally::default() });
        }
        for (model, requests) in gains(&before.models, &reading.models) {
            note(&mut self.models, model, number, Tally { successes: requests, ..Tally::default() });
        }
    }

    /// Lets go of what is too old to be asked for.
    fn forget(&mut self) {
        let oldest = self.number.saturating_sub(TALLIED);
        for tallies in [&mut self.channels, &mut self.models] {
            tallies.retain(|_, steps| {
                while steps.front().is_some_and(|(number, _)| *number <= oldest) {
                    steps.pop_front();
                }
                !steps.is_empty()
            });
        }
    }

    /// All steps, the oldest first.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter()
    }

    /// The steps of the last `window`, or of as much as there is of it.
    fn last(&self, window: Duration) -> impl Iterator<Item = &Step> {
        self.steps.iter().rev().take(usize::try_from(steps_of(window)).unwrap_or(usize::MAX))
    }

    /// How long the steps of the last `window` took; less at the beginning.
    fn covered(&self, window: Duration) -> f64 {
        self.last(window).map(|step| step.span.as_secs_f64()).sum()
    }

    /// What happened per second in the last `window`.
    #[must_use]
    pub fn rates(&self, window: Duration) -> Rates {
        let count = |of: fn(&Step) -> u64| self.per_second(self.last(window).map(of).sum(), window);
        Rates {
            requests: count(|step| step.requests),
            errors: count(|step| step.errors),
            tokens: count(|step| step.tokens),
        }
    }

    /// So many in the last `window`, per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    pub fn per_second(&self, count: u64, window: Duration) -> f64 {
        let seconds = self.covered(window);
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// The overhead, in seconds, that this part of the calls of the last `window` did not exceed.
    #[must_use]
    pub fn overhead(&self, window: Duration, part: f64) -> Option<f64> {
        let mut sums = vec![0; self.bounds.len() + 1];
        for step in self.last(window) {
            sums.iter_mut().zip(&step.overhead).for_each(|(sum, count)| *sum += count);
        }
        quantile(self.bounds, &sums, part)
    }

    /// The same for one step.
    #[must_use]
    pub fn overhead_of(&self, step: &Step, part: f64) -> Option<f64> {
        quantile(self.bounds, &step.overhead, part)
    }

    /// What happened at a channel in the last `window`, of at most five minutes.
    #[must_use]
    pub fn channel(&self, id: &str, window: Duration) -> Tally {
        sum(self.channels.get(id), self.number.saturating_sub(steps_of(window)))
    }

    /// Requests of a model in the last `window`, of at most five minutes.
    #[must_use]
    pub fn model(&self, id: &str, window: Duration) -> u64 {
        sum(self.models.get(id), self.number.saturating_sub(steps_of(window))).successes
    }
}

fn steps_of(window: Duration) -> u64 {
    window.as_secs() / STEP.as_secs()
}

/// What a counter has counted since; one that shows less than before has begun anew.
fn gain(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The counters that have counted something.
fn gains<'a, K: Hash + Eq>(before: &HashMap<K, u64>, now: &'a HashMap<K, u64>) -> Vec<(&'a K, u64)> {
    let gained = now.iter().map(|(name, now)| (name, gain(before.get(name).copied().unwrap_or(0), *now)));
    gained.filter(|(_, gained)| *gained > 0).collect()
}

fn gains_of_buckets(before: &[u64], now: &[u64]) -> Vec<u64> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect()
}

fn note(tallies: &mut Tallies, name: &str, number: u64, tally: Tally) {
    if tally == Tally::default() {
        return;
    }
    if !tallies.contains_key(name) {
        tallies.insert(name.to_owned(), VecDeque::new());
    }
    let Some(steps) = tallies.get_mut(name) else { return };
    match steps.back_mut() {
        Some((last, sum)) if *last == number => sum.add(tally),
        _ => steps.push_back((number, tally)),
    }
}

/// The sum of the steps after this one.
fn sum(steps: Option<&VecDeque<(u64, Tally)>>, after: u64) -> Tally {
    let mut sum = Tally::default();
    let steps = steps.into_iter().flatten().rev();
    steps.take_while(|(number, _)| *number > after).for_each(|(_, tally)| sum.add(*tally));
    sum
}

/// The value that this part of all samples does not exceed, as far as buckets tell: evenly spread inside of one, and the
/// last bound for what lies above it.
#[expect(clippy::cast_precision_loss, reason = "counts of a quarter of an hour")]
fn quantile(bounds: &[f64], counts: &[u64], part: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let rank = all as f64 * part;
    let (mut below, mut low) = (0.0, 0.0);
    for (count, high) in counts.iter().zip(bounds) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        (below, low) = (below + count, *high);
    }
    (all > 0).then_some(low)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
