//! Network interfaces, subnets and security groups; and the one write that shuts a port.

use std::ops::ControlFlow;
use std::time::Duration;

use azure_core::http::Method;
use portcullis_domain::arm_id::{NicId, NsgId, RuleId, SubnetId};
use portcullis_domain::nsg::SecurityRule;
use portcullis_domain::opening::Opening;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm};
use super::error::{CallFailed, FailureKind, retry_after};

/// The network of an estate.
#[derive(Clone, Debug)]
pub struct Network {
    arm: Arm,
}

/// What Azure answered to the deletion of a rule. None of these is proof: only reading back is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// 200: deleted.
    Deleted,
    /// 202: taken; it goes later.
    Accepted {
        /// When Azure suggests to look again.
        retry_after: Option<Duration>,
    },
    /// 204, or 404 for the rule or what it lay in: it was not there.
    WasGone,
}

/// What came of shutting an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Azure was asked, or there was nothing to ask for.
    Sent(Deletion),
    /// The rule is no longer the one that was seen, for this reason; nothing was asked.
    NotTheSame(String),
}

impl Network {
    pub(super) fn new(arm: Arm) -> Self {
        Network { arm }
    }

    /// Reads one network interface.
    pub async fn nic(&self, nic: &NicId) -> Result<Value, CallFailed> {
        let what = format!("reading network interface {}", nic.name());
        self.arm.get(&what, nic.arm_id(), ApiVersion::NETWORK).await
    }

    /// Hands over every network interface of a subscription, page by page.
    pub async fn nics(&self, subscription: &Uuid, each: impl FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send) -> Result<(), CallFailed> {
        self.list(subscription, "networkInterfaces", "network interfaces", each).await
    }

    /// Reads one subnet: its security group is not in the body of a network interface.
    pub async fn subnet(&self, subnet: &SubnetId) -> Result<Value, CallFailed> {
        let what = format!("reading subnet {}", subnet.name());
        self.arm.get(&what, subnet.arm_id(), ApiVersion::NETWORK).await
    }

    /// Reads one security group with its rules.
    pub async fn nsg(&self, nsg: &NsgId) -> Result<Value, CallFailed> {
        let what = format!("reading network security group {}", nsg.name());
        self.arm.get(&what, nsg.arm_id(), ApiVersion::NETWORK).await
    }

    /// Hands over every security group of a subscription with its rules, page by page.
    pub async fn nsgs(&self, subscription: &Uuid, each: impl FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send) -> Result<(), CallFailed> {
        self.list(subscription, "networkSecurityGroups", "network security groups", each).await
    }

    /// Reads one rule.
    pub async fn rule(&self, rule: &RuleId) -> Result<Value, CallFailed> {
        self.arm.get(&format!("reading rule {}", named(rule)), rule.arm_id(), ApiVersion::NETWORK).await
    }

    /// Deletes the rule of an opening: the one way in which a port is shut. It reads the rule first and refuses unless
    /// name, access, direction, destination, ports and sources are still those that the plan saw.
    pub async fn delete_jit_rule(&self, seen: &Opening) -> Result<Shut, CallFailed> {
        let body = match self.rule(&seen.rule).await {
            Ok(body) => body,
            Err(failed) if is_gone(&failed) => return Ok(Shut::Sent(Deletion::WasGone)),
            Err(failed) => return Err(failed),
        };
        let group = seen.rule.nsg().map(|group| group.to_string()).unwrap_or_default();
        match SecurityRule::read_in(&group, &body).map_err(|why| why.to_string()).and_then(|rule| seen.agrees_with(&rule)) {
            Ok(()) => self.send_delete(&seen.rule).await.map(Shut::Sent),
            Err(why) => Ok(Shut::NotTheSame(why)),
        }
    }

    /// Deletes a rule, whatever it says: only for a caller that has just read it. Sent once.
    async fn send_delete(&self, rule: &RuleId) -> Result<Deletion, CallFailed> {
        let what = format!("deleting rule {}", named(rule));
        match self.arm.write_once(&what, Method::Delete, &rule.to_string(), ApiVersion::NETWORK, None).await {
            Ok(answer) => Ok(match answer.status {
                202 => Deletion::Accepted { retry_after: retry_after(&answer) },
                204 => Deletion::WasGone,
                _ => Deletion::Deleted,
            }),
            // A subscription that is not found is no rule that is gone: the identity may have lost sight of it.
            Err(failed) if is_gone(&failed) => Ok(Deletion::WasGone),
            Err(failed) => Err(failed),
        }
    }

    async fn list(
        &self,
        subscription: &Uuid,
        kind: &str,
        shown: &str,
        each: impl FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send,
    ) -> Result<(), CallFailed> {
        let what = format!("listing the {shown} of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Network/{kind}");
        self.arm.list(&what, &path, &[], ApiVersion::NETWORK, each).await
    }
}

fn is_gone(failed: &CallFailed) -> bool {
    failed.kind == FailureKind::NotFound && GONE.iter().any(|code| failed.code.eq_ignore_ascii_case(code))
}

/// Codes of a 404 that mean that the rule is not there.
const GONE: [&str; 4] = ["NotFound", "ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound"];

fn named(rule: &RuleId) -> String {
    let nsg = rule.nsg().map(|nsg| nsg.name().to_owned()).unwrap_or_default();
    format!("{} of {nsg}", rule.name())
}

#[cfg(test)]
mod tests {
    use super::super::arm::tests::arm;
    use super::super::channel::tests::Reply;
    use super::*;

    fn rule() -> RuleId {
        RuleId::parse("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/nsg-1/securityRules/r").unwrap()
    }

    async fn delete(status: u16, headers: Vec<(&'static str, &'static str)>, body: &'static str) -> (Result<Deletion, FailureKind>, usize) {
        let (arm, far_end) = arm(vec![Reply::Status(status, headers, body)]);
        let result = Network::new(arm).send_delete(&rule()).await.map_err(|failed| failed.kind);
        let asked = far_end.asked.lock().unwrap().len();
        (result, asked)
    }

    #[tokio::test]
    async fn each_answer_to_a_deletion_is_told_apart() {
        assert_eq!(delete(200, vec![], "").await, (Ok(Deletion::Deleted), 1));
        assert_eq!(
            delete(202, vec![("retry-after", "10")], "null").await,
            (Ok(Deletion::Accepted { retry_after: Some(Duration::from_secs(10)) }), 1)
        );
        assert_eq!(delete(204, vec![], "").await, (Ok(Deletion::WasGone), 1));
        assert_eq!(delete(404, vec![], r#"{"error":{"code":"ResourceNotFound"}}"#).await, (Ok(Deletion::WasGone), 1));
        assert_eq!(delete(404, vec![], r#"{"error":{"code":"SubscriptionNotFound"}}"#).await, (Err(FailureKind::NotFound), 1));
        assert_eq!(delete(404, vec![], "").await, (Err(FailureKind::NotFound), 1));
    }

    #[tokio::test]
    async fn a_deletion_is_sent_once() {
        let busy = r#"{"error":{"code":"RetryableError","message":"m"}}"#;
        assert_eq!(delete(429, vec![("retry-after", "1")], busy).await, (Err(FailureKind::Busy), 1));
        assert_eq!(delete(500, vec![], "").await, (Err(FailureKind::Server), 1));
    }
}
