//! Loading the configuration again: check, build, swap, or keep the old one and say why (spec 12.3).

use super::certificate::Certificate;
use crate::admin::guard::Guard;
use crate::config::{self, Config, Problems, diff};
use crate::proxy::Reloader;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Loads one file again and again.
pub struct Reload {
    file: PathBuf,
    /// What the process was started with.
    started: Config,
    current: Mutex<Config>,
    reloader: Reloader,
    certificate: Option<Arc<Certificate>>,
    guard: Arc<Guard>,
    /// How often it was asked for by signal and has not been done.
    asked: AtomicU32,
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
        guard: Arc<Guard>,
    ) -> Self {
        let (started, current) = (current.clone(), Mutex::new(current));
        let new = Self { file, started, current, reloader, certificate, guard, asked: AtomicU32::new(0) };
        new.show_certificate();
        new
    }

    /// Exports when the certificate that is shown now expires.
    fn show_certificate(&self) {
        let expires_at = self.certificate.as_ref().and_then(|certificate| certificate.expires_at());
        expires_at.into_iter().for_each(|seconds| self.reloader.set_certificate_expiry(seconds));
    }

    /// Loads the file in a thread of its own, so that a file that cannot be read to its end keeps no signal waiting. However
    /// often it is asked for meanwhile, it is done once more. What goes wrong is in the log.
    pub(super) fn ask(self: Arc<Self>) {
        if self.asked.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        tokio::task::spawn_blocking(move || {
            loop {
                let asked = self.asked.load(Ordering::Acquire);
                let _told_in_the_log = self.reload().is_ok();
                if self.asked.fetch_sub(asked, Ordering::AcqRel) == asked {
                    break;
                }
            }
        });
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
        let diff::Changes { made, after_restart } = diff::changes(&self.started, &current, &config);
        let mut warnings: Vec<_> =
            loaded.warnings.iter().map(|warning| warning.in_file(&self.file)).collect();
        if let (Some(certificate), Some(tls)) = (&self.certificate, &config.server.tls)
            && let Err(e) = certificate.read(tls)
        {
            log::error!("the certificate was not read again, the old one stays: {e}");
            warnings.push(format!("warning: server.tls: was not read again, the old certificate stays: {e}"));
        }
        self.show_certificate();
        self.guard.change(&config.admin);
        let generation = self.reloader.apply(&config);
        *current = config;
        for change in &made {
            log::info!("generation {generation}: {change}");
        }
        for warning in &loaded.warnings {
            log::warn!("{}", warning.in_file(&self.file));
        }
        for name in &after_restart {
            log::warn!("{name} has changed, which takes a restart");
        }
        Ok(Report { generation, changes: made, after_restart, warnings })
    }
}

/// Keys that were made for this process stay what they are.
fn keep_minted(config: &mut Config, before: &Config) {
    if !config.keys.iter().any(|key| key.minted) {
        return;
    }
    for key in Arc::make_mut(&mut config.keys).iter_mut().filter(|key| key.minted) {
        if let Some(known) = before.keys.iter().find(|known| known.minted && known.id == key.id) {
            key.digest = known.digest;
        }
    }
}
