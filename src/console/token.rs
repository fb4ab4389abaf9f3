//! Who calls: the access token of the call, believed only after every part of it was checked here.
//!
//! What the platform in front of the app says of a caller (`X-MS-CLIENT-PRINCIPAL` and its like) is never read: where
//! its sign-in is off, anybody can send it.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use uuid::Uuid;

use super::keys::Keys;
use crate::azure::CallFailed;
use crate::azure::entra::Entra;

/// App roles of our own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May read everything. Given to people and to applications.
    Auditor,
    /// May ask for ports to be opened and for grants to end. Given to people: an application's own token asks for
    /// nothing.
    Operator,
}

impl Role {
    /// Its value in the `roles` of a token.
    pub fn value(self) -> &'static str {
        match self {
            Role::Auditor => "Auditor",
            Role::Operator => "Operator",
        }
    }
}

/// Somebody whose token was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The Entra object id of the person or application; empty if the token names none.
    pub object_id: String,
    /// The client id of the program that the token was given to.
    pub client: String,
    /// A name for people; empty where the token has none.
    pub name: String,
    /// Whether a person signed in, and not an application by itself.
    pub is_person: bool,
    roles: Vec<String>,
}

impl Caller {
    /// Whether the tenant gave the caller this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.iter().any(|value| value == role.value())
    }
}

/// Why a caller is not believed, in one sentence for the caller. It never holds a part of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// There is no token.
    #[error("Sign in: send an access token for this API as `Authorization: Bearer …`.")]
    Missing,
    /// It is none that can be read, or it lacks what every access token of Entra ID has.
    #[error("The Authorization header holds no access token of Entra ID: send one for this API as `Authorization: Bearer …`.")]
    Unreadable,
    /// It is signed in another way than with RS256 and a named key.
    #[error("The access token is not signed as Entra ID signs: get one from Entra ID.")]
    OtherAlgorithm,
    /// The signature is not one of the tenant's keys.
    #[error("The access token is not signed with a key of this tenant: get one from Entra ID.")]
    Unsigned,
    /// It is an ID token.
    #[error("This is an ID token, which says who signed in but opens no API: send an access token for this API.")]
    IdToken,
    /// It is of another tenant.
    #[error("The access token is of another tenant: sign in to this one.")]
    OtherTenant,
    /// It is for another API.
    #[error("The access token is for another API: ask for one for this API.")]
    OtherAudience,
    /// Its time is over.
    #[error("The access token has expired: get a new one.")]
    Expired,
    /// Its time has not come.
    #[error("The access token is not valid yet: check the clocks, or wait.")]
    NotYetValid,
    /// It cannot be checked, because the tenant's keys cannot be read.
    #[error("{0}")]
    KeysUnreadable(CallFailed),
}

/// The clocks of Azure's machines and ours differ by less; each second more is one that a stolen token gains.
const LEEWAY_SECONDS: u64 = 60;

/// Far longer than what Entra gives: of more than 200 groups a token names none (access-token claims reference).
const LONGEST_TOKEN: usize = 16 * 1024;

/// Checks access tokens of one tenant for our own API.
#[derive(Debug)]
pub(super) struct Tokens {
    keys: Keys,
    tenant: Uuid,
    validation: Validation,
}

/// The claims that are looked at besides those that the validation looks at. Each is as Entra writes it, or the token
/// is not Entra's.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// One issuer and one audience: a list of several would be believed for any of them.
    #[serde(rename = "iss")]
    _issuer: String,
    #[serde(rename = "aud")]
    _audience: String,
    tid: Option<String>,
    oid: Option<String>,
    appid: Option<String>,
    azp: Option<String>,
    /// What a person lets the program do; an application's own token has none (access-token claims reference).
    scp: Option<String>,
    preferred_username: Option<String>,
    upn: Option<String>,
    unique_name: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

impl Claims {
    /// Who it is that these claims, whose signature was checked, are of.
    pub fn caller(self, tenant: Uuid) -> Result<Caller, Untrusted> {
        if self.tid.and_then(|tid| Uuid::parse_str(&tid).ok()) != Some(tenant) {
            return Err(Untrusted::OtherTenant);
        }
        // An ID token has the same issuer, audience, keys and roles; only an access token names its client.
        let client = self.azp.or(self.appid).ok_or(Untrusted::IdToken)?;
        Ok(Caller {
            object_id: self.oid.unwrap_or_default(),
            client,
            name: self.preferred_username.or(self.upn).or(self.unique_name).unwrap_or_default(),
            is_person: self.scp.is_some_and(|scopes| !scopes.trim().is_empty()),
            roles: self.roles,
        })
    }
}

