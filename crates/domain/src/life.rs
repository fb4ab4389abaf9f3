//! The life of grants at a look: what was opened around Portcullis is adopted, claims are confirmed or not, time ends
//! them, and what ended is closed only once it was seen shut.

use chrono::{DateTime, Utc};

use crate::audits::Audits;
use crate::duration::spoken;
use crate::grant::{Declined, End, Grant, Phase, live_sources};
use crate::initiate::SENT_WITHIN;
use crate::jit::{ENDS_DIFFER_BY, JitRecord};
use crate::opening::Opening;
use crate::reconcile::{AFTER_START, BETWEEN_READS, Look, RULE_MAY_COME, is_gone};
use crate::record::{Asked, EndedEarly, VmRecord};
use crate::ruling::{Confirmation, Ruling};
use crate::source::Sources;

/// Before the openings are judged: adoptions, confirmations, and ends.
pub(crate) fn begin(record: &mut VmRecord, look: &Look<'_>, audits: &mut Audits) {
    record.ended_early.retain(|early| early.until > look.now);
    adopt(record, look, audits);
    record.grants.sort_by(|one, other| one.id.cmp(&other.id));
    confirm(record, look, audits);
    see_open(record, look, audits);
    decline_unsent(record, look, audits);
    let is_gone = is_gone(record, look);
    for n in 0..record.grants.len() {
        if is_gone {
            end(record, n, End::VmGone, audits);
        } else if look.unaudited.contains(&record.grants[n].id) {
            end(record, n, End::Unaudited, audits);
        } else if record.grants[n].until <= look.now {
            end(record, n, End::Time, audits);
        }
    }
}

fn adopt(record: &mut VmRecord, look: &Look<'_>, audits: &mut Audits) {
    for ruling in look.rulings.values() {
        let Ruling::Adopt(adoptions) = ruling else { continue };
        for adoption in adoptions {
            if record.grants.iter().all(|known| known.id != adoption.grant.id) {
                let audit = audits.adopted(record, adoption);
                record.grants.push(Grant { audit, ..adoption.grant.clone() });
            }
        }
    }
}

fn confirm(record: &mut VmRecord, look: &Look<'_>, audits: &mut Audits) {
    for n in 0..record.grants.len() {
        let grant = &mut record.grants[n];
        let Some(by) = grant.confirm_by else { continue };
        match look.confirmations.get(&grant.id) {
            Some(Confirmation::Confirmed { by, who }) => {
                grant.confirm_by = None;
                if let Some(who) = who {
                    (grant.person, grant.name) = (who.id.clone(), who.name.clone());
                }
                let grant = grant.clone();
                audits.confirmed(record, &grant, by);
            }
            Some(Confirmation::Contradicted { said }) => {
                end(record, n, End::Contradicted { said: said.clone() }, audits);
            }
            None if by <= look.now => {
                end(record, n, End::Unconfirmed, audits);
            }
            None => {}
        }
    }
}

/// A grant whose sources are all let in has opened, whoever's rule it is, unless every record that could be its reason
/// ends before it does: then the rule is an older one, and its own is still to come. Without JIT's records nobody knows.
fn see_open(record: &mut VmRecord, look: &Look<'_>, audits: &mut Audits) {
    if look.jit.is_none() {
        return;
    }
    for n in 0..record.grants.len() {
        let grant = &record.grants[n];
        let of_port = look.openings.iter().filter(|opening| opening.ports.contains(grant.port));
        let there = of_port.fold(Sources::default(), |all, opening| all.union(&opening.sources));
        let mut reasons =
            look.records().iter().filter(|r| r.port == grant.port && r.may_be_open() && r.sources.covers(&grant.sources)).peekable();
        let is_older = reasons.peek().is_some() && reasons.all(|record| record.end + ENDS_DIFFER_BY < grant.until);
        if grant.phase == Phase::Opening && there.covers(&grant.sources) && !is_older {
            record.grants[n].phase = Phase::Open;
            let grant = record.grants[n].clone();
            audits.opened(record, &grant);
        }
    }
}

