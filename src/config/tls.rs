//! Certificates and keys: read and checked when the configuration is, so that no handshake finds out first.

use super::reader::Item;
use rustls::RootCertStore;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// What the public listener shows of itself over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The file of the certificate and those between it and the authority, in PEM.
    pub cert: PathBuf,
    /// The file of its private key, in PEM.
    pub key: PathBuf,
    /// SHA-256 of what the two files held, so that a renewed certificate is a change.
    pub held: [u8; 32],
}

/// Certificates of authorities, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities(pub Vec<Vec<u8>>);

/// The section `server.tls`.
pub(super) fn listener(item: &Item<'_>) -> Option<Tls> {
    let section = item.object()?;
    let path = |name| section.required(name).and_then(|item| path(&item));
    let (cert, key) = (path("cert"), path("key"));
    section.finish();
    let mut tls = Tls { cert: cert?, key: key?, held: [0; 32] };
    if item.reader.without_secrets && !tls.key.exists() {
        return Some(tls);
    }
    match check(&tls) {
        Ok(held) => tls.held = held,
        Err(why) => {
            item.refuse(why);
            return None;
        }
    }
    Some(tls)
}

/// A file name, taken from the folder of the configuration.
fn path(item: &Item<'_>) -> Option<PathBuf> {
    Some(item.reader.folder.join(item.text()?))
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A sentence on the file that cannot be used.
    pub(crate) fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let told = |path: &PathBuf, e: &pem::Error| format!("{}: {}", path.display(), unusable(e));
        let certs =
            CertificateDer::pem_file_iter(&self.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certs = certs.map_err(|e| told(&self.cert, &e))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| told(&self.key, &e))?;
        Ok((certs, key))
    }
}

/// Why a file in PEM cannot be used: as for all files, if it could not be read.
fn unusable(e: &pem::Error) -> String {
    match e {
        pem::Error::Io(e) => super::unreadable(e),
        e => e.to_string(),
    }
}

/// The certificate and the key are what they should be, and belong together; gives what `held` is.
fn check(tls: &Tls) -> Result<[u8; 32], String> {
    let (certs, key) = tls.read()?;
    let parts = certs.iter().map(AsRef::as_ref).chain([key.secret_der()]);
    let held = parts.fold(Sha256::new(), Digest::chain_update).finalize().into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let checked = config.and_then(|config| config.with_no_client_auth().with_single_cert(certs, key));
    checked.map(|_| held).map_err(|e| format!("certificate and key cannot be used: {e}"))
}

/// The authorities that a channel's certificate has to come from, instead of the usual ones.
pub(super) fn authorities(item: &Item<'_>) -> Option<Authorities> {
    let path = path(item)?;
    let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = match read {
        Ok(certs) if !certs.is_empty() => certs,
        Ok(_) => {
            item.refuse(format!("{} has no certificate", path.display()));
            return None;
        }
        Err(e) => {
            item.refuse(format!("{}: {}", path.display(), unusable(&e)));
            return None;
        }
    };
    let mut store = RootCertStore::empty();
    for cert in &certs {
        if let Err(e) = store.add(cert.clone()) {
            item.refuse(format!("{} has a certificate that cannot be used: {e}", path.display()));
            return None;
        }
    }
    Some(Authorities(certs.iter().map(|cert| cert.to_vec()).collect()))
}
