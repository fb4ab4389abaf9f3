//! Deciding: hard limits first, then the rules.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use cedar_policy_core::ast::{self, Name, RestrictedExpr};
use chrono::{Datelike, TimeDelta, Timelike, Weekday};
use chrono_tz::Tz;
use portcullis_domain::grant::{LONGEST, limits_broken};
use portcullis_domain::source::Sources;

use crate::action::Action;
use crate::decision::{Decision, Lack, Named, Outcome, Permission, Refusal};
use crate::miss::{self, Missing};
use crate::people::Group;
use crate::set::{Chapter, Rule, Rules};
use crate::terms::Effect;
use crate::wish::{self, Groups, ManagementGroups, NamedIncident, SeenIncident, Way, Who, Wish};

impl Rules {
    /// Decides on a wish. The same set decides the same on the same wish.
    pub fn decide(&self, wish: &Wish) -> Decision {
        let decision = |outcome| Decision { outcome, forbade: Vec::new(), nearest: None, set: self.hash().to_owned(), wish: wish.clone() };
        let broken = hard_limits(wish);
        if !broken.is_empty() {
            return decision(Outcome::Refuse(Refusal::Limits { broken }));
        }
        let groups = match self.known(wish) {
            Ok(groups) => groups,
            Err(why) => return decision(Outcome::Undecided { why }),
        };
        match Asked::new(self, wish, &groups) {
            Ok(asked) => asked.decide(),
            // Something in the wish does not fit the schema: what nobody can decide on is refused.
            Err(why) => decision(Outcome::Refuse(Refusal::Erred { rule: Named { id: "schema".to_owned(), reason: String::new() }, why })),
        }
    }

    /// Whether somebody may decide on this wish, close what is open on its machine, or see it. `wish.who` is that
    /// somebody. Nobody decides on their own request, nor on one of which nobody knows whose it is, whatever the rules say.
    pub fn may(&self, action: Action, wish: &Wish) -> Permission {
        let refuse = |why: String| Permission::Refuse { forbade: Vec::new(), why: Some(why) };
        let undecided = |why: String| refuse(format!("it could not be decided, which refuses it: {why}"));
        if let (Action::Approve, Some(why)) = (action, own_request(wish)) {
            return refuse(why.to_owned());
        }
        let groups = match self.known(wish) {
            Ok(groups) => groups,
            Err(why) => return undecided(why),
        };
        let verdict = match Asked::new(self, wish, &groups) {
            Ok(asked) => asked.verdict(action),
            Err(why) => Err(why),
        };
        match verdict {
            Err(why) => undecided(why),
            Ok(Verdict { erred: Some((rule, why)), .. }) => undecided(format!("rule {}: {why}", rule.terms.id)),
            Ok(Verdict { permits, forbids, .. }) => {
                let first = permits.into_iter().min_by_key(|rule| rule.terms.id.clone());
                match first.filter(|_| forbids.is_empty()) {
                    Some(rule) => Permission::Permit { rule: rule.named() },
                    None => Permission::Refuse { forbade: forbids.into_iter().map(Rule::named).collect(), why: None },
                }
            }
        }
    }

    /// What each rule lacks to match this wish, by rule: for the right that is asked about, else for the action of the
    /// rule that lacks least. A rule that is about none of them is left out.
    pub fn lacks(&self, wish: &Wish, right: Option<Action>) -> Vec<(String, Vec<Lack>)> {
        let Ok(groups) = self.known(wish) else { return Vec::new() };
        let Ok(asked) = Asked::new(self, wish, &groups) else { return Vec::new() };
        let actions = right.map_or_else(|| asked.actions(), |right| vec![right]);
        let of = |rule: &Rule| {
            let about = actions.iter().filter(|action| rule.actions.contains(action));
            let least = about.filter_map(|action| asked.missing(rule, *action)).min_by_key(Missing::count)?;
            Some((rule.terms.id.clone(), least.lacks()))
        };
        self.rules().filter_map(of).collect()
    }

