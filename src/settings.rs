//! The app's settings: read once at the start, every mistake told at once with the name of the variable and its cure.
//!
//! A setting that cannot be read never becomes a default, because a default that nobody chose could be `enforce` on
//! the wrong estate or an endpoint that is not Azure's.

mod endpoints;
mod insights;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::TimeDelta;
use portcullis_domain::arm_id::WorkspaceId;
use portcullis_domain::duration;
use portcullis_domain::initiate::Newer;
use portcullis_domain::plain::plain;
pub use portcullis_domain::reconcile::Mode;
use url::Url;
use uuid::Uuid;

pub use self::insights::{Insights, InsightsIdentity, Sampling};

/// Every variable that the app reads, in the order in which the example file shows them.
pub const NAMES: [&str; 28] = [
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
    SENTINEL_WORKSPACE,
    ARM,
    LOGIN,
    GRAPH,
    API_AUDIENCE,
    CLIENT,
    LONGEST,
    CLOSE_CAP,
    JIT_NEWER,
    POLICIES,
    INSIGHTS,
    INSIGHTS_SIGN_IN,
    SAMPLER,
    SITE,
    IDENTITY_ENDPOINT,
    IDENTITY_HEADER,
    FEDERATED_TOKEN,
];

/// Variables that the platform sets, which nobody writes into a settings file.
pub const OF_THE_PLATFORM: [&str; 4] = [SITE, IDENTITY_ENDPOINT, IDENTITY_HEADER, FEDERATED_TOKEN];

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
/// Names the workspace of Microsoft Sentinel whose incidents requests may name.
pub const SENTINEL_WORKSPACE: &str = "PORTCULLIS_SENTINEL_WORKSPACE";
const ARM: &str = "PORTCULLIS_ARM_ENDPOINT";
const LOGIN: &str = "PORTCULLIS_LOGIN_ENDPOINT";
const GRAPH: &str = "PORTCULLIS_GRAPH_ENDPOINT";
const API_AUDIENCE: &str = "PORTCULLIS_API_AUDIENCE";
const CLIENT: &str = "PORTCULLIS_CLIENT_ID";
const LONGEST: &str = "PORTCULLIS_LONGEST_OPENING";
const CLOSE_CAP: &str = "PORTCULLIS_CLOSE_CAP";
const JIT_NEWER: &str = "PORTCULLIS_JIT_NEWER";
const POLICIES: &str = "PORTCULLIS_POLICIES";
const INSIGHTS: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";
const INSIGHTS_SIGN_IN: &str = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SITE: &str = "WEBSITE_SITE_NAME";
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

