//! What belongs to one request from its first byte to its last.
//!
//! [`Ctx`] holds the guards (permit, gauges) and the record under construction. Whatever ends the request, dropping it
//! returns the guards; a request that was never settled, because its task was dropped, is settled there as killed.

use super::Shared;
use super::charge::{Charge, Need};
use super::clock;
use super::generation::Generation;
use crate::core::limits::Admission;
use crate::core::permit::Permit;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::record::{End, Record};
use crate::wire::cors::Field;
use crate::wire::error::Dialect;
use std::sync::Arc;
use std::time::Instant;

/// The state of one request.
pub struct Ctx {
    pub(super) shared: Arc<Shared>,
    pub(super) generation: Arc<Generation>,
    pub(super) started: Instant,
    /// What telemetry will be told.
    pub(super) record: Record,
    /// When the body began and ended to be waited for does not count as the gateway's time.
    pub(super) waited_for_client: std::time::Duration,
    /// When the client gives up, as far as it says (spec 10.4).
    pub(super) client_deadline: Option<Instant>,
    /// The shape of the errors of this request (spec 2.5).
    pub(super) dialect: Dialect,
    /// What a browser has to be told with the answer.
    pub(super) cors: Vec<Field>,
    /// Header fields of a trusted upstream's answer.
    pub(super) passed: Vec<Field>,
    /// One of the requests that may be under way (spec 2.10).
    pub(super) slot: Option<Permit>,
    /// Taken at admission; given back when the last byte is out (spec 6.3).
    pub(super) admission: Option<Admission>,
    /// What an admitted call may need.
    pub(super) need: Option<Need>,
    /// The money set aside; settled before the last byte goes out, so that the next read of the balance shows it.
    pub(super) charge: Option<Charge>,
    pub(super) in_flight: Option<InFlight>,
    under_way: Option<InFlight>,
    settled: bool,
}

impl Ctx {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let generation = shared.generation.load_full();
        let started_at = u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX);
        Self {
            record: Record::begun(started_at, Arc::from(""), generation.number),
            shared: Arc::clone(shared),
            generation,
            started: Instant::now(),
            waited_for_client: std::time::Duration::ZERO,
            client_deadline: None,
            dialect: Dialect::OpenAi,
            cors: Vec::new(),
            passed: Vec::new(),
            slot: None,
            admission: None,
            need: None,
            charge: None,
            in_flight: None,
            under_way: None,
            settled: false,
        }
    }

    /// A request line has been read: from here on the request counts.
    pub(super) fn begin(&mut self, request_id: String) {
        self.record.request_id = request_id.into();
        self.under_way = Some(self.shared.metrics.begin_request());
    }

    /// Whether the client has given up by now, so that another attempt would be for nobody.
    pub(super) fn is_late_for_client(&self) -> bool {
        self.client_deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Gives the tokens and the money back that were taken ahead: the call has failed. Before the answer goes out, so that
    /// the client's next request finds them; the permit stays until its last byte (spec 6.3).
    pub(super) fn give_back(&mut self) {
        self.charge = None;
        if let Some(admission) = &mut self.admission {
            admission.correct(0, self.shared.clock.nanos());
        }
    }

    /// Gives the permit and the gauges back: the last byte is out.
    pub(super) fn release(&mut self) {
        self.slot = None;
        self.admission = None;
        self.charge = None;
        self.in_flight = None;
    }

    /// Hands the record to telemetry; the second call does nothing.
    pub(super) fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) || self.under_way.is_none() {
            return;
        }
        self.release();
        self.record.duration = self.started.elapsed();
        let labels = Arc::clone(&self.generation.labels);
        self.shared.metrics.observe(&self.record, &labels);
        self.shared.failures.note(&self.record, &labels);
        if let Some(log) = &self.shared.log {
            let empty = Record::begun(0, Arc::clone(&self.record.request_id), 0);
            log.write(std::mem::replace(&mut self.record, empty), labels);
        }
        self.under_way = None;
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if !self.settled {
            self.record.end = End::Killed;
            self.settle();
        }
    }
}
