//! Ring 2: the formats that clients and upstreams speak, as pure functions over bytes.

pub mod endpoint;
pub mod envelope;
pub mod splice;
