//! One governed subscription: the app's rights, the plan, the JIT policies, who else may open ports, and where events go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use portcullis_domain::json::tree;
use portcullis_domain::network::Nic;
use portcullis_domain::reconcile::Mode;
use portcullis_domain::rights::{Permission, missing};
use portcullis_domain::sweep::survey;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Check, State};
use crate::azure::arm::text_at;
use crate::azure::authorization::{RoleAssignment, RoleDefinition};
use crate::azure::jit::Read;
use crate::azure::{CallFailed, FailureKind};
use crate::functions::App;

/// What opens a port through JIT.
const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";

/// So many groups' rights are read: roles are given to subscriptions, or at least to whole groups alike.
const MOST_GROUPS: usize = 10;

/// So many holders of a role are told by their object ids.
const MOST_NAMED: usize = 5;

/// So much is told of policies that cannot be used.
const MOST_TOLD: usize = 10;

/// The roles of the deployment, by their duty.
static ROLES: LazyLock<BTreeMap<String, Role>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../infra/roles.json")).unwrap_or_default());

/// A role of the deployment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    role_name: String,
    actions: Vec<String>,
}

impl App {
    /// Looks at one subscription.
    pub(super) async fn examine_subscription(&self, subscription: Uuid) -> Vec<Check> {
        let azure = &self.azure;
        let (jit, plan, holders, events) = tokio::join!(
            self.policies(&subscription),
            azure.plans.servers(&subscription),
            async { tokio::try_join!(azure.authorization.assignments(&subscription), azure.authorization.definitions(&subscription)) },
            azure.event_grid.event_subscriptions(&subscription),
        );
        let checks = [
            self.rights(&subscription, jit.as_ref().ok()).await,
            judged("plan", plan, |plan| plan_of(&plan)),
            judged("policies", jit, |jit| policies(&jit)),
            judged("initiate", holders, |(assignments, definitions)| openers(&assignments, &definitions, azure.own.get())),
            judged("events", events, |events| events_to(&events, &self.installation.name)),
        ];
        checks.into_iter().map(|check| check.of(subscription)).collect()
    }

    async fn rights(&self, subscription: &Uuid, policies: Option<&Policies>) -> Check {
        let unknown = |said: &str, cure: &str| Check::not_well("rights", State::NotKnown, said, cure);
        let Some(policies) = policies else {
            return unknown(
                "the app's rights are read in the groups of JIT policies, and those could not be listed",
                "see the check `policies`",
            );
        };
        if policies.groups.is_empty() {
            let said = "the app's rights are read in the groups of JIT policies, and there are none";
            return unknown(said, "nothing, until a machine is protected with JIT");
        }
        let mut before_enforce = BTreeSet::new();
        for group in policies.groups.iter().take(MOST_GROUPS) {
            let held = match self.azure.authorization.permissions(subscription, group).await {
                Ok(held) => held,
                Err(failed) => return not_known("rights", &failed),
            };
            if let Some(check) = rights_in(group, self.mode, &held) {
                return check;
            }
            before_enforce.extend(lacking(Mode::Enforce, &held).into_iter().map(|(role, _)| role));
        }
        let mut said = match policies.groups.len() {
            1 => "the app has every right of its roles in the group of the JIT policy".to_owned(),
            count if count <= MOST_GROUPS => format!("the app has every right of its roles in the {count} groups of JIT policies"),
            count => format!(
                "the app has every right of its roles in {MOST_GROUPS} of {count} groups of JIT policies; at the others nobody looked"
            ),
        };
        if !before_enforce.is_empty() {
            let roles = before_enforce.into_iter().collect::<Vec<_>>().join(" and ");
            said.push_str(&format!("; before PORTCULLIS_MODE is enforce it needs {roles} as well"));
        }
        Check::well("rights", said)
    }

