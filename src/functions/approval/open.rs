//! One `initiate`: intent, audit record, effect, outcome.

use portcullis_domain::audits::audits_of_open;
use portcullis_domain::grant::Grant;
use portcullis_domain::initiate::{Weighs, body, policy_for};
use portcullis_domain::reconcile::Open;
use portcullis_domain::record::Outcome;
use tracing::{info, warn};

use super::super::{App, Stopped};
use super::look::{LEASE, Run, hold};
use super::see::Sight;
use super::shut::{GoOn, no_answer, outcome_of};
use crate::azure::FailureKind;

/// The longest justification that is sent; no bound is documented, and this is what the portal's field takes.
const LONGEST_REASON: usize = 250;

/// Asks JIT for one port. The intent is written with If-Match and the audit record stands before the call goes out; a
/// policy through which it cannot be asked is told without a call.
pub(super) async fn open(app: &App, run: &mut Run, open: &Open, sight: &Sight) -> Result<GoOn, Stopped> {
    let now = run.now;
    run.promise_look(app, now + LEASE).await?;
    let attempt = run.record.intend_open(open, now);
    run.remember_answers();
    run.save(app).await?;
    let asking = audits_of_open(&run.record, open, attempt, now, None);
    let told = async {
        run.tell(app).await?;
        run.write_audits(app, &[asking]).await
    };
    if let Err(stopped) = told.await {
        never_asked(app, run, open.port).await;
        return Err(stopped);
    }
    let policy = policy_for(&sight.policies, &run.record, open, open.until - now);
    let (outcome, wait, weighs) = match policy {
        Err(why) => (Outcome::Failed(why), None, Weighs::Once),
        Ok((policy, _)) => {
            let body = body(&run.record, open, &justification(run, open));
            let answer = tokio::time::timeout_at(run.answered_by(), app.azure.jit.initiate(&policy.id, &body)).await;
            match answer {
                Ok(Ok(_)) => (Outcome::Accepted, None, Weighs::Once),
                Ok(Err(failed)) => (outcome_of(&failed), hold(&failed), weight_of(failed.kind)),
                Err(_) => (no_answer(), None, Weighs::Once),
            }
        }
    };
    match &outcome {
        Outcome::Accepted | Outcome::NothingToDelete => info!(vm = %run.record.vm, port = open.port, attempt, "JIT asked to open"),
        Outcome::Failed(why) | Outcome::Unknown(why) => {
            warn!(vm = %run.record.vm, port = open.port, attempt, error = why, "JIT did not open")
        }
    }
    run.answers.push(audits_of_open(&run.record, open, attempt, now, Some(&outcome)));
    run.record.open_came_to(open.port, outcome, weighs);
    Ok(run.go_on(wait))
}

/// Takes back the intent of an `initiate` that was not sent, and gives the VM up: else the next look would wait for what may come
/// of it. If that cannot be written either, it does.
async fn never_asked(app: &App, run: &mut Run, port: u16) {
    let why = "it could not be written down that JIT is asked, so it was not".to_owned();
    run.record.open_came_to(port, Outcome::Failed(why), Weighs::Nothing);
    run.record.lease = None;
    if let Err(stopped) = run.save(app).await {
        warn!(vm = %run.record.vm, port, error = %stopped, "that JIT was not asked could not be written down");
    }
}

/// Whether a failure says nothing about the wish itself, or all that there is to say.
fn weight_of(kind: FailureKind) -> Weighs {
    match kind {
        FailureKind::Busy | FailureKind::Throttled | FailureKind::Unreachable | FailureKind::NotSignedIn => Weighs::Nothing,
        FailureKind::Refused => Weighs::ForGood,
        // Somebody may mend it, or it may have had its effect.
        FailureKind::NotFound
        | FailureKind::AlreadyExists
        | FailureKind::PreconditionFailed
        | FailureKind::Locked
        | FailureKind::DeniedByPolicy
        | FailureKind::MissingRight
        | FailureKind::Doubtful
        | FailureKind::Server
        | FailureKind::Malformed => Weighs::Once,
    }
}

/// By which grants and for whom, for whoever reads JIT's own list. Nothing is believed because of it. Of many grants the first
/// are told whole.
fn justification(run: &Run, open: &Open) -> String {
    let grants: Vec<&Grant> = run.record.grants.iter().filter(|grant| open.grants.contains(&grant.id)).collect();
    let mut told = String::from("Portcullis:");
    for (n, grant) in grants.iter().enumerate() {
        let name: String = grant.name.chars().take(LONGEST_NAME).collect();
        let who = match name.as_str() {
            "" => grant.person.clone(),
            // Whom an event named is called by the object id, too.
            _ if name.contains(&grant.person) => name,
            _ => format!("{name} ({})", grant.person),
        };
        let one = format!(" grant {} for {who};", grant.id);
        let rest = format!(" and {} more grants;", grants.len() - n);
        if told.len() + one.len() + rest.len() > LONGEST_REASON {
            told.push_str(&rest);
            break;
        }
        told.push_str(&one);
    }
    told.trim_end_matches(';').chars().take(LONGEST_REASON).collect()
}

/// So much of a name is told: it is whatever somebody gave.
const LONGEST_NAME: usize = 60;
