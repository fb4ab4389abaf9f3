//! The app's settings: read once at the start, every mistake told at once with the name of the variable and its cure.
//!
//! A setting that cannot be read never becomes a default, because a default that nobody chose could be `enforce` on
//! the wrong estate or an endpoint that is not Azure's.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use portcullis_domain::duration;
pub use portcullis_domain::reconcile::Mode;
use url::{Host, Url};
use uuid::Uuid;

/// Every variable that the app reads, in the order in which the example file shows them.
pub const NAMES: [&str; 20] = [
    MODE,
    TENANT,
    SUBSCRIPTIONS,
    BLOB,
    STATE_CONTAINER,
    AUDIT_CONTAINER,
    NAMESPACE,
    BUS,
    LOGS,
    LOGS_RULE,
    LOGS_STREAM,
    ARM,
    LOGIN,
    API_AUDIENCE,
    CLIENT,
    LONGEST,
    CLOSE_CAP,
    IDENTITY_ENDPOINT,
    IDENTITY_HEADER,
    FEDERATED_TOKEN,
];

/// Variables that the platform sets, which nobody writes into a settings file.
pub const OF_THE_PLATFORM: [&str; 3] = [IDENTITY_ENDPOINT, IDENTITY_HEADER, FEDERATED_TOKEN];

const MODE: &str = "PORTCULLIS_MODE";
const TENANT: &str = "PORTCULLIS_TENANT_ID";
const SUBSCRIPTIONS: &str = "PORTCULLIS_SUBSCRIPTIONS";
const BLOB: &str = "PORTCULLIS_BLOB_ENDPOINT";
const STATE_CONTAINER: &str = "PORTCULLIS_STATE_CONTAINER";
const AUDIT_CONTAINER: &str = "PORTCULLIS_AUDIT_CONTAINER";
const NAMESPACE: &str = "ServiceBus__fullyQualifiedNamespace";
const BUS: &str = "PORTCULLIS_SERVICEBUS_ENDPOINT";
const LOGS: &str = "PORTCULLIS_LOGS_ENDPOINT";
const LOGS_RULE: &str = "PORTCULLIS_LOGS_RULE_ID";
const LOGS_STREAM: &str = "PORTCULLIS_LOGS_STREAM";
const ARM: &str = "PORTCULLIS_ARM_ENDPOINT";
const LOGIN: &str = "PORTCULLIS_LOGIN_ENDPOINT";
const API_AUDIENCE: &str = "PORTCULLIS_API_AUDIENCE";
const CLIENT: &str = "PORTCULLIS_CLIENT_ID";
const LONGEST: &str = "PORTCULLIS_LONGEST_OPENING";
const CLOSE_CAP: &str = "PORTCULLIS_CLOSE_CAP";
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
const IDENTITY_HEADER: &str = "IDENTITY_HEADER";
const FEDERATED_TOKEN: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// Names with this beginning are ours, so one that is not in [`NAMES`] is a misspelling.
const OUR_PREFIX: &str = "PORTCULLIS_";

/// The Azure cloud that the endpoints belong to: it decides the audiences that tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Azure's public cloud; also what a loopback world imitates.
    Public,
    /// Azure Government of the United States.
    UsGovernment,
}

/// How the app signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// The managed identity that App Service offers at `IDENTITY_ENDPOINT`.
    ManagedIdentity,
    /// A federated token of Kubernetes or of a pipeline, at `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity,
    /// The developer's own `az` or `azd` login.
    DeveloperTools,
}

/// Where the services are: all at Azure, or all on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Azure's own hosts.
    Azure,
    /// A simulated Azure on loopback.
    Loopback,
}

