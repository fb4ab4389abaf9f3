//! What the examination of the installation found, for who operates or audits it.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use uuid::Uuid;

use super::Console;
use super::answer::Refusal;
use super::question::{OF_DOCTOR, Question};
use super::token::Caller;
use crate::doctor::Examination;

/// `GET /doctor`: asks Azure anew each time.
pub(super) async fn get(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<Examination>, Refusal> {
    let question = Question::read(query.as_deref(), &OF_DOCTOR).map_err(Refusal::BadQuestion)?;
    let only = question.subscription.and_then(|id| Uuid::parse_str(&id).ok());
    Ok(Json(console.app.examine(&caller.object_id, only, console.loopback).await))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use crate::console::tests::documented;
    use crate::doctor::Examination;

    #[test]
    fn the_document_explains_every_field() {
        let shown = serde_json::to_value(Examination::sample()).unwrap();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
        let mut all = names(&shown);
        all.extend(names(&shown["checks"][0]));
        let explained: BTreeSet<String> = documented("GET /api/doctor").into_iter().map(str::to_owned).collect();
        assert_eq!(explained, all);
        assert_eq!(shown["checks"][0]["state"], json!("notKnown"));
    }
}
