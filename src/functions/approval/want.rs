//! What people want of a VM: decided on by the rules, never by whoever asked.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::duration::{of_seconds, spoken};
use portcullis_domain::finding::Severity;
use portcullis_domain::grant::{End, Grant, Origin, Phase, live_sources};
use portcullis_domain::initiate::policy_for;
use portcullis_domain::reconcile::{Mode, Open};
use portcullis_domain::want::{Answer, Became, Want, Wanter, What};
use portcullis_rules::action::Action;
use portcullis_rules::decision::{Decision, Outcome, Permission};
use portcullis_rules::wish::Wish;
use tracing::info;

use super::super::{App, Stopped};
use super::look::Run;
use super::rule::{Asking, stored};
use super::see::Sight;
use crate::store::StoreError;

/// A wish to open that could not be worked on for so long is refused: whoever asked has gone on by then, and nobody
/// watches a port that opens so late.
const WORKED_ON_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// Works on what the inbox brought: each wish once, its answer beside it.
pub(super) async fn work(app: &App, run: &mut Run, sight: &Sight) -> Result<(), Stopped> {
    for (name, want) in std::mem::take(&mut run.wants) {
        let answer = match (over_before(app, run, &want).await?, &want.what) {
            (Some(answer), _) => answer,
            (None, What::Open { .. }) => open(app, run, sight, &want).await?,
            (None, What::Close { grant }) => close(app, run, sight, &want, grant).await?,
        };
        info!(vm = %want.vm, want.id = want.id, became = ?answer.became, "a wish is answered");
        run.answer(name, answer);
    }
    Ok(())
}

/// Ends what is to be ended, at a look that can do no more.
pub(super) async fn end(app: &App, run: &mut Run, sight: &Sight) -> Result<(), Stopped> {
    let is_end = |(_, want): &(String, Want)| matches!(want.what, What::Close { .. });
    let (ends, others) = std::mem::take(&mut run.wants).into_iter().partition(is_end);
    run.wants = ends;
    work(app, run, sight).await?;
    run.wants = others;
    Ok(())
}

/// What becomes of the wishes at a look that could not read Azure, which can be read again at `again` at the earliest.
/// Endings wait in the inbox. Openings do, too, unless they would wait too long: those are refused with the reason.
pub(super) async fn unread(app: &App, run: &mut Run, again: DateTime<Utc>, why: &str) -> Result<(), Stopped> {
    for (name, want) in std::mem::take(&mut run.wants) {
        let is_late = matches!(want.what, What::Open { .. }) && again - want.at >= WORKED_ON_WITHIN;
        if !is_late {
            run.wants.push((name, want));
            continue;
        }
        let answer = match granted_before(run, &want) {
            Some(answer) => answer,
            None => told(app, run, &want, None, format!("nothing opens while the machine and JIT cannot be read: {why}")).await?,
        };
        run.answer(name, answer);
    }
    Ok(())
}

/// What is to be said of a wish that was declined already, or granted and given up: the run that did so was killed, or is about to say
/// so, and what a rule said then may be otherwise by now. A wish has one end.
async fn over_before(app: &App, run: &Run, want: &Want) -> Result<Option<Answer>, Stopped> {
    let is_open = matches!(want.what, What::Open { .. });
    let kinds = if is_open { &[AuditKind::Declined, AuditKind::GrantEnded][..] } else { &[AuditKind::Declined] };
    for kind in kinds {
        let told = told_before(app, run, want, *kind).await?;
        // What was taken back may still stand in the record.
        if let Some(told) = told.filter(|told| is_open || told.why != taken_back(want)) {
            return Ok(Some(answer(want, run, Became::Refused, told.why, told.rule)));
        }
    }
    Ok(None)
}

/// The audit record of what became of a wish, if one was written.
async fn told_before(app: &App, run: &Run, want: &Want, kind: AuditKind) -> Result<Option<AuditRecord>, Stopped> {
    match app.store.audit(&AuditRecord::want_id(&run.record.vm, &want.id, kind)).await {
        Err(StoreError::Unreadable { .. }) => Ok(None),
        told => Ok(told?),
    }
}

/// Why what was granted and not yet asked of JIT is over.
fn taken_back(want: &Want) -> String {
    format!("{} took it back before it was asked for", want.by.shown())
}

/// What is to be said of a wish that is granted already: the run that granted it was killed before it could say so.
fn granted_before(run: &Run, want: &Want) -> Option<Answer> {
    let known = run.record.grants.iter().find(|grant| grant.id == want.id)?;
    Some(answer(want, run, Became::Granted, "it is granted".to_owned(), Some(known.rule.clone())))
}

