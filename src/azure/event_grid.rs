//! Where Event Grid sends the events of subscriptions. Read only.

use portcullis_domain::arm_id::ArmId;
use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm, gather, text_at};
use super::error::CallFailed;

/// The topics of subscriptions.
#[derive(Clone, Debug)]
pub struct EventGrid {
    arm: Arm,
}

impl EventGrid {
    pub(super) fn new(arm: Arm) -> Self {
        EventGrid { arm }
    }

    /// The event subscriptions of the topic that has a subscription's own events, as Azure answers them. There is one such topic
    /// at most (documentation of system topics).
    pub async fn event_subscriptions(&self, subscription: &Uuid) -> Result<Vec<Value>, CallFailed> {
        let what = format!("listing the event topics of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.EventGrid/systemTopics");
        let topics = gather(&self.arm, &what, &path, ApiVersion::EVENT_GRID).await?;
        let mut found = Vec::new();
        for topic in topics.iter().filter(|topic| is_of_subscription(topic)) {
            let Some(id) = topic["id"].as_str().and_then(|id| ArmId::parse(id).ok()) else { continue };
            let what = format!("listing the event subscriptions of subscription {subscription}");
            found.extend(gather(&self.arm, &what, &format!("{id}/eventSubscriptions"), ApiVersion::EVENT_GRID).await?);
        }
        Ok(found)
    }
}

fn is_of_subscription(topic: &Value) -> bool {
    text_at(topic, "/properties/topicType").eq_ignore_ascii_case("Microsoft.Resources.Subscriptions")
}
