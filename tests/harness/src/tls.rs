//! Certificates of our own, made at run time: an authority, and those it vouches for.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Context, Result};

/// Somebody who issues certificates. Nobody trusts it who is not told to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key, both in PEM form.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// How a registry speaks TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What it shows.
    pub identity: Identity,
    /// The certificate of the authority whose clients alone are let in, in PEM form; everybody is when absent.
    pub client_authority: Option<String>,
}

impl Authority {
    /// A new one, called `name`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(name: &str) -> Result<Self> {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot make a key")?;
        let issuer = CertifiedIssuer::self_signed(wanted, key).context("cannot sign a certificate")?;
        Ok(Self { issuer })
    }

    /// Its own certificate in PEM form.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server that is reached by these host names or addresses.
    ///
    /// # Errors
    /// When a name is malformed.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// When the name is malformed.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = CertificateParams::new(names).context("a certificate's name is malformed")?;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![usage];
        let key = KeyPair::generate().context("cannot make a key")?;
        let made = wanted.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        Ok(Identity { certificate: made.pem(), key: key.serialize_pem() })
    }
}
