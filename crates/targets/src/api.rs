//! What callers of the API send: bodies, queries, bookmarks and tokens.

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use portcullis::azure::identity::object_id_of;
use portcullis::console::asks::{Closing, Opening};
use portcullis::console::page::{Place, audit_bookmark, audit_place};
use portcullis::console::question::{MOST_LIMIT, OF_AUDITS, OF_THINGS, OF_VMS, Parameter, Question, bookmark};
use portcullis::console::token::{Claims, Role, bearer, key_of};
use serde_json::Value;
use uuid::Uuid;

use crate::checks::{SENTENCE, is_told, json, text};

/// Bodies of requests: one that is read asks for something that some rule could permit.
pub(crate) fn asks(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    match Opening::read(&headers, &body) {
        Ok(asked) => {
            assert!(asked.port != 0 && asked.reason.chars().count() <= 500);
            assert!((TimeDelta::minutes(5)..=TimeDelta::hours(24)).contains(&asked.length), "{}", asked.length);
            let sources = &asked.sources;
            assert!(!sources.is_empty() && sources.is_understood() && !sources.amounts_to_internet(), "{sources}");
        }
        Err(why) => is_told(&why, SENTENCE),
    }
    if let Err(why) = Closing::read(&headers, &body) {
        is_told(&why, SENTENCE);
    }
    assert!(Opening::read(&HeaderMap::new(), &body).is_err(), "another site's form could send it");
}

/// Queries: each parameter at most once, none that is not known, and a bookmark leads to where it was made.
pub(crate) fn questions(data: &[u8]) {
    let Some(query) = text(data) else { return };
    for allowed in [&OF_VMS[..], &OF_THINGS, &OF_AUDITS, &[]] {
        match Question::read(Some(query), allowed) {
            Ok(question) => a_question(&question, allowed),
            Err(why) => is_told(&why, SENTENCE),
        }
    }
    a_bookmark(query);
}

fn a_question(question: &Question, allowed: &[Parameter]) {
    assert!((1..=MOST_LIMIT).contains(&question.limit));
    for (is_given, parameter) in [
        (question.subscription.is_some(), Parameter::Subscription),
        (question.vm.is_some(), Parameter::Vm),
        (question.kind.is_some(), Parameter::Kind),
        (question.code.is_some(), Parameter::Code),
        (question.from.is_some(), Parameter::From),
        (question.to.is_some(), Parameter::To),
        (question.after.is_some(), Parameter::After),
    ] {
        assert!(!is_given || allowed.contains(&parameter), "{parameter:?} is not of this list");
    }
    assert!(question.from.is_none_or(|from| question.to.is_none_or(|to| from < to)));
    if let Some(after) = &question.after {
        let again = Question::read(Some(&format!("after={}", bookmark(after))), &OF_VMS);
        assert_eq!(again.ok().and_then(|question| question.after).as_ref(), Some(after));
        a_bookmark(after);
    }
}

/// A place that a bookmark names has that bookmark again.
fn a_bookmark(place: &str) {
    let read_again =
        |bookmark: String| Question::read(Some(&format!("after={bookmark}")), &OF_VMS).ok().and_then(|question| question.after);
    if let Some(read) = Place::read(place) {
        let again = read_again(read.bookmark()).and_then(|text| Place::read(&text));
        assert_eq!(again, Some(read));
    }
    if let Some(read) = audit_place(place) {
        let again = read_again(audit_bookmark(&read)).and_then(|text| audit_place(&text));
        assert_eq!(again.map(|again| (again.at.timestamp(), again.id)), Some((read.at.timestamp(), read.id)));
    }
}

/// Authorization headers, a line each: what is no token of ours is refused in a sentence that holds no part of it.
pub(crate) fn tokens(data: &[u8]) {
    let values: Vec<HeaderValue> = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let mut headers = HeaderMap::new();
    for value in &values {
        headers.append(AUTHORIZATION, value.clone());
    }
    match bearer(&headers) {
        Ok(token) => {
            assert!(values.len() == 1 && !token.is_empty() && token.len() <= 16 * 1024);
            match key_of(token) {
                Ok(_) => assert_eq!(token.split('.').count(), 3, "{token}"),
                Err(why) => {
                    is_told(&why, SENTENCE);
                    assert!(token.len() < 12 || !why.to_string().contains(token));
                }
            }
        }
        Err(why) => is_told(&why, SENTENCE),
    }
}

/// Claims of a token, whose signature was checked: nobody of another tenant is let in, nobody by an ID token, and nobody is a person
/// without a scope. And the app's own token, which nobody checks: whose it is, is what it says and nothing else.
pub(crate) fn claims(data: &[u8]) {
    let tenant: Uuid = "5a4db0c5-0000-4000-8000-000000000001".parse().expect("a GUID");
    // What is in a text that nobody reads need not be UTF-8 for a token's claims.
    let Some(body) = json(data) else {
        let claims = serde_json::from_slice::<Claims>(data);
        return drop(claims.map(|claims| claims.caller(tenant)));
    };
    let says = |name: &str| body.get(name).and_then(Value::as_str);
    if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
        match claims.caller(tenant) {
            Ok(caller) => {
                assert_eq!(says("tid").and_then(|tid| Uuid::parse_str(tid).ok()), Some(tenant));
                assert!([says("azp"), says("appid")].contains(&Some(caller.client.as_str())));
                assert_eq!(caller.object_id, says("oid").unwrap_or_default());
                assert!(!caller.is_person || says("scp").is_some_and(|scopes| !scopes.trim().is_empty()));
                assert!(
                    [Role::Auditor, Role::Operator]
                        .into_iter()
                        .all(|role| !caller.has(role) || body["roles"].to_string().contains(role.value()))
                );
            }
            Err(why) => is_told(&why, SENTENCE),
        }
    }
    let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(data));
    assert_eq!(object_id_of(&token).as_deref(), says("oid").filter(|id| !id.is_empty()));
    text(data).and_then(object_id_of);
}