    async fn policies(&self, subscription: &Uuid) -> Result<Policies, CallFailed> {
        let (mut listed, mut nics) = (Vec::new(), Vec::new());
        let (jit, network) = tokio::join!(
            self.azure.jit.list(subscription, |page| {
                listed.extend(page);
                ControlFlow::Continue(())
            }),
            self.azure.network.nics(subscription, |page| {
                nics.extend(page.into_iter().filter_map(|body| Nic::read(&tree(body)).ok()));
                ControlFlow::Continue(())
            }),
        );
        jit?;
        network?;
        Ok(Policies::of(listed, &nics))
    }
}

/// What is told where an answer is there; where it is not, that it is not known.
fn judged<T>(name: &'static str, answer: Result<T, CallFailed>, judge: impl FnOnce(T) -> Check) -> Check {
    answer.map_or_else(|failed| not_known(name, &failed), judge)
}

fn not_known(name: &'static str, failed: &CallFailed) -> Check {
    let cure = match failed.kind {
        // What JIT refuses without its plan is refused as a right is.
        FailureKind::MissingRight if name == "policies" => "see the check `plan`; else assign the role `Portcullis observe`",
        FailureKind::MissingRight => {
            "assign the role `Portcullis examine` (infra/roles.json) to the app's identity there, if you want to know"
        }
        _ => "ask again",
    };
    Check::not_well(name, State::NotKnown, failed.to_string(), cure)
}

/// The roles of a mode that somebody lacks something of, with that, by what they hold.
fn lacking(mode: Mode, held: &[Permission]) -> Vec<(&'static str, Vec<&'static str>)> {
    let duties: &[&str] = match mode {
        Mode::Observe => &["observe"],
        Mode::Enforce => &["observe", "open", "close"],
    };
    let lacks = |role: &'static Role| (role.role_name.as_str(), missing(held, role.actions.iter().map(String::as_str)));
    duties.iter().filter_map(|duty| ROLES.get(*duty)).map(lacks).filter(|(_, actions)| !actions.is_empty()).collect()
}

/// The roles that the app lacks something of in a group, by what it holds there.
pub fn rights_in(group: &str, mode: Mode, held: &[Permission]) -> Option<Check> {
    let lacking = lacking(mode, held);
    if lacking.is_empty() {
        return None;
    }
    let roles = lacking.iter().map(|(role, _)| *role).collect::<Vec<_>>().join(" and ");
    let actions = lacking.iter().flat_map(|(_, actions)| actions).copied().collect::<Vec<_>>().join(", ");
    Some(Check::not_well(
        "rights",
        State::Failing,
        format!("in resource group {group} the app may not {actions}"),
        format!("assign {roles} to the app's identity on the subscription or the management group; a new assignment takes some minutes"),
    ))
}

/// Just-in-time access is a part of Defender for Servers Plan 2 (documentation).
pub fn plan_of(plan: &Value) -> Check {
    let text = |name: &str| text_at(plan, &format!("/properties/{name}"));
    let cure = "turn on Defender for Servers Plan 2 on the subscription, in Defender for Cloud under Environment settings";
    match (text("pricingTier"), text("subPlan")) {
        (tier, _) if !tier.eq_ignore_ascii_case("Standard") => {
            Check::not_well("plan", State::Failing, "Defender for Servers is off, so that JIT can open nothing", cure)
        }
        // Older answers name no plan beside the tier: Plan 1 always says so.
        (_, "P1") => Check::not_well("plan", State::Failing, "Defender for Servers is on with Plan 1, which has no JIT", cure),
        _ if text("resourcesCoverageStatus").eq_ignore_ascii_case("PartiallyCovered") => Check::not_well(
            "plan",
            State::Attention,
            "Defender for Servers Plan 2 is on, and some machines are left out of it",
            "see the plan of those machines, if they have a JIT policy",
        ),
        _ => Check::well("plan", "Defender for Servers Plan 2 is on"),
    }
}

