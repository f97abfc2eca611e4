//! Ring 2: what the operator sees of every request: metrics, one log line, its id.
//!
//! A finished request is described once, as a [`record::Record`], and handed over once: the metrics count it and the
//! access log writes it, so that the two can never disagree. Label values come from configuration and from closed lists
//! in the code, never from a client (spec 13.2). Nothing here holds a body, a credential or a prompt.

pub mod access_log;
pub mod connections;
pub mod failures;
mod gen_ai;
pub mod health;
pub mod history;
pub mod metrics;
pub mod money;
pub mod process;
mod reading;
pub mod record;
pub mod request_id;
pub mod series;
pub mod snapshot;
pub mod time_span;
