//! Client connections of the public listeners: how many there may be, and when one ends (spec 15.1, 15.2).
//!
//! Each connection has a [`Connection`], a few atomics that its reader and its requests keep up to date, and one timer:
//! [`Connection::expired`] sleeps until a deadline could have passed and looks again, so a request costs no timer of its own.
//! The deadlines:
//!
//! - from accept to the end of the first header, or to the first HTTP/2 stream, TLS handshake included: `header_timeout`;
//! - from the first byte of a later header to its end: `header_timeout`;
//! - without a request, whatever else arrives (HTTP/2 pings): `keepalive`;
//! - in all: `connection_age`; what is in flight then still ends.
//!
//! At the bound on connections the longest idle ones are closed in favour of newcomers. All of it takes a lock at accept and
//! close alone.

use super::overload::RuntimeClock;
use crate::proxy::{ConnectionBounds, HeaderObserver};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Idle connections closed at once when there is no room for a newcomer, so that a flood does not search for each.
const EVICTED_AT_ONCE: usize = 64;
/// A search for idle connections that found none is not repeated for this long, in milliseconds.
const SEARCH_PAUSE_MILLIS: u64 = 20;
/// A connection that waits for less time than this may be about to bring a header, in milliseconds.
const IDLE_MIN_MILLIS: u64 = 1_000;
/// The longest sleep before the age of a connection is looked at.
const AGE_LOOK: Duration = Duration::from_secs(60);
/// The shortest sleep between two looks at a connection's deadlines.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Reasons for which the gateway ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// No header, or no HTTP/2 stream, within its deadline.
    SlowHeader,
    /// No request for too long.
    Idle,
    /// Open for too long.
    Age,
    /// Closed in favour of a newcomer, or to shed load.
    Evicted,
}

/// A connection that may not be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// As many are open as may be, and none is idle.
    Total,
    /// As many are open from one address as may be.
    Address,
}

/// All client connections of the process.
#[derive(Debug)]
pub(super) struct Connections {
    epoch: Instant,
    open: AtomicUsize,
    table: Mutex<Table>,
    /// Milliseconds since `epoch` before which no idle connection is searched for.
    search_from: AtomicU64,
    cut: Notify,
    clock: Arc<RuntimeClock>,
}

#[derive(Debug, Default)]
struct Table {
    connections: HashMap<u64, Arc<Connection>>,
    addresses: HashMap<IpAddr, usize>,
    next: u64,
}

/// One client connection, as its reader and its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    epoch: Instant,
    accepted: u64,
    /// Requests in flight.
    requests: AtomicUsize,
    /// When it last became idle, in milliseconds since `epoch`.
    idle_since: AtomicU64,
    /// When the first byte of the current header arrived; zero if none has.
    header_since: AtomicU64,
    evicted: Notify,
}

/// An open connection, removed from the table when dropped.
#[derive(Debug)]
pub(super) struct Open {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    number: u64,
    address: Option<IpAddr>,
}

/// One HTTP/2 stream, or the time of an HTTP/1.1 connection from one answer to the next.
#[derive(Debug)]
pub(super) struct RequestScope {
    connection: Arc<Connection>,
    begun: AtomicBool,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            open: AtomicUsize::new(0),
            table: Mutex::default(),
            search_from: AtomicU64::new(0),
            cut: Notify::new(),
            clock: Arc::default(),
        }
    }
}

impl Connections {
    /// The clock of the runtime that serves them; it ticks from the first connection on.
    pub(super) fn clock(&self) -> &Arc<RuntimeClock> {
        &self.clock
    }

