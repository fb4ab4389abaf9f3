//! The subscriptions that the app's identity can see.

use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm, gather};
use super::error::CallFailed;

/// The subscriptions of a tenant.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    arm: Arm,
}

impl Subscriptions {
    pub(super) fn new(arm: Arm) -> Self {
        Subscriptions { arm }
    }

    /// The ids of all subscriptions that the identity can see and that can be used: Azure lists disabled and deleted
    /// ones too, whose resources it refuses to change.
    pub async fn visible(&self) -> Result<Vec<Uuid>, CallFailed> {
        let all = gather(&self.arm, "listing the subscriptions", "/subscriptions", ApiVersion::SUBSCRIPTIONS).await?;
        Ok(usable(&all))
    }
}

/// The ids of those subscriptions of a list that can be used.
pub fn usable(all: &[Value]) -> Vec<Uuid> {
    all.iter().filter(|subscription| is_alive(subscription)).filter_map(id).collect()
}

/// `Warned` and `PastDue` subscriptions still run VMs (REST specification of the states).
fn is_alive(subscription: &Value) -> bool {
    let state = subscription.get("state").and_then(Value::as_str).unwrap_or("Enabled");
    !["Disabled", "Deleted"].iter().any(|dead| state.eq_ignore_ascii_case(dead))
}

fn id(subscription: &Value) -> Option<Uuid> {
    subscription.get("subscriptionId")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::arm::tests::{arm, ok};
    use super::*;

    #[tokio::test]
    async fn dead_subscriptions_are_left_out() {
        let body = r#"{"value":[
            {"subscriptionId":"00000000-0000-0000-0000-000000000001","state":"Enabled"},
            {"subscriptionId":"00000000-0000-0000-0000-000000000002","state":"Disabled"},
            {"subscriptionId":"00000000-0000-0000-0000-000000000003"},
            {"subscriptionId":"00000000-0000-0000-0000-000000000004","state":"Warned"},
            {"subscriptionId":"not a guid","state":"Enabled"}]}"#;
        let (arm, _) = arm(vec![ok(body)]);
        let visible = Subscriptions::new(arm).visible().await.unwrap();
        assert_eq!(visible.iter().map(|id| id.as_u128()).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