/// The JIT policies of a subscription, and what is wrong with them.
struct Policies {
    count: usize,
    groups: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Policies {
    fn of(listed: Vec<Read>, nics: &[Nic]) -> Self {
        let (count, mut read, mut wrong) = (listed.len(), Vec::new(), Vec::new());
        for policy in listed {
            match policy {
                Ok(policy) => read.push(policy),
                Err(problem) => wrong.push(format!("a policy cannot be read: its {} {}", problem.place, problem.why)),
            }
        }
        let is_fine = |state: &str| ["", "Succeeded", "Updating"].iter().any(|fine| state.eq_ignore_ascii_case(fine));
        let unfinished = read.iter().filter(|policy| !is_fine(&policy.state));
        wrong.extend(unfinished.map(|policy| format!("JIT policy {} is {}", policy.id.name(), policy.state)));
        let empty = read.iter().filter(|policy| policy.vms.is_empty());
        wrong.extend(empty.map(|policy| format!("JIT policy {} protects no machine", policy.id.name())));
        let groups = read.iter().map(|policy| policy.id.resource_group()).collect();
        let seen = survey(read, &[], nics);
        let remarks: BTreeSet<&str> = seen.values().flat_map(|one| &one.remarks).map(|remark| remark.evidence.as_str()).collect();
        wrong.extend(remarks.into_iter().map(str::to_owned));
        Policies { count, groups, wrong }
    }
}

fn policies(jit: &Policies) -> Check {
    match (jit.count, jit.wrong.as_slice()) {
        (0, _) => Check::not_well(
            "policies",
            State::Attention,
            "there is no JIT policy, so that there is nothing to govern",
            "protect VMs with JIT in Defender for Cloud, or leave the subscription out of PORTCULLIS_SUBSCRIPTIONS",
        ),
        (1, []) => Check::well("policies", "the JIT policy can be used"),
        (count, []) => Check::well("policies", format!("all {count} JIT policies can be used")),
        (_, wrong) => {
            let more = wrong.len().saturating_sub(MOST_TOLD);
            let mut told = wrong.iter().take(MOST_TOLD).cloned().collect::<Vec<_>>().join("; ");
            if more > 0 {
                told.push_str(&format!("; and {more} more"));
            }
            Check::not_well(
                "policies",
                State::Attention,
                told,
                "change what is named in Defender for Cloud; the rest is governed all the same",
            )
        }
    }
}

/// Who but the app may open ports around Portcullis.
pub fn openers(assignments: &[RoleAssignment], definitions: &[RoleDefinition], own: Option<&str>) -> Check {
    // A definition's id may name its subscription or not: the last part is the role.
    let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let opens: BTreeMap<String, &str> = definitions
        .iter()
        .filter(|role| role.permissions.iter().any(|permission| permission.allows(INITIATE)))
        .map(|role| (last(&role.id), role.name.as_str()))
        .collect();
    let mut by_role: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for one in assignments.iter().filter(|one| own.is_none_or(|own| !own.eq_ignore_ascii_case(&one.principal))) {
        if let Some(role) = opens.get(&last(&one.role)) {
            by_role.entry(role).or_default().insert((&one.principal_type, &one.principal));
        }
    }
    if by_role.is_empty() {
        return Check::well("initiate", "nobody else may open ports through JIT");
    }
    let all: BTreeSet<&(&str, &str)> = by_role.values().flatten().collect();
    let roles: Vec<String> = by_role
        .iter()
        .map(|(role, holders)| {
            let named = holders.iter().take(MOST_NAMED).map(|(kind, id)| format!("{kind} {id}")).collect::<Vec<_>>().join(", ");
            let more = if holders.len() > MOST_NAMED { ", …" } else { "" };
            format!("{} by {role} ({named}{more})", holders.len())
        })
        .collect();
    let some = match all.len() {
        1 => "one person, group or application".to_owned(),
        count => format!("{count} people, groups and applications"),
    };
    Check::not_well(
        "initiate",
        State::Attention,
        format!("{some} may open ports around Portcullis: {}", roles.join(", ")),
        "give people the role `Portcullis person` in their place (docs/roles.md); what they open around Portcullis is judged all the same",
    )
}

/// Whether the subscription's events come to the app.
pub fn events_to(all: &[Value], app: &str) -> Check {
    let cure = "run infra/events.sh, which makes the event subscription; until then the sweep finds openings, within five minutes";
    // Where the host names no site, the app is called after its namespace.
    let site = app.split('.').next().unwrap_or_default();
    let function = format!("/sites/{site}/functions/jit_activity").to_ascii_lowercase();
    let ours = |body: &&Value| text_at(body, "/properties/destination/properties/resourceId").to_ascii_lowercase().ends_with(&function);
    let Some(found) = all.iter().find(ours) else {
        return Check::not_well(
            "events",
            State::Failing,
            format!("no event subscription leads to the function jit_activity of {site}"),
            cure,
        );
    };
    let state = text_at(found, "/properties/provisioningState");
    if !state.eq_ignore_ascii_case("Succeeded") {
        return Check::not_well("events", State::Failing, format!("the event subscription {} is {state}", text_at(found, "/name")), cure);
    }
    let types = found.pointer("/properties/filter/includedEventTypes").and_then(Value::as_array);
    let has_actions = |types: &Vec<Value>| types.iter().any(|kind| kind == "Microsoft.Resources.ResourceActionSuccess");
    if !types.is_none_or(has_actions) {
        let said = format!("the event subscription {} leaves out the events of actions, of which opening is one", text_at(found, "/name"));
        return Check::not_well("events", State::Failing, said, cure);
    }
    Check::well("events", "JIT's events come to the app")
}

#[cfg(test)]
mod tests {
    use portcullis_domain::jit::JitPolicy;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_roles_of_the_deployment_are_those_that_are_looked_for() {
        assert!(["observe", "open", "close", "examine"].iter().all(|duty| ROLES.contains_key(*duty)));
        let all = ["observe", "open", "close"].iter().flat_map(|duty| &ROLES[*duty].actions);
        let but = |left_out: &str| {
            let actions = all.clone().filter(|action| !action.contains(left_out)).cloned().collect();
            [Permission { actions, not_actions: Vec::new() }]
        };
        assert_eq!(rights_in("rg", Mode::Enforce, &but("nothing")), None);
        let check = rights_in("rg", Mode::Enforce, &but("securityRules/delete")).unwrap();
        assert_eq!(check.said, "in resource group rg the app may not Microsoft.Network/networkSecurityGroups/securityRules/delete");
        assert!(check.cure.starts_with("assign Portcullis close to"), "{}", check.cure);
        // To observe takes no right to change anything.
        assert_eq!(rights_in("rg", Mode::Observe, &but("securityRules")), None);
        assert!(rights_in("rg", Mode::Observe, &but("jitNetworkAccessPolicies/read")).is_some());
    }

