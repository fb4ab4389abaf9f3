//! The trace that an invocation came with: what is done for it is told, and called, as a part of it.

use std::future::Future;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

tokio::task_local! {
    static CURRENT: Option<Context>;
}

/// Runs `future` as a part of `trace`: the calls that it makes are below its span.
///
/// Holds for the task it runs in; a task spawned inside must be wrapped again with [`current`].
pub async fn within<F: Future>(trace: Option<Context>, future: F) -> F::Output {
    CURRENT.scope(trace, future).await
}

/// The trace of the invocation under way, if there is one.
pub fn current() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// The trace of somebody else's span.
pub fn of(span: SpanContext) -> Context {
    Context::new().with_remote_span_context(span)
}

/// Says of the invocation under way that it came of these spans of others, without being a part of their traces.
pub fn came_of(senders: &[SpanContext]) {
    let Some(trace) = current() else { return };
    for sender in senders {
        trace.span().add_link(sender.clone(), Vec::new());
    }
}

/// Reads a `traceparent` (W3C Trace Context, version 00); anything else is dropped, so that nothing a caller wrote is
/// passed on.
pub fn parse(text: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = text.split('-').collect();
    let &["00", trace, span, flags] = parts.as_slice() else { return None };
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if (trace.len(), span.len(), flags.len()) != (32, 16, 2) || ![trace, span, flags].into_iter().all(is_hex) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    // The standard forbids ids that are all zeros.
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

/// A span as a `traceparent`.
pub fn text(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_the_form_of_the_standard_is_passed_on() {
        for text in
            [GOOD, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff"]
        {
            assert_eq!(parse(text).as_ref().map(super::text).as_deref(), Some(text));
        }
        let zeros = format!("00-{:032}-00f067aa0ba902b7-01", 0);
        let forged = format!("{GOOD}\r\nx: y");
        for text in ["", "00-4bf9-00f0-01", &forged, &GOOD.to_uppercase(), &GOOD.replacen("00", "01", 1), &zeros] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_trace_holds_inside_and_not_outside() {
        let passed_on = || current().map(|trace| text(trace.span().span_context()));
        assert_eq!(passed_on(), None);
        let inside = within(parse(GOOD).map(of), async { passed_on() }).await;
        assert_eq!(inside.as_deref(), Some(GOOD));
        assert_eq!(passed_on(), None);
    }
}
