//! What came to no end, for who operates the app, and having it worked on again.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Refusal;
use super::asks::{read, wanter};
use super::token::Caller;
use super::views::Second;
use super::{Captured, Console, plain_id};
use crate::functions::dead_letters::{Left, Replayed};

/// What came to no end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftView {
    id: String,
    place: &'static str,
    at: Option<Second>,
    from: Option<String>,
    reason: String,
    deliveries: Option<u32>,
    message: Option<Value>,
    replayable: bool,
    why_not: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl LeftView {
    fn of(left: Left, with_body: bool) -> Self {
        let (message, why_not) = match left.again {
            Ok(message) => (serde_json::to_value(&message).ok(), None),
            Err(why) => (None, Some(why)),
        };
        LeftView {
            id: left.id,
            place: left.queue.map_or("rejected", |queue| queue.name()),
            at: left.at.map(Second),
            from: left.from,
            reason: left.reason,
            deliveries: left.deliveries,
            replayable: message.is_some(),
            message,
            why_not,
            body: with_body.then_some(left.body),
        }
    }
}

/// All of it, as far as one answer takes.
#[derive(Debug, Serialize)]
pub(super) struct AllView {
    items: Vec<LeftView>,
    more: bool,
}

/// `GET /deadletters`.
pub(super) async fn list(State(console): State<Console>) -> Result<Json<AllView>, Refusal> {
    let all = console.app.left().await?;
    Ok(Json(AllView { items: all.items.into_iter().map(|left| LeftView::of(left, false)).collect(), more: all.more }))
}

/// `GET /deadletters/{id}`: one of them, whole.
pub(super) async fn show(State(console): State<Console>, id: Captured<String>) -> Result<Json<LeftView>, Refusal> {
    match console.app.left_one(&plain_id(id)?).await? {
        Some(left) => Ok(Json(LeftView::of(left, true))),
        None => Err(Refusal::NoDeadLetter),
    }
}

/// A wish to have something worked on again. There is nothing to say but that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {}

/// `POST /deadletters/{id}/replay`.
pub(super) async fn replay(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    id: Captured<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let id = plain_id(id)?;
    let Replay {} = read(&headers, &body).map_err(Refusal::BadQuestion)?;
    match console.app.replay(&id, &wanter(&caller)).await? {
        Replayed::Sent(queue) => Ok((StatusCode::ACCEPTED, Json(json!({"id": id, "queue": queue.name()}))).into_response()),
        Replayed::NotThere => Err(Refusal::NoDeadLetter),
        Replayed::Unusable(why) => Err(Refusal::Unusable(why)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::console::tests::documented;
    use crate::functions::{Message, Queue};

    fn left(again: Result<Message, String>) -> Left {
        Left {
            id: "approval-7".to_owned(),
            queue: Some(Queue::Approval),
            at: Some("2026-01-15T09:00:00.7Z".parse().unwrap()),
            from: None,
            reason: "MaxDeliveryCountExceeded".to_owned(),
            deliveries: Some(10),
            body: "{}".to_owned(),
            again,
        }
    }

    #[test]
    fn the_document_explains_every_field() {
        let shown = serde_json::to_value(LeftView::of(left(Err("no".to_owned())), true)).unwrap();
        let names: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(documented("GET /api/deadletters/{id}").into_iter().collect::<BTreeSet<_>>(), names);
        let line = serde_json::to_value(LeftView::of(left(Err("no".to_owned())), false)).unwrap();
        let names: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(documented("GET /api/deadletters").into_iter().collect::<BTreeSet<_>>(), names);
    }

    #[test]
    fn what_can_be_worked_on_again_is_shown_as_the_message_that_it_is() {
        let message = Message::Row { audit: "a".to_owned(), with: Vec::new(), tries: 0 };
        let shown = serde_json::to_value(LeftView::of(left(Ok(message)), false)).unwrap();
        let expected = json!({
            "id": "approval-7", "place": "approval", "at": "2026-01-15T09:00:00Z", "from": null, "reason": "MaxDeliveryCountExceeded",
            "deliveries": 10, "message": {"kind": "row", "audit": "a", "tries": 0}, "replayable": true, "whyNot": null,
        });
        assert_eq!(shown, expected);
    }
}
