//! Where the services are: what the endpoint of each holds, and the rule that a token for Azure goes to Azure alone.
//!
//! An endpoint that is not Azure's is taken only when nothing of Azure is in reach of this process: every endpoint on
//! loopback, the one that gives the tokens included. What breaks the rule is named, and what keeps it is not.

use url::{Host, Url};

use super::{ARM, BLOB, BUS, Cloud, GRAPH, IDENTITY_ENDPOINT, IDENTITY_HEADER, LOGIN, LOGS, NAMESPACE, Reader, SignIn, Where};

/// The endpoints, all of them Azure's or all of them on loopback.
pub(super) struct Endpoints {
    pub blob: Url,
    pub namespace: String,
    pub bus: Url,
    pub logs: Url,
    pub arm: Url,
    pub login: Url,
    pub graph: Url,
    pub cloud: Cloud,
    pub location: Where,
}

/// A service that tokens go to, as Azure's clouds name its hosts.
struct Service {
    public: &'static str,
    government: &'static str,
}

const BLOBS: Service =
    Service { public: "https://ACCOUNT.blob.core.windows.net", government: "https://ACCOUNT.blob.core.usgovcloudapi.net" };
const MESSAGES: Service =
    Service { public: "https://NAMESPACE.servicebus.windows.net", government: "https://NAMESPACE.servicebus.usgovcloudapi.net" };
const INGESTION: Service =
    Service { public: "https://NAME.REGION-1.ingest.monitor.azure.com", government: "https://NAME.REGION-1.ingest.monitor.azure.us" };
const RESOURCES: Service = Service { public: "https://management.azure.com", government: "https://management.usgovcloudapi.net" };
const SIGN_IN: Service = Service { public: "https://login.microsoftonline.com", government: "https://login.microsoftonline.us" };
const DIRECTORY: Service = Service { public: "https://graph.microsoft.com", government: "https://graph.microsoft.us" };

impl Service {
    fn in_cloud(&self, cloud: Cloud) -> &'static str {
        match cloud {
            Cloud::Public => self.public,
            Cloud::UsGovernment => self.government,
        }
    }

    /// The cloud in which the service has such a host.
    fn cloud_of(&self, host: &str) -> Option<Cloud> {
        let is_of = |cloud: &Cloud| {
            let pattern = self.in_cloud(*cloud).trim_start_matches("https://");
            match placeholder(pattern) {
                Some((_, suffix)) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == pattern,
            }
        };
        [Cloud::Public, Cloud::UsGovernment].into_iter().find(is_of)
    }

    /// What of the example still stands in a host, if the example was not filled in.
    fn left_of_example(&self, host: &str) -> Option<&'static str> {
        let left = |pattern: &'static str| {
            let (name, suffix) = placeholder(pattern.trim_start_matches("https://"))?;
            host.strip_suffix(suffix)?.eq_ignore_ascii_case(name).then_some(name)
        };
        [self.public, self.government].into_iter().find_map(left)
    }
}

/// The part of a pattern that a person replaces, and what comes behind it with its dot.
fn placeholder(pattern: &'static str) -> Option<(&'static str, &'static str)> {
    let end = pattern.rfind(|c: char| c.is_ascii_uppercase())?;
    let dot = end + pattern.get(end..)?.find('.')?;
    Some(pattern.split_at(dot))
}

/// An endpoint that could be read.
struct Given {
    name: &'static str,
    service: &'static Service,
    url: Url,
    /// Whether somebody wrote it, or it is the default.
    is_set: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A host of Azure for the service, in this cloud.
    Azure(Cloud),
    /// Such a host, with a port or a path that it does not have.
    AzureWithMore(Cloud),
    Loopback,
    Elsewhere,
}

impl Place {
    fn of(url: &Url, service: &Service) -> Place {
        if is_loopback(url) {
            return Place::Loopback;
        }
        let is_plain = url.port().is_none() && url.path().trim_matches('/').is_empty();
        match service.cloud_of(url.host_str().unwrap_or_default()) {
            Some(cloud) if is_plain => Place::Azure(cloud),
            Some(cloud) => Place::AzureWithMore(cloud),
            None => Place::Elsewhere,
        }
    }

