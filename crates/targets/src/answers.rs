//! What Azure's services answer: failures, waits, pages of lists, and what directories say of people and keys.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use azure_core::http::Method;
use bytes::Bytes;
use chrono::Datelike;
use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis::azure::arm::{Page, following};
use portcullis::azure::blob::{self, Listed};
use portcullis::azure::entra::{Configuration, Published};
use portcullis::azure::error::retry_after;
use portcullis::azure::insights::refused;
use portcullis::azure::packed::{LONGEST, unpacked};
use portcullis::azure::servicebus::DeadLetter;
use portcullis::azure::{Answer, CallFailed, FailureKind, Service, graph, incidents, management_groups, subscriptions};
use portcullis::functions::jit_activity::{Caller, caller};
use portcullis::store::{Due, VmIndex};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::json::tree;
use serde_json::Value;
use url::Url;

use crate::checks::{SENTENCE, is_told, json, text};

/// Longer than a message of Azure with its codes and those of its details.
const A_FAILURE: usize = 5000;

const SERVICES: [Service; 6] = [Service::Arm, Service::Blob, Service::ServiceBus, Service::Logs, Service::Entra, Service::Graph];

/// An HTTP answer as a text, with its status: that and the headers a line each, an empty line, the body.
fn answer(data: &[u8]) -> Option<(u16, Answer)> {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let body = data.get(end + 2..).unwrap_or_default();
    let mut lines = text(&data[..end])?.lines();
    let status: u16 = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(500);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let named = lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| is_name(name));
    let headers: Vec<(String, &str)> = named.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    Some((status, Answer::of(status, &headers, body)))
}

/// A failed call. Whatever it is, it has a kind and is told in one sentence, and no wait is longer than a day.
pub(crate) fn failures(data: &[u8]) {
    let Some((status, answer)) = answer(data) else { return };
    for service in SERVICES {
        let failed = CallFailed::from_answer(service, Method::Delete, "deleting a rule", &answer);
        is_told(&failed, A_FAILURE);
        is_told(&failed.told(), A_FAILURE);
        assert_eq!(failed.status, Some(status));
        assert!(failed.kind != FailureKind::Malformed && failed.kind != FailureKind::Doubtful, "{failed}");
        let again = CallFailed::from_answer(service, Method::Delete, "deleting a rule", &answer);
        assert_eq!(again, failed);
    }
    let code = blob::code(&answer);
    let written = String::from_utf8_lossy(data);
    assert!(code.is_empty() || written.contains(code), "{code} stands nowhere");
    let head = written.split("\n\n").next().unwrap_or_default().to_ascii_lowercase();
    let waits: Vec<&str> = head.lines().skip(1).filter(|line| line.contains("retry-after")).collect();
    if let [wait] = waits.as_slice()
        && let Some(seconds) = wait.strip_prefix("retry-after:").map(str::trim)
        && seconds.len() < 10
        && seconds.bytes().all(|b| b.is_ascii_digit())
        && let Ok(seconds) = seconds.parse()
    {
        assert_eq!(retry_after(&answer), Some(Duration::from_secs(seconds).min(Duration::from_secs(24 * 60 * 60))));
    }
    assert!(retry_after(&answer).is_none_or(|wait| wait <= Duration::from_secs(24 * 60 * 60)), "{:?}", retry_after(&answer));
    assert!(answer.date().is_none_or(|date| (1..=9999).contains(&date.year())), "{:?}", answer.date());
}

/// What Service Bus answers to whoever takes a dead letter: it is given back at the namespace that was asked, whatever it names.
pub(crate) fn dead_letters(data: &[u8]) {
    let Some((_, answer)) = answer(data) else { return };
    let namespace: Url = "https://bus.servicebus.windows.net/".parse().expect("a URL");
    match DeadLetter::read(&answer, &namespace) {
        Ok(letter) => {
            let mut settled = namespace.clone();
            settled.set_path(&letter.lock);
            assert!(letter.lock.starts_with('/'), "{}", letter.lock);
            assert_eq!((settled.host_str(), settled.path()), (namespace.host_str(), letter.lock.as_str()));
            assert_eq!(DeadLetter::read(&answer, &namespace), Ok(letter));
        }
        Err(why) => is_told(&why, SENTENCE),
    }
}

/// Packed bodies: what is unpacked is no longer than anything that is wanted, and the same when it is packed and unpacked again.
pub(crate) fn packed(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    assert_eq!(unpacked(None, body.clone()).ok(), Some(body.clone()));
    match unpacked(Some("gzip"), body) {
        Ok(text) => {
            assert!(text.len() <= LONGEST);
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).expect("memory takes it");
            let again = encoder.finish().expect("memory takes it");
            assert_eq!(unpacked(Some("gzip"), Bytes::from(again)).ok(), Some(text));
        }
        Err(why) => is_told(&why, SENTENCE),
    }
}