    /// The groups that somebody is in, as far as the rules name them, or why nobody can say what the rules have to know.
    fn known(&self, wish: &Wish) -> Result<BTreeSet<String>, String> {
        match &wish.vm.management_groups {
            ManagementGroups::Unreachable { why } if self.name_management_groups() => return Err(why.clone()),
            ManagementGroups::Unreachable { .. } | ManagementGroups::Known(_) => {}
        }
        match wish.incident.as_ref().map(|named| (named, &named.seen)) {
            Some((named, SeenIncident::Unreachable { .. })) if self.ask_for_incidents() => Err(named.sentence()),
            _ => self.groups(&wish.who),
        }
    }

    /// The groups that somebody is in, as far as the rules name them, or why nobody can say.
    fn groups(&self, who: &Who) -> Result<BTreeSet<String>, String> {
        let Who::Person { id, groups } = who else { return Ok(BTreeSet::new()) };
        let mut all = self.people().listed_groups(id);
        match groups {
            Groups::Known { of, not_of } => {
                for (name, group) in self.people().groups() {
                    match group {
                        // Whoever is asked about is: a group that people.yaml lists is never asked about elsewhere.
                        _ if of.contains(name) => {
                            all.insert(name.to_owned());
                        }
                        Group::Entra(_) if !not_of.contains(name) && self.names.asked_groups.contains(name) => {
                            return Err(format!("whether this person is in group `{name}` is not known"));
                        }
                        Group::Entra(_) | Group::Listed(_) => {}
                    }
                }
                Ok(all)
            }
            Groups::Unreachable { .. } if !self.names.may_ask_entra() => Ok(all),
            Groups::Unreachable { why } => Err(why.clone()),
        }
    }
}

/// Why somebody may not decide on a request, whatever they may on others.
fn own_request(wish: &Wish) -> Option<&'static str> {
    match (&wish.who, &wish.asker) {
        (Who::Unknown, _) => Some("nobody knows who wants to decide"),
        (Who::Person { .. }, None) => Some("nobody knows whose request it is"),
        (Who::Person { id, .. }, Some(asker)) => id.eq_ignore_ascii_case(asker).then_some("nobody decides on their own request"),
    }
}

/// Every hard limit that a wish breaks, a sentence each. No rule can lift one.
fn hard_limits(wish: &Wish) -> Vec<String> {
    let policy_longest = wish.jit_longest_seconds.map_or(LONGEST, wish::seconds);
    let mut broken: Vec<String> = limits_broken(&wish.sources, wish.duration(), policy_longest).iter().map(ToString::to_string).collect();
    if wish.ports.is_empty() {
        broken.push("no port is named".to_owned());
    }
    broken
}

/// The prefixes of sources with their lengths, absent where one of them is a tag or worse.
fn prefixes(sources: &Sources) -> Option<Vec<(String, i64)>> {
    let read = |prefix: String| {
        let (address, bits) = prefix.split_once('/').unwrap_or((&prefix, ""));
        let address: std::net::IpAddr = address.parse().ok()?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let bits = if bits.is_empty() { Some(full) } else { bits.parse().ok() }?;
        Some((prefix, bits))
    };
    sources.prefixes().into_iter().map(read).collect()
}

/// A wish in Cedar's terms.
struct Asked<'a> {
    rules: &'a Rules,
    wish: &'a Wish,
    principal: EntityUid,
    resource: EntityUid,
    entities: Entities,
    /// What a rule is told at any clock.
    everywhere: ast::Context,
    /// What is asked of each chapter of the rules, in their order: made when it is first asked.
    requests: Vec<OnceCell<Result<Request, String>>>,
}

/// What the rules say of one action.
#[derive(Default)]
struct Verdict<'a> {
    permits: Vec<&'a Rule>,
    forbids: Vec<&'a Rule>,
    erred: Option<(&'a Rule, String)>,
}

