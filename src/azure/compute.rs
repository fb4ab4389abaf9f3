//! Virtual machines: read only.

use std::ops::ControlFlow;

use portcullis_domain::arm_id::VmId;
use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm};
use super::error::CallFailed;

/// The virtual machines of an estate.
#[derive(Clone, Debug)]
pub struct Compute {
    arm: Arm,
}

impl Compute {
    pub(super) fn new(arm: Arm) -> Self {
        Compute { arm }
    }

    /// Reads one virtual machine.
    pub async fn get(&self, vm: &VmId) -> Result<Value, CallFailed> {
        let what = format!("reading VM {} of resource group {}", vm.name(), vm.resource_group());
        self.arm.get(&what, vm.arm_id(), ApiVersion::COMPUTE).await
    }

    /// Hands over every virtual machine of a subscription, page by page.
    pub async fn list(&self, subscription: &Uuid, each: impl FnMut(Vec<Value>) -> ControlFlow<()> + Send) -> Result<(), CallFailed> {
        let what = format!("listing the VMs of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Compute/virtualMachines");
        self.arm.list(&what, &path, &[], ApiVersion::COMPUTE, each).await
    }
}
