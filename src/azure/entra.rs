//! Entra ID as the tenant's own discovery tells it: who issues its tokens, and the keys that they are signed with.
//!
//! Nothing here needs a sign-in. Which keys to keep, and for how long, is the caller's matter.

use azure_core::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;
use uuid::Uuid;

use super::channel::{Answer, Channel, Outgoing};
use super::error::{CallFailed, Service};
use crate::settings::Cloud;

/// One tenant at its login host.
#[derive(Clone, Debug)]
pub struct Entra {
    channel: Channel,
    endpoint: Url,
    tenant: Uuid,
    issuers: [String; 2],
}

/// A public RSA key that the tenant's tokens may be signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// The id that a token's header names it by.
    pub id: String,
    /// The modulus, in base64url.
    pub modulus: String,
    /// The exponent, in base64url.
    pub exponent: String,
}

impl Entra {
    pub(super) fn new(channel: Channel, endpoint: Url, tenant: Uuid, cloud: Cloud) -> Self {
        let login = match cloud {
            Cloud::Public => "login.microsoftonline.com",
            Cloud::UsGovernment => "login.microsoftonline.us",
        };
        let issuers = [format!("https://sts.windows.net/{tenant}/"), format!("https://{login}/{tenant}/v2.0")];
        Entra { channel, endpoint, tenant, issuers }
    }

    /// The tenant.
    pub fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// The issuers of the tenant's access tokens, of version 1 and of version 2 (access-token claims reference). The
    /// API's registration decides which one a token has, not the endpoint that it came from.
    pub fn issuers(&self) -> &[String; 2] {
        &self.issuers
    }

    /// The keys that the tenant publishes now. At least one.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, CallFailed> {
        let place = self.place_of_keys().await?;
        let what = "reading the tenant's signing keys";
        let (published, answer) = self.read::<Published>(what, place).await?;
        let keys = published.usable(self.tenant, &self.issuers);
        if keys.is_empty() {
            return Err(malformed(what, &answer, "there is no RSA key of the tenant among the published keys"));
        }
        Ok(keys)
    }

    /// Where the keys are. Only at the login host itself: whoever could point elsewhere could sign tokens.
    async fn place_of_keys(&self) -> Result<Url, CallFailed> {
        let what = "reading the tenant's OpenID configuration";
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend([&self.tenant.to_string(), "v2.0", ".well-known", "openid-configuration"]);
        }
        let (configuration, answer) = self.read::<Configuration>(what, url).await?;
        if let Some(place) = configuration.place_at(&self.endpoint) {
            return Ok(place);
        }
        Err(malformed(what, &answer, "its jwks_uri is not at the login host of the settings"))
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, url: Url) -> Result<(T, Answer), CallFailed> {
        let answer = self.channel.call(Outgoing::get(what.to_owned(), url)).await?;
        match serde_json::from_slice(&answer.body) {
            Ok(read) => Ok((read, answer)),
            Err(_) => Err(malformed(what, &answer, "it is not the JSON that OpenID Connect asks for")),
        }
    }
}

fn malformed(what: &str, answer: &Answer, message: &str) -> CallFailed {
    CallFailed::malformed(Service::Entra, Method::Get, what, answer, message)
}

/// What is used of the OpenID configuration.
#[derive(Debug, Deserialize)]
pub struct Configuration {
    jwks_uri: Url,
}

impl Configuration {
    /// Where the keys are, if that is at the login host.
    pub fn place_at(self, login: &Url) -> Option<Url> {
        (self.jwks_uri.origin() == login.origin()).then_some(self.jwks_uri)
    }
}

/// The key set.
#[derive(Debug, Deserialize)]
pub struct Published {
    keys: Vec<PublishedKey>,
}

impl Published {
    /// The RSA keys that sign tokens of this tenant, whose issuers these are.
    pub fn usable(self, tenant: Uuid, issuers: &[String; 2]) -> Vec<SigningKey> {
        self.keys.into_iter().filter_map(|key| key.usable(tenant, issuers)).collect()
    }
}

/// What is used of a key; other kinds of keys have other members.
#[derive(Debug, Deserialize)]
struct PublishedKey {
    #[serde(default)]
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    issuer: Option<String>,
}

