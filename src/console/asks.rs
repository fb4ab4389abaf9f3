//! What operators ask for: a port opened, a grant ended. Nothing is done here: the wish is left for the VM's next look,
//! which decides by the rules.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::duration;
use portcullis_domain::grant::{LONGEST, limits_broken};
use portcullis_domain::source::Sources;
use portcullis_domain::want::{Want, Wanter, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use super::answer::Refusal;
use super::token::Caller;
use super::{Captured, Console, named, plain_id, views};
use crate::functions::fresh_name;

/// A port that is to be opened.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OpenWish {
    vm: String,
    port: u16,
    sources: Vec<String>,
    duration: String,
    #[serde(default)]
    reason: String,
    person: Option<String>,
    name: Option<String>,
}

/// A grant that is to end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CloseWish {
    vm: String,
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
    let wish: OpenWish = read(&headers, &body)?;
    let sources = Sources::parse(wish.sources.iter().map(String::as_str)).map_err(|why| bad(format!("`sources`: {why}.")))?;
    let length = duration::parse(&wish.duration).map_err(|why| bad(format!("`duration`: {why}.")))?;
    if let Some(broken) = limits_broken(&sources, length, LONGEST).first() {
        return Err(bad(format!("No rule can permit this: {broken}.")));
    }
    if wish.port == 0 {
        return Err(bad("`port` is 0: name one from 1 to 65535.".to_owned()));
    }
    if wish.reason.chars().count() > LONGEST_REASON {
        return Err(bad(format!("`reason` is longer than {LONGEST_REASON} characters: shorten it.")));
    }
    let person = match wish.person {
        None => wanter(&caller),
        Some(given) => {
            let id = named::person(&console, &given).await?;
            let own = if given.contains('@') { given } else { String::new() };
            Wanter { id, name: wish.name.unwrap_or(own) }
        }
    };
    let vm = named::to_open(&console, &wish.vm).await?;
    let what = What::Open { port: wish.port, sources, seconds: length.num_seconds(), person, reason: wish.reason };
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
    let wish: CloseWish = read(&headers, &body)?;
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

fn wanter(caller: &Caller) -> Wanter {
    Wanter { id: caller.object_id.to_lowercase(), name: caller.name.clone() }
}

/// The body as JSON, and as nothing else: a form of another site cannot send that without being asked first.
fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Refusal> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(bad("Send the body as `Content-Type: application/json`.".to_owned()));
    }
    serde_json::from_slice(body).map_err(|why| bad(format!("The body cannot be understood: {why}.")))
}

fn bad(sentence: String) -> Refusal {
    Refusal::BadQuestion(sentence)
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
        assert_eq!(members::<CloseWish>(), BTreeSet::from(["vm".to_owned()]));
    }
}