impl Tokens {
    /// Tokens of this tenant for one of these audiences. Without an audience nobody is let in.
    pub fn new(entra: Entra, audiences: &[String]) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        validation.set_issuer(entra.issuers());
        validation.set_audience(audiences);
        Tokens { tenant: entra.tenant(), keys: Keys::new(entra), validation }
    }

    /// Who calls with these headers.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Untrusted> {
        let token = bearer(headers)?;
        let key = self.keys.get(&key_of(token)?).await.map_err(Untrusted::KeysUnreadable)?;
        let key = key.ok_or(Untrusted::Unsigned)?;
        decode::<Claims>(token, &key, &self.validation).map_err(|error| reason(error.kind()))?.claims.caller(self.tenant)
    }
}

/// The id of the key that a token says it is signed with. It is always one that the tenant publishes; what the header itself
/// brings along (jwk, jku, x5u) is not looked at. An extension that must be understood is not.
pub fn key_of(token: &str) -> Result<String, Untrusted> {
    let header = decode_header(token).map_err(|_| Untrusted::Unreadable)?;
    header.kid.filter(|_| header.alg == Algorithm::RS256 && header.crit.is_none()).ok_or(Untrusted::OtherAlgorithm)
}

/// The one token of these headers, which is not looked into.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Untrusted> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let first = all.next().ok_or(Untrusted::Missing)?;
    let text = first.to_str().map_err(|_| Untrusted::Unreadable)?;
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let token = token.filter(|token| !token.is_empty() && token.len() <= LONGEST_TOKEN).ok_or(Untrusted::Unreadable)?;
    // Two of them: somebody in between could have checked the other one.
    if all.next().is_some() { Err(Untrusted::Unreadable) } else { Ok(token) }
}

