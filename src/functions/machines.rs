//! Machines by name: what the JIT policies of governed subscriptions list.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use portcullis_domain::arm_id::VmId;
use tracing::warn;
use uuid::Uuid;

use super::approval::usable;
use super::{App, in_lanes};
use crate::azure::{CallFailed, FailureKind};

impl App {
    /// Every machine of a name, in any letter case, that a JIT policy of a governed subscription lists. A subscription whose
    /// policies may not be read lists none: nothing there can be opened.
    pub async fn machines_named(&self, name: &str) -> Result<BTreeSet<VmId>, CallFailed> {
        let subscriptions = self.governed_subscriptions().await?;
        let found = Mutex::new(BTreeSet::new());
        in_lanes(&subscriptions, |subscription| self.add_named(subscription, name, &found)).await?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn add_named(&self, subscription: &Uuid, name: &str, found: &Mutex<BTreeSet<VmId>>) -> Result<(), CallFailed> {
        let listing = self.azure.jit.list(subscription, |page| {
            let listed = usable(page).into_iter().flat_map(|policy| policy.vms).map(|entry| entry.vm);
            let named = listed.filter(|vm| vm.name().eq_ignore_ascii_case(name));
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
            ControlFlow::Continue(())
        });
        match listing.await {
            Err(failed) if failed.kind == FailureKind::MissingRight => {
                warn!(%subscription, error = %failed, "machines of this subscription are not found by their names");
                Ok(())
            }
            listed => listed,
        }
    }
}
