//! Limits, permits and ledger under thousands of random schedules each. What is asserted here holds at every point at
//! which a thread could be interrupted, not only where a machine happens to.

use schedules::core::ledger::{Ask as Wish, Ledger};
use schedules::core::limits::{Admission, Ask, Dimension, Limited, Limits, Scope, try_admit};
use schedules::core::money::Money;
use schedules::core::permit::Permits;
use shuttle::sync::Mutex;
use shuttle::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

const SCHEDULES: usize = 3_000;
const SECOND: u64 = 1_000_000_000;
const NONE: Limited = Limited { rpm: None, tpm: None, concurrency: None, shadow: false };

fn schedules(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(test, SCHEDULES);
}

/// Runs the same on so many threads, and hands back what each of them ends with.
fn threads<T: Send + 'static>(count: u64, run: impl Fn(u64) -> T + Send + Sync + 'static) -> Vec<T> {
    let run = Arc::new(run);
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let run = Arc::clone(&run);
            thread::spawn(move || run(number))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn one(dimension: Dimension, limit: u32) -> Limited {
    match dimension {
        Dimension::Requests => Limited { rpm: Some(limit), ..NONE },
        Dimension::Tokens => Limited { tpm: Some(limit.into()), ..NONE },
        Dimension::Concurrency => Limited { concurrency: Some(limit), ..NONE },
    }
}

fn ask(input: u64) -> Ask {
    Ask { input, output: 0, now: SECOND }
}

/// Goal: never more permits than the limit are out, and all come back, also through a panic of a holder.
#[test]
fn permits_are_bounded_and_come_back() {
    schedules(|| {
        let permits = Permits::new(2);
        let pool = Arc::clone(&permits);
        threads(4, move |number| {
            for _ in 0..2 {
                let Some(held) = pool.try_acquire() else { continue };
                assert!(pool.used() <= 2);
                // Unwinding as a panic does, without its message.
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    let _held = held;
                    thread::yield_now();
                    if number == 0 {
                        resume_unwind(Box::new(()));
                    }
                }));
                assert_eq!(ended.is_err(), number == 0);
            }
        });
        assert_eq!(permits.used(), 0);
    });
}

/// Goal: a limit that many share admits exactly that much, and what is taken and given back leaves no trace.
#[test]
fn a_rate_limit_is_exact() {
    schedules(|| {
        let limits = Limits::new(Scope::Key, one(Dimension::Tokens, 5));
        let shared = Arc::clone(&limits);
        let admitted: u64 = threads(4, move |number| {
            let mut kept = 0;
            for _ in 0..2 {
                let taken = shared.try_enter(1, SECOND);
                if number > 0
                    && let Some(mut admission) = taken
                {
                    admission.correct(1, SECOND);
                    kept += 1;
                }
            }
            kept
        })
        .iter()
        .sum();
        let rest = 5 - admitted;
        assert!((rest == 0 || limits.has_room(rest, SECOND)) && !limits.has_room(rest + 1, SECOND));
        assert!(admitted >= 4, "whoever gives back takes at most one at a time");
    });
}

/// Goal: over two levels, whose order the callers do not agree on, exactly the limit is admitted in each dimension, and
/// no two threads wait for each other.
#[test]
fn exactly_the_limit_is_admitted_over_levels() {
    for dimension in Dimension::ALL {
        schedules(move || {
            let levels = [Scope::Account, Scope::Key].map(|scope| Limits::new(scope, one(dimension, 3)));
            let shared = levels.clone();
            let held: Vec<Option<Admission>> = threads(5, move |number| {
                let [account, key] = &shared;
                let admitted = if number % 2 == 0 {
                    try_admit(&[account, key], ask(1))
                } else {
                    try_admit(&[key, account], ask(1))
                };
                assert!(account.running() <= 3 && key.running() <= 3);
                admitted.ok()
            });
            assert_eq!(held.iter().flatten().count(), 3);
            drop(held);
            assert!(levels.iter().all(|limits| limits.running() == 0));
        });
    }
}

