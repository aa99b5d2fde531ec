//! TLS with ring, explicitly: no process-wide provider is installed, so the host's own use of rustls is left alone.

use crate::error::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What a host's TLS differs in from the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct TlsSettings {
    /// Take any certificate.
    pub(super) skip_verify: bool,
    /// Files of certificates to trust besides the system's.
    pub(super) ca: Vec<PathBuf>,
    /// Certificate files to show, each with its key's file when that is another one.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
}

impl TlsSettings {
    /// The configuration for rustls. The system's certificates are read once a process, and only when `encrypted`.
    ///
    /// # Errors
    /// An unreadable or malformed certificate or key, with its path.
    pub(super) fn client_config(&self, encrypted: bool) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::unexpected("cannot set up TLS").caused_by(e))?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TakeAny(provider)))
        } else {
            let mut roots = if encrypted { system_roots().clone() } else { RootCertStore::empty() };
            for path in &self.ca {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| {
                        Error::invalid_argument("the CA file holds a certificate that cannot be used")
                            .with("path", path.display())
                            .caused_by(e)
                    })?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let Some((certificate, key)) = self.client.first() else { return Ok(builder.with_no_client_auth()) };
        let key = key.as_ref().unwrap_or(certificate);
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| malformed(key, e))?;
        builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|e| {
            Error::invalid_argument("the client certificate and its key cannot be used")
                .with("path", certificate.display())
                .caused_by(e)
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|e| malformed(path, e))?;
    if found.is_empty() {
        return Err(
            Error::invalid_argument("the file holds no certificate in PEM form").with("path", path.display())
        );
    }
    Ok(found)
}

fn malformed(path: &Path, error: rustls::pki_types::pem::Error) -> Error {
    Error::invalid_argument("cannot read a certificate or key file that hosts.toml names")
        .with("path", path.display())
        .caused_by(error)
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's CA certificates cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

/// Takes any certificate, as `skip_verify` asks for, and still checks that the host has its key.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
