//! Whether the incidents can be read that requests name.

use tokio::time::{Instant, timeout_at};

use super::{Check, State};
use crate::azure::{CallFailed, FailureKind};
use crate::functions::App;
use crate::settings::SENTINEL_WORKSPACE;

const NAME: &str = "incidents";

impl App {
    /// Reads an incident of the workspace that is connected, and what it names.
    pub(super) async fn examine_incidents(&self, until: Instant) -> Check {
        let Some(incidents) = &self.azure.incidents else {
            return none_connected(self.rulebook.rules().await.is_ok_and(|rules| rules.ask_for_incidents()));
        };
        let workspace = incidents.workspace().name();
        match timeout_at(until, incidents.check()).await {
            Ok(read) => readable(workspace, read),
            Err(_) => Check::not_well(NAME, State::NotKnown, format!("workspace {workspace} did not answer in time"), "ask again"),
        }
    }
}

fn none_connected(rules_ask: bool) -> Check {
    if !rules_ask {
        return Check::well(NAME, "no rule asks for an incident of Microsoft Sentinel, and no workspace is connected");
    }
    Check::not_well(
        NAME,
        State::Attention,
        "rules ask for incidents of Microsoft Sentinel, and no workspace is connected, so that they never see one",
        format!("set {SENTINEL_WORKSPACE} (docs/incidents.md), or take those rules away"),
    )
}

/// What was read: whether the workspace has an incident.
fn readable(workspace: &str, read: Result<bool, CallFailed>) -> Check {
    let failed = match read {
        Ok(true) => return Check::well(NAME, format!("incidents of workspace {workspace} can be read, with what they name")),
        Ok(false) => return Check::well(NAME, format!("workspace {workspace} can be read, and has no incident yet")),
        Err(failed) => failed,
    };
    let (state, cure) = match failed.kind {
        FailureKind::MissingRight => (
            State::Failing,
            "assign the role `Portcullis read incidents` (infra/sentinel/incidents.bicep) to the app's identity at the workspace; where \
             incidents/entities/action is what is missing, Microsoft Sentinel Responder (docs/roles.md)"
                .to_owned(),
        ),
        FailureKind::NotFound => (
            State::Failing,
            format!("see that {SENTINEL_WORKSPACE} is the resource id of the workspace, and that Microsoft Sentinel is on in it"),
        ),
        FailureKind::Locked => {
            (State::Failing, "take the read-only lock away, or put it elsewhere: it forbids the POST by which entities are read".to_owned())
        }
        _ => (State::NotKnown, "ask again".to_owned()),
    };
    Check::not_well(NAME, state, failed.to_string(), cure)
}
