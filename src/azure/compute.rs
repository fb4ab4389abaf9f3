//! Virtual machines: read only.

use portcullis_domain::arm_id::VmId;
use serde_json::Value;

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
}
