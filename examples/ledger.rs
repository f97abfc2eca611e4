//! How fast the embedded store makes reservations durable: `cargo run --release --example ledger [folder]`.
//!
//! For each level so many requests are under way at once; each reserves, waits until that is durable, settles, and
//! begins anew. One line per level.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tidegate::core::ledger::{Ask, ReservationId};
use tidegate::core::money::Money;
use tidegate::store::{Bank, Embedded, Options};

const LEVELS: [usize; 3] = [1, 64, 512];
const MEASURED: Duration = Duration::from_secs(4);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    for level in LEVELS {
        let folder = parent.join(format!("ledger-bench-{}-{level}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let outcome = measure(&folder, level);
        std::fs::remove_dir_all(&folder)?;
        outcome?;
    }
    Ok(())
}

fn measure(folder: &Path, level: usize) -> Result<(), Box<dyn Error>> {
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let options = Options {
        process: 1,
        living: Vec::new(),
        clock: || u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX),
        observe: Box::new(move |time| {
            seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(time)
        }),
    };
    let bank = Bank::start(Box::new(Embedded::open(folder)?), options)?;
    bank.with(|ledger| ledger.credit("account", "opening", Money::MAX));
    let begun = Instant::now();
    let mut times = block_on(requests(&bank, level, begun))?;
    let seconds = begun.elapsed().as_secs_f64();
    let counters = bank.counters();
    bank.close(Duration::from_secs(10))?;
    let mut commits = std::mem::take(&mut *commits.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let line = format!(
        "{level:>3} at once: {:>7.0} reservations/s, p50 {:.2?}, p99 {:.2?}; {:.0} commits/s of {:.1} rows, p50 {:.2?}, p99 {:.2?}\n",
        times.len() as f64 / seconds,
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
        counters.commits as f64 / seconds,
        counters.rows as f64 / counters.commits.max(1) as f64,
        quantile(&mut commits, 0.5),
        quantile(&mut commits, 0.99),
    );
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}

/// Keeps `level` requests under way; the time that each took until it was durable.
async fn requests(bank: &Bank, level: usize, begun: Instant) -> Result<Vec<Duration>, Box<dyn Error>> {
    let one = |number: usize| request(bank, number);
    let mut under_way: FuturesUnordered<_> = (0..level).map(one).collect();
    let mut times = Vec::new();
    while let Some(time) = under_way.next().await {
        times.push(time?);
        if begun.elapsed() < MEASURED {
            under_way.push(one(times.len()));
        }
    }
    Ok(times)
}

async fn request(bank: &Bank, number: usize) -> Result<Duration, Box<dyn Error>> {
    let key = format!("key-{}", number % 100);
    let begun = Instant::now();
    let (least, most) = (Money::from_nanos(1_000), Money::from_nanos(2_000));
    let ask = Ask { account: "account", key: &key, least, most, price_version: 1, process: bank.process() };
    let id: ReservationId =
        bank.with(|ledger| ledger.reserve(&ask)).map_err(|missing| format!("{missing:?}"))?.0;
    bank.durable().await?;
    let time = begun.elapsed();
    bank.with(|ledger| ledger.settle(id, Money::from_nanos(1_500)));
    Ok(time)
}

/// The value below which this share of the sorted values lies.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at).or(times.last()).copied().unwrap_or_default()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        std::thread::park();
    }
}
