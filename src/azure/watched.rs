//! What telemetry is told of a call: enough to find it, and nobody's name.

use azure_core::http::Method;
use opentelemetry::KeyValue;
use url::Url;

use super::channel::{Answer, Outgoing};
use super::error::{CallFailed, Service};
use crate::telemetry::{CallSpan, CameTo, Telemetry};

/// Begins the span of a call.
pub(super) fn begin(telemetry: &Telemetry, service: Service, outgoing: &Outgoing) -> CallSpan {
    telemetry.call(service.name(), || {
        let (method, url) = (outgoing.method, &outgoing.url);
        let path = path(service, url);
        let attributes = vec![
            KeyValue::new("http.request.method", method.as_str()),
            KeyValue::new("peer.service", service.name()),
            KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
            KeyValue::new("url.full", path.clone()),
        ];
        (format!("{method} {}", place(service, &path)), attributes)
    })
}

/// What a call came to.
pub(super) fn came_to(service: Service, method: Method, result: &Result<Answer, CallFailed>, tries: u32) -> CameTo {
    match result {
        Ok(answer) => CameTo { status: Some(answer.status), failure: failure(service, method, answer.status), tries },
        Err(failed) => CameTo { status: failed.status, failure: Some(failed.kind.name()), tries },
    }
}

/// Whether an answer is a failure. To whoever reads or writes on a condition, that a thing is not there, is there already or
/// has changed is what was asked; and Service Bus is asked for its time by a call that it refuses.
fn failure(service: Service, method: Method, status: u16) -> Option<&'static str> {
    match (service, status) {
        (_, ..400 | 404 | 412) | (Service::Blob, 409) => None,
        (Service::ServiceBus, 401) if method == Method::Get => None,
        (_, 400..500) => Some("Refused"),
        _ => Some("Server"),
    }
}

/// The path without a query, and without whatever may be a person. Microsoft Graph has names and object ids behind the version and
/// the collection; the store has a folder for each person's approvals.
fn path(service: Service, url: &Url) -> String {
    let (mut shown, mut before) = (String::new(), "");
    for (place, segment) in url.path().split('/').skip(1).enumerate() {
        let is_person = match service {
            Service::Graph => place == 2,
            Service::Blob => before == APPROVALS,
            Service::Arm | Service::ServiceBus | Service::Logs | Service::Entra | Service::Insights => false,
        };
        let is_person = is_person || segment.contains('@') || segment.to_ascii_lowercase().contains("%40");
        shown.push('/');
        shown.push_str(if is_person { "{person}" } else { segment });
        before = segment;
    }
    shown
}

/// The store's folder that has a folder for each person: whatever stands behind it is told to nobody.
pub const APPROVALS: &str = "approvals";

/// What kind of thing a path is about, so that calls of one kind have one name.
fn place(service: Service, path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match service {
        Service::Arm => resource_type(&segments),
        Service::Blob | Service::ServiceBus | Service::Logs | Service::Entra | Service::Graph | Service::Insights => {
            service.name().to_owned()
        }
    }
}

/// The last provider's type, and below it what is no name: types and names take turns.
fn resource_type(segments: &[&str]) -> String {
    let behind = segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers")).map(|at| &segments[at + 1..]);
    match behind {
        Some([provider, rest @ ..]) => {
            let types = rest.iter().step_by(2).copied();
            std::iter::once(*provider).chain(types).collect::<Vec<_>>().join("/")
        }
        Some([]) | None => segments.iter().step_by(2).copied().collect::<Vec<_>>().join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(service: Service, url: &str) -> (String, String) {
        let path = path(service, &Url::parse(url).unwrap());
        (place(service, &path), path)
    }

    #[test]
    fn calls_of_one_kind_have_one_name() {
        for (url, name) in [
            (
                "https://a/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/nsg/securityRules/r?x=y",
                "Microsoft.Network/networkSecurityGroups/securityRules",
            ),
            (
                "https://a/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/we/jitNetworkAccessPolicies/default/initiate",
                "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate",
            ),
            ("https://a/subscriptions/s/providers/Microsoft.Network/networkInterfaces", "Microsoft.Network/networkInterfaces"),
            ("https://a/subscriptions/s", "subscriptions"),
            ("https://a/subscriptions", "subscriptions"),
        ] {
            assert_eq!(told(Service::Arm, url).0, name);
        }
    }

    #[test]
    fn nobody_is_named() {
        for (url, shown) in [
            ("https://g/v1.0/users/ada@contoso.com?$select=id", "/v1.0/users/{person}"),
            ("https://g/v1.0/directoryObjects/6f1e/checkMemberGroups", "/v1.0/directoryObjects/{person}/checkMemberGroups"),
            ("https://g/v1.0/people/ada%40contoso.com", "/v1.0/people/{person}"),
        ] {
            assert_eq!(told(Service::Graph, url), ("Microsoft Graph".to_owned(), shown.to_owned()));
        }
        let approval = told(Service::Blob, "https://a/state/approvals/6f1e/20260115T091015Z-d1d6").1;
        assert_eq!(approval, "/state/approvals/{person}/20260115T091015Z-d1d6");
    }

    #[test]
    fn what_was_asked_for_on_a_condition_is_no_failure() {
        for (service, method, status, failure) in [
            (Service::Blob, Method::Get, 404, None),
            (Service::Blob, Method::Put, 409, None),
            (Service::Blob, Method::Put, 412, None),
            (Service::Arm, Method::Delete, 409, Some("Refused")),
            (Service::Arm, Method::Get, 500, Some("Server")),
            (Service::ServiceBus, Method::Get, 401, None),
            (Service::ServiceBus, Method::Post, 401, Some("Refused")),
        ] {
            assert_eq!(super::failure(service, method, status), failure, "{service} {status}");
        }
    }
}
