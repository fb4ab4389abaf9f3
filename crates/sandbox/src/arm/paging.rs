//! Lists: pages with an absolute `nextLink` that holds an opaque `$skiptoken`.

use serde_json::{Value, json};

use crate::state::State;

use super::Request;
use super::envelope::{Outcome, Refusal, Reply};
use super::path::query_encode;

const SKIP: &str = "$skiptoken";

/// One page of `items`, in their order.
pub(super) fn reply(state: &State, request: &Request, items: impl IntoIterator<Item = Value>) -> Outcome {
    let from = skipped(request)?;
    let size = match state.switches.page_size {
        0 => usize::MAX,
        size => size,
    };
    let mut items = items.into_iter().skip(from);
    let page: Vec<Value> = items.by_ref().take(size).collect();
    let mut body = json!({});
    if items.next().is_some() {
        body["nextLink"] = json!(next_link(request, from + page.len()));
    }
    body["value"] = Value::Array(page);
    Ok(Reply::ok(body))
}

fn skipped(request: &Request) -> Result<usize, Refusal> {
    let Some(token) = request.call.param(SKIP) else {
        return Ok(0);
    };
    u64::from_str_radix(token, 16).ok().map(|number| number ^ MASK).and_then(|number| usize::try_from(number).ok()).ok_or_else(|| {
        Refusal::gateway(
            400,
            "InvalidSkipToken",
            format!("The skip token '{token}' is not one that this service gave out. Follow nextLink as it is."),
        )
    })
}

/// Keeps a client from counting pages by itself: the token looks like nothing.
const MASK: u64 = 0x9e37_79b9_7f4a_7c15;

fn next_link(request: &Request, from: usize) -> String {
    let call = request.call;
    let kept = call
        .query
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(SKIP))
        .map(|(name, value)| format!("{}={}&", query_encode(name), query_encode(value)))
        .collect::<String>();
    format!("{}{}?{kept}{SKIP}={:016x}", call.base, call.path, from as u64 ^ MASK)
}
