//! Ring 2: the formats that clients and upstreams speak, as pure functions over bytes.

pub mod answer;
pub mod caller;
pub mod classify;
pub mod context;
pub mod credential;
pub mod custom;
pub mod encoding;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod hint;
pub mod ratelimit;
pub mod reading;
pub mod recorded;
pub mod report;
pub mod rewrite;
pub mod rule;
pub mod rules;
pub mod sanitize;
pub mod seal;
pub mod splice;
pub mod sse;
pub mod stream;
pub mod usage;
