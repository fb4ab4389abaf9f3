//! Which api-versions each provider takes.
//!
//! Azure keeps every version for years, and each client brings its own, so real ones must never be refused. Lists of
//! all versions are public for few resource types; where there is none, what lies between the provider's first version
//! and the end of the year of its newest is taken. Sources: the versions of the recordings and specifications that this
//! world is made from, release notes of the official clients (Microsoft.Network 2026-05-01 in azure-resourcemanager-network
//! 2.64.0 of 2026-11-18, Microsoft.Compute 2026-04-01 in azure-mgmt-compute 39), and messages of this very refusal.

use super::envelope::Refusal;
use super::path::{Kind, Path, Target, segment_after};

/// What a provider takes.
enum Taken {
    /// These, and no other was ever published.
    These(&'static [&'static str]),
    /// Whatever is dated from the first of these to this day; the list names some.
    Between(&'static [&'static str], &'static str),
}

/// ARM's own: subscriptions, tenants, resource groups.
const ARM: Taken = Taken::Between(
    &[
        "2014-01-01",
        "2014-04-01",
        "2014-04-01-preview",
        "2015-01-01",
        "2015-11-01",
        "2016-06-01",
        "2018-05-01",
        "2019-11-01",
        "2020-01-01",
        "2021-04-01",
        "2022-12-01",
        "2025-04-01",
    ],
    NEWEST,
);
const NETWORK: Taken = Taken::Between(
    &[
        "2014-12-01-preview",
        "2015-05-01-preview",
        "2015-06-15",
        "2016-09-01",
        "2017-10-01",
        "2018-11-01",
        "2019-09-01",
        "2020-08-01",
        "2021-02-01",
        "2022-07-01",
        "2023-09-01",
        "2024-05-01",
        "2025-05-01",
        "2026-03-01",
        "2026-05-01",
    ],
    NEWEST,
);
const COMPUTE: Taken = Taken::Between(
    &["2015-05-01-preview", "2015-06-15", "2016-03-30", "2017-12-01", "2019-03-01", "2020-12-01", "2022-08-01", "2024-07-01", "2026-04-01"],
    NEWEST,
);
/// Both versions of the JIT specification.
const JIT: Taken = Taken::These(&["2015-06-01-preview", "2020-01-01"]);
const PRICING: Taken = Taken::Between(&["2017-08-01-preview", "2018-06-01", "2022-03-01", "2023-01-01", "2024-01-01"], NEWEST);
const ACTIVITY_LOG: Taken = Taken::Between(&["2014-04-01", "2015-04-01", "2017-03-01-preview"], NEWEST);
const AUTHORIZATION: Taken =
    Taken::Between(&["2014-04-01", "2015-01-01", "2015-07-01", "2016-09-01", "2018-01-01-preview", "2020-05-01", "2022-04-01"], NEWEST);
/// System topics.
const EVENT_GRID: Taken = Taken::Between(&["2020-04-01-preview", "2021-12-01", "2022-06-15", "2025-02-15"], NEWEST);
/// Microsoft Sentinel (the versions of the type that its templates list).
const SENTINEL: Taken = Taken::Between(
    &["2019-01-01-preview", "2020-01-01", "2021-04-01", "2021-10-01", "2022-11-01", "2023-11-01", "2024-03-01", "2024-09-01", "2025-09-01"],
    NEWEST,
);
/// Management groups (REST specifications).
const MANAGEMENT: Taken = Taken::Between(
    &["2018-01-01-preview", "2018-03-01-preview", "2019-11-01", "2020-02-01", "2020-05-01", "2021-04-01", "2023-04-01"],
    NEWEST,
);
/// The end of the year of the newest versions known.
const NEWEST: &str = "2026-12-31";

impl Taken {
    fn takes(&self, version: &str) -> bool {
        match self {
            Taken::These(all) => all.iter().any(|known| known.eq_ignore_ascii_case(version)),
            Taken::Between(some, last) => {
                let date = |version: &'_ str| version.get(..10).map(str::to_owned);
                let first = some.first().and_then(|first| date(first));
                date(version) >= first && date(version).as_deref() <= Some(*last)
            }
        }
    }

    fn named(&self) -> String {
        match self {
            Taken::These(named) | Taken::Between(named, _) => named.join(", "),
        }
    }
}

