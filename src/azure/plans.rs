//! The plans of Defender for Cloud. Read only.

use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm};
use super::error::CallFailed;

/// The plans of subscriptions.
#[derive(Clone, Debug)]
pub struct Plans {
    arm: Arm,
}

impl Plans {
    pub(super) fn new(arm: Arm) -> Self {
        Plans { arm }
    }

    /// The plan of Defender for Servers of a subscription, as Azure answers it.
    pub async fn servers(&self, subscription: &Uuid) -> Result<Value, CallFailed> {
        let what = format!("reading the plan of Defender for Servers of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Security/pricings/VirtualMachines");
        self.arm.get_at(&what, &path, ApiVersion::PRICINGS).await
    }
}
