//! Loading the configuration again: check, build, swap, or keep the old one and say why (spec 12.3).

use super::certificate::Certificate;
use crate::config::{self, Config, Problems, diff};
use crate::proxy::Reloader;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Loads one file again and again.
pub struct Reload {
    file: PathBuf,
    current: Mutex<Config>,
    reloader: Reloader,
    certificate: Option<Arc<Certificate>>,
}

/// What a reload did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The generation that is in force now.
    pub generation: u64,
    /// What has changed, a sentence each.
    pub changes: Vec<String>,
    /// What is in force after a restart only.
    pub after_restart: Vec<&'static str>,
    /// What the operator should know of the file.
    pub warnings: Vec<String>,
}

impl Reload {
    /// Of the file whose configuration is in force.
    #[must_use]
    pub fn new(
        file: PathBuf,
        current: Config,
        reloader: Reloader,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        Self { file, current: Mutex::new(current), reloader, certificate }
    }

    /// Loads the file and puts it into force, with the secrets and certificates that it names.
    ///
    /// # Errors
    ///
    /// Every problem of the file; nothing has changed then.
    pub fn reload(&self) -> Result<Report, Problems> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = config::load(&self.file).inspect_err(|problems| {
            self.reloader.refused();
            log::error!("the configuration was not reloaded, the old one stays in force:\n{problems}");
        })?;
        let mut config = loaded.config;
        keep_minted(&mut config, &current);
        let diff::Changes { made, after_restart } = diff::changes(&current, &config);
        if let (Some(certificate), Some(tls)) = (&self.certificate, &config.server.tls) {
            certificate.read(tls);
        }
        let generation = self.reloader.apply(&config);
        *current = config;
        for change in &made {
            log::info!("generation {generation}: {change}");
        }
        for name in &after_restart {
            log::warn!("{name} has changed, which takes a restart");
        }
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        Ok(Report { generation, changes: made, after_restart, warnings })
    }
}

/// Keys that were made for this process stay what they are.
fn keep_minted(config: &mut Config, before: &Config) {
    for key in config.keys.iter_mut().filter(|key| key.minted) {
        if let Some(known) = before.keys.iter().find(|known| known.minted && known.id == key.id) {
            key.digest = known.digest;
        }
    }
}
