//! What several targets check.

use std::fmt::{Debug, Display};

use portcullis_rules::plain::plain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Far more than a sentence with a shortened text of somebody else's in it.
pub(crate) const SENTENCE: usize = 1000;

/// The bytes as a text, if they are one.
pub(crate) fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The bytes as JSON, if they are.
pub(crate) fn json(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data).ok()
}

/// What is told to a person says something, is no longer than this, and neither moves the cursor nor hides anything.
pub(crate) fn is_told(told: &impl Display, most: usize) {
    let told = told.to_string();
    assert!(!told.trim().is_empty(), "nothing is told");
    assert!(told.chars().count() <= most, "{} characters are told: {told:.200}", told.chars().count());
    assert_eq!(plain(&told), told, "what is told steers a terminal");
}

/// A document is written, read and written as the same again.
pub(crate) fn survives_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(document: &T) {
    let written = serde_json::to_string(document).expect("a document can be written");
    let read: T = serde_json::from_str(&written).unwrap_or_else(|why| panic!("{why}: {written}"));
    assert_eq!(&read, document);
    assert_eq!(serde_json::to_string(&read).expect("a document can be written"), written);
}