    /// How many are open, idle ones included.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Admits a connection, if there is room for it among `max`, and among `per_address` from its address; when there is
    /// none, the longest idle ones are told to close, and it takes their place.
    ///
    /// # Errors
    ///
    /// [`Full`]
    pub(super) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        max: usize,
        per_address: Option<usize>,
    ) -> Result<Open, Full> {
        // Those that were told to close are still counted; a bounded excess is theirs.
        if self.open() >= max && self.evict_idle(EVICTED_AT_ONCE) == 0 {
            return Err(Full::Total);
        }
        let address = address.filter(|_| per_address.is_some());
        let mut table = self.table();
        if let (Some(address), Some(per_address)) = (address, per_address) {
            let open = table.addresses.entry(address).or_default();
            if *open >= per_address {
                return Err(Full::Address);
            }
            *open += 1;
        }
        let connection = Arc::new(Connection::new(self.epoch));
        let number = table.next;
        table.next += 1;
        table.connections.insert(number, Arc::clone(&connection));
        self.open.fetch_add(1, Ordering::AcqRel);
        Ok(Open { connections: Arc::clone(self), connection, number, address })
    }

    /// Tells up to `count` of the longest idle connections to close; returns how many there were.
    pub(super) fn evict_idle(&self, count: usize) -> usize {
        let now = millis_since(self.epoch);
        if now < self.search_from.load(Ordering::Relaxed) {
            return 0;
        }
        let table = self.table();
        let idle = table.connections.values().filter_map(|connection| {
            let since = connection.idle_since()?;
            (since + IDLE_MIN_MILLIS <= now).then_some((since, connection))
        });
        let mut idle: Vec<_> = idle.collect();
        if idle.len() > count {
            idle.select_nth_unstable_by_key(count, |(since, _)| *since);
            idle.truncate(count);
        }
        for (_, connection) in &idle {
            // Counted as busy from now on, so that no second search finds it.
            connection.idle_since.store(u64::MAX, Ordering::Relaxed);
            connection.evicted.notify_one();
        }
        if idle.is_empty() {
            self.search_from.store(now + SEARCH_PAUSE_MILLIS, Ordering::Relaxed);
        }
        idle.len()
    }

    /// Ends all connections, with the requests on them.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Waits until all connections are to end.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(super) async fn are_cut(&self) {
        self.cut.notified().await;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.connections.remove(&self.number);
        if let Some(address) = self.address
            && let Some(open) = table.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                table.addresses.remove(&address);
            }
        }
        self.connections.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connection {
    fn new(epoch: Instant) -> Self {
        let now = millis_since(epoch);
        Self {
            epoch,
            accepted: now,
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now),
            header_since: AtomicU64::new(now.max(1)),
            evicted: Notify::new(),
        }
    }

    /// Notes that bytes of a header have arrived between two requests.
    pub(super) fn header_began(&self) {
        if self.header_since.load(Ordering::Relaxed) == 0 {
            self.header_since.store(millis_since(self.epoch).max(1), Ordering::Relaxed);
        }
    }

    /// A scope in which a request may begin, once its header is complete ([`HeaderObserver`]).
    pub(super) fn expect_request(self: &Arc<Self>) -> Arc<RequestScope> {
        Arc::new(RequestScope { connection: Arc::clone(self), begun: AtomicBool::new(false) })
    }

    /// Whether no request is in flight that the gateway knows of.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    /// Since when there is no request, in milliseconds; `None` while there is one.
    fn idle_since(&self) -> Option<u64> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (self.requests.load(Ordering::Acquire) == 0 && since != u64::MAX).then_some(since)
    }

    /// Whether it has been open for longer than it may.
    pub(super) fn is_aged(&self, age: Duration) -> bool {
        millis_since(self.epoch) >= self.accepted.saturating_add(millis(age))
    }

    /// Whether a request has been served on it.
    pub(super) fn has_served(&self) -> bool {
        self.header_since.load(Ordering::Relaxed) == 0
    }

    /// Waits until it has been open for longer than it may.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(super) async fn aged(&self, age: impl Fn() -> Duration) {
        while !self.is_aged(age()) {
            let open = millis_since(self.epoch).saturating_sub(self.accepted);
            let left = age().saturating_sub(Duration::from_millis(open));
            // A reload may shorten it.
            tokio::time::sleep(left.clamp(LOOK_MIN, AGE_LOOK)).await;
        }
    }

    /// Waits until no request is in flight and the connection has to end, and says why.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(super) async fn expired(&self, bounds: impl Fn() -> ConnectionBounds) -> Expiry {
        loop {
            let left = match self.deadline(bounds(), millis_since(self.epoch)) {
                Ok(left) => left,
                Err(expiry) => return expiry,
            };
            tokio::select! {
                () = tokio::time::sleep(left.max(LOOK_MIN)) => {}
                () = self.evicted.notified() => {
                    if self.requests.load(Ordering::Acquire) == 0 {
                        return Expiry::Evicted;
                    }
                }
            }
        }
    }

    /// The time until the next look, or what has passed. A state that begins between two looks has a deadline behind the
    /// second, since no sleep is longer than the shortest of the times.
    fn deadline(&self, times: ConnectionBounds, now: u64) -> Result<Duration, Expiry> {
        let shortest = times.header.min(times.keepalive).min(times.age);
        if self.requests.load(Ordering::Acquire) > 0 {
            return Ok(shortest);
        }
        let header_since = self.header_since.load(Ordering::Relaxed);
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        let (due, expiry) = match header_since {
            0 => (idle_since.saturating_add(millis(times.keepalive)), Expiry::Idle),
            since => (since.saturating_add(millis(times.header)), Expiry::SlowHeader),
        };
        let aged = self.accepted.saturating_add(millis(times.age));
        if now >= due {
            return Err(expiry);
        }
        if header_since == 0 && now >= aged {
            return Err(Expiry::Age);
        }
        let left = Duration::from_millis(due.min(aged.max(now + 1)) - now);
        Ok(left.min(shortest))
    }
}

