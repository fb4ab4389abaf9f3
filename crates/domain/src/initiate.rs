//! Asking JIT to open: when it may be asked, through which policy, and when no more.
//!
//! `initiate` has no id and no idempotence: a second one could open again what a first one opened late. So it is asked
//! once, what came of it is read, and it is asked again only when nothing shows that the first one did anything.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::duration::spoken;
use crate::grant::{Grant, Phase, SHORTEST};
use crate::jit::{JitPolicy, JitPort, JitRecord};
use crate::reconcile::{Look, Lost, Open, Wanted};
use crate::record::{Asked, Outcome, VmRecord};
use crate::source::Sources;

/// What was asked of JIT for a port, for the same live grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asking {
    /// The live grants that it was for, by id.
    pub grants: BTreeSet<String>,
    /// When the first `initiate` was intended.
    #[serde(deserialize_with = "crate::time::stored")]
    pub first: DateTime<Utc>,
    /// When each `initiate` was intended that Azure took, refused for good, or may have taken, the first one first.
    #[serde(deserialize_with = "crate::time::stored")]
    pub intents: Vec<DateTime<Utc>>,
    /// What came of the last one; absent while nobody knows.
    pub outcome: Option<Outcome>,
    /// Whether JIT refused it in a way that asking again does not mend.
    #[serde(default)]
    pub for_good: bool,
}

/// What a newer `initiate` for a port makes of an older one from another source. Nobody outside Microsoft knows; whoever has
/// tried it may say so by a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newer {
    /// It takes the older one's rule away, or may: so one carries the union of all that is granted on the port.
    #[default]
    Replaces,
    /// Both stay: so each grant is asked for alone, which a JIT that takes one source at a time takes, too.
    Adds,
}

/// What an `initiate` that was answered, or was not, says of asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighs {
    /// Azure did not even look at it, because it was busy or could not be reached.
    Nothing,
    /// It counts for the brake.
    Once,
    /// JIT refused what it was asked for.
    ForGood,
}

/// An `initiate` that was accepted or is in doubt is repeated only when a read so long after its intent shows nothing of
/// it.
pub const REPEATED_AFTER: TimeDelta = TimeDelta::seconds(150);

/// One in doubt is repeated sooner where its grant would be too short to be opened for by then, and one whose place a newer one
/// took is, too; and no sooner than this.
pub const REPEATED_IN_HASTE_AFTER: TimeDelta = TimeDelta::seconds(30);

/// What is left of a grant beyond what Azure opens for when it is asked for in haste: a look may come so much late.
const HASTE_LEAVES: TimeDelta = TimeDelta::seconds(15);

/// A rule that is not there so long after the first intent will not come: the grant ends.
pub const OPENS_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// So many `initiate`s for the same grants in [`BRAKE_SPAN`] and no more: something is wrong that asking does not mend.
pub const BRAKE: usize = 3;

/// See [`BRAKE`].
pub const BRAKE_SPAN: TimeDelta = TimeDelta::minutes(10);

/// An approved grant that could not even be asked for by then is declined.
pub const SENT_WITHIN: TimeDelta = TimeDelta::minutes(15);

/// Which of the wanted openings JIT is to be asked for now. Grants whose opening does not come are lost.
///
/// What was asked for already is what is wanted where it was for all who lack it, and for nobody whose time is over: then
/// it is waited for. Whoever is let in without it is no reason to ask again.
pub(crate) fn gate(record: &mut VmRecord, wanted: Vec<Wanted>, look: &Look<'_>, lost: &mut Vec<Lost>) -> Vec<Open> {
    record.initiates.retain(|port, _| wanted.iter().any(|wanted| wanted.open.port == *port));
    let mut now = Vec::new();
    for Wanted { open, lacking } in wanted {
        let is_same = |asking: &&Asking| asking.grants.is_subset(&open.grants) && lacking.is_subset(&asking.grants);
        // Azure opens for no less.
        let is_short = open.until - look.now < SHORTEST;
        let cut_short = || {
            let said = format!("less than {} of its time are left, and JIT opens for no less", spoken(SHORTEST));
            lacking.iter().map(move |grant| Lost { grant: grant.clone(), said: said.clone(), is_short: true })
        };
        let same = record.initiates.get(&open.port).filter(is_same).cloned();
        let Some(asking) = same else {
            // Whose time has not begun has lost none of it: that it was asked for in vain is remembered.
            let in_vain = record.initiates.remove(&open.port).filter(|asking| asking.intents.is_empty());
            record.initiates.extend(in_vain.map(|asking| (open.port, Asking { first: look.now, outcome: None, ..asking })));
            match is_short {
                true => lost.extend(cut_short()),
                false => now.push(open),
            }
            continue;
        };
        let (first, last) = (asking.first, asking.intents.last().copied());
        if asking.for_good {
            let said = match &asking.outcome {
                Some(Outcome::Failed(said) | Outcome::Unknown(said)) => said.clone(),
                Some(Outcome::Accepted | Outcome::NothingToDelete) | None => String::new(),
            };
            // Of several it was perhaps one too many: whoever came last gives way, and the others are asked for without them.
            let mut all = given_up(record, &open, &format!("JIT refuses it: {said}"));
            let came = |lost: &Lost| record.grants.iter().find(|grant| grant.id == lost.grant).map(|grant| (grant.from, grant.id.clone()));
            all.sort_by_key(came);
            lost.extend(all.pop());
            continue;
        }
        let refused = match &asking.outcome {
            Some(Outcome::Failed(said)) => Some(said.clone()),
            Some(Outcome::Accepted | Outcome::NothingToDelete | Outcome::Unknown(_)) | None => None,
        };
        if look.now >= first + OPENS_WITHIN {
            let said = refused.map_or_else(
                || format!("JIT was asked {} ago and wrote no rule", spoken(look.now - first)),
                |said| format!("JIT refuses it: {said}"),
            );
            lost.extend(given_up(record, &open, &said));
            record.initiates.remove(&open.port);
            continue;
        }
        let recent = asking.intents.iter().filter(|at| **at + BRAKE_SPAN > look.now).count();
        let may_ask = match (refused, last) {
            (Some(_), _) | (None, None) => true,
            (None, Some(last)) => match shows(record, open.port, last, look) {
                Shown::MayCome => false,
                Shown::Replaced => look.now >= last + REPEATED_IN_HASTE_AFTER,
                Shown::Nothing => record.repeats(open.port).is_some_and(|at| look.now >= at),
            },
        };
        match may_ask && recent < BRAKE {
            true if is_short => lost.extend(cut_short()),
            true => now.push(open),
            false => {}
        }
    }
    now
}