    #[test]
    fn jit_takes_plan_2() {
        for (plan, state) in [
            (json!({"pricingTier": "Standard", "subPlan": "P2"}), State::Well),
            (json!({"pricingTier": "Standard"}), State::Well),
            (json!({"pricingTier": "Standard", "subPlan": "P1"}), State::Failing),
            (json!({"pricingTier": "Free"}), State::Failing),
            (json!({}), State::Failing),
            (json!({"pricingTier": "Standard", "subPlan": "P2", "resourcesCoverageStatus": "PartiallyCovered"}), State::Attention),
        ] {
            assert_eq!(plan_of(&json!({"properties": plan})).state, state, "{plan}");
        }
    }

    #[test]
    fn who_else_may_open_is_counted_by_role_and_once() {
        let permission = |actions: Value, not: Value| vec![Permission::read(&json!({"actions": actions, "notActions": not}))];
        let role = |id: &str, name: &str, permissions| RoleDefinition { id: format!("/x/{id}"), name: name.to_owned(), permissions };
        let definitions = [
            role("OWNER", "Owner", permission(json!(["*"]), json!([]))),
            role("reader", "Reader", permission(json!(["*/read"]), json!([]))),
            role("careful", "Careful", permission(json!(["*"]), json!(["Microsoft.Security/*"]))),
            role("security", "Security Admin", permission(json!(["Microsoft.Security/*"]), json!([]))),
        ];
        let has = |principal: &str, role: &str| RoleAssignment {
            principal: principal.to_owned(),
            principal_type: "User".to_owned(),
            role: format!("/subscriptions/s/{role}"),
        };
        let told = |assignments: &[RoleAssignment]| openers(assignments, &definitions, Some("APP"));
        assert_eq!(told(&[has("app", "owner"), has("ada", "reader"), has("bob", "careful")]).state, State::Well);
        let check = told(&[has("ada", "owner"), has("ada", "owner"), has("bob", "owner"), has("ada", "security")]);
        let (two, one) = ("2 by Owner (User ada, User bob)", "1 by Security Admin (User ada)");
        assert_eq!(check.said, format!("2 people, groups and applications may open ports around Portcullis: {two}, {one}"));
        assert!(told(&[has("eve", "security")]).said.starts_with("one person, group or application may"));
    }

