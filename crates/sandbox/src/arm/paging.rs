//! Lists: pages with an absolute `nextLink` that holds an opaque `$skiptoken`.

use serde_json::{Value, json};

use crate::state::State;

use super::Request;
use super::envelope::{Outcome, Refusal, Reply};
use super::path::query_encode;

const SKIP: &str = "$skiptoken";

/// One page of `items`, in their order.
pub(super) fn reply(state: &State, request: &Request, items: impl IntoIterator<Item = Value>) -> Outcome {
    reply_some(state, request, items, None, |_| true)
}

/// One page of at most `top` of `items`, and of that what is wanted: perhaps nothing, although more pages follow.
pub(super) fn reply_some(
    state: &State,
    request: &Request,
    items: impl IntoIterator<Item = Value>,
    top: Option<usize>,
    is_wanted: impl Fn(&Value) -> bool,
) -> Outcome {
    let from = skipped(request)?;
    let size = match state.switches.page_size {
        0 => usize::MAX,
        size => size,
    };
    let size = size.min(top.unwrap_or(usize::MAX));
    let mut items = items.into_iter().skip(from);
    let page: Vec<Value> = items.by_ref().take(size).collect();
    let mut body = json!({});
    if items.next().is_some() {
        body["nextLink"] = json!(next_link(request, from + page.len()));
    }
    body["value"] = page.into_iter().filter(is_wanted).collect();
    Ok(Reply::ok(body))
}

fn skipped(request: &Request) -> Result<usize, Refusal> {
    let Some(token) = request.call.param(SKIP) else {
        return Ok(0);
    };
    let given_out = |token: &str| {
        let from = u32::from_str_radix(token.get(..8)?, 16).ok()? ^ MASK;
        let from = usize::try_from(from).ok()?;
        (token_of(&request.call.path, from) == token).then_some(from)
    };
    given_out(token).ok_or_else(|| {
        Refusal::gateway(
            400,
            "InvalidSkipToken",
            format!("The skip token '{token}' is not one that this service gave out. Follow nextLink as it is."),
        )
    })
}

/// Keeps a client from counting pages by itself: the token looks like nothing.
const MASK: u32 = 0x9e37_79b9;

/// Where the next page of the list at `path` begins, with a seal by which a token that was made up, or is of another
/// list, is told from one that was given out.
fn token_of(path: &str, from: usize) -> String {
    let place = u32::try_from(from).unwrap_or(u32::MAX) ^ MASK;
    // FNV-1a: it has to tell tokens apart, not to withstand anybody.
    let seal = path
        .to_ascii_lowercase()
        .bytes()
        .chain(place.to_be_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{place:08x}{seal:016x}")
}

fn next_link(request: &Request, from: usize) -> String {
    let call = request.call;
    let kept = call
        .query
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(SKIP))
        .map(|(name, value)| format!("{}={}&", query_encode(name), query_encode(value)))
        .collect::<String>();
    format!("{}{}?{kept}{SKIP}={}", call.base, call.path, token_of(&call.path, from))
}
