use super::*;

const BOUNDS: [f64; 3] = [0.001, 0.01, 0.1];
const SECOND: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

fn history() -> History {
    History::new(&BOUNDS)
}

fn reading(requests: u64) -> Reading {
    Reading { requests, ..Reading::default() }
}

fn counted<const N: usize>(counts: [(&str, u64); N]) -> HashMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn about(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

/// Goal: rates are taken over the steps of the window, or over what there is of it, whatever the clock made of a step.
#[test]
fn rates_over_windows() {
    let mut history = history();
    assert_eq!(history.rates(MINUTE), Rates::default());
    history.record(0, reading(1_000));
    assert_eq!((history.steps().len(), history.rates(MINUTE).requests), (0, 0.0), "where counting begins");
    history.record(5 * SECOND, Reading { errors: 10, ..reading(1_050) });
    assert!(about(history.rates(MINUTE).requests, 10.0) && about(history.rates(MINUTE).errors, 2.0));
    // A step that came late.
    history.record(15 * SECOND, Reading { errors: 10, in_flight: 3, ..reading(1_250) });
    assert!(about(history.rates(MINUTE).requests, 250.0 / 15.0));
    assert!(about(history.rates(STEP).requests, 20.0) && about(history.rates(STEP).errors, 0.0));
    assert_eq!(history.steps().map(|step| step.in_flight).collect::<Vec<_>>(), [0, 3]);
}

/// Goal: the ring keeps fifteen minutes and no more, and channels that are quiet for five take no room.
#[test]
fn the_oldest_makes_room() {
    let mut history = history();
    let mut now = Reading::default();
    for step in 0..1_000 {
        now.requests += step;
        if step == 500 {
            now.channels.insert("c".into(), Attempts { successes: 7, failures: 3 });
            now.models = counted([("m", 4)]);
        }
        history.record(step * 5 * SECOND, now.clone());
        if step == 559 {
            assert_eq!(history.channel("c", MINUTE), Tally::default());
            assert_eq!(history.channel("c", 5 * MINUTE).success(), Some(0.7));
            assert_eq!(history.model("m", 5 * MINUTE), 4);
        }
    }
    assert_eq!(history.steps().len(), STEPS_MAX);
    assert_eq!(history.steps().map(|step| step.requests).next(), Some(820));
    assert!(history.channels.is_empty() && history.models.is_empty());
}

/// Goal: a series that a reload removed counts from zero when it is back, and is not missed meanwhile; a sum that lacks
/// something for a moment counts nothing twice.
#[test]
fn counters_begin_anew() {
    let mut history = history();
    let attempts = |successes, failures| HashMap::from([("c".to_owned(), Attempts { successes, failures })]);
    let tokens = |count| HashMap::from([(("c".to_owned(), "m".to_owned()), count)]);
    for (at, requests, channels, tokens) in [
        (0, 100, attempts(100, 10), tokens(1_000)),
        (1, 110, attempts(105, 15), tokens(1_100)),
        (2, 90, HashMap::new(), HashMap::new()),
        (3, 111, attempts(3, 0), tokens(50)),
        (4, 112, attempts(4, 1), tokens(60)),
    ] {
        history.record(at * 5 * SECOND, Reading { channels, tokens, ..reading(requests) });
    }
    assert_eq!(history.steps().map(|step| step.requests).collect::<Vec<_>>(), [10, 0, 1, 1]);
    assert_eq!(history.steps().map(|step| step.tokens).collect::<Vec<_>>(), [100, 0, 50, 10]);
    assert_eq!(history.channel("c", MINUTE), Tally { successes: 9, failures: 6, tokens: 160 });
    assert!(about(history.per_second(160, MINUTE), 8.0));
    assert_eq!(history.channel("none", MINUTE).success(), None);
}

/// Goal: percentiles come from the buckets of the window alone; what is above the last bound is told as that bound.
#[test]
fn percentiles_of_buckets() {
    let mut history = history();
    let with = |overhead: [u64; 4]| Reading { overhead: overhead.to_vec(), ..Reading::default() };
    history.record(0, with([1_000, 0, 0, 1_000]));
    assert_eq!(history.overhead(MINUTE, 0.5), None);
    history.record(5 * SECOND, with([1_050, 50, 0, 1_000]));
    assert!(about(history.overhead(MINUTE, 0.25).unwrap(), 0.000_5));
    assert!(about(history.overhead(MINUTE, 0.5).unwrap(), 0.001));
    assert!(about(history.overhead(MINUTE, 0.99).unwrap(), 0.001 + 0.009 * 0.98));
    history.record(10 * SECOND, with([1_050, 50, 0, 1_900]));
    assert!(about(history.overhead(MINUTE, 0.99).unwrap(), 0.1));
    let last = history.steps().last().unwrap();
    assert_eq!(history.overhead_of(last, 0.01), Some(0.1));
}
