//! What the rules say of openings around Portcullis: for whom each may have been made, and whether that may be.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::ArmId;
use portcullis_domain::behind::CLOCKS_DIFFER_BY;
use portcullis_domain::grant::{End, Grant, Origin, Phase, live_sources};
use portcullis_domain::incident::IncidentName;
use portcullis_domain::jit::JitRecord;
use portcullis_domain::json::tree;
use portcullis_domain::judge::{EXPIRED_AFTER, Violation, last_end};
use portcullis_domain::opening::{Opening, short_hash};
use portcullis_domain::record::{Claim, VmRecord};
use portcullis_domain::ruling::{
    Adoption, CONFIRMED_WITHIN, Candidate, Confirmation, Confirmations, NOBODYS_AFTER, Ruling, Rulings, SaidToBe, TRIED_AGAIN_AFTER,
    candidates, is_claim_of, is_left_over, may_have_made, opens_more_ports,
};
use portcullis_domain::source::Sources;
use portcullis_domain::want::Wanter;
use portcullis_rules::decision::{Decision, Lack, Outcome};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::{Groups, ManagementGroups, NamedIncident, SeenIncident, VmFacts, Way, Who, Wish};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use uuid::Uuid;

use super::super::incidents::ASK_AGAIN;
use super::super::jit_activity::{caller, not_refused};
use super::super::people::{NotKnown, object_id};
use super::super::{App, Stopped};
use super::look::Run;
use super::see::Sight;

/// What the rules say, and what was found out about claims.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    pub rulings: Rulings,
    pub confirmations: Confirmations,
    pub unaudited: BTreeSet<String>,
}

/// One VM at one look, for which rules are worked out.
pub(super) struct Asking<'a> {
    app: &'a App,
    rules: &'a Rules,
    record: &'a VmRecord,
    sight: &'a Sight,
    now: DateTime<Utc>,
    /// Until when others are asked: see [`Run::asked_by`].
    asked_by: Instant,
}

/// What one candidate comes to.
enum Verdict {
    Adopt(Box<(Adoption, Decision)>),
    Shut { why: Violation, rule: Option<String>, decision: Option<Value> },
    Wait { until: DateTime<Utc>, why: String },
}

/// Somebody for whom an opening may have been made.
struct Maker {
    who: Who,
    name: String,
    /// The object id; empty for nobody.
    id: String,
    /// Whether nothing but an event says so.
    is_claimed: bool,
}

impl<'a> Asking<'a> {
    /// The VM of a run, as it was seen.
    pub(super) fn of(app: &'a App, rules: &'a Rules, run: &'a Run, sight: &'a Sight) -> Self {
        Asking { app, rules, record: &run.record, sight, now: run.now, asked_by: run.asked_by }
    }

    /// The same with the grants as they stand when the look has begun.
    pub(super) fn begun(self, record: &'a VmRecord) -> Self {
        Asking { record, ..self }
    }

    /// Rules on these openings.
    pub(super) async fn rule(&self, openings: &[Opening]) -> Result<Rulings, Stopped> {
        let mut rulings = Rulings::default();
        for opening in openings {
            rulings.insert(opening.rule.clone(), self.ruling(opening).await?);
        }
        Ok(rulings)
    }

    /// What can be found out now about the claims on which provisional grants stand.
    pub(super) async fn confirmations(&self) -> Result<Confirmations, Stopped> {
        let mut confirmations = Confirmations::default();
        // What had to be confirmed by now ends without anybody being asked again.
        let waits = |grant: &&Grant| grant.confirm_by.is_some_and(|by| by > self.now) && grant.is_live(self.now);
        for grant in self.record.grants.iter().filter(waits) {
            if let Some(confirmation) = self.confirmation(grant).await? {
                confirmations.insert(grant.id.clone(), confirmation);
            }
        }
        Ok(confirmations)
    }

