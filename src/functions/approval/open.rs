//! One `initiate`: intent, audit record, effect, outcome.

use portcullis_domain::audits::audits_of_open;
use portcullis_domain::initiate::{body, policy_for};
use portcullis_domain::jit::OURS;
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
    run.save(app).await?;
    app.write_audit(&audits_of_open(&run.record, open, attempt, now, None)).await?;
    let policy = policy_for(&sight.policies, &run.record, open, open.until - now);
    let (outcome, wait, counts) = match policy {
        Err(why) => (Outcome::Failed(why), None, true),
        Ok((policy, _)) => {
            let body = body(&run.record, open, &justification(run, open));
            let answer = tokio::time::timeout_at(run.answered_by(), app.azure.jit.initiate(&policy.id, &body)).await;
            match answer {
                Ok(Ok(_)) => (Outcome::Accepted, None, true),
                Ok(Err(failed)) => (outcome_of(&failed), hold(&failed), failed.may_have_happened() || !passes(failed.kind)),
                Err(_) => (no_answer(), None, true),
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
    run.record.open_came_to(open.port, outcome, counts);
    Ok(run.go_on(wait))
}

/// Whether a failure says nothing about the wish itself, and passes.
fn passes(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Busy | FailureKind::Throttled | FailureKind::Unreachable | FailureKind::NotSignedIn)
}

/// For whom and by which grants, for whoever reads JIT's own list. Nothing is believed because of it.
fn justification(run: &Run, open: &Open) -> String {
    let grants = run.record.grants.iter().filter(|grant| open.grants.contains(&grant.id));
    let told: Vec<String> = grants.map(|grant| format!("{} (grant {})", grant.shown(), grant.id)).collect();
    format!("{OURS}{}", told.join(", ")).chars().take(LONGEST_REASON).collect()
}
