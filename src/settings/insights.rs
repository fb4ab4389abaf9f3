//! Where telemetry goes: the settings by which the Functions host finds Application Insights, read as it reads them
//! (documentation of the connection string and of `APPLICATIONINSIGHTS_AUTHENTICATION_STRING`).

use std::collections::BTreeMap;

use url::Url;
use uuid::Uuid;

use super::endpoints::is_loopback;
use super::{Cloud, INSIGHTS, INSIGHTS_SIGN_IN, Reader, SAMPLER, Where};

/// Where telemetry goes, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insights {
    /// The ingestion endpoint.
    pub endpoint: Url,
    /// Which component it is for. Where local authentication is on, whoever has it may write.
    pub key: String,
    /// Who signs in; nothing where the key alone is enough.
    pub identity: Option<InsightsIdentity>,
    /// Which traces are told of.
    pub sampling: Sampling,
}

/// The managed identity that telemetry is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsightsIdentity {
    /// The client id of a user-assigned one; nothing means the system-assigned one.
    pub client_id: Option<Uuid>,
}

/// Which traces are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Those that the host's `traceparent` says are.
    AsTheHost,
    /// All of them.
    All,
}

impl Insights {
    /// The connection string, with nothing in it but what is used.
    pub fn connection(&self) -> String {
        format!("InstrumentationKey={};IngestionEndpoint={}", self.key, self.endpoint)
    }
}

/// The endpoint of a connection string that names none (documentation).
const GLOBAL: &str = "https://dc.services.visualstudio.com";

/// How the hosts of the clouds end.
const PUBLIC: [&str; 2] = [".applicationinsights.azure.com", "dc.services.visualstudio.com"];
const GOVERNMENT: [&str; 2] = [".applicationinsights.azure.us", ".applicationinsights.us"];

impl Reader<'_> {
    /// Reads where telemetry goes; nothing where nothing is set. `at` is where all else is, if that is known: a token for
    /// Azure goes to Azure, and to loopback only where no token of Azure can be had.
    pub(super) fn insights(&mut self, at: Option<(Cloud, Where)>) -> Option<Insights> {
        let sampling = self.sampling();
        let signs_in = self.insights_sign_in();
        let text = self.optional(INSIGHTS)?;
        let Some(mut parts) = parts(&text) else {
            self.mistake(
                INSIGHTS,
                "is no connection string: copy it from the Application Insights component, InstrumentationKey=…;IngestionEndpoint=…",
            );
            return None;
        };
        let key = parts.remove("instrumentationkey").filter(|key| !key.is_empty());
        if key.is_none() {
            self.mistake(INSIGHTS, "names no InstrumentationKey: copy the whole connection string from the component");
        }
        let suffix = parts.remove("endpointsuffix").map(|suffix| format!("https://dc.{suffix}"));
        let endpoint = parts.remove("ingestionendpoint").or(suffix).unwrap_or_else(|| GLOBAL.to_owned());
        let endpoint = self.url(INSIGHTS, &endpoint)?;
        self.is_where_it_must_be(&endpoint, at?).then_some(())?;
        Some(Insights { endpoint, key: key?, identity: signs_in?, sampling: sampling? })
    }

    fn is_where_it_must_be(&mut self, endpoint: &Url, (cloud, location): (Cloud, Where)) -> bool {
        let host = endpoint.host_str().unwrap_or_default();
        let ends = |known: &[&str]| known.iter().any(|known| host.ends_with(known));
        let (fits, cure) = match (location, cloud) {
            (Where::Loopback, _) => {
                (is_loopback(endpoint), "the others are on loopback: put it on 127.0.0.1 too, or take the setting away")
            }
            (Where::Azure, Cloud::Public) => {
                (ends(&PUBLIC), "which is no host of Application Insights in public Azure: copy the connection string from the component")
            }
            (Where::Azure, Cloud::UsGovernment) => (
                ends(&GOVERNMENT),
                "which is no host of Application Insights in Azure Government: copy the connection string from the component",
            ),
        };
        if !fits {
            self.mistake(INSIGHTS, &format!("has the endpoint `https://{host}`, {cure}"));
        }
        fits
    }

    /// Nothing where the setting cannot be read; within it nothing where nobody signs in.
    fn insights_sign_in(&mut self) -> Option<Option<InsightsIdentity>> {
        let Some(text) = self.optional(INSIGHTS_SIGN_IN) else { return Some(None) };
        let mut parts = parts(&text).unwrap_or_default();
        if !parts.remove("authorization").is_some_and(|how| how.eq_ignore_ascii_case("AAD")) {
            self.mistake(INSIGHTS_SIGN_IN, "does not say Authorization=AAD: write ClientId=…;Authorization=AAD, or take the setting away");
            return None;
        }
        let client_id = match parts.remove("clientid") {
            Some(text) => Some(self.guid(INSIGHTS_SIGN_IN, &text)?),
            None => None,
        };
        Some(Some(InsightsIdentity { client_id }))
    }

    fn sampling(&mut self) -> Option<Sampling> {
        match self.optional(SAMPLER).as_deref() {
            None | Some("parentbased_always_on") => Some(Sampling::AsTheHost),
            Some("always_on") => Some(Sampling::All),
            Some(other) => {
                let cure = "write parentbased_always_on (traces that the Functions host records) or always_on (all)";
                self.mistake(SAMPLER, &format!("is `{other}`: {cure}"));
                None
            }
        }
    }
}