impl<'a> Asked<'a> {
    fn new(rules: &'a Rules, wish: &'a Wish, groups: &BTreeSet<String>) -> Result<Self, String> {
        let mut entities = Vec::new();
        let principal = match &wish.who {
            Who::Person { id, .. } => {
                let person = uid("Person", id)?;
                let groups = groups.iter().map(|group| uid("Group", group)).collect::<Result<Vec<_>, _>>()?;
                entities.push(entity(person.clone(), [], groups, [])?);
                person
            }
            Who::Unknown => uid("Unknown", "unknown")?,
        };
        let vm = &wish.vm.id;
        let key = vm.key();
        let resource = uid("VM", &key)?;
        let group_key = key.rsplit_once('/').map_or("", |(group, _)| group);
        let (subscription, group) = (uid("Subscription", &vm.subscription())?, uid("ResourceGroup", group_key)?);
        let above = wish.vm.management_groups.names().map(|name| uid("ManagementGroup", name)).collect::<Result<Vec<_>, _>>()?;
        let name = [("name".to_owned(), text(&vm.name().to_lowercase()))];
        let tags = wish.vm.tags.iter().map(|(name, value)| (name.clone(), text(value)));
        entities.push(entity(resource.clone(), name, vec![group.clone()], tags)?);
        entities.push(entity(group, [], vec![subscription.clone()], [])?);
        entities.push(entity(subscription, [], above, [])?);
        let entities = Entities::from_entities(entities, Some(&rules.schema)).map_err(told)?;
        let everywhere = everywhere(rules, wish)?;
        let requests = vec![OnceCell::new(); rules.chapters.len()];
        Ok(Asked { rules, wish, principal, resource, entities, everywhere, requests })
    }

    fn decide(&self) -> Decision {
        let mut forbade: Vec<Named> = Vec::new();
        let mut tried = Vec::new();
        let mut outcome = None;
        for action in self.actions() {
            let verdict = match self.verdict(action) {
                Ok(verdict) => verdict,
                Err(why) => {
                    outcome = Some(Outcome::Refuse(Refusal::Erred { rule: Named { id: "schema".to_owned(), reason: String::new() }, why }));
                    break;
                }
            };
            if let Some((rule, why)) = verdict.erred {
                outcome = Some(Outcome::Refuse(Refusal::Erred { rule: rule.named(), why }));
                break;
            }
            tried.push((action, verdict.forbids.len()));
            forbade.extend(verdict.forbids.iter().map(|rule| rule.named()));
            let best = verdict.permits.into_iter().min_by_key(|rule| order(rule));
            outcome = best.and_then(|rule| permitted(action, rule));
            if outcome.is_some() {
                tried.pop();
                break;
            }
        }
        forbade.sort();
        forbade.dedup();
        let nearest = miss::nearest(self.rules, &tried, self.wish.seconds, |rule, action| self.missing(rule, action));
        let (outcome, forbade) = match outcome {
            Some(outcome) => (outcome, forbade),
            None if forbade.is_empty() => (Outcome::Refuse(Refusal::NothingPermits), forbade),
            None => {
                let unpermitted = tried.iter().filter(|(_, forbids)| *forbids == 0).map(|(action, _)| *action).collect();
                (Outcome::Refuse(Refusal::Forbidden { rules: forbade, unpermitted }), Vec::new())
            }
        };
        Decision { outcome, forbade, nearest, set: self.rules.hash().to_owned(), wish: self.wish.clone() }
    }

    /// What is tried, in this order: without a person before with one.
    fn actions(&self) -> Vec<Action> {
        match self.wish.way {
            Way::Asked => vec![Action::Open, Action::Ask],
            Way::BreaksGlass | Way::Direct => vec![Action::Open, Action::BreakGlass, Action::Ask],
        }
    }

