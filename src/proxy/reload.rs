//! A new configuration is put into force while requests run (spec 12.3).
//!
//! A generation is built whole and then swapped; requests under way keep theirs. What stays the same keeps its counters: the
//! limits by what they belong to, channels and their units of health by what they are, models by their ids.

use super::Shared;
use super::generation::Generation;
use crate::config::Config;
use std::sync::Arc;

/// Puts configurations into force.
#[derive(Clone)]
pub struct Reloader(pub(super) Arc<Shared>);

impl Reloader {
    /// Puts a checked configuration into force; gives the number of its generation. One at a time.
    pub fn apply(&self, config: &Config) -> u64 {
        let shared = &self.0;
        shared.directory.reconfigure(config);
        let before = shared.generation.load_full();
        let generation = Generation::new(config, &shared.metrics, &shared.pool, Some(&before));
        let number = generation.number;
        shared.budget.set_ratio(config.retry.budget_ratio);
        shared.generation.store(Arc::new(generation));
        shared.metrics.set_generation(number);
        shared.failures.forget_all_but(&shared.generation.load().labels);
        number
    }

    /// Shows when the certificate of the public listener expires, in seconds since the Unix epoch.
    pub fn set_certificate_expiry(&self, seconds: i64) {
        self.0.metrics.process().set_certificate_expiry(seconds);
    }

    /// Notes that a configuration could not be used; nothing else changes.
    pub fn refused(&self) {
        self.0.metrics.reload_failed();
    }
}