/// What a read shows of an `initiate`.
enum Shown {
    Nothing,
    /// Its own record, or that JIT is at work, whatever for: a rule may come.
    MayCome,
    /// Its own record, and that a newer one took its place: no rule will come.
    Replaced,
}

/// What a read shows of the `initiate` of a port that was intended then. What somebody else asked for at that time, however
/// much it lets in, is no answer to it.
fn shows(record: &VmRecord, port: u16, intended: DateTime<Utc>, look: &Look<'_>) -> Shown {
    // The same may have been asked for shortly before: a record is of the one that is nearest.
    let asked_for = |jit: &JitRecord| record.asked.iter().filter(|asked| asked.is_of(jit)).min_by_key(|asked| (asked.at - jit.start).abs());
    let is_it = |jit: &&JitRecord| asked_for(jit).is_some_and(|asked| asked.at == intended) && jit.end > look.now;
    let of_port = || look.records().iter().filter(|jit| jit.port == port);
    match of_port().any(|jit| jit.is_initiating(look.now)) || of_port().filter(is_it).any(JitRecord::may_be_open) {
        true => Shown::MayCome,
        false if of_port().filter(is_it).any(JitRecord::was_replaced) => Shown::Replaced,
        false => Shown::Nothing,
    }
}

/// The grants that never opened; also those whose rule was taken down: nobody is let in by them any more.
fn given_up(record: &VmRecord, open: &Open, said: &str) -> Vec<Lost> {
    let is_lost = |grant: &&Grant| grant.phase == Phase::Opening || record.taken_down.contains(&grant.id);
    let of_open = record.grants.iter().filter(|grant| grant.port == open.port && open.grants.contains(&grant.id));
    of_open.filter(is_lost).map(|grant| Lost { grant: grant.id.clone(), said: said.to_owned(), is_short: false }).collect()
}

/// For so long it is known that Portcullis asked for what is over and may still be open.
const KNOWN_AS_OURS_FOR: TimeDelta = TimeDelta::hours(1);

impl VmRecord {
    /// Writes the intent to ask JIT for a port, and gives the attempt's number. What was approved counts from now on: its
    /// time begins with its opening.
    pub fn intend_open(&mut self, open: &Open, now: DateTime<Utc>) -> u32 {
        let attempt = self.attempts.entry(open.port).or_insert(0);
        *attempt += 1;
        let attempt = *attempt;
        let begins = |grant: &&Grant| open.grants.contains(&grant.id) && !self.has_begun(grant);
        let begin: BTreeSet<String> = self.grants.iter().filter(begins).map(|grant| grant.id.clone()).collect();
        for grant in self.grants.iter_mut().filter(|grant| begin.contains(&grant.id)) {
            let length = grant.until - grant.from;
            (grant.from, grant.until, grant.phase) = (now, now + length, Phase::Opening);
        }
        self.asked.retain(|asked| asked.until + KNOWN_AS_OURS_FOR > now);
        self.asked.push(Asked { port: open.port, sources: open.sources.clone(), at: now, until: open.until });
        let fresh = || Asking { grants: open.grants.clone(), first: now, intents: Vec::new(), outcome: None, for_good: false };
        let asking = self.initiates.entry(open.port).or_insert_with(fresh);
        asking.grants.clone_from(&open.grants);
        asking.intents.push(now);
        asking.outcome = None;
        attempt
    }

