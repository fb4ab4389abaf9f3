//! One delete: intent, audit record, effect, outcome.

use chrono::TimeDelta;
use portcullis_domain::audits::{audit_of_answer, audit_of_close};
use portcullis_domain::reconcile::Close;
use portcullis_domain::record::{Cause, Outcome, Trouble};
use tracing::{info, warn};

use super::super::{App, Stopped};
use super::look::Run;
use crate::azure::network::{Deletion, Shut};
use crate::azure::{CallFailed, FailureKind};

/// Whether the run may go on with the next effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoOn {
    /// It may.
    Yes,
    /// Azure wants no more calls now.
    No,
}

/// Deletes the rule of one opening. The intent is written with If-Match and the audit record stands before the call
/// goes out, so that a run which is killed at any point leaves word of what it may have done.
pub(super) async fn shut(app: &App, run: &mut Run, close: &Close) -> Result<GoOn, Stopped> {
    let now = run.now;
    run.promise_look(app, now + super::look::LEASE).await?;
    let attempt = run.record.intend_delete(close.port, &close.opening.rule, now);
    run.remember_answers();
    run.save(app).await?;
    run.tell(app).await?;
    let closing = audit_of_close(&run.record, close, attempt, now);
    run.write_audits(app, &[closing]).await?;
    let answer = tokio::time::timeout_at(run.answered_by(), app.azure.network.delete_jit_rule(&close.opening)).await;
    let (outcome, trouble, hold) = match &answer {
        Ok(answer) => told(answer),
        Err(_) => (no_answer(), None, None),
    };
    match &outcome {
        Outcome::Accepted | Outcome::NothingToDelete => {
            info!(vm = %run.record.vm, port = close.port, rule = %close.opening.rule, attempt, "rule deleted")
        }
        Outcome::Failed(why) | Outcome::Unknown(why) => {
            warn!(vm = %run.record.vm, port = close.port, attempt, error = why, "rule not deleted")
        }
    }
    run.record.delete_came_to(close.port, outcome, trouble);
    run.answers.extend(audit_of_answer(&mut run.record, close, attempt, now));
    Ok(run.go_on(hold))
}

/// What a call came to whose answer was not waited for any longer.
pub(super) fn no_answer() -> Outcome {
    Outcome::Unknown("Azure did not answer in time".to_owned())
}

/// What a call came to that failed.
pub(super) fn outcome_of(failed: &CallFailed) -> Outcome {
    let said = failed.told();
    if failed.may_have_happened() { Outcome::Unknown(said) } else { Outcome::Failed(said) }
}

/// What came of a delete, what it says about the cause, and how long Azure wants no call.
fn told(answer: &Result<Shut, CallFailed>) -> (Outcome, Option<Trouble>, Option<TimeDelta>) {
    let failed = match answer {
        Ok(Shut::Sent(Deletion::Deleted | Deletion::Accepted { .. })) => return (Outcome::Accepted, None, None),
        Ok(Shut::Sent(Deletion::WasGone)) => return (Outcome::NothingToDelete, None, None),
        Ok(Shut::NotTheSame(why)) => return (Outcome::Failed(format!("the rule is no longer the one that was judged: {why}")), None, None),
        Err(failed) => failed,
    };
    (outcome_of(failed), Some(Trouble { cause: cause(failed), said: failed.told() }), super::look::hold(failed))
}

/// Why a call failed, in the words of alarms.
fn cause(failed: &CallFailed) -> Cause {
    match failed.kind {
        FailureKind::Locked => Cause::Lock,
        FailureKind::DeniedByPolicy => Cause::Denial,
        FailureKind::MissingRight => Cause::MissingRight,
        FailureKind::NotFound
        | FailureKind::AlreadyExists
        | FailureKind::PreconditionFailed
        | FailureKind::Busy
        | FailureKind::Throttled
        | FailureKind::NotSignedIn
        | FailureKind::Unreachable
        | FailureKind::Doubtful
        | FailureKind::Refused
        | FailureKind::Server
        | FailureKind::Malformed => Cause::Slow,
    }
}
