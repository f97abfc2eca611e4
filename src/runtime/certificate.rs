//! What the public listener shows of itself over TLS, and can be changed while it runs (spec 12.3).

use crate::config::Tls;
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::Arc;

/// A certificate with its key.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// They cannot be read, or do not belong together; the configuration has checked that.
    pub(super) fn of(tls: &Tls) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(tls)?))))
    }

    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// They cannot be used any more, though they were checked a moment ago; the old one stays in place.
    pub(super) fn read(&self, tls: &Tls) -> io::Result<()> {
        self.0.store(Arc::new(certified(tls)?));
        Ok(())
    }
}

impl Certificate {
    /// When the first of its chain expires, in seconds since the Unix epoch; `None` if it cannot be read.
    pub(super) fn expires_at(&self) -> Option<i64> {
        let shown = self.0.load();
        let parsed = shown.cert.iter().filter_map(|der| x509_parser::parse_x509_certificate(der).ok());
        parsed.map(|(_, certificate)| certificate.validity.not_after.timestamp()).min()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(tls: &Tls) -> io::Result<CertifiedKey> {
    let (certs, key) = tls.read().map_err(io::Error::other)?;
    CertifiedKey::from_der(certs, key, &rustls::crypto::ring::default_provider()).map_err(io::Error::other)
}