/// The settings, read and checked. Holds no secret, but for the key of an Application Insights with local authentication.
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
    /// The workspace of Microsoft Sentinel in which incidents are read; absent means that none is connected.
    pub sentinel_workspace: Option<WorkspaceId>,
    /// Azure Resource Manager.
    pub arm_endpoint: Url,
    /// Entra ID's login host.
    pub login_endpoint: Url,
    /// Microsoft Graph.
    pub graph_endpoint: Url,
    /// Audiences that a caller's token may name; empty lets nobody in but to health.
    pub api_audiences: Vec<String>,
    /// The client id of a user-assigned identity; absent means the system-assigned one.
    pub client_id: Option<Uuid>,
    /// The longest opening that is let stand.
    pub longest_opening: TimeDelta,
    /// How many VMs with a never-covered opening one shard's run may send to be closed.
    pub close_cap: u32,
    /// What a newer `initiate` of JIT makes of an older one.
    pub jit_newer: Newer,
    /// The folder of the rules, relative to where the host starts the handler: the package's root.
    pub policies: PathBuf,
    /// The name of the function app, as App Service gives it; elsewhere that of the Service Bus namespace.
    pub app_name: String,
    /// How the app signs in.
    pub sign_in: SignIn,
    /// The cloud whose audiences are used.
    pub cloud: Cloud,
    /// Where telemetry goes; nothing where nothing is told.
    pub insights: Option<Insights>,
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
        let subscriptions = self.list(SUBSCRIPTIONS).iter().filter_map(|text| self.guid_of_list(SUBSCRIPTIONS, text)).collect();
        let state_container = self.container(STATE_CONTAINER, "state");
        let audit_container = self.container(AUDIT_CONTAINER, "audit");
        if state_container == audit_container {
            self.mistake(AUDIT_CONTAINER, &format!("names the same container as {STATE_CONTAINER}; audit records need one of their own"));
        }
        let sign_in = self.sign_in();
        let endpoints = self.endpoints(sign_in);
        let logs_rule_id = self.required(LOGS_RULE, "the immutable id of the data collection rule, such as dcr-0123…");
        let logs_rule_id = logs_rule_id.and_then(|text| self.word(LOGS_RULE, text)).and_then(|text| self.rule_id(text));
        let logs_stream = self.optional(LOGS_STREAM).unwrap_or_else(|| "Custom-Portcullis_CL".to_owned());
        let logs_stream = self.word(LOGS_STREAM, logs_stream);
        let sentinel_workspace = self.optional(SENTINEL_WORKSPACE).and_then(|text| self.workspace(&text));
        let api_audiences = self.list(API_AUDIENCE);
        let client_id = self.optional(CLIENT).and_then(|text| self.guid(CLIENT, &text));
        let longest_opening = self.longest_opening();
        let close_cap = self.close_cap();
        let jit_newer = self.jit_newer();
        let policies = PathBuf::from(self.optional(POLICIES).unwrap_or_else(|| "policies".to_owned()));
        let app_name = self.optional(SITE);
        let insights = self.insights(endpoints.as_ref().map(|endpoints| (endpoints.cloud, endpoints.location)));
        let endpoints = endpoints?;
        Some(Settings {
            mode: mode?,
            tenant_id: tenant_id?,
            subscriptions,
            cloud: endpoints.cloud,
            blob_endpoint: endpoints.blob,
            state_container,
            audit_container,
            app_name: app_name.unwrap_or_else(|| endpoints.namespace.clone()),
            service_bus_namespace: endpoints.namespace,
            service_bus_endpoint: endpoints.bus,
            logs_endpoint: endpoints.logs,
            logs_rule_id: logs_rule_id?,
            logs_stream: logs_stream?,
            sentinel_workspace,
            arm_endpoint: endpoints.arm,
            login_endpoint: endpoints.login,
            graph_endpoint: endpoints.graph,
            api_audiences,
            client_id,
            longest_opening: longest_opening?,
            close_cap: close_cap?,
            jit_newer: jit_newer?,
            policies,
            sign_in,
            insights,
            location: endpoints.location,
        })
    }

    fn refuse_unknown(&mut self, names: impl IntoIterator<Item = String>) {
        let unknown: BTreeSet<String> =
            names.into_iter().filter(|name| name.to_ascii_uppercase().starts_with(OUR_PREFIX) && !NAMES.contains(&name.as_str())).collect();
        for name in unknown {
            let cure = nearest(&name).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
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

    fn jit_newer(&mut self) -> Option<Newer> {
        match self.optional(JIT_NEWER).as_deref() {
            None | Some("replaces") => Some(Newer::Replaces),
            Some("adds") => Some(Newer::Adds),
            Some(other) => {
                let cure = "write replaces (a newer JIT request for a port takes the place of the older one, or may) or adds (both stay)";
                self.mistake(JIT_NEWER, &format!("is `{other}`: {cure}"));
                None
            }
        }
    }

    fn workspace(&mut self, text: &str) -> Option<WorkspaceId> {
        let read = WorkspaceId::parse(text);
        if read.is_err() {
            let cure = "write the resource id of a Log Analytics workspace, \
                        /subscriptions/…/resourceGroups/…/providers/Microsoft.OperationalInsights/workspaces/NAME";
            self.mistake(SENTINEL_WORKSPACE, &format!("is `{text}`: {cure}, and not its name or its workspace id"));
        }
        read.ok()
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

    fn list(&mut self, name: &str) -> Vec<String> {
        let Some(text) = self.optional(name) else { return Vec::new() };
        let items: Vec<String> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        if items.is_empty() {
            self.mistake(name, &format!("is `{text}`, which names nothing: give names with commas between them, or leave it empty"));
        }
        items
    }

    fn guid(&mut self, name: &str, text: &str) -> Option<Uuid> {
        self.guid_or(name, text, "")
    }

    fn guid_of_list(&mut self, name: &str, text: &str) -> Option<Uuid> {
        self.guid_or(name, text, "; separate several with commas")
    }

    fn guid_or(&mut self, name: &str, text: &str, cure: &str) -> Option<Uuid> {
        match Uuid::parse_str(text) {
            Ok(guid) if guid.is_nil() => {
                self.mistake(name, &format!("still holds `{text}` of the example: write your own"));
                None
            }
            Ok(guid) => Some(guid),
            Err(_) => {
                self.mistake(name, &format!("holds `{text}`, which is not a GUID{cure}"));
                None
            }
        }
    }

    /// The immutable id that Azure gave the rule, which is not its name.
    fn rule_id(&mut self, text: String) -> Option<String> {
        let cure = match text.strip_prefix("dcr-") {
            None | Some("") => format!("is `{text}`: write the rule's immutable id, which begins with dcr-, and not its name"),
            Some(id) if id.chars().all(|c| c == '0') => format!("still holds `{text}` of the example: write your own"),
            Some(_) => return Some(text),
        };
        self.mistake(LOGS_RULE, &cure);
        None
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
        let host = text.to_ascii_lowercase();
        if Url::parse(&format!("https://{host}")).is_ok_and(|url| url.host_str() == Some(host.as_str())) {
            return Some(host);
        }
        self.mistake(name, &format!("is `{text}`: write the bare host name, without https:// and without a path"));
        None
    }

    fn url(&mut self, name: &str, text: &str) -> Option<Url> {
        let cure = match Url::parse(text) {
            // What was meant may be a connection string, which holds a key: it is not shown.
            Err(error) => format!("is not a URL ({error}): write scheme and host, such as https://HOST"),
            // Official clients refuse a bearer token over http, and so does ours.
            Ok(url) if url.scheme() != "https" => {
                format!("begins with {}: it must begin with https://, since tokens go there", url.scheme())
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() => {
                format!("is `{}`: write only scheme, host and path, without a user, `?` or `#`", without_query(&url))
            }
            Ok(url) => return Some(url),
        };
        self.mistake(name, &cure);
        None
    }

    fn mistake(&mut self, name: &str, what: &str) {
        self.mistakes.push(plain(&format!("{name} {what}")).into_owned());
    }
}

fn without_query(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// The setting that somebody meant by a name, if one is so near that it is likely.
fn nearest(name: &str) -> Option<&'static str> {
    let (known, edits) = NAMES
        .into_iter()
        .filter(|known| known.starts_with(OUR_PREFIX))
        .map(|known| (known, strsim::levenshtein(known, &name.to_ascii_uppercase())))
        .min_by_key(|(_, edits)| *edits)?;
    let longer = known.len().max(name.len()) - OUR_PREFIX.len();
    (edits <= 2 || edits * 3 <= longer).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TENANT_ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    pub(super) fn azure() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            (TENANT, TENANT_ID),
            (BLOB, "https://portcullis.blob.core.windows.net"),
            (NAMESPACE, "portcullis.servicebus.windows.net"),
            (LOGS, "https://dcr-x.westeurope-1.ingest.monitor.azure.com"),
            (LOGS_RULE, "dcr-0123456789abcdef"),
        ])
    }

    pub(super) fn loopback() -> BTreeMap<&'static str, &'static str> {
        let mut all = azure();
        all.extend([
            (BLOB, "https://127.0.0.1:4001/portcullisstate"),
            (BUS, "https://127.0.0.1:4002"),
            (LOGS, "https://127.0.0.1:4003"),
            (ARM, "https://127.0.0.1:4004"),
            (LOGIN, "https://localhost:4005"),
            (GRAPH, "https://127.0.0.1:4007"),
            (IDENTITY_ENDPOINT, "http://127.0.0.1:4006/msi/token"),
            (IDENTITY_HEADER, "secret"),
        ]);
        all
    }

    pub(super) fn read(values: &BTreeMap<&str, &str>) -> Result<Settings, Mistakes> {
        let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
        Settings::from_lookup(lookup, values.keys().map(|name| (*name).to_owned()))
    }

    pub(super) fn mistakes(values: &BTreeMap<&str, &str>) -> Vec<String> {
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
        assert_eq!(settings.graph_endpoint.as_str(), "https://graph.microsoft.com/");
        assert_eq!(settings.policies, PathBuf::from("policies"));
        assert_eq!(settings.sign_in, SignIn::DeveloperTools);
        assert!(settings.subscriptions.is_empty() && settings.api_audiences.is_empty() && settings.client_id.is_none());
        assert_eq!(settings.sentinel_workspace, None);
    }

    #[test]
    fn every_endpoint_on_loopback_is_taken() {
        let settings = read(&loopback()).unwrap();
        assert!(settings.loopback());
        assert_eq!(settings.sign_in, SignIn::ManagedIdentity);
        assert_eq!(settings.blob_endpoint.path(), "/portcullisstate");
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
    }

    #[test]
    fn a_misspelt_name_is_told_with_the_nearest_if_it_is_near() {
        for (name, meant) in [
            ("PORTCULLIS_MODUS", Some(MODE)),
            ("portcullis_mode", Some(MODE)),
            ("PORTCULLIS_TENANT", Some(TENANT)),
            ("PORTCULLIS_SUBSCRIPTION", Some(SUBSCRIPTIONS)),
            ("PORTCULLIS_LONGEST_OPENINGS", Some(LONGEST)),
            ("PORTCULLIS_COLOUR", None),
            ("PORTCULLIS_MAXIMUM_AGE_OF_OPENINGS", None),
            ("PORTCULLIS_", None),
        ] {
            let mut values = azure();
            values.insert(name, "x");
            let cure = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            assert_eq!(mistakes(&values), [format!("{name} is not a setting of Portcullis: correct the name or remove it{cure}")]);
        }
    }

    #[test]
    fn what_the_example_leaves_open_must_be_filled_in() {
        for (name, value, left) in [
            (TENANT, "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"),
            (SUBSCRIPTIONS, "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"),
            (BLOB, "https://ACCOUNT.blob.core.windows.net", "ACCOUNT"),
            (BLOB, "https://account.blob.core.usgovcloudapi.net", "ACCOUNT"),
            (NAMESPACE, "namespace.servicebus.windows.net", "NAMESPACE"),
            (LOGS, "https://NAME.REGION-1.ingest.monitor.azure.com", "NAME.REGION-1"),
            (LOGS_RULE, "dcr-00000000000000000000000000000000", "dcr-00000000000000000000000000000000"),
        ] {
            let mut values = azure();
            values.insert(name, value);
            assert_eq!(mistakes(&values), [format!("{name} still holds `{left}` of the example: write your own")]);
        }
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_told_with_its_cure() {
        for (name, value, told) in [
            (SUBSCRIPTIONS, "a;b", "holds `a;b`, which is not a GUID; separate several with commas"),
            (TENANT, "contoso", "holds `contoso`, which is not a GUID"),
            (CLIENT, "me", "holds `me`, which is not a GUID"),
            (LOGS_RULE, "my-rule", "is `my-rule`: write the rule's immutable id, which begins with dcr-, and not its name"),
            (LOGS_RULE, "dcr-", "is `dcr-`: write the rule's immutable id, which begins with dcr-, and not its name"),
            (LOGS_RULE, "dcr-1/x", "is `dcr-1/x`: only letters, digits, `-` and `_` are allowed"),
            (MODE, "Enforce", "is `Enforce`: write observe (only say what would be done) or enforce"),
            (
                JIT_NEWER,
                "both",
                "is `both`: write replaces (a newer JIT request for a port takes the place of the older one, or may) or adds (both stay)",
            ),
            (
                SENTINEL_WORKSPACE,
                "sentinel",
                "is `sentinel`: write the resource id of a Log Analytics workspace, /subscriptions/…/resourceGroups/…/providers/\
                 Microsoft.OperationalInsights/workspaces/NAME, and not its name or its workspace id",
            ),
            (CLOSE_CAP, "1001", "is `1001`: write a whole number from 1 to 1000"),
            (LONGEST, "PT4M59S", "is `PT4M59S`: it must lie between PT5M and PT24H"),
            (BLOB, "http://portcullis.blob.core.windows.net", "begins with http: it must begin with https://, since tokens go there"),
            (
                ARM,
                "https://me@management.azure.com",
                "is `https://management.azure.com/`: write only scheme, host and path, without a user, `?` or `#`",
            ),
        ] {
            let mut values = azure();
            values.insert(name, value);
            assert_eq!(mistakes(&values), [format!("{name} {told}")]);
        }
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
    fn lists_are_read_and_bounds_hold() {
        let mut values = azure();
        values.extend([
            (API_AUDIENCE, " a , api://portcullis,"),
            (LONGEST, "PT5M"),
            (CLOSE_CAP, "1000"),
            (MODE, "enforce"),
            (JIT_NEWER, "adds"),
        ]);
        let settings = read(&values).unwrap();
        assert_eq!(settings.api_audiences, ["a", "api://portcullis"]);
        assert_eq!((settings.mode, settings.longest_opening, settings.close_cap), (Mode::Enforce, TimeDelta::minutes(5), 1000));
        assert_eq!((settings.jit_newer, read(&azure()).unwrap().jit_newer), (Newer::Adds, Newer::Replaces));
        values.insert(LONGEST, "PT4M59S");
        assert!(read(&values).is_err());
    }

    /// The settings that a person writes, in their order.
    fn written() -> Vec<&'static str> {
        NAMES.into_iter().filter(|name| !OF_THE_PLATFORM.contains(name)).collect()
    }

    #[test]
    fn the_example_file_shows_every_setting_in_order_and_must_be_filled_in() {
        let text = include_str!("../local.settings.example.json");
        let example: serde_json::Value = serde_json::from_str(text).unwrap();
        let keys = text.lines().filter_map(|line| line.strip_prefix("    \"")?.split('"').next());
        let (hosts, ours): (Vec<&str>, Vec<&str>) = keys.partition(|name| !NAMES.contains(name));
        assert_eq!((ours, hosts), (written(), vec!["FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"]));
        let lookup = |name: &str| example["Values"][name].as_str().map(str::to_owned);
        let told = Settings::from_lookup(lookup, written().into_iter().map(str::to_owned)).unwrap_err().0;
        let named: Vec<&str> = told.iter().filter_map(|text| text.split_once(" still holds ")).map(|(name, _)| name).collect();
        assert_eq!(named, [TENANT, BLOB, NAMESPACE, LOGS, LOGS_RULE], "{told:?}");
        assert_eq!(told.len(), named.len(), "nothing else is wrong with it");
    }

    #[test]
    fn the_table_of_the_readme_has_every_setting_in_order() {
        let readme = include_str!("../README.md");
        let table = readme.split_once("| Setting |").expect("the table of settings").1;
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let names: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        assert_eq!(names, written());
    }
}