fn reason(kind: &ErrorKind) -> Untrusted {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidRsaKey(_) => Untrusted::Unsigned,
        ErrorKind::InvalidAlgorithm => Untrusted::OtherAlgorithm,
        ErrorKind::InvalidIssuer => Untrusted::OtherTenant,
        ErrorKind::InvalidAudience => Untrusted::OtherAudience,
        ErrorKind::ExpiredSignature => Untrusted::Expired,
        ErrorKind::ImmatureSignature => Untrusted::NotYetValid,
        _ => Untrusted::Unreadable,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, LazyLock};

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
    use axum::http::HeaderValue;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::azure::entra::tests::{CONFIGURATION, FarEnd, Reply, TENANT, entra, ok};

    pub const AUDIENCE: &str = "5a4db0c5-00a1-4000-8000-00000000a91d";

    static ONE: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    static OTHER: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

    fn published(keys: &[(&str, &RsaKeyPair)]) -> Reply {
        let jwk = |(id, pair): &(&str, &RsaKeyPair)| {
            let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
            json!({"kty": "RSA", "use": "sig", "kid": id, "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus)})
        };
        ok(&json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string())
    }

    /// Tokens of a tenant that publishes the key `one`.
    pub fn tokens() -> (Tokens, Arc<FarEnd>) {
        over(vec![ok(CONFIGURATION), published(&[("one", &ONE)])])
    }

    /// Tokens of a tenant whose far end gives these replies.
    pub fn over(replies: Vec<Reply>) -> (Tokens, Arc<FarEnd>) {
        let (entra, far_end) = entra(replies);
        (Tokens::new(entra, &["api://portcullis".to_owned(), AUDIENCE.to_owned()]), far_end)
    }

    /// The claims of an application with the role.
    pub fn v2() -> Value {
        let now = get_current_timestamp();
        json!({"aud": AUDIENCE, "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "ver": "2.0",
            "iat": now, "nbf": now, "exp": now + 3599, "oid": "oid-app", "sub": "oid-app", "azp": "client", "roles": ["Auditor"]})
    }

    /// The claims of a person, as a registration of version 1 gets them.
    fn v1() -> Value {
        let mut claims = with(v2(), "iss", json!(format!("https://sts.windows.net/{TENANT}/")));
        claims.as_object_mut().unwrap().remove("azp");
        with(with(with(claims, "aud", json!("api://portcullis")), "appid", json!("cli")), "scp", json!("user_impersonation"))
    }

    pub fn with(mut claims: Value, name: &str, value: Value) -> Value {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    }

    /// A token signed with the key `one`.
    pub fn signed(claims: &Value) -> String {
        sign(&json!({"typ": "JWT", "alg": "RS256", "kid": "one"}), claims, &ONE)
    }

    fn sign(header: &Value, claims: &Value, pair: &RsaKeyPair) -> String {
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn bearing(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
    }

    async fn call(tokens: &Tokens, token: &str) -> Result<Caller, Untrusted> {
        tokens.caller(&bearing(token)).await
    }

    async fn refused(token: &str) -> Untrusted {
        call(&tokens().0, token).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_application_and_a_person_are_known_by_tokens_of_either_version() {
        let (tokens, _) = tokens();
        let caller = call(&tokens, &signed(&v2())).await.unwrap();
        assert_eq!(
            caller,
            Caller {
                object_id: "oid-app".to_owned(),
                client: "client".to_owned(),
                name: String::new(),
                is_person: false,
                roles: vec!["Auditor".to_owned()]
            }
        );
        assert!(caller.has(Role::Auditor));
        let caller = call(&tokens, &signed(&v1())).await.unwrap();
        assert_eq!((caller.client.as_str(), caller.has(Role::Auditor)), ("cli", true));
    }

    #[tokio::test]
    async fn a_role_is_had_only_by_its_whole_name() {
        let (tokens, _) = tokens();
        for roles in [json!(null), json!([]), json!(["auditor"]), json!(["Auditors", "Reader"])] {
            let caller = call(&tokens, &signed(&with(v2(), "roles", roles.clone()))).await.unwrap();
            assert!(!caller.has(Role::Auditor), "{roles}");
        }
        assert_eq!(call(&tokens, &signed(&with(v2(), "roles", json!("Auditor")))).await, Err(Untrusted::Unreadable));
    }

    #[tokio::test]
    async fn claims_that_are_not_ours_are_refused_with_their_reason() {
        let now = get_current_timestamp();
        let other = Uuid::from_u128(1);
        let table = [
            ("iss", json!(format!("https://login.microsoftonline.com/{other}/v2.0")), Untrusted::OtherTenant),
            ("iss", json!(format!("https://sts.windows.net/{TENANT}")), Untrusted::OtherTenant),
            ("iss", json!(format!("https://login.microsoftonline.com/{TENANT}/v2.0/")), Untrusted::OtherTenant),
            ("iss", json!([format!("https://sts.windows.net/{TENANT}/")]), Untrusted::Unreadable),
            ("iss", json!(null), Untrusted::Unreadable),
            ("tid", json!(other), Untrusted::OtherTenant),
            ("tid", json!(null), Untrusted::OtherTenant),
            ("aud", json!("https://management.azure.com"), Untrusted::OtherAudience),
            ("aud", json!([AUDIENCE, "https://graph.microsoft.com"]), Untrusted::Unreadable),
            ("aud", json!(null), Untrusted::Unreadable),
            ("exp", json!(now - 61), Untrusted::Expired),
            ("exp", json!(null), Untrusted::Unreadable),
            ("exp", json!("tomorrow"), Untrusted::Unreadable),
            ("nbf", json!(now + 120), Untrusted::NotYetValid),
            ("nbf", json!(null), Untrusted::Unreadable),
            ("azp", json!(null), Untrusted::IdToken),
        ];
        let (tokens, _) = tokens();
        for (name, value, reason) in table {
            assert_eq!(call(&tokens, &signed(&with(v2(), name, value.clone()))).await, Err(reason), "{name} {value}");
        }
        for (name, value) in [("exp", json!(now - 30)), ("nbf", json!(now + 30))] {
            assert!(call(&tokens, &signed(&with(v2(), name, value))).await.is_ok(), "{name} within the leeway");
        }
    }

    #[tokio::test]
    async fn nobody_is_let_in_without_an_audience() {
        let (entra, _) = entra(vec![ok(CONFIGURATION), published(&[("one", &ONE)])]);
        let tokens = Tokens::new(entra, &[]);
        assert_eq!(call(&tokens, &signed(&v2())).await, Err(Untrusted::OtherAudience));
    }

    #[tokio::test]
    async fn no_other_algorithm_is_believed() {
        let none = |alg: &str| {
            format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "one"}).to_string()),
                URL_SAFE_NO_PAD.encode(v2().to_string())
            )
        };
        for alg in ["none", "None", ""] {
            assert_eq!(refused(&none(alg)).await, Untrusted::Unreadable, "{alg}");
        }
        let secrets = [ONE.public_key().as_ref().to_vec(), ONE.public_key().modulus().big_endian_without_leading_zero().to_vec()];
        for secret in secrets {
            let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
            let token = encode(&header, &v2(), &EncodingKey::from_secret(&secret)).unwrap();
            let (tokens, far_end) = tokens();
            assert_eq!(call(&tokens, &token).await, Err(Untrusted::OtherAlgorithm));
            assert!(far_end.asked.lock().unwrap().is_empty(), "it makes nobody read keys");
        }
        for alg in ["RS384", "RS512", "PS256", "ES256"] {
            assert_eq!(refused(&sign(&json!({"alg": alg, "kid": "one"}), &v2(), &ONE)).await, Untrusted::OtherAlgorithm, "{alg}");
        }
    }

    #[tokio::test]
    async fn a_signature_counts_only_with_a_key_of_the_tenant() {
        let header = |kid: &str| json!({"alg": "RS256", "kid": kid});
        assert_eq!(refused(&sign(&header("one"), &v2(), &OTHER)).await, Untrusted::Unsigned);
        assert_eq!(refused(&sign(&header("two"), &v2(), &ONE)).await, Untrusted::Unsigned);
        assert_eq!(refused(&sign(&json!({"alg": "RS256"}), &v2(), &ONE)).await, Untrusted::OtherAlgorithm);
        assert_eq!(
            refused(&sign(&json!({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false}), &v2(), &ONE)).await,
            Untrusted::OtherAlgorithm
        );
        let brought = json!({"alg": "RS256", "kid": "one", "jku": "https://evil.example/keys",
            "jwk": {"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(OTHER.public_key().modulus().big_endian_without_leading_zero()), "e": "AQAB"}});
        assert_eq!(refused(&sign(&brought, &v2(), &OTHER)).await, Untrusted::Unsigned);
        let token = signed(&v2());
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(with(v2(), "oid", json!("somebody else")).to_string());
        parts[1] = &forged;
        assert_eq!(refused(&parts.join(".")).await, Untrusted::Unsigned);
        assert_eq!(refused(&format!("{}.{}.", parts[0], parts[1])).await, Untrusted::Unsigned);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rolled_over_key_is_read_and_the_old_one_forgotten() {
        let (tokens, far_end) =
            over(vec![ok(CONFIGURATION), published(&[("one", &ONE)]), ok(CONFIGURATION), published(&[("two", &OTHER)])]);
        assert!(call(&tokens, &signed(&v2())).await.is_ok());
        let new = sign(&json!({"alg": "RS256", "kid": "two"}), &v2(), &OTHER);
        assert_eq!(call(&tokens, &new).await, Err(Untrusted::Unsigned));
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert!(call(&tokens, &new).await.is_ok());
        assert_eq!(call(&tokens, &signed(&v2())).await, Err(Untrusted::Unsigned));
        assert_eq!(far_end.asked.lock().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn keys_that_cannot_be_read_are_no_fault_of_the_caller() {
        let (tokens, _) = over(vec![Reply::Status(404, Vec::new(), "")]);
        assert!(matches!(call(&tokens, &signed(&v2())).await, Err(Untrusted::KeysUnreadable(_))));
    }

    #[tokio::test]
    async fn what_is_no_bearer_token_is_refused_before_keys_are_read() {
        let (tokens, far_end) = over(Vec::new());
        let headers =
            |values: &[&str]| values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect::<HeaderMap>();
        assert_eq!(tokens.caller(&HeaderMap::new()).await, Err(Untrusted::Missing));
        let good = format!("Bearer {}", signed(&v2()));
        let long = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
        for values in [&["Basic YTpi"][..], &["Bearer"], &["Bearer "], &["Bearer a.b"], &["Bearer x.y.z"], &[&good, "Bearer x"], &[&long]] {
            assert_eq!(tokens.caller(&headers(values)).await, Err(Untrusted::Unreadable), "{}", values.len());
        }
        let mut believed = HeaderMap::new();
        believed.insert("x-ms-client-principal", HeaderValue::from_static("eyJyb2xlcyI6WyJBdWRpdG9yIl19"));
        believed.insert("x-ms-client-principal-id", HeaderValue::from_static("oid"));
        assert_eq!(tokens.caller(&believed).await, Err(Untrusted::Missing));
        assert!(far_end.asked.lock().unwrap().is_empty());
    }
}
