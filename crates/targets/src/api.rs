//! What callers of the API send: bodies, queries, bookmarks and tokens.

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use chrono::TimeDelta;
use portcullis::console::asks::{Closing, Opening};
use portcullis::console::page::{Place, audit_bookmark, audit_place};
use portcullis::console::question::{MOST_LIMIT, OF_AUDITS, OF_THINGS, OF_VMS, Parameter, Question, bookmark};
use portcullis::console::token::{bearer, key_of};

use crate::checks::{SENTENCE, is_told, text};

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