    fn cloud(self) -> Option<Cloud> {
        match self {
            Place::Azure(cloud) | Place::AzureWithMore(cloud) => Some(cloud),
            Place::Loopback | Place::Elsewhere => None,
        }
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Reader<'_> {
    /// Reads every endpoint and judges those that can be read, so that one mistake hides no other.
    pub(super) fn endpoints(&mut self, sign_in: SignIn) -> Option<Endpoints> {
        let blob = self.required(BLOB, "the storage account, such as https://ACCOUNT.blob.core.windows.net");
        let blob = blob.and_then(|text| self.endpoint(BLOB, &BLOBS, &text));
        let namespace = self.required(NAMESPACE, "the Service Bus namespace, such as NAMESPACE.servicebus.windows.net");
        let namespace =
            namespace.and_then(|text| self.host_name(NAMESPACE, text)).filter(|host| self.is_filled_in(NAMESPACE, &MESSAGES, host));
        let bus = match (self.optional(BUS), &namespace) {
            (Some(text), _) => self.endpoint(BUS, &MESSAGES, &text),
            (None, Some(host)) => self.endpoint(NAMESPACE, &MESSAGES, &format!("https://{host}")),
            (None, None) => None,
        };
        let logs = self.required(LOGS, "the Logs Ingestion endpoint of the data collection rule");
        let logs = logs.and_then(|text| self.endpoint(LOGS, &INGESTION, &text));
        let arm = self.endpoint_or_azures(ARM, &RESOURCES);
        let login = self.endpoint_or_azures(LOGIN, &SIGN_IN);
        let graph = self.endpoint_or_azures(GRAPH, &DIRECTORY);
        let given: Vec<&Given> = [&blob, &bus, &logs, &arm, &login, &graph].into_iter().flatten().collect();
        let (cloud, location) = self.located(&given, sign_in)?;
        let (blob, bus, logs) = (blob?.url, bus?.url, logs?.url);
        Some(Endpoints { blob, namespace: namespace?, bus, logs, arm: arm?.url, login: login?.url, graph: graph?.url, cloud, location })
    }

    fn endpoint_or_azures(&mut self, name: &'static str, service: &'static Service) -> Option<Given> {
        match self.optional(name) {
            Some(text) => self.endpoint(name, service, &text),
            None => self.endpoint(name, service, service.public).map(|given| Given { is_set: false, ..given }),
        }
    }

    fn endpoint(&mut self, name: &'static str, service: &'static Service, text: &str) -> Option<Given> {
        let url = self.url(name, text)?;
        self.is_filled_in(name, service, url.host_str().unwrap_or_default()).then(|| {
            let place = Place::of(&url, service);
            Given { name, service, url, is_set: true, place }
        })
    }

    fn is_filled_in(&mut self, name: &str, service: &Service, host: &str) -> bool {
        let left = service.left_of_example(host);
        if let Some(left) = left {
            self.mistake(name, &format!("still holds `{left}` of the example: write your own"));
        }
        left.is_none()
    }

    /// Where all are; nothing, and who breaks the rule, if they are not all at one place.
    fn located(&mut self, given: &[&Given], sign_in: SignIn) -> Option<(Cloud, Where)> {
        let before = self.mistakes.len();
        let on_loopback = given.iter().filter(|one| one.place == Place::Loopback).count();
        let at_azure = given.iter().filter(|one| one.place.cloud().is_some()).count();
        if on_loopback > at_azure {
            self.want_loopback(given, sign_in);
        } else {
            self.want_azure(given);
        }
        let none_is_missing = given.len() == SERVICES && self.mistakes.len() == before;
        if none_is_missing && given.iter().all(|one| one.place == Place::Loopback) {
            return Some((Cloud::Public, Where::Loopback));
        }
        let cloud =
            [Cloud::Public, Cloud::UsGovernment].into_iter().find(|cloud| given.iter().all(|one| one.place == Place::Azure(*cloud)));
        cloud.filter(|_| none_is_missing).map(|cloud| (cloud, Where::Azure))
    }

    /// Tells what is not Azure's own, or is of another cloud than most.
    fn want_azure(&mut self, given: &[&Given]) {
        let government = given.iter().filter(|one| one.place.cloud() == Some(Cloud::UsGovernment)).count();
        let public = given.iter().filter(|one| one.place.cloud() == Some(Cloud::Public)).count();
        let wanted = if government > public { Cloud::UsGovernment } else { Cloud::Public };
        for one in given {
            let (name, url, azures) = (one.name, &one.url, one.service.in_cloud(wanted));
            match one.place {
                Place::Loopback if name == BUS => {
                    self.mistake(name, "is on loopback, the others are Azure's: remove it, or put every one on 127.0.0.1");
                }
                Place::Azure(_) | Place::AzureWithMore(_) | Place::Elsewhere if name == BUS => {
                    self.mistake(name, &format!("is only for a loopback endpoint: remove it, messages go to {NAMESPACE}"));
                }
                Place::Loopback => {
                    self.mistake(name, "is on loopback, the others are Azure's: correct it, or put every one on 127.0.0.1");
                }
                Place::Elsewhere => {
                    self.mistake(name, &format!("is `{}`, which is no host of Azure for this service: write {azures}", shown(name, url)));
                }
                Place::Azure(cloud) | Place::AzureWithMore(cloud) if cloud != wanted => {
                    let is = is(one, said(cloud));
                    self.mistake(name, &format!("{is}, the others are {}: use one cloud for all; here {azures}", said(wanted)));
                }
                Place::AzureWithMore(_) => self.mistake(name, &too_much(url)),
                Place::Azure(_) => {}
            }
        }
    }

    /// Tells what is not on loopback, since most are.
    fn want_loopback(&mut self, given: &[&Given], sign_in: SignIn) {
        for one in given {
            let (name, is, cure) = match one.place {
                Place::Loopback => continue,
                Place::Azure(_) | Place::AzureWithMore(_) | Place::Elsewhere if one.name == NAMESPACE => {
                    (BUS, format!("is not set, so messages go to {NAMESPACE}"), "")
                }
                Place::Azure(cloud) | Place::AzureWithMore(cloud) => (one.name, is(one, said(cloud)), ", or make every one Azure's"),
                Place::Elsewhere => (one.name, format!("is `{}`", shown(one.name, &one.url)), ""),
            };
            self.mistake(name, &format!("{is}, the others are on loopback: put it on 127.0.0.1 too{cure}"));
        }
        match self.optional(IDENTITY_ENDPOINT) {
            // Half a pair is told by itself.
            None if self.optional(IDENTITY_HEADER).is_some() => {}
            None => self.mistake(
                IDENTITY_ENDPOINT,
                "is not set, the others are on loopback: no token of Azure may go there; `portcullis sandbox` writes it into its env",
            ),
            Some(text) => {
                let is_local = sign_in == SignIn::ManagedIdentity && Url::parse(&text).is_ok_and(|url| is_loopback(&url));
                if !is_local {
                    self.mistake(
                        IDENTITY_ENDPOINT,
                        &format!("is `{text}`, the others are on loopback: no token of Azure may go there; put it on 127.0.0.1 too"),
                    );
                }
            }
        }
    }
}

/// How many services there are.
const SERVICES: usize = 6;

fn said(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Public => "public Azure's",
        Cloud::UsGovernment => "Azure Government's",
    }
}

