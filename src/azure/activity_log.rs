//! The activity log: who did what, minutes late.

use std::ops::ControlFlow;

use chrono::{DateTime, SecondsFormat, Utc};
use portcullis_domain::arm_id::ArmId;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm};
use super::error::CallFailed;

/// The activity log of an estate.
#[derive(Clone, Debug)]
pub struct ActivityLog {
    arm: Arm,
}

impl ActivityLog {
    pub(super) fn new(arm: Arm) -> Self {
        ActivityLog { arm }
    }

    /// Hands over the entries of a subscription between two times, newest first, page by page; only those of
    /// `resource` if one is given. The log knows this form of filter and few others (documentation).
    pub async fn query(
        &self,
        subscription: &Uuid,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        resource: Option<&ArmId>,
        each: impl FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send,
    ) -> Result<(), CallFailed> {
        let what = format!("reading the activity log of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values");
        let filter = filter(from, to, resource);
        self.arm.list(&what, &path, &[("$filter", &filter)], ApiVersion::ACTIVITY_LOG, each).await
    }
}

fn filter(from: DateTime<Utc>, to: DateTime<Utc>, resource: Option<&ArmId>) -> String {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut filter = format!("eventTimestamp ge '{}' and eventTimestamp le '{}'", text(from), text(to));
    if let Some(resource) = resource {
        // In OData a quote is doubled inside quotes.
        filter.push_str(&format!(" and resourceUri eq '{}'", resource.to_string().replace('\'', "''")));
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_has_the_documented_form() {
        let from = "2026-01-15T10:00:00.5Z".parse().unwrap();
        let to = "2026-01-15T11:00:00Z".parse().unwrap();
        assert_eq!(filter(from, to, None), "eventTimestamp ge '2026-01-15T10:00:00Z' and eventTimestamp le '2026-01-15T11:00:00Z'");
        let id = ArmId::parse("/subscriptions/s/resourceGroups/it's").unwrap();
        assert!(filter(from, to, Some(&id)).ends_with(" and resourceUri eq '/subscriptions/s/resourceGroups/it''s'"));
    }
}
