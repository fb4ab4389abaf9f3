//! Whether an audit record tells of a grant: one without counts as none.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use portcullis_domain::audit::AuditRecord;
use portcullis_domain::grant::Grant;

use super::{App, Stopped};
use crate::store::StoreError;

/// Grants whose audit records were seen by this program. They are only added, so that one is looked for once.
#[derive(Debug, Default)]
pub struct Audited(Mutex<BTreeSet<String>>);

/// More grants than are live at once in a large estate; then all are looked for again.
const MOST_KEPT: usize = 10_000;

impl App {
    /// Whether an audit record tells of just this grant. One that cannot be read is there.
    pub(super) async fn is_audited(&self, grant: &Grant) -> Result<bool, Stopped> {
        let key = format!("{} {} {} {}", grant.audit, grant.id, grant.port, grant.sources);
        if self.audited.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(true);
        }
        if grant.audit.is_empty() {
            return Ok(false);
        }
        let told = match self.store.audit(&grant.audit).await {
            Ok(audit) => audit.is_some_and(|audit| tells_of(&audit, grant)),
            Err(StoreError::Unreadable { .. }) => true,
            Err(failed) => return Err(failed.into()),
        };
        if told {
            let mut kept = self.audited.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(key);
        }
        Ok(told)
    }
}

/// Whether it is about this grant, with its port and its sources.
fn tells_of(audit: &AuditRecord, grant: &Grant) -> bool {
    audit.grant.as_deref() == Some(&grant.id) && audit.port == Some(grant.port) && audit.sources.as_ref() == Some(&grant.sources)
}
