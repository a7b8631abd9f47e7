//! HTTPS on the listening side: a certificate and a key from PEM files, read again when the files change.
//!
//! Certificates are renewed while the gateway runs (an ACME client, a mounted Kubernetes secret). Before a handshake,
//! and at most once a second, the files' stamps are compared with those last read. A pair that cannot be used (half
//! written, not matching) is reported once and the one in use stays.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use super::settings;

/// How often the files are looked at, at most.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("{path}: no certificate in it; a PEM file with BEGIN CERTIFICATE is needed")]
    NoCertificate { path: PathBuf },
    #[error("{path}: no private key in it; an unencrypted PEM file with BEGIN PRIVATE KEY is needed")]
    NoKey { path: PathBuf },
    #[error("{path}: not valid PEM: {cause:?}")]
    Pem { path: PathBuf, cause: pem::Error },
    #[error("{cert} and {key} cannot be used together: {cause}")]
    Pair { cert: PathBuf, key: PathBuf, cause: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// HTTPS with a certificate that follows its files. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

#[derive(Debug)]
struct Certificate {
    files: settings::Tls,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamps: [Option<Stamp>; 2],
    next_check: Option<Instant>,
}

/// What changes when a file is replaced or rewritten: modification time, inode and length.
type Stamp = (i64, i64, u64, u64);

impl Tls {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// [`TlsError`], which names the file at fault.
    pub fn load(files: &settings::Tls) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let stamps = stamps(files);
        let current = ArcSwap::from_pointee(read(files, &provider)?);
        let seen = Mutex::new(Seen { stamps, next_check: None });
        let certificate = Arc::new(Certificate { files: files.clone(), provider: provider.clone(), current, seen });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// What accepts the next connection, after a look at the files.
    pub(super) fn acceptor(&self, now: Instant) -> &TlsAcceptor {
        match self.certificate.refresh(now) {
            Ok(false) => {}
            Ok(true) => tracing::info!(cert = %self.certificate.files.cert.display(), "new TLS certificate in use"),
            Err(error) => {
                tracing::error!(%error, "the TLS certificate has changed but cannot be used; the old one stays");
            }
        }
        &self.acceptor
    }
}

impl Certificate {
    /// Reads the files again if they have changed since they were last read. Says whether a new certificate is in use.
    ///
    /// It reads small files from where a handshake is about to begin: two `stat` calls a second at most, which is less
    /// than handing them to another thread.
    fn refresh(&self, now: Instant) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.next_check.is_some_and(|next| now < next) {
            return Ok(false);
        }
        seen.next_check = Some(now + CHECK_EVERY);
        let stamps = stamps(&self.files);
        if stamps == seen.stamps {
            return Ok(false);
        }
        seen.stamps = stamps;
        self.current.store(Arc::new(read(&self.files, &self.provider)?));
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.certificate.files).finish_non_exhaustive()
    }
}

fn stamps(files: &settings::Tls) -> [Option<Stamp>; 2] {
    [&files.cert, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.ino(), file.len()))
    })
}

fn read(files: &settings::Tls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let settings::Tls { cert, key } = files;
    let certificates = CertificateDer::pem_slice_iter(&bytes(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| TlsError::Pem { path: cert.clone(), cause })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: cert.clone() });
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|cause| match cause {
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.clone() },
        cause => TlsError::Pem { path: key.clone(), cause },
    })?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|cause| TlsError::Pair {
        cert: cert.clone(),
        key: key.clone(),
        cause,
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Read { path: path.to_owned(), cause })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A new self-signed certificate for `localhost` in `folder`; gives its DER too.
    pub(in crate::http) fn write_pair(folder: &Path) -> (settings::Tls, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = settings::Tls { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        fs::write(&files.cert, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        (files, made.cert.der().clone())
    }

    fn in_use(tls: &Tls) -> CertificateDer<'static> {
        tls.certificate.current.load().cert[0].clone()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (files, first) = write_pair(folder.path());
        let tls = Tls::load(&files).unwrap();
        let now = Instant::now();
        assert!(!tls.certificate.refresh(now).unwrap());
        let (_, second) = write_pair(folder.path());
        assert!(!tls.certificate.refresh(now).unwrap(), "the files are looked at once a second");
        assert_eq!(in_use(&tls), first);
        assert!(tls.certificate.refresh(now + CHECK_EVERY).unwrap());
        assert_eq!(in_use(&tls), second);
        fs::write(&files.key, "-----BEGIN PRIVATE").unwrap();
        let error = tls.certificate.refresh(now + CHECK_EVERY * 2).unwrap_err().to_string();
        assert!(error.contains("key.pem"), "{error}");
        assert!(!tls.certificate.refresh(now + CHECK_EVERY * 3).unwrap(), "it is reported once");
        assert_eq!(in_use(&tls), second);
    }

    #[test]
    fn every_complaint_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (good, _) = write_pair(folder.path());
        let other = tempfile::tempdir().unwrap();
        let (stranger, _) = write_pair(other.path());
        let missing = folder.path().join("missing.pem");
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let cases = [
            (missing.clone(), good.key.clone(), "missing.pem: No such file"),
            (good.cert.clone(), missing, "missing.pem: No such file"),
            (empty.clone(), good.key.clone(), "empty.pem: no certificate"),
            (good.cert.clone(), empty, "empty.pem: no private key"),
            (good.cert.clone(), stranger.key, "key.pem cannot be used together"),
        ];
        for (cert, key, expected) in cases {
            let error = Tls::load(&settings::Tls { cert, key }).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