/// The settings, read and checked. Holds no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the app acts; observing is the default of a first deployment.
    pub mode: Mode,
    /// The tenant whose tokens are believed and whose estate is governed.
    pub tenant_id: Uuid,
    /// The subscriptions that are governed; empty means all that the identity can see.
    pub subscriptions: Vec<Uuid>,
    /// The storage account, without a trailing slash: `https://ACCOUNT.blob.core.windows.net`.
    pub blob_endpoint: Url,
    /// The container of records and indexes.
    pub state_container: String,
    /// The container of audit records.
    pub audit_container: String,
    /// The Service Bus namespace's host name.
    pub service_bus_namespace: String,
    /// Where messages are sent; the namespace itself unless a loopback endpoint was given.
    pub service_bus_endpoint: Url,
    /// The Logs Ingestion endpoint of the data collection rule.
    pub logs_endpoint: Url,
    /// The immutable id of the data collection rule, such as `dcr-0123…`.
    pub logs_rule_id: String,
    /// The stream that rows go to.
    pub logs_stream: String,
    /// Azure Resource Manager.
    pub arm_endpoint: Url,
    /// Entra ID's login host.
    pub login_endpoint: Url,
    /// Audiences that a caller's token may name; empty lets nobody in but to health.
    pub api_audiences: Vec<String>,
    /// The client id of a user-assigned identity; absent means the system-assigned one.
    pub client_id: Option<Uuid>,
    /// The longest opening that is let stand.
    pub longest_opening: TimeDelta,
    /// How many VMs with a never-covered opening one shard's run may send to be closed.
    pub close_cap: u32,
    /// How the app signs in.
    pub sign_in: SignIn,
    /// The cloud whose audiences are used.
    pub cloud: Cloud,
    location: Where,
}

/// Everything that is wrong with the settings, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