    /// When the last `initiate` of a port may be repeated if nothing shows of it and Azure did not refuse it.
    pub(crate) fn repeats(&self, port: u16) -> Option<DateTime<Utc>> {
        let asking = self.initiates.get(&port)?;
        let last = *asking.intents.last()?;
        let is_in_doubt = matches!(asking.outcome, None | Some(Outcome::Unknown(_)));
        let asked = self.asked.iter().rfind(|asked| asked.port == port && asked.at == last).filter(|_| is_in_doubt);
        let latest = asked.map(|asked| asked.until - SHORTEST - HASTE_LEAVES).filter(|at| *at >= last + REPEATED_IN_HASTE_AFTER);
        Some(latest.map_or(last + REPEATED_AFTER, |latest| latest.min(last + REPEATED_AFTER)))
    }

    /// When a grant ends if JIT is asked for it now. Its time begins with the first `initiate` that JIT looked at, so that
    /// nobody loses any of it to a busy Azure.
    pub fn would_end(&self, grant: &Grant, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.has_begun(grant) { grant.until } else { now + (grant.until - grant.from) }
    }

    fn has_begun(&self, grant: &Grant) -> bool {
        let asked_in_vain = |asking: &Asking| asking.grants.contains(&grant.id) && asking.intents.is_empty();
        match grant.phase {
            Phase::Approved => false,
            Phase::Opening => !self.initiates.get(&grant.port).is_some_and(asked_in_vain),
            Phase::Requested | Phase::Waiting | Phase::Open | Phase::Closing | Phase::Closed | Phase::Declined(_) => true,
        }
    }

    /// Writes what came of the last `initiate` of a port. What JIT refused opens nothing.
    pub fn open_came_to(&mut self, port: u16, outcome: Outcome, weighs: Weighs) {
        if let Some(asking) = self.initiates.get_mut(&port) {
            let last = asking.intents.last().copied();
            if matches!(outcome, Outcome::Failed(_)) {
                self.asked.retain(|asked| asked.port != port || Some(asked.at) != last);
            }
            asking.outcome = Some(outcome);
            match weighs {
                Weighs::Nothing => {
                    asking.intents.pop();
                    if !asking.intents.is_empty() {
                        // What came of the one before is still not known.
                        asking.outcome = None;
                    }
                }
                Weighs::Once => {}
                Weighs::ForGood => asking.for_good = true,
            }
        }
    }
}

/// The policy of several through which JIT can be asked, with the port in it, or why there is none. Of several that can
/// be asked, the one that allows the longest time, then the first by id.
pub fn policy_for<'a>(
    policies: &'a [JitPolicy],
    record: &VmRecord,
    open: &Open,
    asked: TimeDelta,
) -> Result<(&'a JitPolicy, &'a JitPort), String> {
    let name = record.vm.name();
    let of_vm: Vec<&JitPolicy> = policies.iter().filter(|policy| policy.vms.iter().any(|vm| vm.vm == record.vm)).collect();
    if of_vm.is_empty() {
        return Err(format!("no JIT policy names {name}: add it to one, with port {}", open.port));
    }
    let ports = |policy: &'a JitPolicy| policy.vms.iter().filter(|vm| vm.vm == record.vm).flat_map(|vm| &vm.ports);
    let mut listed: Vec<(&JitPolicy, &JitPort)> = of_vm
        .iter()
        .flat_map(|policy| ports(policy).map(move |port| (*policy, port)))
        .filter(|(_, port)| port.number == open.port)
        .collect();
    if listed.is_empty() {
        let mut known: Vec<u16> = of_vm.iter().flat_map(|policy| ports(policy)).map(|port| port.number).collect();
        known.sort_unstable();
        known.dedup();
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        return Err(format!("no JIT policy of {name} lists port {}; listed are {}", open.port, known.join(", ")));
    }
    listed.sort_by(|(a, one), (b, other)| (other.longest, &a.id).cmp(&(one.longest, &b.id)));
    let inside = |port: &JitPort| port.sources.covers(&open.sources);
    let Some(fits) = listed.iter().find(|(_, port)| inside(port) && port.longest >= asked) else {
        let (policy, port) = listed[0];
        return Err(if inside(port) {
            format!(
                "JIT policy {} lets port {} be open for {} at once, and {} were asked for",
                policy.id.name(),
                open.port,
                spoken(port.longest),
                spoken(asked)
            )
        } else {
            format!(
                "JIT policy {} lets port {} be opened to {} only, and {} is not all in it",
                policy.id.name(),
                open.port,
                port.sources,
                open.sources
            )
        });
    };
    Ok(*fits)
}

