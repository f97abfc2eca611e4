//! Ring 1: the rules of the gateway as plain values.
//!
//! Nothing here does I/O, reads a clock, awaits, parses a wire format or logs: `now` is an argument, and what a rule
//! decides is its return value. Everything that outer rings share about a request is named here once.

pub mod alias;
pub mod api;
pub mod catalog;
pub mod cause;
pub mod channel;
pub mod estimate;
pub mod failure;
mod family;
mod features;
pub mod health;
pub mod hot;
pub mod id;
pub mod images;
pub mod key;
pub mod lacking;
pub mod ledger;
pub mod limit;
pub mod limits;
pub mod load;
pub mod money;
pub mod overload;
pub mod parameters;
pub mod permit;
pub mod price;
pub mod quantile;
pub mod refusal;
pub mod retry;
pub mod select;
mod sync;
pub mod unit;
pub mod usage;
