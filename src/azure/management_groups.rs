//! Management groups: read only.

use std::collections::BTreeSet;

use azure_core::http::Method;
use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm};
use super::error::{CallFailed, FailureKind, Service};

/// The management groups of a tenant.
#[derive(Clone, Debug)]
pub struct ManagementGroups {
    arm: Arm,
}

impl ManagementGroups {
    pub(super) fn new(arm: Arm) -> Self {
        ManagementGroups { arm }
    }

    /// The names of all groups above a subscription, up to the tenant's root, in lower case. An answer that leaves them out
    /// is an error: every subscription is below the root.
    ///
    /// `getEntities` lists what its caller sees of the tenant, each with the chain of its parents (REST specification
    /// `Entities_List`).
    pub async fn above(&self, subscription: &Uuid) -> Result<BTreeSet<String>, CallFailed> {
        let what = format!("asking which management groups are above subscription {subscription}");
        let filter = format!("name eq '{subscription}'");
        let path = "/providers/Microsoft.Management/getEntities";
        let body = self.arm.ask(&what, path, &[("$filter", &filter)], ApiVersion::MANAGEMENT_GROUPS).await?;
        let above = above(&body, subscription);
        if above.is_empty() {
            let message = "the answer names no parents of the subscription";
            return Err(CallFailed::without_answer(Service::Arm, Method::Post, &what, FailureKind::Malformed, message));
        }
        Ok(above)
    }
}

/// The names of the groups above a subscription in an answer of `getEntities`, in lower case; none where it leaves them out.
pub fn above(body: &Value, subscription: &Uuid) -> BTreeSet<String> {
    let entities = body.get("value").and_then(Value::as_array).into_iter().flatten();
    let mut named = entities.filter(|entity| entity["name"].as_str().and_then(|name| name.parse().ok()) == Some(*subscription));
    let chain = named.next().and_then(|entity| entity.pointer("/properties/parentNameChain")?.as_array());
    chain.into_iter().flatten().filter_map(Value::as_str).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::super::arm::tests::{arm, ok};
    use super::*;

    #[tokio::test]
    async fn the_parents_of_the_subscription_are_read_and_nothing_else_is_taken_for_them() {
        let subscription = Uuid::from_u128(7);
        let parents = r#"{"value":[
            {"name":"Prod","type":"Microsoft.Management/managementGroups","properties":{"parentNameChain":["Root"]}},
            {"name":"00000000-0000-0000-0000-000000000007","type":"/subscriptions","properties":{"parentNameChain":["Root","Prod"]}}]}"#;
        let other = r#"{"value":[{"name":"00000000-0000-0000-0000-000000000008","properties":{"parentNameChain":["Root"]}}]}"#;
        let none = r#"{"value":[{"name":"00000000-0000-0000-0000-000000000007","properties":{"parent":{"id":null}}}]}"#;
        for (body, found) in
            [(parents, Some("prod root")), (other, None), (none, None), (r#"{"value":[]}"#, None), ("{}", None), ("[", None)]
        {
            let (arm, far_end) = arm(vec![ok(body)]);
            let above = ManagementGroups::new(arm).above(&subscription).await;
            let named = above.ok().map(|names| names.into_iter().collect::<Vec<_>>().join(" "));
            assert_eq!(named.as_deref(), found, "{body}");
            let asked = far_end.asked.lock().unwrap();
            let (method, url) = (asked[0].method(), asked[0].url().as_str());
            assert!(method == Method::Post && url.contains("getEntities?api-version=2020-05-01&%24filter=name+eq+%27"), "{url}");
        }
    }
}