    fn verdict(&self, action: Action) -> Result<Verdict<'a>, String> {
        let mut verdict = Verdict::default();
        for (number, chapter) in self.rules.chapters.iter().enumerate().filter(|(_, chapter)| chapter.action == action) {
            let response = Authorizer::new().is_authorized(self.request(number)?, &chapter.policies, &self.entities);
            let said = response.diagnostics();
            let mut named: Vec<&Rule> = said.reason().filter_map(|id| self.rules.rule(id.as_ref())).collect();
            named.sort_by_key(|rule| &rule.terms.id);
            for rule in named {
                match rule.effect {
                    Effect::Forbid => verdict.forbids.push(rule),
                    Effect::Permit if rule.terms.max.is_none_or(|max| max >= self.wish.duration()) => verdict.permits.push(rule),
                    Effect::Permit => {}
                }
            }
            let mut errors: Vec<(&str, String)> = said
                .errors()
                .map(|error| match error {
                    cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                        (error.policy_id().as_ref(), error.inner().to_string())
                    }
                })
                .collect();
            errors.sort();
            if let Some((id, why)) = errors.into_iter().next()
                && let Some(rule) = self.rules.rule(id)
            {
                verdict.erred = Some((rule, why));
            }
        }
        if !verdict.forbids.is_empty() {
            // Another zone's permits do not count against a forbid of this one.
            verdict.permits.clear();
        }
        Ok(verdict)
    }

    /// What is asked of the chapter of this number.
    fn request(&self, number: usize) -> Result<&Request, String> {
        self.requests[number].get_or_init(|| self.made(number)).as_ref().map_err(Clone::clone)
    }

    /// What a rule lacks to match, besides the action; nothing is known of it where that cannot be asked.
    fn missing(&self, rule: &'a Rule, action: Action) -> Option<Missing<'a>> {
        let number = self.rules.chapters.iter().position(|chapter| (chapter.action, chapter.zone) == (action, rule.terms.timezone))?;
        Some(rule.missing(self.request(number).ok()?, &self.entities, self.wish.seconds))
    }

    fn made(&self, number: usize) -> Result<Request, String> {
        let chapter = &self.rules.chapters[number];
        let context = match chapter.action {
            Action::Open | Action::Ask | Action::BreakGlass | Action::Approve => at_clock(chapter.zone, &self.everywhere, self.wish)?,
            Action::Close | Action::Read => Context::empty(),
        };
        // Whatever fits the schema at one clock fits it at all: two values differ, and are of the same kind. The schema says the
        // same of the three ways to open.
        let is_alike = |other: &Chapter| chapter.action == other.action || (chapter.action.opens() && other.action.opens());
        let schema = match self.rules.chapters.iter().position(is_alike) {
            Some(first) if first != number => {
                self.request(first)?;
                None
            }
            _ => Some(&self.rules.schema),
        };
        let action = uid("Action", chapter.action.text())?;
        Request::new(self.principal.clone(), action, self.resource.clone(), context, schema).map_err(told)
    }
}

/// Of several permits: the fewest people, then the smallest cap, then the id.
pub(crate) fn order(rule: &Rule) -> (u32, TimeDelta, String) {
    (rule.terms.people.as_ref().map_or(0, |decides| decides.count), cap(rule), rule.terms.id.clone())
}

fn cap(rule: &Rule) -> TimeDelta {
    rule.terms.max.unwrap_or(LONGEST)
}

fn permitted(action: Action, rule: &Rule) -> Option<Outcome> {
    let (named, cap_seconds) = (rule.named(), cap(rule).num_seconds());
    match action {
        Action::Open => Some(Outcome::Open { rule: named, cap_seconds }),
        Action::BreakGlass => Some(Outcome::BreakGlass { rule: named, cap_seconds }),
        Action::Ask => rule.terms.people.clone().map(|decides| Outcome::Ask { rule: named, cap_seconds, decides }),
        Action::Approve | Action::Close | Action::Read => None,
    }
}

/// What a rule is told of a wish at any clock.
fn everywhere(rules: &Rules, wish: &Wish) -> Result<ast::Context, String> {
    let prefixes = prefixes(&wish.sources).unwrap_or_default();
    let networks = rules.networks().holding(&wish.sources).map(|name| uid("Network", name).map(RestrictedExpression::new_entity_uid));
    let networks = networks.collect::<Result<Vec<_>, _>>()?;
    let whole = |number: Option<u16>| RestrictedExpression::new_long(number.map_or(0, i64::from));
    let mut pairs = vec![
        ("ports", RestrictedExpression::new_set(wish.ports.iter().map(|port| RestrictedExpression::new_long(i64::from(*port))))),
        ("leastPort", whole(wish.ports.first().copied())),
        ("greatestPort", whole(wish.ports.last().copied())),
        ("sources", RestrictedExpression::new_set(prefixes.iter().map(|(prefix, _)| address(prefix)))),
        ("widestPrefix", RestrictedExpression::new_long(prefixes.iter().map(|(_, bits)| *bits).min().unwrap_or_default())),
        ("networks", RestrictedExpression::new_set(networks)),
        ("duration", seconds(wish.seconds)),
        ("direct", RestrictedExpression::new_bool(wish.way == Way::Direct)),
        ("reason", text(&wish.reason)),
        ("approvalsToday", RestrictedExpression::new_long(wish.approvals_today.into())),
        ("openToday", seconds(wish.open_today_seconds)),
    ];
    if let Some(incident) = wish.incident.as_ref().and_then(NamedIncident::known) {
        let mut fields = vec![
            ("open".to_owned(), RestrictedExpression::new_bool(incident.open)),
            ("severity".to_owned(), RestrictedExpression::new_entity_uid(uid("Severity", incident.severity.text())?)),
            ("namesThisVm".to_owned(), RestrictedExpression::new_bool(incident.names_this_vm)),
            ("age".to_owned(), seconds(incident.age_seconds)),
        ];
        if let Some(owner) = &incident.owner {
            fields.push(("owner".to_owned(), RestrictedExpression::new_entity_uid(uid("Person", &owner.to_lowercase())?)));
        }
        pairs.push(("incident", RestrictedExpression::new_record(fields).map_err(told)?));
    }
    pairs.extend(wish.alerts.map(|alerts| ("alerts", RestrictedExpression::new_long(alerts.into()))));
    pairs.extend(wish.window.as_deref().map(|window| ("window", text(window))));
    pairs.extend(wish.change.as_deref().map(|change| ("change", text(change))));
    Ok(context(pairs)?.as_ref().clone())
}

