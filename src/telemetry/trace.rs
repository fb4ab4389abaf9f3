//! The trace that an invocation came with, passed on in every call made for it, so that Azure's own logs (and the
//! sandbox's) say whose call it was.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static CURRENT: Option<Arc<str>>;
}

/// Runs `future` with `traceparent` (W3C Trace Context) sent along in every call that it makes.
///
/// Holds for the task it runs in; a task spawned inside must be wrapped again with [`current`].
pub async fn within<F: Future>(traceparent: Option<Arc<str>>, future: F) -> F::Output {
    CURRENT.scope(traceparent, future).await
}

/// The trace of the invocation under way, if there is one.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Takes a `traceparent` header if it has the form of W3C Trace Context; anything else is dropped, so that nothing a
/// caller wrote is passed on.
pub fn parse(text: &str) -> Option<Arc<str>> {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    (lengths == [2, 32, 16, 2] && parts.iter().all(|part| hex(part))).then(|| Arc::from(text))
}

/// Adds the header to each try.
#[derive(Debug)]
pub(super) struct PassOn;

#[async_trait]
impl Policy for PassOn {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        if let Some(traceparent) = current() {
            request.insert_header(TRACEPARENT, traceparent.to_string());
        }
        next[0].send(ctx, request, &next[1..]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_the_form_of_the_standard_is_passed_on() {
        assert_eq!(parse(GOOD).as_deref(), Some(GOOD));
        for text in ["", "00-4bf9-00f0-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y", &GOOD.to_uppercase()] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_trace_holds_inside_and_not_outside() {
        assert_eq!(current(), None);
        let inside = within(parse(GOOD), async { current() }).await;
        assert_eq!(inside.as_deref(), Some(GOOD));
        assert_eq!(current(), None);
    }
}