    async fn ruling(&self, opening: &Opening) -> Result<Ruling, Stopped> {
        let records = &self.sight.seen.records;
        let ended = last_end(opening, records, self.record.port_shut(opening)).filter(|ended| *ended <= self.now);
        if let Some(ended) = ended {
            let (until, why) = (ended + EXPIRED_AFTER, "its time is over, and JIT may take a moment".to_owned());
            return Ok(Ruling::Wait { until, why });
        }
        if is_left_over(opening, records, self.record, self.now) {
            let said = "what it was opened for is over".to_owned();
            return Ok(Ruling::Shut { why: Violation::Unapproved { said }, rule: None, decision: None });
        }
        if opens_more_ports(opening, records, self.record, self.now) {
            let said = format!("it opens {}, more than anybody asked for", opening.ports.words());
            return Ok(Ruling::Shut { why: Violation::Unapproved { said }, rule: None, decision: None });
        }
        let mut adoptions = Vec::new();
        let mut waits: Option<(DateTime<Utc>, String)> = None;
        let mut refused: Option<Ruling> = None;
        for candidate in candidates(opening, records, &self.sight.starts, self.record, self.now) {
            match self.judge(opening, &candidate).await? {
                Verdict::Adopt(adopted) => adoptions.push(*adopted),
                Verdict::Wait { until, why } => {
                    if waits.as_ref().is_none_or(|(before, _)| until < *before) {
                        waits = Some((until, why));
                    }
                }
                Verdict::Shut { why, rule, decision } => refused = refused.or(Some(Ruling::Shut { why, rule, decision })),
            }
        }
        if !adoptions.is_empty() {
            for (adoption, decision) in &adoptions {
                // Before the grant: an approval too many is harmless, one too few would be a budget that does not hold.
                let grant = &adoption.grant;
                if !grant.person.is_empty() {
                    self.app.enter_approval(&grant.person, self.now, &grant.id, decision, self.rules).await?;
                }
            }
            return Ok(Ruling::Adopt(adoptions.into_iter().map(|(adoption, _)| adoption).collect()));
        }
        match (waits, refused) {
            (Some((until, why)), _) => Ok(Ruling::Wait { until, why }),
            (None, Some(refused)) => Ok(refused),
            (None, None) => Ok(Ruling::Wait { until: self.now + NOBODYS_AFTER, why: "nothing says yet who opened it".to_owned() }),
        }
    }

    /// What the rules say if this record was the reason. Where several people may have made it, it must be permitted to
    /// each of them.
    async fn judge(&self, opening: &Opening, candidate: &Candidate) -> Result<Verdict, Stopped> {
        let patience = self.record.undecided_since(opening).unwrap_or(self.now) + CONFIRMED_WITHIN;
        let try_again = patience.min(self.now + TRIED_AGAIN_AFTER);
        let makers = match &candidate.said_to_be {
            SaidToBe::Named(name) => match self.id_of(name).await {
                Ok(id) => vec![self.maker(id, name.clone(), false).await],
                Err(NotKnown::Nobody) => vec![unknown()],
                Err(NotKnown::Unreachable(why)) if self.now < patience => {
                    return Ok(wait(try_again, &format!("who {name} is could not be told: {why}")));
                }
                Err(NotKnown::Unreachable(why)) => return Ok(not_told(&format!("who {name} is could not be told for 30 min: {why}"))),
            },
            SaidToBe::Claimed(claims) => {
                let mut makers = Vec::new();
                for claim in claims {
                    makers.extend(self.claimed(claim).await);
                }
                // Events that name nobody tell nothing: anybody can send one, and the true one may still come.
                let since = candidate.record.as_ref().map_or(self.now, |record| record.start);
                match makers.is_empty() {
                    true if self.now < since + NOBODYS_AFTER => return Ok(wait(since + NOBODYS_AFTER, "no event says yet who opened it")),
                    true => vec![unknown()],
                    false => makers,
                }
            }
            SaidToBe::Nobody(since) if self.now < *since + NOBODYS_AFTER => {
                return Ok(wait(*since + NOBODYS_AFTER, "nothing says yet who opened it"));
            }
            SaidToBe::Nobody(_) => vec![unknown()],
        };
        let mut decisions: Vec<(Maker, Decision)> = Vec::new();
        for maker in makers {
            if maker.is_claimed && self.was_never_confirmed(opening) {
                return Ok(not_told("an event says who opened it, and what was adopted on one before was confirmed by nobody"));
            }
            let decision = self.rules.decide(&self.wish(opening, candidate.record.as_ref(), &maker).await?);
            match &decision.outcome {
                Outcome::Open { .. } | Outcome::BreakGlass { .. } => decisions.push((maker, decision)),
                Outcome::Undecided { why } if self.now < patience => return Ok(wait(try_again, why)),
                Outcome::Undecided { why } => return Ok(not_told(&format!("{why}, for 30 min"))),
                Outcome::Ask { .. } | Outcome::Refuse(_) => return Ok(refused(&decision)),
            }
        }
        // Of several claims the first is told; each of them has to be permitted, and one of them confirmed.
        let Some((maker, decision)) = decisions.into_iter().next() else { return Ok(not_told("nothing says who opened it")) };
        let adoption = self.adoption(opening, candidate.record.as_ref(), maker, &decision);
        let granted = live_sources(&self.record.grants, adoption.grant.port, self.now);
        let together = granted.union(&adoption.grant.sources);
        if together.amounts_to_internet() {
            // What its record asked for may be more than this opening shows of it.
            return Ok(Verdict::Shut { why: Violation::AnySource { sources: together }, rule: None, decision: Some(stored(&decision)) });
        }
        Ok(Verdict::Adopt(Box::new((adoption, decision))))
    }