/// Pages of lists of Azure Resource Manager: the next one is at the same host, or there is a reason why it is not read.
pub(crate) fn pages(data: &[u8]) {
    // A number that is too long for what it is kept in may be rounded again when what was written is read.
    let Some(body) = json(data).filter(|body| json(body.to_string().as_bytes()).as_ref() == Some(body)) else { return };
    let base = "https://management.azure.com/".parse().expect("a URL");
    let own = "https://management.azure.com/subscriptions?api-version=2020-01-01".parse().expect("a URL");
    // What Application Insights says of what it was sent.
    assert!(refused(data) <= body.get("itemsReceived").and_then(Value::as_u64).unwrap_or_default());
    subscriptions::usable(body.get("value").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default());
    match Page::read(&body.to_string()) {
        Ok(Page { values, next }) => {
            let values: Vec<Value> = values.into_iter().map(tree).collect();
            assert_eq!(body.get("value").and_then(Value::as_array), Some(&values));
            values.iter().for_each(an_entry);
            match next.map(|next| following(&own, &base, &next)) {
                Some(Ok(next)) => assert!(next.scheme() == "https" && next.host_str() == Some("management.azure.com") && next != own),
                Some(Err(why)) => is_told(&why, SENTENCE),
                None => {}
            }
        }
        Err(why) => {
            is_told(&why, SENTENCE);
            assert!(!body.get("value").is_some_and(Value::is_array));
        }
    }
}

/// An entry of the activity log, in whichever list it stands.
fn an_entry(entry: &Value) {
    let Some(Caller { at, id, name, .. }) = caller(entry) else { return };
    assert!((1..=9999).contains(&at.year()) && !name.is_empty());
    assert!(id.len() == 36 && id == id.to_lowercase(), "{id} would be a name in the store");
}

/// Pages of lists of Blob storage, and the names in them: a name is an entry only where the entry has that name.
pub(crate) fn blob_lists(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        a_name(line);
    }
    let Some((listed, _)) = Listed::read_page(data) else { return };
    let page = String::from_utf8_lossy(data);
    assert!(page.contains("Blobs"), "what has no list of blobs is no empty one");
    assert!(listed.len() <= page.matches("Blob").count());
    for Listed { name, etag, modified } in listed {
        a_name(&name);
        assert!(etag.is_none_or(|etag| etag.starts_with(['"', 'W'])));
        assert!(modified.is_none_or(|at| (1..=9999).contains(&at.year())));
    }
}

fn a_name(name: &str) {
    if let Some(due) = Due::of_name(name) {
        assert_eq!(due.name(), name, "an entry of another name would never be taken away");
    }
    for index in [VmIndex::Remembered, VmIndex::Unresting] {
        if let Some(vm) = index.vm(name) {
            assert!(name.contains(&vm.key()), "{name} is not of {vm}");
        }
    }
}

/// Incidents of Microsoft Sentinel and what they name: an incident that is read has an id that can stand in a path, and names no
/// machine whose id is not there.
pub(crate) fn incidents(data: &[u8]) {
    let Some(body) = json(data) else { return };
    match incidents::incident_in(&body) {
        Ok(incident) => {
            let ids = [Some(&incident.id), incident.owner.as_ref()];
            assert!(ids.into_iter().flatten().all(|id| id.len() == 36 && *id == id.to_lowercase() && !id.contains('/')), "{incident:?}");
            assert!((1..=9999).contains(&incident.created.year()), "{incident:?}");
        }
        Err(why) => is_told(&why, SENTENCE),
    }
    let id = "/subscriptions/s/resourcegroups/rg/providers/microsoft.compute/virtualmachines/web-1";
    let vm = VmId::parse(id).expect("a VM's id");
    let named = incidents::entities_in(body).is_some_and(|entities| incidents::names(&entities, &vm));
    // As a JSON text may have it: with escapes, and in any letter case.
    let written = serde_json::from_slice::<Value>(data).map(|body| body.to_string().to_lowercase()).unwrap_or_default();
    assert!(!named || written.contains(id), "{written}");
}

/// What Entra ID, Microsoft Graph and the management groups say: an id is one, and a key is at the login host.
pub(crate) fn directories(data: &[u8]) {
    if let Some(id) = graph::id_in(data) {
        assert!(id.len() == 36 && id == id.to_lowercase(), "{id} would be a name in the store");
    }
    for id in graph::ids_in(data).unwrap_or_default() {
        assert_eq!(id, id.to_lowercase());
    }
    let tenant = "5a4db0c5-0000-4000-8000-000000000001".parse().expect("a GUID");
    let issuers = [format!("https://sts.windows.net/{tenant}/"), format!("https://login.microsoftonline.com/{tenant}/v2.0")];
    if let Ok(published) = serde_json::from_slice::<Published>(data) {
        let listed = json(data).and_then(|body| body.get("keys")?.as_array().cloned()).unwrap_or_default();
        for key in published.usable(tenant, &issuers) {
            let is_it = |one: &Value| one["kty"] == "RSA" && one["kid"] == key.id.as_str() && one["n"] == key.modulus.as_str();
            assert!(listed.is_empty() || listed.iter().any(is_it), "{key:?} is not one of these");
        }
    }
    let login = "https://login.microsoftonline.com".parse().expect("a URL");
    if let Some(place) = serde_json::from_slice::<Configuration>(data).ok().and_then(|configuration| configuration.place_at(&login)) {
        assert!(place.scheme() == "https" && place.host_str() == Some("login.microsoftonline.com"));
    }
    if let Some(body) = json(data) {
        let above: BTreeSet<String> = management_groups::above(&body, &tenant);
        assert!(above.iter().all(|name| *name == name.to_lowercase()));
    }
}
