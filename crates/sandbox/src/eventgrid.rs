//! Event Grid: publishing, delivery with its retries, dead letters, and the webhook that takes what it would POST.

use serde_json::Value;

use crate::state::State;

/// Publishes the `data` of a resource event, to be delivered as the switches say.
///
/// `action` is `Action`, `Write` or `Delete`; `subject` is the resource id.
pub fn publish(_state: &mut State, _action: &str, _subject: &str, _data: Value) {
    todo!()
}
