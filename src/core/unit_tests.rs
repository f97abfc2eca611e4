use super::*;

const SECOND: u64 = 1_000_000_000;
const FIRST: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Goal: a cooldown is as long as was asked, within bounds, and then it is over; without a hint it doubles.
#[test]
fn cooldowns_end_by_themselves() {
    let unit = Unit::default();
    unit.rest(0, Some(Duration::from_secs(7)), BACKOFF, 0);
    assert_eq!(unit.standing(SECOND), Standing::Cooling(Duration::from_secs(6)));
    assert_eq!(unit.standing(7 * SECOND), Standing::Up);
    unit.rest(0, Some(Duration::from_secs(3)), BACKOFF, 0);
    assert_eq!(unit.standing(0), Standing::Cooling(Duration::from_secs(7)), "the later end stays");
    let unit = Unit::default();
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let now = 1_000 * SECOND * seconds;
        unit.rest(now, None, BACKOFF, 0);
        assert_eq!(unit.standing(now), Standing::Cooling(Duration::from_secs(seconds)));
    }
    unit.succeeded(Entry::Plain, 0);
    unit.rest(9_000_000 * SECOND, None, BACKOFF, 0);
    assert_eq!(unit.standing(9_000_000 * SECOND).left(), Some(Duration::from_secs(1)), "success forgets");
    let unit = Unit::default();
    unit.rest(0, Some(Duration::from_secs(1_000_000)), BACKOFF, 99);
    assert_eq!(
        unit.standing(0).left(),
        Some(Duration::from_millis(65_940)),
        "clamped, and jittered after it"
    );
}

/// Goal: five failures in a row, or a bad ratio over enough samples, and nothing less (spec 9.4).
#[test]
fn failures_eject() {
    let unit = Unit::default();
    assert!((0..4).all(|_| !unit.failed(Entry::Plain, 0)));
    unit.succeeded(Entry::Plain, 0);
    assert!((0..4).all(|_| !unit.failed(Entry::Plain, 0)));
    assert!(unit.failed(Entry::Plain, 0));
    let unit = Unit::default();
    for n in 0..19 {
        if n % 3 == 0 {
            unit.succeeded(Entry::Plain, 0);
        } else {
            assert!(!unit.failed(Entry::Plain, 0), "{n}");
        }
    }
    assert!(unit.failed(Entry::Plain, 0), "the twentieth sample, two thirds of them failures");
    assert!(!Unit::default().failed(Entry::Plain, 0));
}

/// Goal: an ejection ends with a probe: one request at a time; its success readmits with a small share that grows, its
/// failure ejects for twice as long.
#[test]
fn probes_readmit() {
    let unit = Unit::default();
    unit.eject(0, FIRST, 0);
    assert!(
        unit.try_enter(9 * SECOND).is_none()
            && unit.standing(9 * SECOND) == Standing::Ejected(Duration::from_secs(1))
    );
    let now = 10 * SECOND;
    assert_eq!(unit.standing(now), Standing::Due);
    assert_eq!((unit.try_enter(now), unit.try_enter(now)), (Some(Entry::Probe), None));
    assert_eq!(unit.standing(now), Standing::Probing);
    assert!(unit.try_enter(now + 60 * SECOND).is_some(), "a probe that never ends is given up");
    unit.leave(Entry::Probe);
    assert!(
        unit.try_enter(now).is_some() && !unit.failed(Entry::Plain, now) && unit.failed(Entry::Probe, now)
    );
    unit.eject(now, FIRST, 0);
    assert_eq!(unit.standing(now).left(), Some(Duration::from_secs(20)));
    let now = 30 * SECOND;
    assert!(!unit.succeeded(Entry::Plain, now), "an old request's success readmits nobody");
    assert!(unit.try_enter(now).is_some() && unit.succeeded(Entry::Probe, now));
    assert_eq!(unit.standing(now), Standing::Up);
    let shares: Vec<_> = [0, 10, 20].map(|s| unit.share(now + s * SECOND)).into();
    assert_eq!(shares, [0.1, 0.5, 1.0]);
    unit.eject(now, FIRST, 0);
    assert_eq!(unit.standing(now).left(), Some(Duration::from_secs(40)));
    unit.readmit(now);
    unit.eject(now + 601 * SECOND, FIRST, 0);
    assert_eq!(unit.standing(now + 601 * SECOND).left(), Some(FIRST), "forgiven after a while");
}

