//! What the store holds: a document that somebody damaged is refused with a reason, or can be worked on.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use portcullis::functions::Message;
use portcullis::functions::alert::RowsFailing;
use portcullis::functions::dead_letters::{Place, kept_aside, place};
use portcullis::functions::jit_activity::Activity;
use portcullis::functions::sweep::Swept;
use portcullis::functions::sweep_shard::UpTo;
use portcullis::store::{Approvals, KeptMessage};
use portcullis_domain::audit::{AuditRecord, Installation};
use portcullis_domain::conclude::conclude;
use portcullis_domain::initiate::Newer;
use portcullis_domain::jit::JitRecord;
use portcullis_domain::judge::Limits;
use portcullis_domain::opening::Opening;
use portcullis_domain::reconcile::{Jit, Look, Mode, reconcile};
use portcullis_domain::record::{Claim, VmRecord};
use portcullis_domain::ruling::{Confirmations, Rulings};
use portcullis_domain::time;
use portcullis_domain::want::{Answer, Want};
use portcullis_rules::plain::plain;

use crate::checks::{SENTENCE, is_told, survives_json, text};

/// The other documents: each that is read is written as the same again, and what it says of time can be reckoned with.
pub(crate) fn store_documents(data: &[u8]) {
    if let Ok(want) = serde_json::from_slice::<Want>(data) {
        survives_json(&want);
        a_time(want.at);
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(data) {
        survives_json(&answer);
        answer.at.into_iter().chain([answer.want.at]).for_each(a_time);
    }
    if let Ok(claim) = serde_json::from_slice::<Claim>(data) {
        survives_json(&claim);
        a_time(claim.at);
    }
    if let Ok(audit) = serde_json::from_slice::<AuditRecord>(data) {
        an_audit(&audit);
        a_time(audit.at);
    }
    if let Ok(activity) = serde_json::from_slice::<Activity>(data) {
        survives_json(&activity);
        a_time(activity.at);
    }
    if let Ok(kept) = serde_json::from_slice::<KeptMessage>(data) {
        survives_json(&kept);
    }
    if let Ok(swept) = serde_json::from_slice::<Swept>(data) {
        survives_json(&swept);
    }
    if let Ok(up_to) = serde_json::from_slice::<UpTo>(data) {
        survives_json(&up_to);
        a_time(up_to.up_to);
    }
    if let Ok(approvals) = serde_json::from_slice::<Approvals>(data) {
        survives_json(&approvals);
        for now in [DateTime::<Utc>::MIN_UTC, DateTime::UNIX_EPOCH] {
            let mut entered = approvals.clone();
            let before = entered.in_a_day(now, "g");
            entered.enter("g", now);
            assert!(entered.in_a_day(now, "g") <= before && !entered.enter("g", now));
        }
    }
    if let Ok(failing) = serde_json::from_slice::<RowsFailing>(data) {
        survives_json(&failing);
        failing.since.into_iter().for_each(a_time);
    }
}

fn a_time(at: DateTime<Utc>) {
    assert!((1..=9999).contains(&at.year()), "{at} is in no calendar: a sum with it could overflow");
}

/// A VM's record that is read is one that a look can work on, whatever Azure shows: what is remembered then can be
/// written and read again, and what was concluded is not concluded twice.
pub(crate) fn vm_record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<VmRecord>(data) else { return };
    survives_json(&record);
    let openings: Vec<Opening> = record.openings.iter().map(|seen| seen.opening.clone()).collect();
    for mode in [Mode::Enforce, Mode::Observe] {
        for newer in [Newer::Replaces, Newer::Adds] {
            a_look(&record, mode, newer, &openings);
            a_look(&record, mode, newer, &[]);
        }
    }
}

fn a_look(record: &VmRecord, mode: Mode, newer: Newer, openings: &[Opening]) {
    let (rulings, confirmations, unaudited) = (Rulings::default(), Confirmations::default(), BTreeSet::new());
    let records: &[JitRecord] = &[];
    let mut record = record.clone();
    for (minutes, jit) in [(0, None), (1, Some(Jit { records, remarks: &[] })), (600, Some(Jit { records, remarks: &[] }))] {
        let now = noon() + TimeDelta::minutes(minutes);
        let look = Look {
            now,
            ended: now,
            openings,
            groups_settled: true,
            versions: "",
            jit,
            gone: false,
            limits: Limits { longest_opening: TimeDelta::hours(8) },
            mode,
            newer,
            rulings: &rulings,
            confirmations: &confirmations,
            unaudited: &unaudited,
        };
        let plan = reconcile(record, &look);
        plan.audits.iter().for_each(an_audit);
        record = plan.record;
        conclude(&mut record, now, mode).iter().for_each(an_audit);
        survives_json(&record);
        assert_eq!(conclude(&mut record, now, mode), [], "what was concluded is concluded again");
    }
}

fn an_audit(audit: &AuditRecord) {
    survives_json(audit);
    let installation = Installation { name: "app".to_owned(), tenant: "t".to_owned(), version: "0".to_owned() };
    assert!(audit.row(&installation).is_object());
}

fn noon() -> DateTime<Utc> {
    time::parse("2026-01-15T12:00:00Z").expect("a time")
}

/// What was set aside, as it is kept, and the ids of what came to no end: what cannot be read is there whole and is sent by nobody,
/// and what can be sent is a message of ours.
pub(crate) fn set_aside(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let left = kept_aside("a", None, text.to_owned());
    match &left.again {
        Ok(message) => assert_eq!(Message::read(&message.body()).as_ref(), Ok(message)),
        Err(why) => is_told(&plain(why), SENTENCE),
    }
    assert!(left.from.is_some() || left.body == text && left.again.is_err(), "{left:?}");
    assert_eq!(place(&left.id), Some(Place::SetAside("a")));
    for id in text.lines() {
        match place(id) {
            Some(Place::Dead(queue, sequence)) => {
                assert_eq!(place(&format!("{}-{sequence}", queue.name())), Some(Place::Dead(queue, sequence)));
            }
            Some(Place::SetAside(name)) => assert!(id.ends_with(name)),
            None => {}
        }
    }
}
