//! Small readings of JSON that ARM bodies need in several places.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// The text of a string field, empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of an array field, none when there is no array.
pub(crate) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The fields of an object as they stand in its text, none where it is no object. Of a doubled one the last counts, as in a tree.
pub fn fields(text: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The elements of an array field as they stand in the text; nothing when there is no array.
pub fn elements<'a>(fields: &BTreeMap<String, &'a RawValue>, field: &str) -> Option<Vec<&'a RawValue>> {
    fields.get(field).and_then(|array| serde_json::from_str(array.get()).ok())
}

/// The text of a string field, empty when there is none.
pub fn string(fields: &BTreeMap<String, &RawValue>, field: &str) -> String {
    fields.get(field).and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or_default()
}

/// A part of a body as a tree; null where it is nested deeper than any body of Azure.
pub fn tree(part: &RawValue) -> Value {
    serde_json::from_str(part.get()).unwrap_or_default()
}

/// What a resource says in a singular field, in its plural one, or in both: Azure uses either.
pub(crate) fn singular_and_plural<'a>(value: &'a Value, singular: &str, plural: &str) -> Vec<&'a str> {
    let mut texts: Vec<&str> = Vec::new();
    texts.extend(value.get(singular).and_then(Value::as_str).filter(|t| !t.is_empty()));
    texts.extend(items(value, plural).iter().filter_map(Value::as_str));
    texts
}
