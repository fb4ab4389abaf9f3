//! TLS on loopback: a certificate authority of this process alone, and one leaf for `127.0.0.1` and `localhost`.
//!
//! Official clients refuse to send a bearer token over plain http, so every face speaks https, and a client
//! trusts it by the authority's PEM (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, `NODE_EXTRA_CA_CERTS`).

use std::sync::Arc;

use anyhow::Context;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::machine;

/// A day's grace, so that a client whose clock lags a little accepts the certificates.
const BEFORE: TimeDelta = TimeDelta::days(1);
/// Below the 398 days beyond which Apple's and Chromium's verifiers refuse a leaf.
const LEAF_LIFE: TimeDelta = TimeDelta::days(300);
/// The authority outlives its leaf.
const AUTHORITY_LIFE: TimeDelta = TimeDelta::days(600);

/// The authority's certificate and the server side of its leaf.
#[derive(Clone)]
pub struct Tls {
    authority_pem: String,
    leaf_pem: String,
    leaf_key_pem: String,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Makes a new authority and a leaf, valid around the machine's present time.
    pub fn generate() -> anyhow::Result<Self> {
        let now = machine::now();
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the authority's key")?;
        let authority = authority_params(now);
        let authority_certificate = authority.self_signed(&authority_key).context("signing the authority's certificate")?;
        let issuer = Issuer::new(authority, authority_key);

        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the leaf's key")?;
        let leaf = leaf_params(now)?.signed_by(&leaf_key, &issuer).context("signing the leaf")?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing TLS versions")?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), authority_certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
            )
            .context("loading the leaf")?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];

        Ok(Tls {
            authority_pem: authority_certificate.pem(),
            leaf_pem: leaf.pem() + &authority_certificate.pem(),
            leaf_key_pem: leaf_key.serialize_pem(),
            server: Arc::new(server),
        })
    }

    /// The certificate that clients must trust, as PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The leaf and its authority as PEM, for another service on loopback that the sandbox's clients are to trust.
    pub fn leaf_pem(&self) -> &str {
        &self.leaf_pem
    }

    /// The leaf's private key as PEM.
    pub fn leaf_key_pem(&self) -> &str {
        &self.leaf_key_pem
    }

    /// The configuration of a server that shows the leaf and speaks HTTP/1.1.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

fn authority_params(now: DateTime<Utc>) -> CertificateParams {
    let mut params = CertificateParams::default();
    lasts(&mut params, now, AUTHORITY_LIFE);
    params.distinguished_name.push(DnType::OrganizationName, "Portcullis");
    // Two sandboxes on one machine have two authorities; a client that trusts both tells them apart by name.
    params.distinguished_name.push(DnType::CommonName, format!("Portcullis sandbox authority {}", machine::uuid()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn leaf_params(now: DateTime<Utc>) -> anyhow::Result<CertificateParams> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).context("naming the leaf")?;
    lasts(&mut params, now, LEAF_LIFE);
    params.distinguished_name.push(DnType::CommonName, "Portcullis sandbox");
    params.is_ca = IsCa::ExplicitNoCa;
    // OpenSSL's strict mode, Python's default since 3.13, refuses a leaf without it.
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn lasts(params: &mut CertificateParams, now: DateTime<Utc>, life: TimeDelta) {
    let midnight = |day: DateTime<Utc>| {
        let part = |n: u32| u8::try_from(n).unwrap_or(1);
        date_time_ymd(day.year(), part(day.month()), part(day.day()))
    };
    params.not_before = midnight(now - BEFORE);
    params.not_after = midnight(now + life);
}
