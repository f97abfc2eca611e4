//! Integration tests: one binary, a file for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod answers;
mod clients;
mod command_line;
mod corpus;
mod corpus_wire;
mod crash;
mod directory;
mod disk;
mod docs;
mod drain;
mod failover;
mod golden;
mod hang_up_phases;
mod hang_ups;
mod health;
mod hostile;
mod leaks;
mod limits;
mod metrics;
mod money;
mod operator;
mod pictures;
mod protocols;
mod reference;
mod reload;
mod status;
mod support;
mod tidy;