/// What was approved and could not be asked for in time, or whose VM is gone, is declined: nobody waits for it any more.
fn decline_unsent(record: &mut VmRecord, look: &Look<'_>, audits: &mut Audits) {
    let is_gone = is_gone(record, look);
    let why = match is_gone {
        true => format!("there is no machine {} any more", record.vm.name()),
        false => format!("JIT could not be asked for it within {}", spoken(SENT_WITHIN)),
    };
    let late = |grant: &Grant| grant.phase == Phase::Approved && (is_gone || look.now >= grant.from + SENT_WITHIN);
    while let Some(n) = record.grants.iter().position(late) {
        let mut grant = record.grants.remove(n);
        grant.phase = Phase::Declined(Declined::NeverSent);
        audits.declined(record, &grant, &why);
    }
}

/// Ends the grant of this id, and tells it, if it may be open; tells whether it may have been.
pub(crate) fn end_of(record: &mut VmRecord, id: &str, why: End, audits: &mut Audits) -> bool {
    let n = record.grants.iter().position(|grant| grant.id == id);
    n.is_some_and(|n| end(record, n, why, audits))
}

/// Ends the n-th grant, and tells it, if it may be open; tells whether it may have been.
fn end(record: &mut VmRecord, n: usize, why: End, audits: &mut Audits) -> bool {
    let early = why != End::Time;
    let ended = record.grants[n].end(why);
    if ended {
        let grant = record.grants[n].clone();
        if early && grant.is_adopted() {
            record.ended_early.push(EndedEarly { port: grant.port, from: grant.from, until: grant.until });
        }
        audits.grant_ended(record, &grant);
    }
    ended
}

/// After everything is planned: what of the grants shows, and which of them are over. A grant is over when two reads in
/// a row showed nothing of what it alone allowed; one that was still open has then been shut by another hand.
pub(crate) fn prove(record: &mut VmRecord, openings: &[Opening], look: &Look<'_>, audits: &mut Audits) {
    let mut over = Vec::new();
    for n in 0..record.grants.len() {
        let grant = &record.grants[n];
        let watched = match grant.phase {
            Phase::Open | Phase::Closing => !record.taken_down.contains(&grant.id),
            Phase::Requested | Phase::Waiting | Phase::Approved | Phase::Opening | Phase::Closed | Phase::Declined(_) => false,
        };
        if !watched {
            continue;
        }
        let shows = shows(grant, &record.grants, openings, look.now);
        record.unsettled |= !shows && !look.groups_settled;
        let hindered = shows || !look.groups_settled || may_still_come(grant, look) || is_in_doubt(grant, &record.asked, look);
        let grant = &mut record.grants[n];
        match grant.first_shut_read {
            _ if hindered => grant.first_shut_read = None,
            None => grant.first_shut_read = Some(look.ended),
            Some(first) if look.now < first + BETWEEN_READS => {}
            Some(_) => over.push(grant.id.clone()),
        }
    }
    for id in over {
        let Some(n) = record.grants.iter().position(|grant| grant.id == id) else { continue };
        end(record, n, End::ShutByAnother, audits);
        let grant = record.grants.remove(n);
        audits.grant_closed(record, &grant);
    }
}

/// Whether anything is open that this grant and no other live one allows.
fn shows(grant: &Grant, all: &[Grant], openings: &[Opening], now: DateTime<Utc>) -> bool {
    let others = live_sources(all.iter().filter(|other| other.id != grant.id), grant.port, now);
    let alone = grant.sources.minus(&others);
    // What others allow as well says nothing of this one: it is over when its own time is.
    let mine = if alone.is_empty() { &grant.sources } else { &alone };
    let is_mine = |opening: &&Opening| opening.ports.contains(grant.port) && mine.minus(&opening.sources) != *mine;
    match grant.phase {
        Phase::Closing if alone.is_empty() => false,
        _ => openings.iter().any(|opening| is_mine(&opening)),
    }
}

/// Whether JIT may still be about to write a rule for the grant's port.
fn may_still_come(grant: &Grant, look: &Look<'_>) -> bool {
    if look.jit.is_none() {
        return true;
    }
    let of_port = |record: &&JitRecord| record.port == grant.port;
    look.records().iter().filter(of_port).any(|record| record.is_initiating(look.now) || record.start + AFTER_START > look.now)
}