/// That an endpoint is somebody's, and why where nobody wrote it.
fn is(one: &Given, whose: &str) -> String {
    let shown = shown(one.name, &one.url);
    if one.is_set { format!("is {whose} (`{shown}`)") } else { format!("is not set and so {whose} (`{shown}`)") }
}

/// An endpoint as it was written.
fn shown(name: &str, url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    if name == NAMESPACE { text.trim_start_matches("https://").to_owned() } else { text.to_owned() }
}

/// What a host of Azure's does not have.
fn too_much(url: &Url) -> String {
    let port = url.port().map(|port| format!("the port {port}"));
    let path = Some(url.path()).filter(|path| !path.trim_matches('/').is_empty()).map(|path| format!("the path `{path}`"));
    let wrong: Vec<String> = [port, path].into_iter().flatten().collect();
    let (wrong, are) = (wrong.join(" and "), if wrong.len() == 1 { "is" } else { "are" });
    let host = url.host_str().unwrap_or_default();
    format!("is `{url}`: the host is Azure's, {wrong} {are} not: write https://{host}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{azure, loopback, mistakes, read};
    use super::*;

    /// What an endpoint may be: Azure's, Azure's with a path, on loopback, elsewhere, not to be read.
    const KINDS: [&str; 5] = ["azure", "more", "loopback", "elsewhere", "broken"];
    const ALL: [(&str, &str); 6] = [
        (BLOB, "portcullis.blob.core.windows.net"),
        (NAMESPACE, "portcullis.servicebus.windows.net"),
        (LOGS, "p.westeurope-1.ingest.monitor.azure.com"),
        (ARM, "management.azure.com"),
        (LOGIN, "login.microsoftonline.com"),
        (GRAPH, "graph.microsoft.com"),
    ];

    fn value(kind: &str, host: &str) -> String {
        match kind {
            "azure" => format!("https://{host}"),
            "more" => format!("https://{host}/state"),
            "loopback" => "https://127.0.0.1:4001/x".to_owned(),
            "elsewhere" => format!("https://{host}.evil.example"),
            _ => format!("http://{host}"),
        }
    }

    /// Tokens for Azure go to Azure, and to loopback only where no token of Azure can be had: in every mix of endpoints.
    #[test]
    fn no_mix_of_endpoints_is_taken_and_each_is_told() {
        let identities = [None, Some("http://127.0.0.1:4006/msi/token"), Some("http://169.254.1.1/token")];
        for mix in 0..KINDS.len().pow(6) {
            let kinds: Vec<&str> = (0..6).map(|n| KINDS[mix / KINDS.len().pow(n) % KINDS.len()]).collect();
            for identity in identities {
                let values: Vec<String> = kinds.iter().zip(ALL).map(|(kind, (_, host))| value(kind, host)).collect();
                let mut given = azure();
                for ((name, _), text) in ALL.iter().zip(&values) {
                    given.insert(if *name == NAMESPACE { BUS } else { name }, text);
                }
                if kinds[1] == "azure" {
                    given.remove(BUS);
                }
                given.extend(identity.map(|identity| (IDENTITY_ENDPOINT, identity)));
                given.extend(identity.map(|_| (IDENTITY_HEADER, "x")));
                let is_azure = kinds.iter().all(|kind| *kind == "azure");
                let is_loopback = kinds.iter().all(|kind| *kind == "loopback") && identity == Some("http://127.0.0.1:4006/msi/token");
                match read(&given) {
                    Ok(settings) => assert!(if settings.loopback() { is_loopback } else { is_azure }, "{kinds:?} {identity:?}"),
                    Err(told) => {
                        assert!(!is_azure && !is_loopback && !told.0.is_empty(), "{kinds:?} {identity:?}: {told}");
                        for (kind, (name, _)) in kinds.iter().zip(ALL) {
                            let name = if name == NAMESPACE { BUS } else { name };
                            let is_told = told.0.iter().any(|text| text.starts_with(name));
                            assert!(is_told || !["more", "elsewhere", "broken"].contains(kind), "{kinds:?}: {name} is not in {told}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_odd_one_out_is_named_and_no_other() {
        let rows = [
            (
                ARM,
                "https://127.0.0.1:4004",
                "PORTCULLIS_ARM_ENDPOINT is on loopback, the others are Azure's: correct it, or put every one on 127.0.0.1",
            ),
            (
                BUS,
                "https://127.0.0.1:4002",
                "PORTCULLIS_SERVICEBUS_ENDPOINT is on loopback, the others are Azure's: remove it, or put every one on 127.0.0.1",
            ),
            (
                BUS,
                "https://portcullis.servicebus.windows.net",
                "PORTCULLIS_SERVICEBUS_ENDPOINT is only for a loopback endpoint: remove it, messages go to ServiceBus__fullyQualifiedNamespace",
            ),
            (
                LOGIN,
                "https://login.contoso.example",
                "PORTCULLIS_LOGIN_ENDPOINT is `https://login.contoso.example`, which is no host of Azure for this service: write https://login.microsoftonline.com",
            ),
            (
                BLOB,
                "https://acc.blob.core.windows.net/state",
                "PORTCULLIS_BLOB_ENDPOINT is `https://acc.blob.core.windows.net/state`: the host is Azure's, the path `/state` is not: write https://acc.blob.core.windows.net",
            ),
            (
                BLOB,
                "https://acc.blob.core.windows.net:8443/state",
                "PORTCULLIS_BLOB_ENDPOINT is `https://acc.blob.core.windows.net:8443/state`: the host is Azure's, the port 8443 and the path `/state` are not: write https://acc.blob.core.windows.net",
            ),
            (
                NAMESPACE,
                "portcullis.contoso.example",
                "ServiceBus__fullyQualifiedNamespace is `portcullis.contoso.example`, which is no host of Azure for this service: write https://NAMESPACE.servicebus.windows.net",
            ),
            (
                ARM,
                "https://management.usgovcloudapi.net",
                "PORTCULLIS_ARM_ENDPOINT is Azure Government's (`https://management.usgovcloudapi.net`), the others are public Azure's: use one cloud for all; here https://management.azure.com",
            ),
        ];
        for (name, value, told) in rows {
            let mut values = azure();
            values.insert(name, value);
            assert_eq!(mistakes(&values), [told]);
        }
    }

    #[test]
    fn what_is_not_on_loopback_is_named_where_the_others_are() {
        let rows = [
            (
                ARM,
                Some("https://management.azure.com"),
                "PORTCULLIS_ARM_ENDPOINT is public Azure's (`https://management.azure.com`), the others are on loopback: put it on 127.0.0.1 too, or make every one Azure's",
            ),
            (
                ARM,
                None,
                "PORTCULLIS_ARM_ENDPOINT is not set and so public Azure's (`https://management.azure.com`), the others are on loopback: put it on 127.0.0.1 too, or make every one Azure's",
            ),
            (
                LOGS,
                Some("https://evil.example"),
                "PORTCULLIS_LOGS_ENDPOINT is `https://evil.example`, the others are on loopback: put it on 127.0.0.1 too",
            ),
            (
                BUS,
                None,
                "PORTCULLIS_SERVICEBUS_ENDPOINT is not set, so messages go to ServiceBus__fullyQualifiedNamespace, the others are on loopback: put it on 127.0.0.1 too",
            ),
            (
                IDENTITY_ENDPOINT,
                Some("http://169.254.1.1/token"),
                "IDENTITY_ENDPOINT is `http://169.254.1.1/token`, the others are on loopback: no token of Azure may go there; put it on 127.0.0.1 too",
            ),
            (IDENTITY_ENDPOINT, None, "IDENTITY_ENDPOINT is missing though IDENTITY_HEADER is set: the platform sets both or neither"),
        ];
        for (name, value, told) in rows {
            let mut values = loopback();
            values.remove(name);
            values.extend(value.map(|value| (name, value)));
            assert_eq!(mistakes(&values), [told]);
        }
        let mut values = loopback();
        values.retain(|name, _| ![IDENTITY_ENDPOINT, IDENTITY_HEADER].contains(name));
        let told = "IDENTITY_ENDPOINT is not set, the others are on loopback: no token of Azure may go there; `portcullis sandbox` writes it into its env";
        assert_eq!(mistakes(&values), [told]);
    }

    #[test]
    fn an_endpoint_that_cannot_be_read_hides_no_other() {
        let mut values = azure();
        values.extend([(BLOB, "blob"), (LOGS, "http://p.westeurope-1.ingest.monitor.azure.com"), (ARM, "https://127.0.0.1:4004")]);
        values.remove(NAMESPACE);
        let told = mistakes(&values);
        let names: Vec<&str> = told.iter().filter_map(|text| text.split(' ').next()).collect();
        assert_eq!(names, [BLOB, NAMESPACE, LOGS, ARM]);
    }

    #[test]
    fn a_foreign_host_is_refused_even_when_it_looks_like_azure() {
        for (name, host) in [
            (BLOB, "https://portcullis.blob.core.windows.net.evil.example"),
            (BLOB, "https://blob.core.windows.net.evil"),
            (BLOB, "https://blob.core.windows.net"),
            (ARM, "https://x.management.azure.com"),
            (LOGS, "https://10.0.0.4"),
            (LOGIN, "https://login.microsoftonline.com.evil.example"),
        ] {
            let mut values = azure();
            values.insert(name, host);
            let told = mistakes(&values);
            assert!(told.len() == 1 && told[0].contains("no host of Azure"), "{host}: {told:?}");
        }
    }

    #[test]
    fn government_is_one_cloud_of_its_own() {
        let mut values = azure();
        values.extend([
            (LOGIN, "https://login.microsoftonline.us"),
            (GRAPH, "https://graph.microsoft.us"),
            (BLOB, "https://p.blob.core.usgovcloudapi.net"),
            (NAMESPACE, "p.servicebus.usgovcloudapi.net"),
            (LOGS, "https://p.usgovvirginia-1.ingest.monitor.azure.us"),
        ]);
        let told = "PORTCULLIS_ARM_ENDPOINT is not set and so public Azure's (`https://management.azure.com`), the others are Azure Government's: use one cloud for all; here https://management.usgovcloudapi.net";
        assert_eq!(mistakes(&values), [told]);
        values.insert(ARM, "https://management.usgovcloudapi.net");
        assert_eq!(read(&values).unwrap().cloud, Cloud::UsGovernment);
    }
}