impl HeaderObserver for RequestScope {
    fn header_arrived(&self) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.connection.requests.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for RequestScope {
    fn drop(&mut self) {
        if !*self.begun.get_mut() {
            return;
        }
        let connection = &self.connection;
        // Before the request is gone, so that it is never taken for idle since longer than it is.
        connection.idle_since.store(millis_since(connection.epoch), Ordering::Relaxed);
        connection.header_since.store(0, Ordering::Relaxed);
        connection.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis_since(epoch: Instant) -> u64 {
    millis(epoch.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ConnectionBounds = ConnectionBounds {
        header: Duration::from_millis(100),
        keepalive: Duration::from_millis(300),
        age: Duration::from_millis(2_000),
        max: 2,
        per_address: Some(2),
    };

    fn at(connection: &Connection, millis: u64) -> Result<Duration, Expiry> {
        connection.deadline(BOUNDS, connection.accepted + millis)
    }

    /// Goal: a connection has a deadline in each of its phases, and none while a request is in flight.
    #[test]
    fn every_phase_has_its_deadline() {
        let epoch = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let connection = Arc::new(Connection::new(epoch));
        assert_eq!(at(&connection, 99), Ok(Duration::from_millis(1)));
        assert_eq!(at(&connection, 100), Err(Expiry::SlowHeader));
        let scope = connection.expect_request();
        scope.header_arrived();
        scope.header_arrived();
        assert!(at(&connection, 100_000).is_ok() && !connection.is_unclaimed());
        drop(scope);
        assert!(connection.is_unclaimed() && connection.has_served());
        let idle = connection.idle_since.load(Ordering::Relaxed) - connection.accepted;
        assert!(at(&connection, idle + 299).is_ok());
        assert_eq!(at(&connection, idle + 300), Err(Expiry::Idle));
        connection.header_began();
        let began = connection.header_since.load(Ordering::Relaxed) - connection.accepted;
        assert!(at(&connection, began + 99).is_ok());
        assert_eq!(at(&connection, began + 100), Err(Expiry::SlowHeader));
        drop(connection.expect_request());
        assert_eq!(at(&connection, began + 100), Err(Expiry::SlowHeader), "no request, no change");
        connection.header_since.store(0, Ordering::Relaxed);
        connection.idle_since.store(connection.accepted + 1_900, Ordering::Relaxed);
        assert!(at(&connection, 1_999).is_ok());
        assert_eq!(at(&connection, 2_000), Err(Expiry::Age));
    }

    /// Goal: newcomers are refused only where no connection has been idle for a while, and a closed one gives its place back.
    #[test]
    fn newcomers_take_the_place_of_the_idle() {
        let connections = Arc::<Connections>::default();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let admit = |address| connections.admit(address, BOUNDS.max, BOUNDS.per_address);
        let (first, second) = (admit(address).unwrap(), admit(None).unwrap());
        assert_eq!(admit(None).unwrap_err(), Full::Total);
        std::thread::sleep(Duration::from_millis(IDLE_MIN_MILLIS + SEARCH_PAUSE_MILLIS + 50));
        let scope = second.connection().expect_request();
        scope.header_arrived();
        let third = admit(address).unwrap();
        assert_eq!(first.connection().idle_since(), None, "it is told to close once");
        assert_eq!(admit(None).unwrap_err(), Full::Total);
        drop(scope);
        drop((first, second));
        let fourth = admit(address).unwrap();
        assert_eq!(connections.open(), 2);
        drop(third);
        let fifth = admit(address).unwrap();
        drop((fourth, fifth));
        assert_eq!(connections.open(), 0);
        assert!(connections.table().addresses.is_empty());
    }

    /// Goal: one address has no more connections than it may.
    #[test]
    fn addresses_are_bounded() {
        let connections = Arc::<Connections>::default();
        let admit = |last| connections.admit(Some(IpAddr::from([192, 0, 2, last])), 10, Some(1));
        let first = admit(1).unwrap();
        assert_eq!(admit(1).unwrap_err(), Full::Address);
        assert!(admit(2).is_ok());
        drop(first);
        assert!(admit(1).is_ok());
    }
}
