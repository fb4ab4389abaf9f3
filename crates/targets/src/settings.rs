//! The settings, as lines of `NAME=value`.

use std::collections::BTreeMap;

use portcullis::settings::Settings;
use url::Host;

use crate::checks::{is_told, text};

/// Settings are read whole, or every mistake is told with the name of its setting.
pub(crate) fn settings(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let given: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let lookup = |name: &str| given.get(name).map(|value| (*value).to_owned());
    let names = || given.keys().map(|name| (*name).to_owned());
    match Settings::from_lookup(lookup, names()) {
        Ok(settings) => {
            assert!(settings.state_container != settings.audit_container && settings.close_cap >= 1);
            let endpoints = [&settings.blob_endpoint, &settings.service_bus_endpoint, &settings.logs_endpoint, &settings.arm_endpoint];
            let more = [&settings.login_endpoint, &settings.graph_endpoint];
            for endpoint in endpoints.into_iter().chain(more) {
                assert_eq!(endpoint.scheme(), "https", "a token would go out in the clear");
                let is_here = match endpoint.host() {
                    Some(Host::Domain(name)) => name == "localhost",
                    Some(Host::Ipv4(address)) => address.is_loopback(),
                    Some(Host::Ipv6(address)) => address.is_loopback(),
                    None => false,
                };
                assert_eq!(is_here, settings.loopback(), "{endpoint} among {given:?}");
            }
            let blank = |name: &str| lookup(name).map(|value| format!("  {value} "));
            assert!(Settings::from_lookup(blank, names()).is_ok(), "blanks around a value mean nothing");
        }
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                is_told(mistake, 2000);
            }
        }
    }
}
