//! Whom we trust: the built-in web roots, or the operator's own authorities.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

/// A file of certificate authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authorities in {file}: {problem}")]
pub struct TlsError {
    file: String,
    problem: String,
}

/// A client configuration that trusts `ca_file`, or the web's roots when there is none.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match ca_file {
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Some(file) => read_roots(file)?,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError { file: "the built-in list".into(), problem: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn read_roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |problem: String| TlsError { file: file.display().to_string(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    Ok(roots)
}
