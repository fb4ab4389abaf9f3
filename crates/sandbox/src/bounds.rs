//! What comes from outside, in a world's file or through the control API, and what this world could not live with: a
//! number that leads out of the calendar, a body into which nothing can be written. Each is refused with one sentence
//! that names the member.

use std::fmt::Display;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, Utc};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// A year, the longest that anything in a world takes.
const YEAR: i64 = 31_536_000;
/// The largest whole number that every JSON reader keeps exactly.
const LARGEST: i64 = 1 << 53;
/// The years of a world's time: those that RFC 3339 writes with four digits, from the one that HTTP clients know.
const YEARS: RangeInclusive<i32> = 1970..=9999;

macro_rules! bounded {
    ($($name:ident: $kind:ty = $member:literal $range:expr;)+) => {$(
        pub(crate) fn $name<'de, D: Deserializer<'de>>(from: D) -> Result<$kind, D::Error> {
            within(&Value::deserialize(from)?, $member, $range).map_err(Error::custom)
        }
    )+};
}

bounded! {
    smallest_end_seconds: i64 = "smallestEndSeconds" 0..=YEAR;
    initiating_seconds: i64 = "initiatingSeconds" 0..=120;
    expiry_delay_seconds: i64 = "expiryDelaySeconds" 0..=YEAR;
    operation_seconds: i64 = "operationSeconds" 0..=YEAR;
    activity_log_seconds: i64 = "activityLogSeconds" 0..=YEAR;
    page_size: usize = "pageSize" 0..=1_000_000;
    lock_seconds: i64 = "lockSeconds" 1..=YEAR;
    next_sequence: u64 = "nextSequence" 1..=LARGEST;
    next_id: u64 = "nextId" 1..=LARGEST;
    status: u16 = "status" 200..=599;
    skip: u32 = "skip" 0..=i64::from(u32::MAX);
    milliseconds: u64 = "milliseconds" 0..=3_600_000;
}

/// `times` of a fault: none at all is no fault.
pub(crate) fn times<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    optional(from, "times", 1..=i64::from(u32::MAX))
}

/// `retryAfter` of a fault.
pub(crate) fn retry_after<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    optional(from, "retryAfter", 0..=YEAR)
}

/// `now` of a world.
pub(crate) fn now<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    world_time("now", DateTime::deserialize(from)?).map_err(Error::custom)
}

/// An instant that a world's time may be.
pub(crate) fn world_time(member: &str, at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    match YEARS.contains(&at.year()) {
        true => Ok(at),
        false => Err(format!("{member} must lie in the years {} to {}, in which the world's time does", YEARS.start(), YEARS.end())),
    }
}

/// The body of a security rule.
pub(crate) fn rule<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    let rule = Value::deserialize(from)?;
    check_rule(&rule).map_err(Error::custom)?;
    Ok(rule)
}

/// What is wrong with a resource's body, if anything is.
pub(crate) fn check_resource(body: &Value) -> Result<(), String> {
    check_object("a resource", body)?;
    check_object("properties", &body["properties"])?;
    for list in ["securityRules", "defaultSecurityRules"] {
        items(&body["properties"][list]).try_for_each(check_rule)?;
    }
    for record in items(&body["properties"]["requests"]) {
        check_object("a record of requests", record)?;
        items(&record["virtualMachines"]).try_for_each(|vm| check_object("a VM of a record", vm))?;
    }
    Ok(())
}

fn check_rule(rule: &Value) -> Result<(), String> {
    check_object("a security rule", rule)?;
    check_object("properties of a security rule", &rule["properties"])?;
    match &rule["properties"]["priority"] {
        Value::Null => Ok(()),
        given => within::<u16>(given, "priority of a security rule", 0..=i64::from(u16::MAX)).map(|_| ()),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn check_object(member: &str, given: &Value) -> Result<(), String> {
    match given.is_object() || given.is_null() {
        true => Ok(()),
        false => Err(refusal(member, "an object", given)),
    }
}

fn optional<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D, member: &str, range: RangeInclusive<i64>) -> Result<Option<T>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        given => within(&given, member, range).map(Some).map_err(Error::custom),
    }
}