/// The parts of `Name=value;Name=value`, names in lower case; nothing where it has not that form.
fn parts(text: &str) -> Option<BTreeMap<String, String>> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{azure, loopback, mistakes, read};
    use super::*;

    const KEY: &str = "InstrumentationKey=6f1ea9bc-0000-4000-8000-2d7cd011db47";
    const REGIONAL: &str = "InstrumentationKey=6f1ea9bc;IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/;LiveEndpoint=https://x/;ApplicationId=1";
    const CLIENT_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn without_a_connection_string_nothing_is_told() {
        let mut values = azure();
        values.insert(INSIGHTS_SIGN_IN, "Authorization=AAD");
        assert_eq!(read(&values).unwrap().insights, None);
    }

    #[test]
    fn the_parts_are_found_whatever_their_order_and_case() {
        let of = |connection: &'static str, sign_in: &'static str| {
            let mut values = azure();
            values.extend([(INSIGHTS, connection), (INSIGHTS_SIGN_IN, sign_in)]);
            read(&values).unwrap().insights.unwrap()
        };
        let regional = of(REGIONAL, "ClientId=0f8fad5b-d9cb-469f-a165-70867728950e;Authorization=AAD");
        assert_eq!(
            (regional.endpoint.as_str(), regional.key.as_str()),
            ("https://westeurope-5.in.applicationinsights.azure.com/", "6f1ea9bc")
        );
        assert_eq!(regional.identity, Some(InsightsIdentity { client_id: CLIENT_ID.parse().ok() }));
        assert_eq!(regional.sampling, Sampling::AsTheHost);
        assert_eq!(of(REGIONAL, "authorization=aad").identity, Some(InsightsIdentity { client_id: None }));
        let global = of(KEY, "");
        assert_eq!((global.endpoint.host_str(), global.identity), (Some("dc.services.visualstudio.com"), None));
        assert!(
            of("instrumentationkey=k;EndpointSuffix=applicationinsights.azure.com;", "").endpoint.as_str().starts_with("https://dc.app")
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_cure_and_shows_no_key() {
        for (name, value, told) in [
            (
                INSIGHTS,
                "6f1ea9bc",
                "is no connection string: copy it from the Application Insights component, InstrumentationKey=…;IngestionEndpoint=…",
            ),
            (
                INSIGHTS,
                "IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/",
                "names no InstrumentationKey: copy the whole connection string from the component",
            ),
            (
                INSIGHTS,
                "InstrumentationKey=6f1ea9bc;IngestionEndpoint=https://evil.example/",
                "has the endpoint `https://evil.example`, which is no host of Application Insights in public Azure: copy the connection string from the component",
            ),
            (
                INSIGHTS,
                "InstrumentationKey=6f1ea9bc;IngestionEndpoint=http://westeurope-5.in.applicationinsights.azure.com/",
                "begins with http: it must begin with https://, since tokens go there",
            ),
            (
                INSIGHTS_SIGN_IN,
                "ClientId=x",
                "does not say Authorization=AAD: write ClientId=…;Authorization=AAD, or take the setting away",
            ),
            (INSIGHTS_SIGN_IN, "ClientId=x;Authorization=AAD", "holds `x`, which is not a GUID"),
            (
                SAMPLER,
                "always_off",
                "is `always_off`: write parentbased_always_on (traces that the Functions host records) or always_on (all)",
            ),
        ] {
            let mut values = azure();
            values.insert(INSIGHTS, KEY);
            values.insert(name, value);
            assert_eq!(mistakes(&values), [format!("{name} {told}")]);
        }
    }

    #[test]
    fn telemetry_goes_where_all_else_is() {
        let mut values = loopback();
        values.insert(INSIGHTS, KEY);
        let told = "APPLICATIONINSIGHTS_CONNECTION_STRING has the endpoint `https://dc.services.visualstudio.com`, the others are on loopback: put it on 127.0.0.1 too, or take the setting away";
        assert_eq!(mistakes(&values), [told]);
        values.insert(INSIGHTS, "InstrumentationKey=k;IngestionEndpoint=https://127.0.0.1:4008");
        assert!(read(&values).unwrap().insights.is_some());
    }
}
