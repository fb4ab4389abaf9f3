//! Small readings of JSON that ARM bodies need in several places.

use serde_json::Value;

/// The text of a string field, empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of an array field, none when there is no array.
pub(crate) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What a resource says in a singular field, in its plural one, or in both: Azure uses either.
pub(crate) fn singular_and_plural<'a>(value: &'a Value, singular: &str, plural: &str) -> Vec<&'a str> {
    let mut texts: Vec<&str> = Vec::new();
    texts.extend(value.get(singular).and_then(Value::as_str).filter(|t| !t.is_empty()));
    texts.extend(items(value, plural).iter().filter_map(Value::as_str));
    texts
}