async fn open(app: &App, run: &mut Run, sight: &Sight, want: &Want) -> Result<Answer, Stopped> {
    let What::Open { port, sources, seconds, person, reason, incident } = &want.what else {
        return Ok(refused(want, run, "it asks for nothing"));
    };
    if let Some(answer) = granted_before(run, want) {
        return Ok(answer);
    }
    if run.now - want.at >= WORKED_ON_WITHIN {
        let why = format!("it could not be worked on for {}, and nobody waits for so long: ask again", spoken(run.now - want.at));
        return told(app, run, want, None, why).await;
    }
    if app.mode == Mode::Observe {
        return told(app, run, want, None, "observe mode opens nothing".to_owned()).await;
    }
    if sight.gone {
        return told(app, run, want, None, format!("there is no machine {}", run.record.vm.name())).await;
    }
    let together = live_sources(&run.record.grants, *port, run.now).union(sources);
    if together.amounts_to_internet() && !sources.amounts_to_internet() {
        let why = format!("with what else is granted on this port it would be {together}, which amounts to the whole internet");
        return told(app, run, want, None, why).await;
    }
    let wanted = Open { port: *port, sources: sources.clone(), until: run.now, grants: BTreeSet::new() };
    let jit_longest = match policy_for(&sight.policies, &run.record, &wanted, of_seconds(*seconds)) {
        Ok((_, port)) => port.longest,
        Err(why) => return told(app, run, want, None, why).await,
    };
    let rules = match app.rulebook.rules().await {
        Ok(rules) => rules,
        Err(_) => return told(app, run, want, None, "the rules cannot be used, so nothing opens; the app's log says why".to_owned()).await,
    };
    let asking = Asking::of(app, rules, run, sight);
    let who = asking.who(&person.id).await;
    let approvals = app.approvals(&person.id, run.now, &want.id).await?;
    let incident = match incident {
        Some(name) => Some(asking.incident(name).await),
        None => None,
    };
    let wish = Wish {
        ports: BTreeSet::from([*port]),
        sources: sources.clone(),
        seconds: *seconds,
        jit_longest_seconds: Some(jit_longest.num_seconds()),
        reason: reason.clone(),
        incident,
        approvals_today: approvals,
        ..asking.wish_of(who).await
    };
    let decision = rules.decide(&wish);
    let Outcome::Open { rule, .. } = &decision.outcome else {
        let why = match &decision.outcome {
            Outcome::Ask { .. } => format!("{}; people cannot be asked yet", decision.sentence()),
            _ => decision.sentence(),
        };
        return told(app, run, want, Some(&decision), why).await;
    };
    let why = decision.sentence();
    let granted = of_want(run, want, AuditKind::Granted, Some(&decision), &why);
    let grant = Grant {
        id: want.id.clone(),
        vm: run.record.vm.clone(),
        port: *port,
        sources: sources.clone(),
        from: run.now,
        until: run.now + of_seconds(*seconds),
        person: person.id.clone(),
        phase: Phase::Approved,
        name: person.name.clone(),
        rule: rule.id.clone(),
        origin: Origin::Asked,
        confirm_by: None,
        ended: None,
        first_shut_read: None,
        audit: granted.id.clone(),
    };
    app.enter_approval(&person.id, run.now, &grant.id, &decision, rules).await?;
    app.write_audit_once(&granted).await?;
    run.record.grants.push(grant);
    Ok(answer(want, run, Became::Granted, why, Some(rule.id.clone())))
}

/// Why somebody may not end another's grant, by the rules. Where there are none, whoever the API lets in may: nothing is to
/// stand in the way of closing.
async fn may_not_close(app: &App, run: &Run, sight: &Sight, want: &Want) -> Option<String> {
    let rules = app.rulebook.rules().await.ok()?;
    let asking = Asking::of(app, rules, run, sight);
    let who = asking.who(&want.by.id).await;
    let permission = rules.may(Action::Close, &asking.wish_of(who).await);
    match permission {
        Permission::Permit { .. } => None,
        Permission::Refuse { .. } => Some(format!("it is another person's grant, and {}", permission.sentence())),
    }
}

