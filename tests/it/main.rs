//! Integration tests: one binary, a file for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod accounts;
mod agents;
mod alerts;
mod answers;
mod clients;
mod command_line;
mod conformance;
mod corpus;
mod corpus_wire;
mod cors;
mod crash;
mod credentials;
mod deploy;
mod dialects;
mod directory;
mod disk;
mod docs;
mod drain;
mod explained;
mod exposure;
mod failover;
mod golden;
mod hang_up_phases;
mod hang_ups;
mod harness;
mod health;
mod hostile;
mod images;
mod leaks;
mod libraries;
mod limits;
mod llama;
mod metrics;
mod money;
mod openapi;
mod operator;
mod outages;
mod parameters;
mod pictures;
mod protocols;
mod reference;
mod reload;
mod renewals;
mod replay;
mod secrets;
mod side_calls;
mod status;
mod streams;
mod support;
mod surface;
mod systemd;
mod tidy;
mod traces;
mod troubles;
mod upgrade;
mod usage;
mod video;
mod video_jobs;
mod visible;