/// Whether JIT was asked for what the grant lets in so lately that it may still open it, and shows nothing of that.
fn is_in_doubt(grant: &Grant, asked: &[Asked], look: &Look<'_>) -> bool {
    let lets_in = |asked: &&Asked| asked.port == grant.port && grant.sources.minus(&asked.sources) != grant.sources;
    let is_new = |asked: &&Asked| asked.at + RULE_MAY_COME > look.now;
    asked.iter().filter(lets_in).filter(is_new).any(|asked| !look.records().iter().any(|record| asked.is_of(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Origin;
    use crate::jit::RecordStatus;
    use crate::judge::Violation;
    use crate::reconcile::Mode;
    use crate::ruling::Adoption;
    use crate::samples::{at, grant, opening, record as jit_record};
    use crate::story::{Story, home, kinds, said};

    fn adopted(id: &str, until: &str, confirm_by: Option<&str>) -> Grant {
        let rule = "responders".to_owned();
        Grant {
            rule,
            origin: Origin::Adopted,
            confirm_by: confirm_by.map(at),
            name: "ada@contoso.com".to_owned(),
            ..grant(id, 22, "203.0.113.4", until, Phase::Open)
        }
    }

    #[test]
    fn the_grants_of_a_vm_end_when_azure_said_twice_that_it_is_gone() {
        let mut story = Story::of(vec![home(1)]).granted(vec![adopted("g", "11:00:00", None)]);
        story.gone = true;
        assert_eq!(story.look("10:00:00").audits.len(), 0);
        // Once is not enough, and what was denied in between begins anew.
        assert_eq!(story.memory.judge_again, Some(at("10:00:30")));
        story.gone = false;
        story.look("10:00:20");
        assert_eq!((story.memory.gone_since, story.memory.judge_again), (None, None));
        story.gone = true;
        story.look("10:01:00");
        assert_eq!(kinds(&story.look("10:01:29").audits), Vec::<&str>::new());
        let plan = story.look("10:01:30");
        assert!(kinds(&plan.audits).contains(&"grant-ended"), "{:?}", kinds(&plan.audits));
        assert_eq!((plan.record.grants[0].ended.clone(), plan.closes.len()), (Some(End::VmGone), 1));
    }

    fn rule_on(story: &mut Story, n: usize, ruling: Ruling) {
        let rule = story.openings[n].rule.clone();
        story.rulings.insert(rule, ruling);
    }

    fn adopting(grant: Grant) -> Ruling {
        Ruling::Adopt(vec![Adoption { grant, said: "rule responders permits it".to_owned(), decision: serde_json::json!({"a": 1}) }])
    }

    /// A VM whose one opening was adopted at ten.
    fn story(grant: Grant) -> Story {
        let mut story = Story::of(vec![home(1)]);
        rule_on(&mut story, 0, adopting(grant));
        story
    }

    #[test]
    fn a_grant_is_not_over_while_what_was_asked_for_it_may_still_come_and_shows_nowhere() {
        let ended = |story: &mut Story, times: &[&str]| -> Vec<String> {
            let closed = |time: &&&str| kinds(&story.look(time).audits).contains(&"grant-closed");
            times.iter().filter(closed).map(ToString::to_string).collect()
        };
        let times = ["10:00:40", "10:01:20", "10:02:29", "10:02:30", "10:03:10", "10:04:00"];
        let closing =
            || Grant { ended: Some(End::Early { by: "sam".to_owned() }), ..grant("g", 22, "203.0.113.4", "11:00:00", Phase::Closing) };
        let asked = || Asked { port: 22, sources: closing().sources, at: at("10:00:00"), until: at("11:00:00") };
        let mut story = Story::of(Vec::new()).granted(vec![closing()]);
        story.memory.asked = vec![asked()];
        assert_eq!(ended(&mut story, &times), ["10:03:10"]);
        // Its record says more than that it was asked for.
        let shown = jit_record(22, "203.0.113.4", "10:00:00", "11:00:00", RecordStatus::Initiated);
        let mut story = Story::of(Vec::new()).granted(vec![closing()]);
        (story.memory.asked, story.records) = (vec![asked()], vec![shown]);
        assert_eq!(ended(&mut story, &times), ["10:02:29"]);
        // What is for another port or for somebody else, and what was refused, opens nothing of it.
        for other in [Asked { port: 23, ..asked() }, Asked { sources: Sources::read(["203.0.113.5"]), ..asked() }] {
            let mut story = Story::of(Vec::new()).granted(vec![closing()]);
            story.memory.asked = vec![other];
            assert_eq!(ended(&mut story, &times), ["10:01:20"]);
        }
    }

    #[test]
    fn what_a_rule_permits_is_adopted_once_and_covered() {
        for mode in [Mode::Enforce, Mode::Observe] {
            let mut story = story(adopted("g", "11:00:00", None));
            story.mode = mode;
            let plan = story.look("10:00:00");
            assert_eq!((kinds(&plan.audits), plan.closes.len(), plan.opens.len()), (vec!["adopted"], 0, 0), "{mode:?}");
            assert_eq!(plan.audits[0].decision, Some(serde_json::json!({"a": 1})));
            assert!(story.memory.findings.is_empty());
            assert_eq!(story.look("10:01:00").audits, []);
            story.conclude("10:01:00");
            assert_eq!(story.next(), Some(at("11:00:00")));
        }
    }

    #[test]
    fn a_grant_that_is_over_is_closed_only_after_its_rule_was_seen_gone_twice() {
        let mut story = story(adopted("g", "11:00:00", None));
        story.look("10:00:00");
        story.rulings.clear();
        let plan = story.look_and_shut("11:00:00");
        assert_eq!(kinds(&plan.audits), ["grant-ended", "finding-appeared"]);
        assert_eq!((plan.closes.len(), plan.closes[0].why.clone()), (1, Violation::GrantEnded { grant: "g".to_owned(), why: End::Time }));
        assert_eq!(story.look("11:00:05").audits, []);
        let audits = story.look("11:00:40").audits;
        assert_eq!(kinds(&audits), ["proved-shut", "finding-gone", "grant-closed"]);
        assert!(story.memory.grants.is_empty());
        assert_eq!(
            said(&audits)[2],
            "Grant g of ada@contoso.com for port 22 of vm1 is closed: its time is over; nothing that it allowed was seen open, twice"
        );
    }

    #[test]
    fn a_rule_that_jit_takes_away_itself_is_proved_gone_too() {
        let mut story = story(adopted("g", "11:00:00", None));
        story.look("10:00:00");
        story.openings.clear();
        story.rulings.clear();
        assert_eq!(kinds(&story.look("11:00:00").audits), ["grant-ended"]);
        story.conclude("11:00:00");
        assert_eq!(story.next(), Some(at("11:00:32")));
        assert_eq!(kinds(&story.look("11:00:32").audits), ["grant-closed"]);
        story.conclude("11:00:32");
        assert_eq!(story.next(), None);
    }

    #[test]
    fn a_rule_that_another_hand_takes_away_ends_the_grant_after_a_second_look() {
        let mut story = story(adopted("g", "13:00:00", None));
        story.look("10:00:00");
        let rules = std::mem::take(&mut story.openings);
        story.rulings.clear();
        let plan = story.look("10:10:00");
        assert_eq!((plan.audits.len(), plan.opens.len()), (0, 0));
        // A read that was late shows it again: nothing has happened.
        story.openings = rules;
        story.look("10:10:32");
        assert_eq!(story.memory.grants[0].first_shut_read, None);
        story.openings.clear();
        story.look("10:20:00");
        assert_eq!(story.look("10:20:30").audits, []);
        let audits = story.look("10:20:31").audits;
        assert_eq!(kinds(&audits), ["grant-ended", "grant-closed"]);
        assert!(said(&audits)[0].contains("another hand took its rule away"), "{audits:?}");
    }

    #[test]
    fn nothing_is_over_while_jit_may_still_write_its_rule() {
        for (record, over) in [
            (jit_record(22, "203.0.113.4", "10:00:00", "11:00:00", RecordStatus::Initiating), false),
            (jit_record(22, "203.0.113.4", "10:59:59", "12:00:00", RecordStatus::Initiated), false),
            (jit_record(23, "203.0.113.4", "10:00:00", "12:00:00", RecordStatus::Initiating), true),
            (jit_record(22, "203.0.113.4", "10:00:00", "11:00:00", RecordStatus::Initiated), true),
        ] {
            let mut story = story(adopted("g", "10:30:00", None));
            story.look("10:00:00");
            story.openings.clear();
            story.rulings.clear();
            story.records = vec![record.clone()];
            story.look("10:59:59");
            let kinds = kinds(&story.look("10:59:59.5").audits);
            assert!(kinds.is_empty());
            let closed = kinds_at(&mut story, "11:00:31").contains(&"grant-closed");
            assert_eq!(closed, over, "{record:?}");
        }
    }

    fn kinds_at(story: &mut Story, time: &str) -> Vec<&'static str> {
        kinds(&story.look(time).audits)
    }

    #[test]
    fn a_group_that_is_not_settled_proves_nothing() {
        let mut story = story(adopted("g", "11:00:00", None));
        story.look("10:00:00");
        story.openings.clear();
        story.settled = false;
        story.look("11:00:00");
        story.look("11:01:00");
        assert_eq!(story.memory.grants[0].first_shut_read, None);
    }

    #[test]
    fn a_second_grant_keeps_the_port_open_and_the_first_one_ends_without_a_delete() {
        let mut story = story(adopted("a", "11:00:00", None));
        story.look("10:00:00");
        story.memory.grants.push(grant("b", 22, "203.0.113.4", "12:00:00", Phase::Open));
        let plan = story.look("11:00:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (0, vec!["grant-ended"]));
        let plan = story.look("11:00:40");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (0, vec!["grant-closed"]));
        assert_eq!(story.memory.grants.iter().map(|grant| grant.id.as_str()).collect::<Vec<_>>(), ["b"]);
        story.rulings.clear();
        assert_eq!(story.look("12:00:00").closes.len(), 1);
    }

    #[test]
    fn a_claim_is_confirmed_or_its_grant_ends() {
        let mut confirmed = story(adopted("g", "13:00:00", Some("10:30:00")));
        confirmed.look("10:00:00");
        confirmed.confirmations.insert("g".to_owned(), Confirmation::Confirmed { by: "the activity log".to_owned(), who: None });
        assert_eq!(kinds(&confirmed.look("10:02:00").audits), ["confirmed"]);
        assert_eq!(confirmed.look("10:40:00").audits, []);

        let mut never = story(adopted("g", "13:00:00", Some("10:30:00")));
        never.look("10:00:00");
        never.conclude("10:00:00");
        assert_eq!(never.next(), Some(at("10:02:00")));
        assert_eq!(never.look("10:29:59").closes.len(), 0);
        never.conclude("10:29:59");
        assert_eq!(never.next(), Some(at("10:30:00")));
        let plan = never.look("10:30:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (1, vec!["grant-ended", "finding-appeared"]));
        assert_eq!(plan.closes[0].why.code(), "unconfirmed");

        let mut another = story(adopted("g", "13:00:00", Some("10:30:00")));
        another.look("10:00:00");
        another.confirmations.insert("g".to_owned(), Confirmation::Contradicted { said: "JIT's record names bob".to_owned() });
        let plan = another.look("10:02:00");
        assert_eq!((plan.closes.len(), plan.closes[0].why.code()), (1, "unconfirmed"));
        assert!(plan.closes[0].why.sentence().ends_with("JIT's record names bob"), "{:?}", plan.closes[0].why);
    }

    #[test]
    fn what_the_rules_refuse_is_shut_and_what_waits_is_left_until_then() {
        let refused = Violation::Unapproved { said: "no rule permits it".to_owned() };
        let mut story = Story::of(vec![home(1)]);
        rule_on(&mut story, 0, Ruling::Wait { until: at("10:05:00"), why: "nobody says yet who opened it".to_owned() });
        let plan = story.look("10:00:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (0, vec!["finding-appeared"]));
        assert!(said(&plan.audits)[0].ends_with("it is left for now: nobody says yet who opened it"), "{:?}", said(&plan.audits));
        story.conclude("10:00:00");
        assert_eq!(story.next(), Some(at("10:05:00")));
        rule_on(
            &mut story,
            0,
            Ruling::Shut { why: refused.clone(), rule: Some("no".to_owned()), decision: Some(serde_json::json!({"b": 2})) },
        );
        let plan = story.look_and_shut("10:05:00");
        assert_eq!((plan.closes.len(), plan.closes[0].why.clone(), kinds(&plan.audits)), (1, refused, vec!["finding-changed"]));
        assert_eq!((plan.audits[0].rule.as_deref(), plan.audits[0].decision.clone()), (Some("no"), Some(serde_json::json!({"b": 2}))));
        // A hard limit is told before what rules say.
        let mut any = Story::of(vec![opening(1, "22", &["*"])]);
        rule_on(&mut any, 0, adopting(Grant { sources: Sources::internet(), ..adopted("g", "11:00:00", None) }));
        assert_eq!(any.look("10:00:00").closes.len(), 0);
    }
}