fn within<T: TryFrom<i64>>(given: &Value, member: &str, range: RangeInclusive<i64>) -> Result<T, String> {
    let fits = given.as_i64().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| refusal(member, &format!("a whole number from {} to {}", range.start(), range.end()), given))
}

/// The sentence that refuses what is not what a member must be.
pub(crate) fn refusal(member: &str, must_be: &str, given: impl Display) -> String {
    format!("{member} must be {must_be}, not {given}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::state::State;

    /// What is said of a world; nothing if it can be used.
    fn said(world: serde_json::Value) -> Option<String> {
        serde_json::from_value::<State>(world).err().map(|why| why.to_string())
    }

    #[test]
    fn a_world_with_a_number_that_it_cannot_live_with_is_refused_by_name() {
        let queue = |member: &str, value: serde_json::Value| json!({ "queues": { "approval": { member: value } } });
        let rule =
            |rule: serde_json::Value| json!({ "resources": [{ "id": "/a" }, { "id": "/b", "properties": { "securityRules": [rule] } }] });
        let due = json!({ "at": "2026-01-15T09:00:00Z", "order": 1, "what": { "kind": "ruleReturns", "nsg": "/n", "rule": "r" } });
        for (world, expected) in [
            (json!({ "now": "+200000-01-01T00:00:00Z" }), "now must lie in the years 1970 to 9999"),
            (json!({ "now": "1969-12-31T23:59:59Z" }), "now must lie in"),
            (json!({ "nextId": u64::MAX }), "nextId must be a whole number from 1 to 9007199254740992"),
            (json!({ "switches": { "initiatingSeconds": 121 } }), "initiatingSeconds must be a whole number from 0 to 120, not 121"),
            (json!({ "switches": { "operationSeconds": i64::MAX } }), "operationSeconds must be"),
            (json!({ "faults": [{ "times": 0, "effect": { "kind": "stale" } }] }), "times must be"),
            (queue("lockSeconds", json!(-1)), "lockSeconds must be"),
            (queue("nextSequence", json!(u64::MAX)), "nextSequence must be"),
            (json!({ "resources": [{ "id": "/a", "properties": 7 }] }), "resource 1 of the list: properties must be an object, not 7"),
            (json!({ "resources": ["x"] }), "resource 1 of the list: a resource must be an object"),
            (rule(json!([])), "resource 2 of the list: a security rule must be an object"),
            (rule(json!({ "properties": "x" })), "properties of a security rule must be an object"),
            (rule(json!({ "properties": { "priority": i64::MAX } })), "priority of a security rule must be a whole number"),
            (json!({ "resources": [{ "id": "/p", "properties": { "requests": [1] } }] }), "a record of requests must be an object"),
            (json!({ "due": [due] }), "a security rule must be an object"),
        ] {
            let why = said(world.clone()).unwrap_or_default();
            assert!(why.contains(expected), "{world}: {why}");
        }
    }

    #[test]
    fn the_last_numbers_that_are_allowed_are_taken() {
        let effects = [
            json!({ "kind": "status", "status": 599, "retryAfter": 31_536_000 }),
            json!({ "kind": "status", "status": 200, "retryAfter": null }),
            json!({ "kind": "delay", "milliseconds": 3_600_000 }),
        ];
        let faults: Vec<_> = effects.iter().map(|effect| json!({ "face": "ARM", "times": 1, "skip": 0, "effect": effect })).collect();
        let world = json!({
            "now": "9999-12-31T23:59:59Z",
            "nextId": 1,
            "switches": { "initiatingSeconds": 120, "expiryDelaySeconds": 31_536_000, "pageSize": 0 },
            "queues": { "approval": { "lockSeconds": 1, "nextSequence": 1_u64 << 53 } },
            "faults": faults,
            "resources": [{ "id": "/b", "properties": { "securityRules": [{ "properties": { "priority": 65_500 } }], "requests": null } }],
        });
        assert_eq!(said(world), None);
    }
}
