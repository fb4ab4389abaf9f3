//! What operators ask for: a port opened, a grant ended. Nothing is done here: the wish is left for the VM's next look,
//! which decides by the rules.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::TimeDelta;
use portcullis_domain::arm_id::VmId;
use portcullis_domain::duration;
use portcullis_domain::grant::{LONGEST, limits_broken};
use portcullis_domain::incident::IncidentName;
use portcullis_domain::plain::quoted;
use portcullis_domain::source::Sources;
use portcullis_domain::want::{Want, Wanter, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use super::answer::Refusal;
use super::token::Caller;
use super::{Captured, Console, named, plain_id, views};
use crate::functions::fresh_name;

/// A port that is to be opened, as far as its form goes: of whom and of which machine it is about nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The machine, by whatever it is named.
    pub vm: String,
    /// The port, which is not 0.
    pub port: u16,
    /// The sources: at least one, and never everybody.
    pub sources: Sources,
    /// For how long; a time that some rule could permit.
    pub length: TimeDelta,
    /// Why.
    pub reason: String,
    /// The incident that it is for.
    pub incident: Option<IncidentName>,
    /// For whom, by whatever they are named; for the caller, where nobody is.
    pub person: Option<String>,
    /// How that person is called, for people.
    pub name: Option<String>,
}

impl Opening {
    /// Reads the body of a request, and refuses what no rule could permit. The error is a sentence for the caller.
    pub fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, String> {
        let wish: OpenWish = read(headers, body)?;
        let sources = Sources::parse(wish.sources.iter().map(String::as_str)).map_err(|why| format!("`sources`: {why}."))?;
        let length = duration::parse(&wish.duration).map_err(|why| format!("`duration`: {why}."))?;
        if let Some(broken) = limits_broken(&sources, length, LONGEST).first() {
            return Err(format!("No rule can permit this: {broken}."));
        }
        if wish.port == 0 {
            return Err("`port` is 0: name one from 1 to 65535.".to_owned());
        }
        if wish.reason.chars().count() > LONGEST_REASON {
            return Err(format!("`reason` is longer than {LONGEST_REASON} characters: shorten it."));
        }
        let incident = wish.incident.map(incident_named).transpose()?;
        let OpenWish { vm, port, reason, person, name, .. } = wish;
        Ok(Opening { vm, port, sources, length, reason, incident, person, name })
    }
}

/// Reads the name of an incident, which is a text, or a number as numbers are written in JSON.
fn incident_named(given: Value) -> Result<IncidentName, String> {
    let text = if let Value::String(text) = given { text } else { given.to_string() };
    IncidentName::parse(&text).map_err(|why| format!("`incident`: {why}."))
}

/// The body of such a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OpenWish {
    vm: String,
    port: u16,
    sources: Vec<String>,
    duration: String,
    #[serde(default)]
    reason: String,
    incident: Option<Value>,
    person: Option<String>,
    name: Option<String>,
}

/// A grant that is to end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Closing {
    /// The machine, by whatever it is named.
    pub vm: String,
}

impl Closing {
    /// Reads the body of a request. The error is a sentence for the caller.
    pub fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, String> {
        read(headers, body)
    }
}

/// Longer than any reason that somebody reads.
const LONGEST_REASON: usize = 500;

/// `POST /grants`: asks for a port to be opened, for the caller or for somebody else.
pub(super) async fn open(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let wish = Opening::read(&headers, &body).map_err(Refusal::BadQuestion)?;
    let person = match wish.person {
        None => wanter(&caller),
        Some(given) => {
            let id = named::person(&console, &given).await?;
            let own = if given.contains('@') { given } else { String::new() };
            Wanter { id, name: wish.name.unwrap_or(own) }
        }
    };
    let vm = named::to_open(&console, &wish.vm).await?;
    let Opening { port, sources, length, reason, incident, .. } = wish;
    let what = What::Open { port, sources, seconds: length.num_seconds(), person, reason, incident };
    leave(&console, &caller, vm, what).await
}

/// `POST /grants/{id}/close`: ends a grant early.
pub(super) async fn close(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    id: Captured<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let grant = plain_id(id)?;
    let wish = Closing::read(&headers, &body).map_err(Refusal::BadQuestion)?;
    let vm = named::to_close(&console, &wish.vm).await?;
    leave(&console, &caller, vm, What::Close { grant }).await
}

/// `GET /requests/{id}`: what became of a wish.
pub(super) async fn answer(State(console): State<Console>, id: Captured<String>) -> Result<Json<views::AnswerView>, Refusal> {
    let id = plain_id(id)?;
    match console.app.store.answer_to(&id).await? {
        Some(answer) => {
            let held = console.app.store.vm(&answer.want.vm).await?;
            Ok(Json(views::AnswerView::of(&answer, &held.document)))
        }
        None => {
            console.app.store.check().await?;
            Err(Refusal::NotFound)
        }
    }
}

/// Leaves a wish for the VM's next look and sends for that. If the queue does not take it, the schedule looks all the same.
async fn leave(console: &Console, caller: &Caller, vm: VmId, what: What) -> Result<Response, Refusal> {
    let at = console.app.store.check().await?;
    let want = Want { id: fresh_name(), at, vm, by: wanter(caller), what };
    console.app.want(&want).await?;
    info!(vm = %want.vm, want.id = want.id, caller.id = caller.object_id, "a wish was left for the next look");
    let path = format!("/api/requests/{}", want.id);
    Ok((StatusCode::ACCEPTED, [("location", path)], Json(json!({"id": want.id}))).into_response())
}

/// Who asks.
pub(super) fn wanter(caller: &Caller) -> Wanter {
    Wanter { id: caller.object_id.to_lowercase(), name: caller.name.clone() }
}

/// The body as JSON, and as nothing else: a form of another site cannot send that without being asked first.
pub(super) fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, String> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err("Send the body as `Content-Type: application/json`.".to_owned());
    }
    serde_json::from_slice(body).map_err(|why| format!("The body cannot be understood: {}.", quoted(&why.to_string())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::console::tests::documented;

    /// The members that a body may have, as serde names them to whoever sends another one.
    fn members<T: DeserializeOwned>() -> BTreeSet<String> {
        let said = serde_json::from_str::<T>("{\"nonsense\": 1}").err().map(|why| why.to_string()).unwrap_or_default();
        said.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_document_explains_every_member_of_a_wish_and_no_other() {
        let explained: BTreeSet<String> = documented("POST /api/grants").into_iter().map(str::to_owned).collect();
        assert_eq!(explained, members::<OpenWish>());
        assert_eq!(members::<Closing>(), BTreeSet::from(["vm".to_owned()]));
    }
}