    /// Whether a grant of this port that stood on an event alone has ended by that, and is not proved shut yet: whoever opens it
    /// again and again on events alone must not keep it open.
    fn was_never_confirmed(&self, opening: &Opening) -> bool {
        let of_port = self.record.grants.iter().filter(|grant| opening.ports.contains(grant.port));
        of_port.into_iter().any(|grant| matches!(grant.ended, Some(End::Unconfirmed | End::Contradicted { .. })))
    }

    async fn maker(&self, id: String, name: String, is_claimed: bool) -> Maker {
        let who = self.who(&id).await;
        Maker { who, name, id, is_claimed }
    }

    /// Somebody with the groups that the rules name.
    pub(super) async fn who(&self, id: &str) -> Who {
        let late = || Who::Person { id: id.to_lowercase(), groups: Groups::Unreachable { why: format!("Microsoft Graph {TOO_LATE}") } };
        let asked = self.app.people.who(&self.app.azure.graph, self.rules, id, self.now);
        timeout_at(self.asked_by, asked).await.unwrap_or_else(|_| late())
    }

    /// A wish about the VM with all that a look knows of it, for whoever has the rest: no port and no source yet.
    pub(super) async fn wish_of(&self, who: Who) -> Wish {
        let late = || ManagementGroups::Unreachable { why: format!("Azure {TOO_LATE}") };
        let above = timeout_at(self.asked_by, self.management_groups()).await.unwrap_or_else(|_| late());
        let tags = self.sight.tags.iter().map(|(name, value)| (name.clone(), value.clone()));
        Wish {
            who,
            asker: None,
            vm: VmFacts::new(self.record.vm.clone(), above, tags),
            ports: BTreeSet::new(),
            sources: Sources::default(),
            seconds: 0,
            jit_longest_seconds: None,
            at: self.now,
            way: Way::Asked,
            reason: String::new(),
            incident: None,
            alerts: None,
            window: None,
            change: None,
            approvals_today: 0,
            open_today_seconds: self.record.open_in_a_day(self.now).num_seconds(),
        }
    }

    /// What is known of an incident that somebody names for this VM.
    pub(super) async fn incident(&self, name: &IncidentName) -> NamedIncident {
        let late = || SeenIncident::Unreachable { why: format!("Microsoft Sentinel {TOO_LATE}; {ASK_AGAIN}") };
        let seen = timeout_at(self.asked_by, self.app.incident(self.rules, name, &self.record.vm, self.now)).await;
        NamedIncident { name: name.to_string(), seen: seen.unwrap_or_else(|_| late()) }
    }

    /// The management groups above the VM's subscription; nobody is asked where no rule names one.
    async fn management_groups(&self) -> ManagementGroups {
        if !self.rules.name_management_groups() {
            return ManagementGroups::default();
        }
        let about = self.record.vm.subscription();
        if let Some(known) = self.app.management_groups.fresh(&about, self.now) {
            return ManagementGroups::Known(known);
        }
        // A look at a VM begins only where its subscription is a GUID.
        let subscription = Uuid::parse_str(&about).unwrap_or_default();
        match self.app.azure.management_groups.above(&subscription).await {
            Ok(names) => {
                self.app.management_groups.keep(about, self.now, names.clone());
                ManagementGroups::Known(names)
            }
            Err(failed) => ManagementGroups::Unreachable { why: failed.to_string() },
        }
    }