fn of(kind: Kind) -> &'static Taken {
    match kind {
        Kind::VirtualMachine => &COMPUTE,
        Kind::NetworkInterface
        | Kind::VirtualNetwork
        | Kind::Subnet
        | Kind::PublicAddress
        | Kind::SecurityGroup
        | Kind::SecurityRule
        | Kind::DefaultRule
        | Kind::Operation
        | Kind::OperationResult => &NETWORK,
        Kind::JitPolicies | Kind::JitPolicy => &JIT,
        Kind::Pricing => &PRICING,
        Kind::ActivityLog => &ACTIVITY_LOG,
        Kind::Lock | Kind::Permission | Kind::RoleAssignment | Kind::RoleDefinition => &AUTHORIZATION,
        Kind::SystemTopic | Kind::EventSubscription | Kind::ScopedEventSubscription => &EVENT_GRID,
        Kind::Incident => &SENTINEL,
    }
}

/// 400 for a version that what the path names never had, in the words of whoever answers: ARM itself for its own,
/// ARM about a provider's type, and by place where the path names a location.
pub(super) fn demand(path: &Path, version: &str) -> Result<(), Refusal> {
    let Target::Resource(resource) = &path.target else {
        let taken = if matches!(path.target, Target::Entities) { &MANAGEMENT } else { &ARM };
        if taken.takes(version) {
            return Ok(());
        }
        let message = format!("The api-version '{version}' is invalid. The supported versions are '{}'.", taken.named());
        return Err(Refusal::gateway(400, "InvalidApiVersionParameter", message));
    };
    let taken = of(resource.kind);
    if taken.takes(version) {
        return Ok(());
    }
    let (namespace, kind) = resource.kind.name().split_once('/').unwrap_or_default();
    let supported = taken.named();
    Err(match segment_after(&path.whole, "locations") {
        Some(location) => Refusal::gateway(
            400,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location '{location}' and API version '{version}' for type '{kind}'. \
                 The supported api-versions are '{supported}'."
            ),
        ),
        None => Refusal::gateway(
            400,
            "InvalidResourceType",
            format!(
                "The resource type '{kind}' could not be found in the namespace '{namespace}' for api version '{version}'. \
                 The supported api-versions are '{supported}'."
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::path;
    use super::*;

    fn taken(rest: &str, version: &str) -> bool {
        let path = path::parse(&format!("/subscriptions/s{rest}"), Some(version));
        path.is_ok_and(|path| demand(&path, version).is_ok())
    }

    #[test]
    fn what_real_clients_send_is_taken() {
        let group = "/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n";
        let jit = "/resourceGroups/g/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/p";
        let rows: [(&str, &[&str]); 12] = [
            (group, &["2015-06-15", "2017-11-01", "2019-09-01", "2020-08-01", "2021-02-01", "2025-05-01", "2026-03-01", "2026-05-01"]),
            ("/providers/Microsoft.Compute/virtualMachines", &["2015-06-15", "2020-12-01", "2024-11-01", "2026-04-01"]),
            (jit, &["2015-06-01-preview", "2020-01-01"]),
            ("/providers/Microsoft.Security/jitNetworkAccessPolicies", &["2020-01-01"]),
            ("/providers/Microsoft.Security/pricings", &["2018-06-01", "2024-01-01"]),
            ("/providers/Microsoft.Insights/eventtypes/management/values", &["2015-04-01"]),
            ("/providers/Microsoft.Authorization/locks", &["2016-09-01", "2020-05-01"]),
            ("/providers/Microsoft.Authorization/permissions", &["2015-07-01", "2022-04-01"]),
            ("/providers/Microsoft.Authorization/roleAssignments", &["2015-07-01", "2022-04-01"]),
            ("/providers/Microsoft.EventGrid/systemTopics", &["2021-12-01", "2022-06-15", "2025-02-15"]),
            (
                "/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/w/providers/Microsoft.SecurityInsights/incidents",
                &["2019-01-01-preview", "2021-10-01", "2025-09-01"],
            ),
            ("", &["2014-04-01-preview", "2016-06-01", "2019-11-01", "2022-12-01"]),
        ];
        for (path, versions) in rows {
            for version in versions {
                assert!(taken(path, version), "{path} {version}");
            }
            for version in ["1999-01-01", "2099-01-01", "2099-01-01-preview", "2013-12-31"] {
                assert!(!taken(path, version), "{path} {version}");
            }
        }
    }

    #[test]
    fn every_version_that_is_named_is_taken() {
        for all in [&ARM, &MANAGEMENT, &NETWORK, &COMPUTE, &JIT, &PRICING, &ACTIVITY_LOG, &AUTHORIZATION, &EVENT_GRID, &SENTINEL] {
            for version in all.named().split(", ") {
                assert!(path::is_api_version(version) && all.takes(version), "{version}");
            }
        }
    }
}