impl Settings {
    /// Reads the settings by `lookup`; `names` are all names there are, so that a misspelt one of ours is found.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>, names: impl IntoIterator<Item = String>) -> Result<Settings, Mistakes> {
        let mut reader = Reader { lookup: &lookup, mistakes: Vec::new() };
        reader.refuse_unknown(names);
        let settings = reader.settings();
        match settings {
            Some(settings) if reader.mistakes.is_empty() => Ok(settings),
            _ => Err(Mistakes(reader.mistakes)),
        }
    }

    /// Whether all services are on this machine: a simulated Azure, said in the first log line and in health.
    pub fn loopback(&self) -> bool {
        self.location == Where::Loopback
    }

    /// Where the services are, for a person.
    pub fn location(&self) -> Where {
        self.location
    }
}

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        let mode = self.mode();
        let tenant_id = self.required(TENANT, "the tenant's GUID").and_then(|text| self.guid(TENANT, &text));
        let subscriptions = self.list(SUBSCRIPTIONS).iter().filter_map(|text| self.guid(SUBSCRIPTIONS, text)).collect();
        let state_container = self.container(STATE_CONTAINER, "state");
        let audit_container = self.container(AUDIT_CONTAINER, "audit");
        if state_container == audit_container {
            self.mistake(AUDIT_CONTAINER, &format!("names the same container as {STATE_CONTAINER}; audit records need one of their own"));
        }
        let endpoints = self.endpoints();
        let logs_rule_id = self.required(LOGS_RULE, "the immutable id of the data collection rule, such as dcr-0123…");
        let logs_rule_id = logs_rule_id.and_then(|text| self.word(LOGS_RULE, text));
        let logs_stream = self.optional(LOGS_STREAM).unwrap_or_else(|| "Custom-Portcullis_CL".to_owned());
        let logs_stream = self.word(LOGS_STREAM, logs_stream);
        let api_audiences = self.list(API_AUDIENCE);
        let client_id = self.optional(CLIENT).and_then(|text| self.guid(CLIENT, &text));
        let longest_opening = self.longest_opening();
        let close_cap = self.close_cap();
        let sign_in = self.sign_in();
        let endpoints = endpoints?;
        let location = self.location(&endpoints, sign_in)?;
        Some(Settings {
            mode: mode?,
            tenant_id: tenant_id?,
            subscriptions,
            cloud: endpoints.cloud(),
            blob_endpoint: endpoints.blob,
            state_container,
            audit_container,
            service_bus_namespace: endpoints.namespace,
            service_bus_endpoint: endpoints.bus,
            logs_endpoint: endpoints.logs,
            logs_rule_id: logs_rule_id?,
            logs_stream: logs_stream?,
            arm_endpoint: endpoints.arm,
            login_endpoint: endpoints.login,
            api_audiences,
            client_id,
            longest_opening: longest_opening?,
            close_cap: close_cap?,
            sign_in,
            location,
        })
    }

    fn refuse_unknown(&mut self, names: impl IntoIterator<Item = String>) {
        let unknown: BTreeSet<String> =
            names.into_iter().filter(|name| name.to_ascii_uppercase().starts_with(OUR_PREFIX) && !NAMES.contains(&name.as_str())).collect();
        for name in unknown {
            let near = NAMES.iter().filter(|known| known.starts_with(OUR_PREFIX)).min_by_key(|known| distance(known, &name));
            let cure = near.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            self.mistake(&name, &format!("is not a setting of Portcullis: correct the name or remove it{cure}"));
        }
    }

    fn mode(&mut self) -> Option<Mode> {
        match self.optional(MODE).as_deref() {
            None | Some("observe") => Some(Mode::Observe),
            Some("enforce") => Some(Mode::Enforce),
            Some(other) => {
                self.mistake(MODE, &format!("is `{other}`: write observe (only say what would be done) or enforce"));
                None
            }
        }
    }

    fn endpoints(&mut self) -> Option<Endpoints> {
        let blob = self.required(BLOB, "the storage account, such as https://ACCOUNT.blob.core.windows.net");
        let blob = blob.and_then(|text| self.url(BLOB, &text));
        let namespace = self.required(NAMESPACE, "the Service Bus namespace, such as NAME.servicebus.windows.net");
        let namespace = namespace.and_then(|text| self.host_name(NAMESPACE, text));
        let bus = self.optional(BUS);
        let bus_was_given = bus.is_some();
        let bus = bus.or_else(|| namespace.as_ref().map(|host| format!("https://{host}"))).and_then(|text| self.url(BUS, &text));
        let logs = self.required(LOGS, "the Logs Ingestion endpoint of the data collection rule");
        let logs = logs.and_then(|text| self.url(LOGS, &text));
        let arm = self.optional(ARM).unwrap_or_else(|| "https://management.azure.com".to_owned());
        let arm = self.url(ARM, &arm);
        let login = self.optional(LOGIN).unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
        let login = self.url(LOGIN, &login);
        Some(Endpoints { blob: blob?, namespace: namespace?, bus: bus?, bus_was_given, logs: logs?, arm: arm?, login: login? })
    }

    /// Tokens for Azure must never go to another host, so an endpoint that is not Azure's is taken only when nothing
    /// of Azure is in reach of this process: every endpoint on loopback, the one that gives the tokens included.
    fn location(&mut self, endpoints: &Endpoints, sign_in: SignIn) -> Option<Where> {
        let mut places: Vec<(&str, String, Place)> =
            endpoints.all().into_iter().map(|(name, url, suffixes)| (name, url.to_string(), place(url, suffixes))).collect();
        if places.iter().all(|(_, _, place)| *place == Place::Azure) {
            if endpoints.bus_was_given {
                self.mistake(BUS, &format!("is only for a loopback endpoint: remove it, messages go to {NAMESPACE}"));
                return None;
            }
            return self.one_cloud(endpoints).then_some(Where::Azure);
        }
        let tokens = self.optional(IDENTITY_ENDPOINT).unwrap_or_default();
        let tokens_are_local = sign_in == SignIn::ManagedIdentity && Url::parse(&tokens).is_ok_and(|url| is_loopback(&url));
        places.push((IDENTITY_ENDPOINT, tokens, if tokens_are_local { Place::Loopback } else { Place::Elsewhere }));
        let before = self.mistakes.len();
        for (name, url, place) in &places {
            if *place != Place::Loopback {
                let shown = if url.is_empty() { "is not set" } else { "is not on loopback" };
                self.mistake(name, &format!("{shown}, but another endpoint is not Azure's: either all endpoints are Azure's own, or every one of them is on 127.0.0.1"));
            }
        }
        for (name, url, place) in &places {
            if *place == Place::Elsewhere && *name != IDENTITY_ENDPOINT {
                self.mistake(name, &format!("is `{url}`, which is no host of Azure for this service: correct it"));
            }
        }
        (self.mistakes.len() == before).then_some(Where::Loopback)
    }

    fn one_cloud(&mut self, endpoints: &Endpoints) -> bool {
        let government = endpoints.all().into_iter().filter(|(_, url, _)| is_government(url)).count();
        if government == 0 || government == endpoints.all().len() {
            return true;
        }
        for (name, url, _) in endpoints.all() {
            let cloud = if is_government(url) { "Azure Government" } else { "public Azure" };
            self.mistake(name, &format!("is an endpoint of {cloud}, others are not: use one cloud for all"));
        }
        false
    }

    fn sign_in(&mut self) -> SignIn {
        let endpoint = self.optional(IDENTITY_ENDPOINT);
        let header = self.optional(IDENTITY_HEADER);
        match (&endpoint, &header) {
            (Some(_), None) => {
                self.mistake(IDENTITY_HEADER, &format!("is missing though {IDENTITY_ENDPOINT} is set: the platform sets both or neither"))
            }
            (None, Some(_)) => {
                self.mistake(IDENTITY_ENDPOINT, &format!("is missing though {IDENTITY_HEADER} is set: the platform sets both or neither"))
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if endpoint.is_some() {
            SignIn::ManagedIdentity
        } else if self.optional(FEDERATED_TOKEN).is_some() {
            SignIn::WorkloadIdentity
        } else {
            SignIn::DeveloperTools
        }
    }

    fn longest_opening(&mut self) -> Option<TimeDelta> {
        let text = self.optional(LONGEST).unwrap_or_else(|| "PT8H".to_owned());
        let (least, most) = (TimeDelta::minutes(5), TimeDelta::hours(24));
        match duration::parse(&text) {
            Ok(longest) if longest >= least && longest <= most => Some(longest),
            Ok(_) => {
                self.mistake(LONGEST, &format!("is `{text}`: it must lie between PT5M and PT24H"));
                None
            }
            Err(error) => {
                self.mistake(LONGEST, &format!("cannot be read: {error}"));
                None
            }
        }
    }

    fn close_cap(&mut self) -> Option<u32> {
        let text = self.optional(CLOSE_CAP).unwrap_or_else(|| "20".to_owned());
        match text.parse() {
            Ok(cap @ 1..=1000) => Some(cap),
            _ => {
                self.mistake(CLOSE_CAP, &format!("is `{text}`: write a whole number from 1 to 1000"));
                None
            }
        }
    }

    fn optional(&self, name: &str) -> Option<String> {
        let text = (self.lookup)(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn required(&mut self, name: &str, meaning: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.mistake(name, &format!("is not set: give {meaning}"));
        }
        value
    }

    fn list(&self, name: &str) -> Vec<String> {
        let text = self.optional(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn guid(&mut self, name: &str, text: &str) -> Option<Uuid> {
        let guid = Uuid::parse_str(text).ok();
        if guid.is_none() {
            self.mistake(name, &format!("holds `{text}`, which is not a GUID"));
        }
        guid
    }

    /// The rules of Azure for a container's name: 3 to 63 of lower-case letters, digits and single hyphens.
    fn container(&mut self, name: &str, default: &str) -> String {
        let text = self.optional(name).unwrap_or_else(|| default.to_owned());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = text.starts_with('-') || text.ends_with('-') || text.contains("--");
        if !(3..=63).contains(&text.len()) || !text.chars().all(plain) || edges {
            self.mistake(name, &format!("is `{text}`: a container's name has 3 to 63 lower-case letters, digits and single hyphens"));
        }
        text
    }

    fn word(&mut self, name: &str, text: String) -> Option<String> {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Some(text);
        }
        self.mistake(name, &format!("is `{text}`: only letters, digits, `-` and `_` are allowed"));
        None
    }

    fn host_name(&mut self, name: &str, text: String) -> Option<String> {
        let is_host = Url::parse(&format!("https://{text}")).is_ok_and(|url| url.host_str() == Some(text.as_str()));
        if is_host {
            return Some(text);
        }
        self.mistake(name, &format!("is `{text}`: write the bare host name in lower case, without https:// and without a path"));
        None
    }

    fn url(&mut self, name: &str, text: &str) -> Option<Url> {
        let cure = match Url::parse(text) {
            Err(error) => format!("is `{text}`, which is not a URL ({error})"),
            // Official clients refuse a bearer token over http, and so does ours.
            Ok(url) if url.scheme() != "https" => format!("is `{text}`: it must begin with https://, since tokens go there"),
            Ok(url) if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() => {
                format!("is `{}`: write only scheme, host and path, without a user, `?` or `#`", without_query(&url))
            }
            Ok(url) => return Some(url),
        };
        self.mistake(name, &cure);
        None
    }

    fn mistake(&mut self, name: &str, what: &str) {
        self.mistakes.push(format!("{name} {what}"));
    }
}

struct Endpoints {
    blob: Url,
    namespace: String,
    bus: Url,
    bus_was_given: bool,
    logs: Url,
    arm: Url,
    login: Url,
}

impl Endpoints {
    fn all(&self) -> [(&'static str, &Url, &'static [&'static str]); 5] {
        let bus = if self.bus_was_given { BUS } else { NAMESPACE };
        [
            (BLOB, &self.blob, &[".blob.core.windows.net", ".blob.core.usgovcloudapi.net"]),
            (bus, &self.bus, &[".servicebus.windows.net", ".servicebus.usgovcloudapi.net"]),
            (LOGS, &self.logs, &[".ingest.monitor.azure.com", ".ingest.monitor.azure.us"]),
            (ARM, &self.arm, &["management.azure.com", "management.usgovcloudapi.net"]),
            (LOGIN, &self.login, &["login.microsoftonline.com", "login.microsoftonline.us"]),
        ]
    }

    fn cloud(&self) -> Cloud {
        if is_government(&self.arm) { Cloud::UsGovernment } else { Cloud::Public }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Azure,
    Loopback,
    Elsewhere,
}

fn place(url: &Url, suffixes: &[&str]) -> Place {
    if is_loopback(url) {
        return Place::Loopback;
    }
    let host = url.host_str().unwrap_or_default();
    let ours = |suffix: &&str| match suffix.strip_prefix('.') {
        Some(_) => host.len() > suffix.len() && host.ends_with(suffix),
        None => host == *suffix,
    };
    let plain = url.port().is_none() && url.path().trim_matches('/').is_empty();
    if plain && suffixes.iter().any(ours) { Place::Azure } else { Place::Elsewhere }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn is_government(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    [".usgovcloudapi.net", ".monitor.azure.us", "login.microsoftonline.us"].iter().any(|suffix| host.ends_with(suffix))
}

fn without_query(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// How many single edits apart two names are, letter case aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<u8> = other.to_ascii_uppercase().into_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TENANT_ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn azure() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            (TENANT, TENANT_ID),
            (BLOB, "https://portcullis.blob.core.windows.net"),
            (NAMESPACE, "portcullis.servicebus.windows.net"),
            (LOGS, "https://dcr-x.westeurope-1.ingest.monitor.azure.com"),
            (LOGS_RULE, "dcr-0123456789abcdef"),
        ])
    }

    fn loopback() -> BTreeMap<&'static str, &'static str> {
        let mut all = azure();
        all.extend([
            (BLOB, "https://127.0.0.1:4001/portcullisstate"),
            (BUS, "https://127.0.0.1:4002"),
            (LOGS, "https://127.0.0.1:4003"),
            (ARM, "https://127.0.0.1:4004"),
            (LOGIN, "https://localhost:4005"),
            (IDENTITY_ENDPOINT, "http://127.0.0.1:4006/msi/token"),
            (IDENTITY_HEADER, "secret"),
        ]);
        all
    }

    fn read(values: &BTreeMap<&str, &str>) -> Result<Settings, Mistakes> {
        let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
        Settings::from_lookup(lookup, values.keys().map(|name| (*name).to_owned()))
    }

    fn mistakes(values: &BTreeMap<&str, &str>) -> Vec<String> {
        read(values).expect_err("mistakes").0
    }

    #[test]
    fn the_least_settings_observe_azure_with_the_defaults() {
        let settings = read(&azure()).unwrap();
        assert_eq!(settings.mode, Mode::Observe);
        assert!(!settings.loopback());
        assert_eq!(settings.cloud, Cloud::Public);
        assert_eq!(settings.arm_endpoint.as_str(), "https://management.azure.com/");
        assert_eq!(settings.service_bus_endpoint.as_str(), "https://portcullis.servicebus.windows.net/");
        assert_eq!((settings.state_container.as_str(), settings.audit_container.as_str()), ("state", "audit"));
        assert_eq!(settings.logs_stream, "Custom-Portcullis_CL");
        assert_eq!((settings.longest_opening, settings.close_cap), (TimeDelta::hours(8), 20));
        assert_eq!(settings.sign_in, SignIn::DeveloperTools);
        assert!(settings.subscriptions.is_empty() && settings.api_audiences.is_empty() && settings.client_id.is_none());
    }

    #[test]
    fn every_endpoint_on_loopback_is_taken() {
        let settings = read(&loopback()).unwrap();
        assert!(settings.loopback());
        assert_eq!(settings.sign_in, SignIn::ManagedIdentity);
        assert_eq!(settings.blob_endpoint.path(), "/portcullisstate");
    }

    #[test]
    fn one_endpoint_off_loopback_stops_the_start_and_is_named() {
        for name in [BLOB, LOGS, ARM, LOGIN] {
            let mut values = loopback();
            values.insert(name, if name == ARM { "https://management.azure.com" } else { "https://evil.example" });
            let told = mistakes(&values);
            assert!(told.iter().any(|text| text.starts_with(&format!("{name} is not on loopback"))), "{name}: {told:?}");
        }
        let mut values = loopback();
        values.remove(BUS);
        assert!(mistakes(&values).iter().any(|text| text.starts_with("ServiceBus__fullyQualifiedNamespace is not on loopback")));
    }

    #[test]
    fn a_loopback_world_never_gets_a_real_token() {
        let mut values = loopback();
        values.remove(IDENTITY_ENDPOINT);
        values.remove(IDENTITY_HEADER);
        assert!(mistakes(&values)[0].starts_with("IDENTITY_ENDPOINT is not set"));
        values.extend([(IDENTITY_ENDPOINT, "http://169.254.1.1/token"), (IDENTITY_HEADER, "x")]);
        assert!(mistakes(&values)[0].starts_with("IDENTITY_ENDPOINT is not on loopback"));
    }

    #[test]
    fn a_foreign_host_is_refused_even_when_it_looks_like_azure() {
        for (name, host) in [
            (BLOB, "https://portcullis.blob.core.windows.net.evil.example"),
            (BLOB, "https://blob.core.windows.net.evil"),
            (BLOB, "https://portcullis.blob.core.windows.net:8443"),
            (ARM, "https://x.management.azure.com"),
            (LOGS, "https://10.0.0.4"),
        ] {
            let mut values = azure();
            values.insert(name, host);
            assert!(mistakes(&values).iter().any(|text| text.contains("no host of Azure")), "{host}");
        }
    }

    #[test]
    fn government_is_one_cloud_of_its_own() {
        let mut values = azure();
        values.insert(ARM, "https://management.usgovcloudapi.net");
        assert!(mistakes(&values).iter().any(|text| text.contains("use one cloud")));
        values.extend([
            (LOGIN, "https://login.microsoftonline.us"),
            (BLOB, "https://p.blob.core.usgovcloudapi.net"),
            (NAMESPACE, "p.servicebus.usgovcloudapi.net"),
            (LOGS, "https://p.usgovvirginia-1.ingest.monitor.azure.us"),
        ]);
        assert_eq!(read(&values).unwrap().cloud, Cloud::UsGovernment);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let values = BTreeMap::from([
            (MODE, "enforced"),
            (TENANT, "contoso"),
            (SUBSCRIPTIONS, "one, 72f988bf-86f1-41af-91ab-2d7cd011db47"),
            (STATE_CONTAINER, "State"),
            (AUDIT_CONTAINER, "a--b"),
            (BLOB, "http://portcullis.blob.core.windows.net"),
            (NAMESPACE, "https://portcullis.servicebus.windows.net"),
            (LOGS_RULE, "dcr/../x"),
            (CLIENT, "me"),
            (LONGEST, "PT25H"),
            (CLOSE_CAP, "0"),
            (IDENTITY_HEADER, "x"),
            ("PORTCULLIS_MODUS", "enforce"),
        ]);
        let told = mistakes(&values);
        let names: Vec<&str> = told.iter().filter_map(|text| text.split(' ').next()).collect();
        for name in [
            MODE,
            TENANT,
            SUBSCRIPTIONS,
            STATE_CONTAINER,
            AUDIT_CONTAINER,
            BLOB,
            NAMESPACE,
            LOGS,
            LOGS_RULE,
            CLIENT,
            LONGEST,
            CLOSE_CAP,
            IDENTITY_ENDPOINT,
            "PORTCULLIS_MODUS",
        ] {
            assert!(names.contains(&name), "{name} is missing in {told:?}");
        }
        assert!(told.iter().any(|text| text.contains("did you mean PORTCULLIS_MODE?")));
    }

    #[test]
    fn a_blank_value_counts_as_not_set() {
        let mut values = azure();
        values.insert(MODE, "  ");
        assert_eq!(read(&values).unwrap().mode, Mode::Observe);
        values.insert(TENANT, "");
        assert!(mistakes(&values)[0].starts_with("PORTCULLIS_TENANT_ID is not set"));
    }

    #[test]
    fn a_loopback_endpoint_for_messages_alone_is_refused() {
        let mut values = azure();
        values.insert(BUS, "https://portcullis.servicebus.windows.net");
        assert!(mistakes(&values)[0].starts_with("PORTCULLIS_SERVICEBUS_ENDPOINT is only for a loopback endpoint"));
    }

    #[test]
    fn lists_are_read_and_bounds_hold() {
        let mut values = azure();
        values.extend([(API_AUDIENCE, " a , api://portcullis,"), (LONGEST, "PT5M"), (CLOSE_CAP, "1000"), (MODE, "enforce")]);
        let settings = read(&values).unwrap();
        assert_eq!(settings.api_audiences, ["a", "api://portcullis"]);
        assert_eq!((settings.mode, settings.longest_opening, settings.close_cap), (Mode::Enforce, TimeDelta::minutes(5), 1000));
        values.insert(LONGEST, "PT4M59S");
        assert!(read(&values).is_err());
    }

    #[test]
    fn the_example_file_shows_every_setting() {
        let example: serde_json::Value = serde_json::from_str(include_str!("../local.settings.example.json")).unwrap();
        let shown: BTreeSet<&str> = example["Values"].as_object().unwrap().keys().map(String::as_str).collect();
        let ours: BTreeSet<&str> = NAMES.into_iter().filter(|name| !OF_THE_PLATFORM.contains(name)).collect();
        let hosts: BTreeSet<&str> = shown.difference(&ours).copied().collect();
        assert_eq!(hosts, BTreeSet::from(["AzureWebJobsStorage", "FUNCTIONS_WORKER_RUNTIME"]));
        assert!(ours.is_subset(&shown), "missing: {:?}", ours.difference(&shown));
        let lookup = |name: &str| example["Values"][name].as_str().map(str::to_owned);
        Settings::from_lookup(lookup, shown.iter().map(|name| (*name).to_owned())).expect("the example is valid");
    }
}