/// The same and the time, at the clock of one zone. What every clock shares is not worked out again.
fn at_clock(zone: Tz, everywhere: &ast::Context, wish: &Wish) -> Result<Context, String> {
    let at = wish.at.with_timezone(&zone);
    let time = context([
        ("timeOfDay", seconds(at.num_seconds_from_midnight().into())),
        ("weekday", RestrictedExpression::new_entity_uid(uid("Weekday", weekday(at.weekday()))?)),
    ])?;
    let (ast::Context::Value(shared), ast::Context::Value(time)) = (everywhere, time.as_ref()) else {
        return Err("the context has something in it that Cedar does not know".to_owned());
    };
    let mut all = BTreeMap::clone(shared);
    all.extend(time.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(ast::Context::Value(Arc::new(all)).into())
}

fn context(pairs: impl IntoIterator<Item = (&'static str, RestrictedExpression)>) -> Result<Context, String> {
    Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value))).map_err(told)
}

/// The weekday in the words of the schema.
fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "monday",
        Weekday::Tue => "tuesday",
        Weekday::Wed => "wednesday",
        Weekday::Thu => "thursday",
        Weekday::Fri => "friday",
        Weekday::Sat => "saturday",
        Weekday::Sun => "sunday",
    }
}

fn seconds(seconds: i64) -> RestrictedExpression {
    called(&DURATION, &format!("{seconds}s"))
}

fn address(prefix: &str) -> RestrictedExpression {
    called(&IP, prefix)
}

/// Cedar's functions that make a duration and an address of a text, their names read once: a decision calls some six, and each
/// would parse its own.
static DURATION: LazyLock<Name> = LazyLock::new(|| function("duration"));
static IP: LazyLock<Name> = LazyLock::new(|| function("ip"));

#[expect(clippy::expect_used, reason = "both names are written above, and each decision of a test reads them")]
fn function(name: &str) -> Name {
    Name::parse_unqualified_name(name).expect("it is a name")
}

fn called(function: &Name, text: &str) -> RestrictedExpression {
    RestrictedExpr::call_extension_fn(function.clone(), [RestrictedExpr::val(text)]).into()
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// The schema's kinds of entities that a wish is made of.
const KINDS: [&str; 11] =
    ["Action", "Group", "ManagementGroup", "Network", "Person", "ResourceGroup", "Severity", "Subscription", "Unknown", "VM", "Weekday"];

/// Them as Cedar has them, read once: a decision names some fifteen, and each would be parsed anew.
static TYPE_NAMES: LazyLock<BTreeMap<&str, EntityTypeName>> = LazyLock::new(|| {
    let read = |kind: &'static str| EntityTypeName::from_str(kind).ok().map(|name| (kind, name));
    KINDS.into_iter().filter_map(read).collect()
});

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = TYPE_NAMES.get(kind).ok_or_else(|| format!("the schema has no {kind}"))?;
    Ok(EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id)))
}

fn entity(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (String, RestrictedExpression)>,
    parents: Vec<EntityUid>,
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<Entity, String> {
    Entity::new_with_tags(uid, attributes, parents, tags).map_err(told)
}

fn told(why: impl Display) -> String {
    why.to_string()
}