/// Goal: a first refusal costs seconds; each probe that is refused too doubles the outage up to the configured one, and
/// requests that were in flight do not. A readmission starts over (spec 3.4).
#[test]
fn outages_grow_while_probes_are_refused() {
    for outage in [Outage::Refused, Outage::Missing] {
        let unit = Unit::default();
        let refuse = |entry, now: u64| unit.take_out((outage, entry), now, None, BACKOFF, 0);
        let mut now = 0;
        let mut entry = Entry::Plain;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            refuse(entry, now);
            (0..20).for_each(|_| refuse(Entry::Plain, now));
            unit.rest(now, Some(Duration::from_millis(100)), BACKOFF, 0);
            assert_eq!(unit.standing(now).left(), Some(Duration::from_secs(seconds)), "{outage:?}");
            now += seconds * SECOND;
            assert_eq!(unit.standing(now), Standing::Due);
            entry = unit.try_enter(now).unwrap();
            assert_eq!((entry, unit.try_enter(now)), (Entry::Probe, None));
            let missing = matches!(unit.standing(now), Standing::Missing(_));
            assert_eq!(missing, outage == Outage::Missing, "others still see why");
        }
        assert!(unit.succeeded(entry, now));
        refuse(Entry::Plain, now);
        assert_eq!(unit.standing(now).left(), Some(Duration::from_secs(1)), "a success starts over");
    }
    assert_eq!(Unit::default().share(0), 1.0);
}

/// Goal: an outage is as long as was asked where that is longer, and switched off by a zero; a probe that is asked to wait
/// stays a probe and waits.
#[test]
fn outages_obey_who_asks() {
    let unit = Unit::default();
    let asked = Some(Duration::from_secs(90));
    unit.take_out((Outage::Refused, Entry::Plain), 0, asked, BACKOFF, 0);
    assert_eq!(unit.standing(0), Standing::Out(Duration::from_secs(90)));
    let now = 90 * SECOND;
    assert_eq!(unit.try_enter(now), Some(Entry::Probe));
    unit.postpone(now, Some(Duration::from_secs(7)), BACKOFF, 0);
    assert_eq!(unit.standing(now), Standing::Out(Duration::from_secs(7)));
    assert_eq!(unit.standing(97 * SECOND), Standing::Due);
    let unit = Unit::default();
    let off = Backoff { max: Duration::ZERO, ..BACKOFF };
    unit.take_out((Outage::Refused, Entry::Plain), 0, asked, off, 0);
    assert_eq!(unit.standing(0), Standing::Up);
}

/// Goal: what fails and is kept says so until it succeeds, takes traffic, and can be ejected later (spec 9.4).
#[test]
fn what_is_kept_is_failing() {
    let unit = Unit::default();
    assert!((0..5).any(|_| unit.failed(Entry::Plain, 0)));
    unit.keep(0);
    let standing = unit.standing(0);
    assert!(standing == Standing::Failing && standing.is_usable() && standing.left().is_none());
    assert_eq!(unit.try_enter(0), Some(Entry::Plain));
    assert!(unit.failed(Entry::Plain, 0), "an ejection stays due");
    unit.eject(0, FIRST, 0);
    unit.keep(0);
    assert_eq!(unit.standing(0), Standing::Ejected(FIRST), "what is ejected is not kept");
    let unit = Unit::default();
    unit.keep(0);
    assert!(!unit.succeeded(Entry::Plain, 0));
    assert_eq!(unit.standing(0), Standing::Up);
}

/// Goal: many requests that were in flight when a rest began do not make it longer.
#[test]
fn failures_in_flight_are_one_failure() {
    let unit = Unit::default();
    (0..32).for_each(|_| unit.rest(0, None, BACKOFF, 0));
    assert_eq!(unit.standing(0), Standing::Cooling(Duration::from_secs(1)));
}

/// Goal: of many threads at a due unit exactly one is the probe.
#[test]
fn one_probe_at_a_time() {
    for _ in 0..50 {
        let unit = Unit::default();
        unit.eject(0, FIRST, 0);
        let entered = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    entered.fetch_add(u32::from(unit.try_enter(11 * SECOND).is_some()), Ordering::Relaxed)
                });
            }
        });
        assert_eq!(entered.load(Ordering::Relaxed), 1);
    }
}
