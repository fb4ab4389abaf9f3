//! The signing key of this process.

use std::sync::OnceLock;

use anyhow::Context;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

struct SigningKey {
    private: RsaKeyPair,
    public: DecodingKey,
    /// Key id and certificate thumbprint, which Entra gives the same value.
    kid: String,
    /// The public key as JWKS shows it, without an issuer.
    jwk: Value,
}

/// One key a process, made when the first token is.
fn key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    #[expect(clippy::expect_used, reason = "fails only on a machine without randomness, where TLS fails first")]
    KEY.get_or_init(|| generate().expect("making the signing key"))
}

fn generate() -> anyhow::Result<SigningKey> {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).context("making an RSA key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "accounts.accesscontrol.windows.net");
    let certificate = params.self_signed(&pair).context("signing the key's certificate")?;
    let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
    let kid = URL_SAFE_NO_PAD.encode(thumbprint);

    let private = RsaKeyPair::from_pkcs8(pair.serialized_der()).context("loading the RSA key")?;
    let n = URL_SAFE_NO_PAD.encode(private.public_key().modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(private.public_key().exponent().big_endian_without_leading_zero());
    let public = DecodingKey::from_rsa_components(&n, &e).context("loading the public key")?;
    let jwk = json!({
        "kty": "RSA",
        "use": "sig",
        "kid": kid,
        "x5t": kid,
        "n": n,
        "e": e,
        "x5c": [STANDARD.encode(certificate.der())],
    });
    Ok(SigningKey { private, public, kid, jwk })
}

/// A token with these claims.
pub(super) fn sign(claims: &Value) -> String {
    let key = key();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": key.kid, "kid": key.kid });
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let mut signature = vec![0; key.private.public_modulus_len()];
    let randomness = SystemRandom::new();
    #[expect(clippy::expect_used, reason = "the signature has the length of the modulus, its one condition")]
    key.private.sign(&RSA_PKCS1_SHA256, &randomness, signed.as_bytes(), &mut signature).expect("signing a token");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature))
}

/// The key that tokens are verified with.
pub(super) fn public() -> &'static DecodingKey {
    &key().public
}

/// The JSON Web Key Set.
pub(super) fn jwks(issuer: &str) -> Value {
    let mut jwk = key().jwk.clone();
    jwk["issuer"] = json!(issuer);
    json!({ "keys": [jwk] })
}
