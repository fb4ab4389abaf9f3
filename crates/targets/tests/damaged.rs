//! Documents that somebody damaged in a way that chance seldom finds: with times that no sum can be made with.

use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use portcullis::functions::Message;
use portcullis::functions::jit_activity::Activity;
use portcullis_domain::audit::AuditRecord;
use portcullis_domain::record::{Claim, VmRecord};
use portcullis_domain::want::{Answer, Want};
use serde::de::DeserializeOwned;
use serde_json::Value;

const BEYOND: &str = "+262142-12-31T23:59:59Z";

fn kept(place: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(place);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The document once for each of its times, with that one out of the calendar.
fn damaged(value: &Value) -> Vec<Value> {
    let is_time = |text: &str| text.parse::<DateTime<Utc>>().is_ok();
    match value {
        Value::String(text) if is_time(text) => vec![Value::from(BEYOND)],
        Value::Array(items) => {
            let with = |n: usize, item: Value| {
                let mut items = items.clone();
                items[n] = item;
                Value::Array(items)
            };
            items.iter().enumerate().flat_map(|(n, item)| damaged(item).into_iter().map(move |item| with(n, item))).collect()
        }
        Value::Object(fields) => {
            let mut all = Vec::new();
            for (name, field) in fields {
                for field in damaged(field) {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), field);
                    all.push(Value::Object(fields));
                }
                if is_time(name) {
                    let mut fields = fields.clone();
                    let field = fields.remove(name).unwrap_or_default();
                    fields.insert(BEYOND.to_owned(), field);
                    all.push(Value::Object(fields));
                }
            }
            all
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn is_refused<T: DeserializeOwned>(place: &str, times: usize) {
    let whole = kept(place);
    assert!(serde_json::from_value::<T>(whole.clone()).is_ok(), "{place}");
    let damaged = damaged(&whole);
    assert!(damaged.len() >= times, "{place} has {} times", damaged.len());
    for document in damaged {
        let why = serde_json::from_value::<T>(document.clone()).err().unwrap_or_else(|| panic!("it is read: {document}"));
        assert!(why.to_string().contains("a year of four digits"), "{why}: {document}");
    }
}

#[test]
fn a_time_beyond_the_calendar_is_refused_wherever_it_stands() {
    is_refused::<VmRecord>("vm_record/everything", 50);
    is_refused::<Want>("store_documents/want", 1);
    is_refused::<Answer>("store_documents/answer", 2);
    is_refused::<Claim>("store_documents/claim", 1);
    is_refused::<AuditRecord>("store_documents/audit", 4);
    is_refused::<Activity>("store_documents/activity", 1);
}

#[test]
fn a_message_with_such_a_time_is_none_of_ours() {
    let message = kept("messages/look");
    for damaged in damaged(&message) {
        assert!(Message::read(&damaged.to_string()).is_err(), "{damaged}");
    }
}

#[test]
fn a_person_who_writes_such_a_time_as_a_reason_damages_nothing() {
    let mut record = kept("vm_record/everything");
    record["claims"][0]["name"] = Value::from(BEYOND);
    record["findings"]["0123456789abcdef"]["evidence"] = Value::from(BEYOND);
    assert!(serde_json::from_value::<VmRecord>(record).is_ok());
}

#[test]
fn a_counter_at_its_end_is_refused() {
    for (field, value) in [("serial", Value::from(u64::MAX)), ("attempts", serde_json::json!({"22": u32::MAX}))] {
        let mut record = kept("vm_record/everything");
        record[field] = value;
        assert!(serde_json::from_value::<VmRecord>(record).is_err(), "{field}");
    }
}
