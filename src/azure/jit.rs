//! Just-in-time network access: the policies, and the one call that opens a port.

use std::ops::ControlFlow;

use azure_core::http::Method;
use portcullis_domain::arm_id::PolicyId;
use portcullis_domain::jit::{JitPolicy, Problem};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm, gather_read};
use super::error::CallFailed;

/// The JIT policies of an estate.
#[derive(Clone, Debug)]
pub struct Jit {
    arm: Arm,
}

/// Azure took the wish to open. That says nothing about whether anything is open: read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Azure's own record of the wish, as it answered it; null if the body could not be read, which changes nothing.
    pub record: Value,
}

/// A policy, or why none can be made of what Azure answered for it.
pub type Read = Result<JitPolicy, Problem>;

fn read(body: &RawValue) -> Read {
    JitPolicy::of_text(body.get())
}

impl Jit {
    pub(super) fn new(arm: Arm) -> Self {
        Jit { arm }
    }

    /// Hands over every JIT policy of a subscription, page by page.
    pub async fn list(&self, subscription: &Uuid, mut each: impl FnMut(Vec<Read>) -> ControlFlow<()> + Send) -> Result<(), CallFailed> {
        let what = format!("listing the JIT policies of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Security/jitNetworkAccessPolicies");
        self.arm.list(&what, &path, &[], ApiVersion::JIT, |page| each(page.into_iter().map(read).collect())).await
    }

    /// Every JIT policy of a resource group, of any name and region.
    pub async fn list_in_group(&self, subscription: &str, group: &str) -> Result<Vec<Read>, CallFailed> {
        let what = format!("listing the JIT policies of resource group {group}");
        let path = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Security/jitNetworkAccessPolicies");
        gather_read(&self.arm, &what, &path, ApiVersion::JIT, read).await
    }

    /// Reads one policy with its records.
    pub async fn get(&self, policy: &PolicyId) -> Result<Read, CallFailed> {
        let what = format!("reading JIT policy {} of resource group {}", policy.name(), policy.resource_group());
        self.arm.get_text(&what, policy.arm_id(), ApiVersion::JIT, read).await
    }

    /// Asks JIT to open. Sent once and never again by itself: a second one could open what was meant to be shut, so
    /// after a doubtful answer the caller reads.
    pub async fn initiate(&self, policy: &PolicyId, body: &Value) -> Result<Accepted, CallFailed> {
        let what = format!("asking JIT policy {} of resource group {} to open", policy.name(), policy.resource_group());
        let answer = self.arm.write_once(&what, Method::Post, &format!("{policy}/initiate"), ApiVersion::JIT, Some(body)).await?;
        Ok(Accepted { record: serde_json::from_slice(&answer.body).unwrap_or(Value::Null) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::arm::tests::{arm, ok};
    use super::super::channel::tests::Reply;
    use super::super::error::FailureKind;
    use super::*;

    fn policy() -> PolicyId {
        PolicyId::parse(
            "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default",
        )
        .unwrap()
    }

    #[tokio::test]
    async fn initiate_goes_out_once_whatever_is_answered() {
        for (reply, kind) in [
            (Reply::Status(429, vec![("retry-after", "1")], ""), FailureKind::Throttled),
            (Reply::Status(503, vec![], ""), FailureKind::Server),
            (Reply::CutAfterSending, FailureKind::Doubtful),
            (Reply::NeverConnects, FailureKind::Unreachable),
        ] {
            let (arm, far_end) = arm(vec![reply]);
            let failed = Jit::new(arm).initiate(&policy(), &serde_json::json!({})).await.unwrap_err();
            assert_eq!(failed.kind, kind);
            assert_eq!(far_end.asked.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn initiate_posts_to_the_policy_and_gives_the_record() {
        let (arm, far_end) = arm(vec![Reply::Status(202, vec![], r#"{"requestor":""}"#)]);
        let accepted = Jit::new(arm).initiate(&policy(), &serde_json::json!({"virtualMachines": []})).await.unwrap();
        assert_eq!(accepted.record, serde_json::json!({"requestor": ""}));
        let asked = far_end.asked.lock().unwrap();
        assert!(asked[0].url().as_str().ends_with("/jitNetworkAccessPolicies/default/initiate?api-version=2020-01-01"));
    }

    #[tokio::test]
    async fn policies_of_a_group_come_from_every_region() {
        let (arm, far_end) = arm(vec![ok(r#"{"value":[{"name":"default"}]}"#)]);
        assert_eq!(Jit::new(arm).list_in_group("s", "rg").await.unwrap().len(), 1);
        assert_eq!(
            far_end.asked.lock().unwrap()[0].url().path(),
            "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/jitNetworkAccessPolicies"
        );
    }
}
