//! Ring 2: the formats that clients and upstreams speak, as pure functions over bytes.

pub mod answer;
pub mod chat_stream;
pub mod chunk;
pub mod classify;
pub mod context;
pub mod credential;
pub mod encoding;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod hint;
pub mod ratelimit;
pub mod reading;
pub mod rewrite;
pub mod rules;
pub mod sanitize;
pub mod splice;
pub mod sse;
pub mod usage;
