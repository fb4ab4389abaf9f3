//! Whether what the rules have to know of people and machines can be found out: groups of Entra ID, and management groups.

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Check, State};
use crate::azure::{CallFailed, FailureKind};
use crate::functions::App;

const GRAPH: &str = "graph";
const GROUPS: &str = "groups";

impl App {
    /// Asks Microsoft Graph for the groups of somebody, of those that the rules know: of whoever wants the examination.
    pub(super) async fn examine_graph(&self, somebody: &str, until: Instant) -> Check {
        let Ok(rules) = self.rulebook.rules().await else { return no_rules(GRAPH) };
        let asked: Vec<&str> = rules.people().entra_groups().map(|(_, id)| id).collect();
        if asked.is_empty() {
            return Check::well(GRAPH, "no group of Entra ID stands in people.yaml");
        }
        let answer = timeout_at(until, self.azure.graph.member_groups(somebody, &asked)).await.ok();
        found(GRAPH, "Microsoft Graph", answer, "Microsoft Graph says who is in the groups of people.yaml", IN_GRAPH)
    }

    /// Asks for the management groups above a subscription, if a rule names one.
    pub(super) async fn examine_groups(&self, governed: Option<&Uuid>, until: Instant) -> Check {
        let Ok(rules) = self.rulebook.rules().await else { return no_rules(GROUPS) };
        if !rules.name_management_groups() {
            return Check::well(GROUPS, "no rule names a management group");
        }
        let Some(subscription) = governed else {
            return Check::not_well(GROUPS, State::NotKnown, "there is no subscription to ask about", "see the check `subscriptions`");
        };
        let answer = timeout_at(until, self.azure.management_groups.above(subscription)).await.ok();
        found(GROUPS, "Resource Manager", answer, "the management groups above a subscription can be read", AT_THE_ROOT)
    }
}

/// What to do where Graph refuses.
const IN_GRAPH: &str = "run infra/registration.sh, which gives the app's identity User.Read.All and GroupMember.Read.All; until then nothing \
                        is decided on for which the rules need a group of Entra ID";

/// What to do where management groups are refused.
const AT_THE_ROOT: &str = "assign the role `Portcullis management groups` to the app's identity at the tenant's root group, or take management \
                           groups out of the rules; until then nothing is decided on";

fn found<T>(name: &'static str, who: &str, answer: Option<Result<T, CallFailed>>, well: &str, cure: &str) -> Check {
    match answer {
        Some(Ok(_)) => Check::well(name, well),
        None => Check::not_well(name, State::NotKnown, format!("{who} did not answer in time"), "ask again"),
        Some(Err(failed)) => match failed.kind {
            FailureKind::MissingRight | FailureKind::Refused | FailureKind::Malformed => {
                Check::not_well(name, State::Failing, failed.told(), cure)
            }
            _ => Check::not_well(name, State::NotKnown, failed.to_string(), "ask again"),
        },
    }
}

fn no_rules(name: &'static str) -> Check {
    Check::not_well(name, State::NotKnown, "the rules cannot be used, so that nobody knows what they ask for", "see the check `rules`")
}