/// What JIT is asked, as its specification has it: one source as one prefix, several as a list.
pub fn body(record: &VmRecord, open: &Open, justification: &str) -> serde_json::Value {
    let prefixes = open.sources.prefixes();
    let end = open.until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut port = serde_json::json!({"number": open.port, "endTimeUtc": end});
    match prefixes.as_slice() {
        [one] => port["allowedSourceAddressPrefix"] = serde_json::json!(one),
        several => port["allowedSourceAddressPrefixes"] = serde_json::json!(several),
    }
    serde_json::json!({"virtualMachines": [{"id": record.vm.to_string(), "ports": [port]}], "justification": justification})
}

/// What all that is to be opened lets in, for people.
pub fn words(open: &Open, record: &VmRecord) -> String {
    let sources: &Sources = &open.sources;
    let until = open.until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("port {} of {} to {sources} until {until}", open.port, record.vm.name())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jit::{JitVm, RecordStatus};
    use crate::reconcile::Mode;
    use crate::samples::{at, grant, opening, record as jit_record, vm};
    use crate::story::{Story, home, kinds};

    fn approved(id: &str, source: &str, until: &str) -> Grant {
        Grant { from: at("10:00:00"), ..grant(id, 22, source, until, Phase::Approved) }
    }

    fn story(grants: Vec<Grant>) -> Story {
        Story::of(Vec::new()).granted(grants)
    }

    /// A look of which every `initiate` is sent, with this outcome.
    fn look(story: &mut Story, time: &str, outcome: Option<Outcome>) -> usize {
        let opens = story.look(time).opens;
        for open in &opens {
            story.memory.intend_open(open, at(time));
            if let Some(outcome) = &outcome {
                story.memory.open_came_to(open.port, outcome.clone(), Weighs::Once);
            }
        }
        opens.len()
    }

    /// A look whose every `initiate` meets a busy Azure. Gives what it asked for.
    fn busy(story: &mut Story, time: &str) -> Vec<Open> {
        let opens = story.look(time).opens;
        for open in &opens {
            story.memory.intend_open(open, at(time));
            story.memory.open_came_to(open.port, Outcome::Failed("409 RetryableError".to_owned()), Weighs::Nothing);
        }
        opens
    }

    #[test]
    fn the_time_of_a_grant_begins_with_its_opening() {
        let mut story = story(vec![approved("g", "203.0.113.4", "11:00:00")]);
        assert_eq!(look(&mut story, "10:03:00", Some(Outcome::Accepted)), 1);
        let grant = &story.memory.grants[0];
        assert_eq!((grant.phase, grant.from, grant.until), (Phase::Opening, at("10:03:00"), at("11:03:00")));
        story.openings = vec![home(1)];
        assert_eq!(kinds(&story.look("10:03:14").audits), ["opened"]);
        assert_eq!(story.memory.grants[0].phase, Phase::Open);
        assert!(story.memory.initiates.is_empty());
        assert_eq!(story.look("10:04:00").audits, []);
    }

    #[test]
    fn what_was_accepted_or_is_in_doubt_is_repeated_only_when_nothing_shows_of_it() {
        let shown = |status| Some(jit_record(22, "203.0.113.4", "10:00:00", "11:00:00", status));
        for outcome in [None, Some(Outcome::Accepted), Some(Outcome::Unknown("cut".to_owned()))] {
            for (record, again) in [
                (None, 1),
                (shown(RecordStatus::Initiating), 0),
                (shown(RecordStatus::Initiated), 0),
                (shown(RecordStatus::Revoked), 1),
                (Some(JitRecord { port: 23, ..jit_record(22, "*", "10:00:00", "11:00:00", RecordStatus::Initiating) }), 1),
                (Some(jit_record(22, "203.0.113.4", "09:00:00", "11:00:00", RecordStatus::Initiated)), 1),
            ] {
                let mut story = story(vec![approved("g", "203.0.113.4", "11:00:00")]);
                assert_eq!(look(&mut story, "10:00:00", outcome.clone()), 1);
                story.records = record.clone().into_iter().collect();
                assert_eq!(look(&mut story, "10:02:29", None), 0);
                assert_eq!(look(&mut story, "10:02:30", None), again, "{outcome:?} {record:?}");
            }
        }
    }

    #[test]
    fn what_is_in_doubt_is_repeated_while_enough_is_left_of_the_grant_to_be_opened_for() {
        let cut = || Some(Outcome::Unknown("cut".to_owned()));
        for (outcome, until, not_yet, repeated) in [
            (cut(), "10:07:00", "10:01:44", true),
            (None, "10:07:00", "10:01:44", true),
            (cut(), "10:05:45", "10:00:29", true),
            (cut(), "10:07:45", "10:02:29", true),
            (cut(), "11:00:00", "10:02:29", true),
            // Too little is left as soon as it could be known to have been in vain; and what Azure took is waited for.
            (cut(), "10:05:44", "10:02:29", false),
            (Some(Outcome::Accepted), "10:07:00", "10:02:29", false),
        ] {
            let mut story = story(vec![approved("g", "203.0.113.4", until)]);
            assert_eq!(look(&mut story, "10:00:00", outcome.clone()), 1);
            assert_eq!(look(&mut story, not_yet, None), 0, "{until}");
            story.conclude(not_yet);
            let next = at(not_yet) + TimeDelta::seconds(1);
            assert_eq!(story.next(), Some(next), "{until}: a look comes for it");
            let plan = story.look(&next.format("%T").to_string());
            match repeated {
                true => assert_eq!((plan.opens.len(), plan.audits), (1, Vec::new()), "{until}"),
                false => assert_eq!((plan.opens.len(), kinds(&plan.audits)), (0, vec!["grant-ended"]), "{until}"),
            }
        }
    }

    #[test]
    fn what_jit_refuses_is_asked_three_times_in_ten_minutes_and_the_grant_ends_after_five() {
        let no = Some(Outcome::Failed("busy".to_owned()));
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        let asked: usize =
            ["10:00:00", "10:00:10", "10:00:20", "10:00:30", "10:04:59"].iter().map(|time| look(&mut story, time, no.clone())).sum();
        assert_eq!(asked, BRAKE);
        assert_eq!(kinds(&story.conclude("10:04:59")), ["alarm-raised"]);
        let audits = story.look("10:05:00").audits;
        assert_eq!((kinds(&audits), audits[0].why.as_str()), (vec!["grant-ended"], "it could not be opened: JIT refuses it: busy"));
        assert_eq!(kinds(&story.conclude("10:05:00")), ["alarm-cleared"]);
        assert_eq!(kinds(&story.look("10:05:40").audits), ["grant-closed"]);
    }

    #[test]
    fn what_a_busy_azure_did_not_look_at_does_not_use_up_the_brake() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        for second in 0..6 {
            let time = format!("10:00:0{second}");
            assert_eq!(busy(&mut story, &time).len(), 1, "{time}");
            assert_eq!(story.conclude(&time), [], "no alarm");
        }
        assert_eq!(look(&mut story, "10:00:30", Some(Outcome::Accepted)), 1);
        assert_eq!(look(&mut story, "10:01:00", None), 0);
        // The deadline counts from the first.
        assert_eq!(kinds(&story.look("10:05:00").audits), ["grant-ended"]);
    }

    #[test]
    fn nobody_loses_time_to_a_busy_azure() {
        let mut story = story(vec![approved("g", "203.0.113.4", "10:05:00")]);
        for (time, until) in [("10:00:20", "10:05:20"), ("10:01:00", "10:06:00")] {
            let opens = busy(&mut story, time);
            assert_eq!(opens.iter().map(|open| open.until).collect::<Vec<_>>(), [at(until)], "{time}");
        }
        assert_eq!(look(&mut story, "10:02:00", Some(Outcome::Accepted)), 1);
        // It may be open from here on, whatever comes of it.
        story.memory.open_came_to(22, Outcome::Unknown("cut".to_owned()), Weighs::Once);
        assert_eq!(look(&mut story, "10:04:30", None), 0);
        assert_eq!((story.memory.grants[0].from, story.memory.grants[0].until), (at("10:02:00"), at("10:07:00")));
        assert_eq!(story.memory.grants[0].phase, Phase::Closing);
    }

    #[test]
    fn the_shortest_grant_is_waited_for_and_ends_at_its_time() {
        let mut story = story(vec![approved("g", "203.0.113.4", "10:05:00")]);
        assert_eq!(look(&mut story, "10:00:00", Some(Outcome::Accepted)), 1);
        assert_eq!(kinds(&story.look("10:00:05").audits), Vec::<&str>::new());
        story.openings = vec![home(1)];
        assert_eq!(kinds(&story.look("10:00:12").audits), ["opened"]);
        assert_eq!(kinds(&story.look("10:04:59").audits), Vec::<&str>::new());
        assert_eq!(kinds(&story.look("10:05:00").audits), ["grant-ended", "finding-appeared"]);
    }

    #[test]
    fn what_was_asked_for_with_somebody_whose_time_is_over_is_asked_for_again_without_them() {
        let mut story = story(vec![approved("a", "203.0.113.4", "12:00:00")]);
        busy(&mut story, "10:00:00");
        story.openings = vec![opening(2, "22", &["203.0.113.9"])];
        story.memory.grants.push(grant("b", 22, "203.0.113.9", "10:01:00", Phase::Open));
        assert_eq!(look(&mut story, "10:00:10", Some(Outcome::Accepted)), 1);
        assert_eq!(story.memory.initiates[&22].grants.len(), 2);
        // Their rule shows, one's time is over, and the other is asked for alone at once.
        story.openings.push(opening(1, "22", &["203.0.113.4", "203.0.113.9"]));
        story.look("10:00:20");
        let plan = story.look("10:01:00");
        assert_eq!(plan.opens.iter().map(|open| open.sources.to_string()).collect::<Vec<_>>(), ["203.0.113.4"]);
    }

    #[test]
    fn a_busy_answer_says_nothing_of_what_was_accepted_before() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        busy(&mut story, "10:02:30");
        story.records = vec![jit_record(22, "203.0.113.4", "10:00:00", "12:00:00", RecordStatus::Initiated)];
        assert_eq!(look(&mut story, "10:02:33", None), 0);
    }

    #[test]
    fn who_joins_during_a_busy_spell_takes_nobodys_time() {
        let mut story = story(vec![approved("a", "203.0.113.4", "11:00:00")]);
        busy(&mut story, "10:00:00");
        story.memory.grants.push(Grant { from: at("10:02:00"), ..approved("c", "203.0.113.5", "10:32:00") });
        let opens = story.look("10:02:00").opens;
        assert_eq!((opens.len(), opens[0].until), (1, at("11:02:00")));
        story.memory.intend_open(&opens[0], at("10:02:00"));
        assert_eq!((story.memory.grants[0].from, story.memory.grants[0].until), (at("10:02:00"), at("11:02:00")));
    }

    #[test]
    fn what_jit_refuses_for_good_ends_whoever_came_last_and_the_others_are_asked_for_alone() {
        let no = || Outcome::Failed("400: several sources".to_owned());
        let mut story = story(vec![
            approved("a", "203.0.113.4", "11:00:00"),
            Grant { from: at("10:00:01"), ..approved("b", "203.0.113.9", "11:00:01") },
        ]);
        let opens = story.look("10:00:01").opens;
        story.memory.intend_open(&opens[0], at("10:00:01"));
        story.memory.open_came_to(22, no(), Weighs::ForGood);
        let plan = story.look("10:00:02");
        assert_eq!((kinds(&plan.audits), plan.audits[0].grant.as_deref()), (vec!["grant-ended"], Some("b")));
        assert_eq!(plan.audits[0].why, "it could not be opened: JIT refuses it: 400: several sources");
        assert_eq!(plan.opens.iter().map(|open| open.sources.to_string()).collect::<Vec<_>>(), ["203.0.113.4"]);
        assert_eq!(story.conclude("10:00:02"), []);
        // One alone that is refused has ended, too.
        story.memory.intend_open(&plan.opens[0], at("10:00:02"));
        story.memory.open_came_to(22, no(), Weighs::ForGood);
        assert_eq!(kinds(&story.look("10:00:03").audits), ["grant-ended"]);
        assert!(story.memory.initiates.is_empty() || story.look("10:00:04").opens.is_empty());
    }

    #[test]
    fn while_nothing_can_be_read_what_was_asked_for_makes_no_look_a_second() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        story.jit_unread = true;
        let mut pauses = 0;
        for minute in 6..40 {
            let time = format!("10:{minute:02}:00");
            crate::conclude::could_not_look(
                &mut story.memory,
                at(&time),
                crate::record::Trouble { cause: crate::record::Cause::CannotLook, said: String::new() },
            );
            story.look(&time);
            story.conclude(&time);
            pauses += (story.next().unwrap() - at(&time)).num_seconds();
        }
        assert!(pauses > 34 * 5, "{pauses}");
        // In observe mode nobody waits for it.
        story.jit_unread = false;
        story.mode = Mode::Observe;
        story.look("10:40:00");
        assert!(story.memory.initiates.is_empty());
    }

    #[test]
    fn whoever_is_let_in_without_it_is_no_reason_to_ask_again() {
        let mut story = story(vec![approved("a", "203.0.113.4/31", "11:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        // Another is let in by the rule that was asked for, which shows, while the record that it waits for does not.
        story.openings = vec![opening(1, "22", &["203.0.113.4/31"])];
        story.records = vec![jit_record(22, "203.0.113.0/24", "09:00:00", "10:10:00", RecordStatus::Initiated)];
        story.memory.grants.push(grant("b", 22, "203.0.113.4", "10:30:00", Phase::Open));
        assert_eq!(story.look("10:00:10").opens, []);
        // What was asked for lets in too much once one of those is over for whom it was.
        let asking = story.memory.initiates.get_mut(&22).unwrap();
        asking.grants.insert("over".to_owned());
        assert_eq!(story.look("10:00:20").opens.len(), 1);
    }

    #[test]
    fn what_somebody_else_asked_for_meanwhile_is_no_answer_to_what_was_asked_for() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        // Its rule is shut already, and its record stays.
        story.records = vec![jit_record(22, "*", "10:00:01", "13:00:00", RecordStatus::Initiated)];
        assert_eq!(look(&mut story, "10:02:29", None), 0);
        assert_eq!(look(&mut story, "10:02:30", Some(Outcome::Accepted)), 1);
        story.records.push(jit_record(22, "203.0.113.4", "10:02:30", "12:00:00", RecordStatus::Initiated));
        assert_eq!(look(&mut story, "10:04:59", None), 0, "its own record shows: the rule is waited for");
        story.openings = vec![opening(1, "22", &["203.0.113.4"])];
        assert_eq!(kinds(&story.look("10:04:59").audits), ["opened"]);
    }

    #[test]
    fn what_a_newer_one_took_the_place_of_is_asked_for_again_soon() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        let newer = |status| jit_record(22, "*", "10:00:01", "13:00:00", status);
        let mut own = jit_record(22, "203.0.113.4", "10:00:00", "12:00:00", RecordStatus::Revoked);
        own.status_reason = "NewerRequestInitiated".to_owned();
        story.records = vec![own, newer(RecordStatus::Initiating)];
        assert_eq!(look(&mut story, "10:00:30", None), 0, "JIT is at work");
        story.records[1] = newer(RecordStatus::Initiated);
        assert_eq!(look(&mut story, "10:00:29", None), 0);
        assert_eq!(look(&mut story, "10:00:30", Some(Outcome::Accepted)), 1);
        assert_eq!(look(&mut story, "10:01:00", None), 0, "what is over says nothing of what was asked for now");
    }

    #[test]
    fn a_rule_that_does_not_come_ends_the_grant_after_five_minutes() {
        let mut story = story(vec![approved("g", "203.0.113.4", "12:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        story.conclude("10:00:00");
        assert!(story.next() <= Some(at("10:00:05")), "{:?}", story.next());
        look(&mut story, "10:02:30", Some(Outcome::Accepted));
        assert_eq!(story.look("10:04:59").audits, []);
        assert_eq!(kinds(&story.look("10:05:00").audits), ["grant-ended"]);
    }

    #[test]
    fn another_grant_is_another_reason_to_ask() {
        let mut story = story(vec![approved("a", "203.0.113.4", "11:00:00")]);
        look(&mut story, "10:00:00", Some(Outcome::Accepted));
        story.memory.grants.push(approved("b", "203.0.113.5", "12:00:00"));
        let opens = story.look("10:00:30").opens;
        assert_eq!((opens.len(), opens[0].sources.to_string()), (1, "203.0.113.4/31".to_owned()));
        assert_eq!(opens[0].grants.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_longer_grant_for_the_same_sources_is_asked_for_and_open_only_when_its_own_record_shows() {
        let mut story = Story::of(vec![home(1)])
            .granted(vec![grant("a", 22, "203.0.113.4", "11:00:00", Phase::Open), approved("b", "203.0.113.4", "12:00:00")]);
        let older = jit_record(22, "203.0.113.4", "09:00:00", "11:00:00", RecordStatus::Initiated);
        story.records = vec![older.clone()];
        let opens = story.look("10:00:00").opens;
        assert_eq!((opens.len(), opens[0].until), (1, at("12:00:00")));
        story.memory.intend_open(&opens[0], at("10:00:00"));
        assert_eq!(story.look("10:00:10").audits, []);
        story.records.push(jit_record(22, "203.0.113.4", "10:00:00", "12:00:00", RecordStatus::Initiated));
        assert_eq!(kinds(&story.look("10:00:15").audits), ["opened"]);
        assert_eq!(story.memory.grants.iter().map(|grant| grant.phase).collect::<Vec<_>>(), [Phase::Open, Phase::Open]);
    }

    #[test]
    fn a_refused_initiate_is_repeated_also_where_an_older_rule_lets_the_grant_in() {
        let mut story = Story::of(vec![home(1)])
            .granted(vec![grant("a", 22, "203.0.113.4", "11:00:00", Phase::Open), approved("b", "203.0.113.4", "12:00:00")]);
        story.records = vec![jit_record(22, "203.0.113.4", "09:00:00", "11:00:00", RecordStatus::Initiated)];
        let busy = Some(Outcome::Failed("409".to_owned()));
        assert_eq!(look(&mut story, "10:00:00", busy.clone()), 1);
        assert_eq!((look(&mut story, "10:00:10", busy.clone()), look(&mut story, "10:00:20", busy)), (1, 1));
        assert_eq!(look(&mut story, "10:00:30", None), 0, "the brake");
        let audits = story.look("10:05:00").audits;
        assert_eq!((kinds(&audits), audits[0].why.as_str()), (vec!["grant-ended"], "it could not be opened: JIT refuses it: 409"));
        assert_eq!(story.memory.grants[0].phase, Phase::Open, "whoever is let in stays so");
    }

    #[test]
    fn what_was_asked_is_not_forgotten_while_the_deleted_rule_still_shows() {
        let wide = opening(1, "22", &["203.0.113.4/31"]);
        let mut story = Story::of(vec![wide.clone()]).granted(vec![
            grant("stays", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("over", 22, "203.0.113.5", "10:00:00", Phase::Open),
        ]);
        let plan = story.look_and_shut("10:00:00");
        assert_eq!((plan.closes.len(), plan.opens.len()), (1, 1));
        story.memory.intend_open(&plan.opens[0], at("10:00:00"));
        story.memory.open_came_to(22, Outcome::Accepted, Weighs::Once);
        // Azure carries the delete out: the group is not settled, and shows the rule still.
        story.settled = false;
        assert_eq!(look(&mut story, "10:00:05", None), 0);
        assert_eq!(story.memory.initiates[&22].intents.len(), 1);
        story.openings.clear();
        story.settled = true;
        assert_eq!(look(&mut story, "10:00:08", None), 0, "JIT is at work");
        assert_eq!(look(&mut story, "10:02:30", None), 1);
    }

    #[test]
    fn what_cannot_be_asked_for_in_a_quarter_of_an_hour_is_declined() {
        let mut story = story(vec![approved("g", "203.0.113.4", "11:00:00")]);
        story.mode = Mode::Observe;
        assert_eq!((story.look("10:14:59").opens.len(), story.memory.grants.len()), (0, 1));
        let audits = story.look("10:15:00").audits;
        assert_eq!(
            (kinds(&audits), audits[0].why.as_str()),
            (vec!["declined"], "it was permitted, and JIT could not be asked for it within 15 min")
        );
        assert!(story.memory.grants.is_empty());
    }

    #[test]
    fn what_was_approved_for_a_vm_that_is_gone_is_declined_with_that_reason() {
        let mut story = story(vec![approved("g", "203.0.113.4", "11:00:00")]);
        story.mode = Mode::Observe;
        story.gone = true;
        assert_eq!(kinds(&story.look("10:00:00").audits), Vec::<&str>::new());
        let audits = story.look("10:00:30").audits;
        assert_eq!((kinds(&audits), audits[0].why.as_str()), (vec!["declined"], "it was permitted, and there is no machine vm1 any more"));
    }

    fn policy(name: &str, ports: &[(u16, &[&str], i64)]) -> JitPolicy {
        let id = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/{name}");
        let port = |(number, sources, hours): &(u16, &[&str], i64)| JitPort {
            number: *number,
            protocol: "*".to_owned(),
            sources: Sources::read(sources.iter().copied()),
            longest: TimeDelta::hours(*hours),
        };
        let vms = vec![JitVm { vm: vm(), public_ip_address: None, ports: ports.iter().map(port).collect() }];
        JitPolicy { id: id.parse().unwrap(), vms, records: Vec::new(), state: "Succeeded".to_owned(), problems: Vec::new() }
    }

    #[test]
    fn the_policy_is_found_among_several_or_it_is_said_why_there_is_none() {
        let any = &["*"][..];
        let found = |policies: &[JitPolicy], source: &str, hours: i64| {
            let open = Open { port: 22, sources: Sources::read([source]), until: at("12:00:00"), grants: BTreeSet::new() };
            policy_for(policies, &VmRecord::new(vm()), &open, TimeDelta::hours(hours)).map(|(policy, _)| policy.id.name().to_owned())
        };
        let office = &["198.51.100.0/24"][..];
        let all = [policy("b", &[(22, office, 3)]), policy("a", &[(22, any, 1), (3389, any, 8)]), policy("c", &[(3389, any, 8)])];
        assert_eq!(found(&all, "198.51.100.7", 1), Ok("b".to_owned()));
        assert_eq!(found(&all, "203.0.113.4", 1), Ok("a".to_owned()));
        assert_eq!(found(&all, "198.51.100.7", 3), Ok("b".to_owned()));
        for (policies, source, hours, said) in [
            (&all[..0], "203.0.113.4", 1, "no JIT policy names vm1: add it to one, with port 22"),
            (&all[2..], "203.0.113.4", 1, "no JIT policy of vm1 lists port 22; listed are 3389"),
            (&all[..1], "203.0.113.4", 1, "JIT policy b lets port 22 be opened to 198.51.100.0/24 only, and 203.0.113.4 is not all in it"),
            (&all[..1], "198.51.100.7", 4, "JIT policy b lets port 22 be open for 3 h at once, and 4 h were asked for"),
        ] {
            assert_eq!(found(policies, source, hours), Err(said.to_owned()));
        }
    }

    #[test]
    fn jit_is_asked_with_an_explicit_source_and_end() {
        let open = |source: &str| Open { port: 22, sources: Sources::read([source]), until: at("12:00:00"), grants: BTreeSet::new() };
        let record = VmRecord::new(vm());
        let one = body(&record, &open("203.0.113.4"), "why");
        let port = json!({"number": 22, "allowedSourceAddressPrefix": "203.0.113.4", "endTimeUtc": "2026-01-15T12:00:00Z"});
        assert_eq!(one, json!({"virtualMachines": [{"id": vm().to_string(), "ports": [port]}], "justification": "why"}));
        let two = body(&record, &open("203.0.113.4,198.51.100.7"), "why");
        assert_eq!(two["virtualMachines"][0]["ports"][0]["allowedSourceAddressPrefixes"], json!(["198.51.100.7", "203.0.113.4"]));
        assert_eq!(two["virtualMachines"][0]["ports"][0].get("allowedSourceAddressPrefix"), None);
        assert_eq!(words(&open("203.0.113.4"), &record), "port 22 of vm1 to 203.0.113.4 until 2026-01-15T12:00:00Z");
        // Nothing of what is asked covers less than the opening that is looked for.
        assert!(opening(1, "22", &["203.0.113.4"]).sources.covers(&open("203.0.113.4").sources));
    }
}