impl PublishedKey {
    /// A key of another issuer signs other tenants' tokens; the template of all tenants stands for ours too.
    fn usable(self, tenant: Uuid, issuers: &[String; 2]) -> Option<SigningKey> {
        let is_ours = |issuer: String| issuers.contains(&issuer.replace("{tenantid}", &tenant.to_string()));
        if self.kty != "RSA" || self.usage.is_some_and(|usage| usage != "sig") || !self.issuer.is_none_or(is_ours) {
            return None;
        }
        Some(SigningKey { id: self.kid?, modulus: self.n?, exponent: self.e? })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::super::channel::tests::channel;
    pub use super::super::channel::tests::{FarEnd, Reply};
    use super::*;

    pub const TENANT: Uuid = Uuid::from_u128(0x72f988bf_86f1_41af_91ab_2d7cd011db47);

    pub const CONFIGURATION: &str = r#"{"issuer":"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0","jwks_uri":"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/discovery/v2.0/keys"}"#;

    /// A tenant whose far end gives these replies.
    pub fn entra(replies: Vec<Reply>) -> (Entra, Arc<FarEnd>) {
        let (channel, far_end) = channel(Service::Entra, replies);
        let endpoint = Url::parse("https://login.microsoftonline.com").unwrap();
        (Entra::new(channel, endpoint, TENANT, Cloud::Public), far_end)
    }

    /// An answer of success with this body.
    pub fn ok(body: &str) -> Reply {
        Reply::Status(200, Vec::new(), Box::leak(body.to_owned().into_boxed_str()))
    }

    #[tokio::test]
    async fn the_keys_are_read_where_the_discovery_says() {
        let keys = r#"{"keys":[
            {"kty":"RSA","use":"sig","kid":"a","n":"AQ","e":"AQAB","x5c":["…"],"issuer":"https://login.microsoftonline.com/{tenantid}/v2.0"},
            {"kty":"RSA","kid":"b","n":"Ag","e":"AQAB"},
            {"kty":"RSA","use":"sig","kid":"other","n":"Aw","e":"AQAB","issuer":"https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"},
            {"kty":"RSA","use":"enc","kid":"enc","n":"Aw","e":"AQAB"},
            {"kty":"RSA","use":"sig","n":"Aw","e":"AQAB"},
            {"kty":"EC","crv":"P-256","kid":"ec"}]}"#;
        let (entra, far_end) = entra(vec![ok(CONFIGURATION), ok(keys)]);
        let key = |id: &str, modulus: &str| SigningKey { id: id.to_owned(), modulus: modulus.to_owned(), exponent: "AQAB".to_owned() };
        assert_eq!(entra.signing_keys().await.unwrap(), [key("a", "AQ"), key("b", "Ag")]);
        let asked: Vec<String> = far_end.asked.lock().unwrap().iter().map(|request| request.url().to_string()).collect();
        assert_eq!(
            asked,
            [
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0/.well-known/openid-configuration",
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/discovery/v2.0/keys"
            ]
        );
    }

    #[tokio::test]
    async fn keys_at_another_host_are_not_read() {
        for place in [
            "https://login.microsoftonline.example/keys",
            "http://login.microsoftonline.com/keys",
            "https://login.microsoftonline.com:8443/keys",
        ] {
            let (entra, far_end) = entra(vec![ok(&format!(r#"{{"jwks_uri":"{place}"}}"#))]);
            let failed = entra.signing_keys().await.unwrap_err();
            assert!(failed.to_string().contains("not at the login host"), "{failed}");
            assert_eq!(far_end.asked.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn an_answer_without_keys_is_a_failure() {
        for keys in ["", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"EC","kid":"x"}]}"#] {
            let (entra, _) = entra(vec![ok(CONFIGURATION), ok(keys)]);
            assert!(entra.signing_keys().await.is_err(), "{keys}");
        }
    }

    #[test]
    fn each_cloud_has_its_issuers() {
        let (public, _) = entra(Vec::new());
        let government = Entra::new(public.channel.clone(), public.endpoint.clone(), TENANT, Cloud::UsGovernment);
        assert_eq!(public.issuers()[0], "https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/");
        assert_eq!(public.issuers()[1], "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0");
        assert_eq!(government.issuers()[1], "https://login.microsoftonline.us/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0");
        assert_eq!(government.issuers()[0], public.issuers()[0]);
    }
}