    async fn id_of(&self, name: &str) -> Result<String, NotKnown> {
        let asked = self.app.people.id_of(&self.app.azure.graph, self.rules, name, self.now);
        let late = || NotKnown::Unreachable(format!("Microsoft Graph {TOO_LATE}"));
        timeout_at(self.asked_by, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Somebody of whom an event claims that they made it. A claim without an object id is of nobody. An event's name is any
    /// text: beside it stands the object id, by which it is decided.
    async fn claimed(&self, claim: &Claim) -> Option<Maker> {
        let id = object_id(&claim.object_id)?;
        let name = named(claim, &id);
        Some(self.maker(id, name, true).await)
    }

    async fn wish(&self, opening: &Opening, record: Option<&JitRecord>, maker: &Maker) -> Result<Wish, Stopped> {
        let approvals = match maker.id.as_str() {
            "" => 0,
            person => self.app.approvals(person, self.now, &grant_id(self.record, opening, record)).await?,
        };
        Ok(Wish {
            ports: opening.ports.starts().collect(),
            sources: asked_for(opening, record).clone(),
            // Without a record nobody knows for how long: a rule must permit the least that there is.
            seconds: record.map_or(portcullis_domain::grant::SHORTEST, JitRecord::length).num_seconds(),
            at: record.map_or(self.now, |record| record.start),
            way: Way::Direct,
            reason: record.and_then(|record| record.justification.clone()).unwrap_or_default(),
            approvals_today: approvals,
            ..self.wish_of(maker.who.clone()).await
        })
    }

    fn adoption(&self, opening: &Opening, record: Option<&JitRecord>, maker: Maker, decision: &Decision) -> Adoption {
        let origin = match decision.outcome {
            Outcome::BreakGlass { .. } => Origin::BreakGlass,
            Outcome::Open { .. } | Outcome::Ask { .. } | Outcome::Refuse(_) | Outcome::Undecided { .. } => Origin::Adopted,
        };
        let from = record.map_or_else(|| self.first_seen(opening), |record| record.start);
        let cap = TimeDelta::seconds(decision.outcome.cap_seconds().unwrap_or_default());
        let grant = Grant {
            id: grant_id(self.record, opening, record),
            vm: self.record.vm.clone(),
            port: record.map_or_else(|| opening.port().unwrap_or_default(), |record| record.port),
            sources: asked_for(opening, record).clone(),
            from,
            until: record.map_or(from + cap, |record| record.end),
            person: maker.id,
            phase: Phase::Open,
            name: maker.name,
            rule: decision.outcome.rule().map(|rule| rule.id.clone()).unwrap_or_default(),
            origin,
            // From when it was asked for, however late it is adopted; what is found late has a moment for it.
            confirm_by: maker.is_claimed.then_some((from + CONFIRMED_WITHIN).max(self.now + NOBODYS_AFTER)),
            ended: None,
            first_shut_read: None,
            audit: String::new(),
        };
        Adoption { grant, said: decision.outcome.sentence(), decision: stored(decision) }
    }

    fn first_seen(&self, opening: &Opening) -> DateTime<Utc> {
        self.record.first_seen(opening).unwrap_or(self.now)
    }

    /// Whether somebody else says the same as the event that a grant was made on: JIT's own record, or the activity log.
    /// What Graph or the log does not say confirms nothing, and is asked again.
    async fn confirmation(&self, grant: &Grant) -> Result<Option<Confirmation>, Stopped> {
        let mut records = self.sight.seen.records.iter().filter(|record| record.port == grant.port && record.start == grant.from);
        let Some(record) = records.next() else { return Ok(None) };
        if let Some(name) = &record.requestor {
            let by = || "JIT's own record".to_owned();
            return Ok(match self.id_of(name).await {
                Ok(id) if id == grant.person => Some(Confirmation::Confirmed { by: by(), who: Some(Wanter { id, name: name.clone() }) }),
                // Whoever sent an event in another's name must not get this person's opening shut.
                Ok(id) => match self.is_permitted(grant, record, &id, name).await? {
                    Some(true) => Some(Confirmation::Confirmed { by: by(), who: Some(Wanter { id, name: name.clone() }) }),
                    Some(false) => {
                        Some(Confirmation::Contradicted { said: format!("JIT's own record names {name}, whom no rule permits it") })
                    }
                    None => None,
                },
                Err(NotKnown::Nobody) => Some(Confirmation::Contradicted { said: format!("JIT's own record names {name}") }),
                Err(NotKnown::Unreachable(_)) => None,
            });
        }
        match self.disputed(grant, record).await? {
            Dispute::None => {}
            Dispute::Undecided => return Ok(None),
            Dispute::Said(said) => return Ok(Some(Confirmation::Contradicted { said })),
        }
        let Ok(Some(callers)) = timeout_at(self.asked_by, self.callers(record)).await else { return Ok(None) };
        // Where the log does not name whom the grant names, it has to name somebody of whom an event says the same: entries come
        // one by one, and one alone may be about another opening.
        let own = callers.get_key_value(&grant.person);
        let claimed = || callers.iter().find(|(id, _)| self.claims_to_have_made(record, id));
        let Some((sure, name)) = own.or_else(claimed) else { return Ok(None) };
        for (id, name) in callers.iter().filter(|(id, _)| **id != grant.person) {
            // The log names no port either: whoever else it may have been must be permitted, too.
            match self.is_permitted(grant, record, id, name).await? {
                Some(true) => {}
                None => return Ok(None),
                Some(false) => {
                    let said = format!("the activity log names {name} at the same time, whom no rule permits it");
                    return Ok(Some(Confirmation::Contradicted { said }));
                }
            }
        }
        // Whatever name the event gave, this one is Azure's own.
        let who = Wanter { id: sure.clone(), name: name.clone() };
        Ok(Some(Confirmation::Confirmed { by: "the activity log".to_owned(), who: Some(who) }))
    }

    /// What an event says against a grant that stands on another one's word: that it was somebody whom no rule permits it.
    /// In whatever order events come, each claim that fits has to be permitted.
    async fn disputed(&self, grant: &Grant, record: &JitRecord) -> Result<Dispute, Stopped> {
        for claim in self.claims_of(record) {
            let Some(id) = object_id(&claim.object_id).filter(|id| *id != grant.person) else { continue };
            match self.is_permitted(grant, record, &id, claim.shown()).await? {
                Some(true) => {}
                None => return Ok(Dispute::Undecided),
                Some(false) => {
                    let said = format!("another event names {} at the same time, whom no rule permits it", named(claim, &id));
                    return Ok(Dispute::Said(said));
                }
            }
        }
        Ok(Dispute::None)
    }

    /// Whether an event says that this person made the record.
    fn claims_to_have_made(&self, record: &JitRecord, id: &str) -> bool {
        self.claims_of(record).any(|claim| object_id(&claim.object_id).as_deref() == Some(id))
    }

    /// The events that may tell who made the record.
    fn claims_of(&self, record: &JitRecord) -> impl Iterator<Item = &'a Claim> {
        self.record.claims.iter().filter(|claim| is_claim_of(claim, record, &self.sight.starts))
    }

    /// Whether the rules would permit it to this person; nothing where that cannot be told now.
    async fn is_permitted(&self, grant: &Grant, record: &JitRecord, id: &str, name: &str) -> Result<Option<bool>, Stopped> {
        let mut openings = self.record.openings.iter().map(|seen| &seen.opening);
        let Some(opening) = openings.find(|opening| opening.ports.contains(grant.port)) else { return Ok(None) };
        let maker = self.maker(id.to_owned(), name.to_owned(), true).await;
        let wish = self.wish(opening, Some(record), &maker).await?;
        Ok(match self.rules.decide(&wish).outcome {
            Outcome::Open { .. } | Outcome::BreakGlass { .. } => Some(true),
            Outcome::Undecided { .. } => None,
            Outcome::Ask { .. } | Outcome::Refuse(_) => Some(false),
        })
    }

    /// Who but the app asked JIT, and was not refused, for something of this record's policy or VM about when it started, by object id, as the activity
    /// log has it; nothing where a part of it could not be read: who is left out may be somebody whom no rule permits it.
    async fn callers(&self, record: &JitRecord) -> Option<BTreeMap<String, String>> {
        let mut found = Vec::new();
        let subscription = Uuid::parse_str(&self.record.vm.subscription()).ok()?;
        let (from, to) = (record.start - CLOCKS_DIFFER_BY, record.start + CLOCKS_DIFFER_BY);
        let resources: [&ArmId; 2] = [record.policy.arm_id(), self.record.vm.arm_id()];
        for resource in resources {
            let each = |page: Vec<&RawValue>| {
                found.extend(page.into_iter().filter_map(|entry| caller(&tree(entry))).filter(|made| !self.app.azure.own.is(&made.id)));
                std::ops::ControlFlow::Continue(())
            };
            if let Err(failed) = self.app.azure.activity_log.query(&subscription, from, to, Some(resource), each).await {
                warn!(vm = %self.record.vm, error = %failed, "the activity log could not be read: a claim waits for it");
                let about = format!("activity-log-{subscription}");
                let meanwhile =
                    "whom an event names is not confirmed by it, and what was adopted on an event alone ends half an hour later";
                self.app.tell_failing("activity-log", &about, &failed.to_string(), meanwhile).await;
                return None;
            }
        }
        let made = not_refused(found).into_iter().filter(|made| may_have_made(made.at, record, &self.sight.starts));
        Some(made.map(|made| (made.id, made.name)).collect())
    }
}

/// What events say against a grant.
enum Dispute {
    None,
    /// It cannot be told now whether whom they name may have it.
    Undecided,
    Said(String),
}

/// Whom an event names, for people.
fn named(claim: &Claim, id: &str) -> String {
    if claim.name.is_empty() { id.to_owned() } else { format!("{} ({id})", claim.name) }
}

const TOO_LATE: &str = "did not answer in time";

fn unknown() -> Maker {
    Maker { who: Who::Unknown, name: "somebody unknown".to_owned(), id: String::new(), is_claimed: false }
}

fn wait(until: DateTime<Utc>, why: &str) -> Verdict {
    Verdict::Wait { until, why: why.to_owned() }
}

fn not_told(said: &str) -> Verdict {
    Verdict::Shut { why: Violation::Unapproved { said: said.to_owned() }, rule: None, decision: None }
}

/// What a decision against an opening makes of it.
fn refused(decision: &Decision) -> Verdict {
    let rule = decision.outcome.rule().map(|rule| rule.id.clone());
    let over_cap = decision.nearest.as_ref().and_then(|miss| match miss.lacks.as_slice() {
        [Lack::Max { seconds }] if decision.forbade.is_empty() => Some((miss.rule.id.clone(), *seconds)),
        _ => None,
    });
    let why = match (&decision.outcome, over_cap) {
        (Outcome::Ask { .. } | Outcome::Refuse(_), Some((rule, cap_seconds))) => {
            Violation::OverCap { rule, asked_seconds: decision.wish.seconds, cap_seconds }
        }
        (Outcome::Ask { .. }, None) => {
            Violation::Unapproved { said: format!("it was opened without asking, and {}", decision.outcome.sentence()) }
        }
        _ => Violation::Unapproved { said: decision.outcome.sentence() },
    };
    Verdict::Shut { why, rule, decision: Some(stored(decision)) }
}

/// A decision as it is stored. It is made of texts, numbers and times alone.
pub(super) fn stored(decision: &Decision) -> Value {
    serde_json::to_value(decision).unwrap_or_default()
}

/// What was asked for: all of the record's sources, although this rule may let in some of them alone.
fn asked_for<'a>(opening: &'a Opening, record: Option<&'a JitRecord>) -> &'a Sources {
    record.map_or(&opening.sources, |record| &record.sources)
}

/// The same opening by the same record has the same grant, whoever works it out and however often.
fn grant_id(record: &VmRecord, opening: &Opening, by: Option<&JitRecord>) -> String {
    let about = by.map_or_else(|| opening.rule.arm_id().key(), |by| format!("{} {} {}", by.start, by.end, by.sources));
    let port = by.map_or_else(|| opening.port().unwrap_or_default(), |by| by.port);
    short_hash(&format!("{} {port} {about}", record.vm.key()))
}