/// Ends a grant early: one's own, or another's where the rules let somebody close.
async fn close(app: &App, run: &mut Run, sight: &Sight, want: &Want, id: &str) -> Result<Answer, Stopped> {
    let by = want.by.shown().to_owned();
    let (taken_back, ended_early) = (taken_back(want), format!("{by} ended it early"));
    let Some(known) = run.record.grants.iter().find(|grant| grant.id == id) else {
        // The run that ended it may have been killed before it could say so, and it may be over by now.
        for (kind, why) in [(AuditKind::Declined, taken_back), (AuditKind::GrantEnded, ended_early)] {
            if told_before(app, run, want, kind).await?.is_some_and(|audit| audit.why == why) {
                return Ok(answer(want, run, Became::Ended, why, None));
            }
        }
        return Ok(refused(want, run, "there is no such grant: it is over, or never was"));
    };
    if known.person != want.by.id
        && let Some(why) = may_not_close(app, run, sight, want).await
    {
        return told(app, run, want, None, why).await;
    }
    let Some(grant) = run.record.grants.iter_mut().find(|grant| grant.id == id) else {
        return Ok(refused(want, run, "there is no such grant: it is over, or never was"));
    };
    if grant.phase == Phase::Approved {
        let grant = grant.clone();
        run.record.grants.retain(|other| other.id != id);
        app.write_audit_once(&of_want(run, want, AuditKind::Declined, None, &taken_back)).await?;
        return Ok(answer(want, run, Became::Ended, taken_back, Some(grant.rule)));
    }
    let early = End::Early { by: by.clone() };
    if !grant.end(early.clone()) {
        // The run that ended it may have been killed before it could say so; that it ended was told before.
        return Ok(match grant.ended == Some(early) {
            true => answer(want, run, Became::Ended, ended_early, None),
            false => refused(want, run, "the grant has ended already"),
        });
    }
    let grant = grant.clone();
    run.record.ends_with(&grant, &sight.seen.records, run.now);
    app.write_audit_once(&of_want(run, want, AuditKind::GrantEnded, None, &ended_early)).await?;
    Ok(answer(want, run, Became::Ended, ended_early, None))
}

/// A refusal, written down with the decision that made it. Where it is told already that it is granted, since the run that granted it was
/// killed before the record said so, that grant ends.
async fn told(app: &App, run: &Run, want: &Want, decision: Option<&Decision>, why: String) -> Result<Answer, Stopped> {
    let is_open = matches!(want.what, What::Open { .. });
    let kind = match is_open && told_before(app, run, want, AuditKind::Granted).await?.is_some() {
        true => AuditKind::GrantEnded,
        false => AuditKind::Declined,
    };
    app.write_audit_once(&of_want(run, want, kind, decision, &why)).await?;
    let rule = decision.and_then(|decision| decision.outcome.rule()).map(|rule| rule.id.clone());
    Ok(answer(want, run, Became::Refused, why, rule))
}

fn refused(want: &Want, run: &Run, why: &str) -> Answer {
    answer(want, run, Became::Refused, why.to_owned(), None)
}

fn answer(want: &Want, run: &Run, became: Became, why: String, rule: Option<String>) -> Answer {
    Answer { want: want.clone(), became, at: Some(run.now), why, rule: rule.filter(|rule| !rule.is_empty()) }
}

/// The code of the row of what became of a wish: an end has the same as any other.
fn code_of(want: &Want, kind: AuditKind) -> String {
    let end = match &want.what {
        What::Open { .. } => End::NotOpened { said: String::new() },
        What::Close { .. } => End::Early { by: want.by.shown().to_owned() },
    };
    if kind == AuditKind::GrantEnded { end.code().to_owned() } else { kind.text().to_owned() }
}

/// The audit record of what became of a wish: one for each wish and kind, however often it is worked on.
fn of_want(run: &Run, want: &Want, kind: AuditKind, decision: Option<&Decision>, why: &str) -> AuditRecord {
    let name = run.record.vm.name();
    let whom = |person: &Wanter| if person.id == want.by.id { String::new() } else { format!(" for {}", person.shown()) };
    let (port, sources, person, what) = match &want.what {
        What::Open { port, sources, person, incident, .. } => {
            let on = incident.as_ref().map(|incident| format!(" on incident {incident}")).unwrap_or_default();
            let what = match kind {
                AuditKind::GrantEnded => format!("grant {} of {} for port {port} of {name} ends", want.id, person.shown()),
                _ => format!("{} asks to open port {port} of {name} to {sources}{}{on}", want.by.shown(), whom(person)),
            };
            (Some(*port), Some(sources.clone()), person.clone(), what)
        }
        What::Close { grant } => {
            let known = run.record.grants.iter().find(|known| known.id == *grant);
            let place = known.map_or_else(|| name.to_owned(), |known| format!("port {} of {name}", known.port));
            let whose = known.map_or_else(|| want.by.clone(), |known| Wanter { id: known.person.clone(), name: known.name.clone() });
            (known.map(|known| known.port), None, whose, format!("{} ends grant {grant} for {place}", want.by.shown()))
        }
    };
    let id = AuditRecord::want_id(&run.record.vm, &want.id, kind);
    let severity = if kind == AuditKind::Declined && decision.is_some() { Severity::Low } else { Severity::Informational };
    AuditRecord {
        vm: Some(run.record.vm.clone()),
        port,
        sources,
        code: code_of(want, kind),
        what,
        why: why.to_owned(),
        grant: Some(match &want.what {
            What::Open { .. } => want.id.clone(),
            What::Close { grant } => grant.clone(),
        }),
        rule: decision.and_then(|decision| decision.outcome.rule()).map(|rule| rule.id.clone()),
        person: Some(person.shown().to_owned()),
        person_id: Some(person.id.clone()),
        decision: decision.map(stored),
        ..AuditRecord::of_want(id, run.now, kind, severity)
    }
}