    #[test]
    fn events_come_by_an_event_subscription_that_stands_and_leaves_out_no_actions() {
        let one = |app: &str, state: &str, types: Value| {
            json!({"name": "ours", "properties": {"provisioningState": state, "filter": {"includedEventTypes": types},
                "destination": {"properties": {"resourceId": format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/{app}/functions/jit_activity")}}}})
        };
        let types = || json!(["Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceActionSuccess"]);
        for (all, state) in [
            (vec![], State::Failing),
            (vec![one("other", "Succeeded", types())], State::Failing),
            (vec![one("other", "Succeeded", types()), one("App", "Succeeded", types())], State::Well),
            (vec![one("app", "Succeeded", Value::Null)], State::Well),
            (vec![one("app", "AwaitingManualAction", types())], State::Failing),
            (vec![one("app", "Succeeded", json!(["Microsoft.Resources.ResourceWriteSuccess"]))], State::Failing),
        ] {
            assert_eq!(events_to(&all, "app").state, state, "{all:?}");
        }
    }

    #[test]
    fn policies_that_cannot_be_used_are_named() {
        let vm = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/web-1";
        let policy = |name: &str, vms: Value, state: &str| {
            let id = format!(
                "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/{name}"
            );
            json!({"id": id, "name": name, "properties": {"virtualMachines": vms, "provisioningState": state}})
        };
        let nic = Nic::read(&json!({"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces/n",
            "properties": {"virtualMachine": {"id": vm}}}))
        .unwrap();
        let told = |bodies: &[Value]| policies(&Policies::of(bodies.iter().map(JitPolicy::read).collect(), std::slice::from_ref(&nic)));
        assert_eq!(told(&[]).state, State::Attention);
        assert_eq!(told(&[policy("default", json!([{"id": vm, "ports": []}]), "Succeeded")]).said, "the JIT policy can be used");
        let check = told(&[
            policy("failed", json!([{"id": vm, "ports": []}]), "Failed"),
            policy("empty", json!([]), "Succeeded"),
            policy("gone", json!([{"id": vm.replace("web-1", "web-9"), "ports": []}]), "Succeeded"),
            json!({"name": "none"}),
        ]);
        for part in ["failed is Failed", "empty protects no machine", "names web-9", "a policy cannot be read: its id"] {
            assert!(check.said.contains(part), "{part}: {}", check.said);
        }
        assert_eq!(check.state, State::Attention);
    }
}