/// Goal: who is refused by a small limit takes nothing of a large one, not even for an instant: those who fit get in.
/// Method: the large limit has room for exactly those whom the small one lets pass and those who do not meet it.
#[test]
fn a_refusal_disturbs_nobody() {
    for dimension in Dimension::ALL {
        schedules(move || {
            let large = Limits::new(Scope::Global, one(dimension, 3));
            let small = Limits::new(Scope::Key, one(dimension, 1));
            let shared = (Arc::clone(&large), Arc::clone(&small));
            let held = threads(5, move |number| {
                let (large, small) = &shared;
                let limited = number < 3;
                let admitted =
                    if limited { try_admit(&[large, small], ask(1)) } else { try_admit(&[large], ask(1)) };
                (limited, admitted.ok())
            });
            let count =
                |of: bool| held.iter().filter(|(limited, held)| *limited == of && held.is_some()).count();
            assert_eq!((count(true), count(false)), (1, 2));
            drop(held);
            assert_eq!((large.running(), small.running()), (0, 0));
        });
    }
}

/// Goal: whatever begins, is corrected, fails and unwinds at the same time, what is left is what usage left, at every
/// level; the second correction counts nothing.
#[test]
fn corrections_and_ends_do_not_race() {
    schedules(|| {
        let limited = Limited { rpm: Some(100), tpm: Some(1_000), concurrency: Some(3), shadow: false };
        let levels = [Scope::Account, Scope::Key].map(|scope| Limits::new(scope, limited));
        let shared = levels.clone();
        let used: u64 = threads(4, move |number| {
            let Ok(mut admission) = try_admit(&[&shared[0], &shared[1]], ask(100)) else { return 0 };
            assert!(shared.iter().all(|limits| limits.running() <= 3));
            let actual = [150, 30, 0, 0][number as usize];
            if number < 2 {
                admission.correct(actual, SECOND);
                admission.correct(999, SECOND);
            }
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let _held = admission;
                if number == 2 {
                    resume_unwind(Box::new(()));
                }
            }));
            assert_eq!(ended.is_err(), number == 2);
            actual
        })
        .iter()
        .sum();
        for limits in &levels {
            let rest = 1_000 - used;
            assert_eq!(limits.running(), 0);
            assert!(limits.has_room(rest, SECOND) && !limits.has_room(rest + 1, SECOND));
        }
    });
}

/// Goal: a shadow counts what it would refuse and disturbs nothing, and its slots come back.
#[test]
fn a_shadow_loses_no_count() {
    schedules(|| {
        let shadow = Limits::new(Scope::Key, Limited { shadow: true, ..one(Dimension::Requests, 2) });
        let shared = Arc::clone(&shadow);
        let admitted = threads(4, move |_| try_admit(&[&shared], ask(1)).is_ok());
        assert!(admitted.into_iter().all(|admitted| admitted));
        assert_eq!((shadow.would_refuse(Dimension::Requests), shadow.running()), (2, 0));
    });
}

/// Goal: a request's reservation ends once, whoever ends it; nothing is overspent, and the books balance.
/// Method: more is asked for than there is; each request is ended by two threads in two ways.
#[test]
fn the_ledger_balances() {
    schedules(|| {
        let mut ledger = Ledger::new();
        ledger.credit("account", "opening", Money::from_nanos(100));
        let ledger = Arc::new(Mutex::new(ledger));
        let shared = Arc::clone(&ledger);
        let spent: i64 = threads(4, move |number| {
            let wish = Wish {
                account: "account",
                key: "key",
                least: Money::from_nanos(20),
                most: Money::from_nanos(40),
                price_version: 1,
                process: 1,
            };
            let Ok((id, amount)) = shared.lock().unwrap().reserve(&wish) else { return 0 };
            assert!(amount >= wish.least && amount <= wish.most);
            let _ = shared.lock().unwrap().extend(id, Money::from_nanos(10));
            assert!(shared.lock().unwrap().verify().is_empty());
            let other = Arc::clone(&shared);
            let ends = thread::spawn(move || number % 2 == 0 && other.lock().unwrap().release(id));
            let settled = shared.lock().unwrap().settle(id, Money::from_nanos(15));
            let released = ends.join().unwrap();
            assert!(settled.is_some() != released, "it ends once");
            settled.map_or(0, |settled| settled.charged.nanos())
        })
        .iter()
        .sum();
        let ledger = ledger.lock().unwrap();
        let funds = ledger.account("account").unwrap();
        assert_eq!(
            (funds.spent.nanos(), funds.held.nanos(), funds.available.nanos()),
            (spent, 0, 100 - spent)
        );
        assert_eq!(ledger.open_reservations(), 0);
        assert!(ledger.verify().is_empty());
    });
}
