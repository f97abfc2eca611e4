//! Tidegate: an edge gateway for large-language-model APIs, built on Pingora.

pub mod admin;
pub mod cli;
pub mod config;
pub mod core;
pub mod proxy;
pub mod runtime;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod wire;
