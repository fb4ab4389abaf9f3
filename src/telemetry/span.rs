//! The two kinds of span: an invocation of ours, and a call to Azure that is made in it.

use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;
use tokio::time::Instant;

use super::{Measure, Telemetry, trace};

/// An invocation under way. Application Insights has the host's own request for it, so that this is a step inside that and
/// not a second request.
#[derive(Debug)]
pub struct InvocationSpan {
    telemetry: Telemetry,
    function: &'static str,
    trace: Option<Context>,
    began: Instant,
}

impl InvocationSpan {
    pub(super) fn begin(telemetry: Telemetry, function: &'static str, id: Option<&str>, parent: Option<SpanContext>) -> Self {
        let parent = parent.map(trace::of);
        let trace = match telemetry.tracer() {
            // What came is passed on as it is.
            None => parent,
            Some(tracer) => {
                let id = id.map(|id| KeyValue::new("faas.invocation_id", id.to_owned()));
                let builder = tracer.span_builder(function).with_kind(SpanKind::Internal).with_attributes(id);
                let above = parent.unwrap_or_default();
                Some(above.with_span(tracer.build_with_context(builder, &above)))
            }
        };
        InvocationSpan { telemetry, function, trace, began: Instant::now() }
    }

    /// What is done for it is done within this.
    pub fn trace(&self) -> Option<Context> {
        self.trace.clone()
    }

    /// It is over: how, in one of a few words, and with this status of the answer.
    pub fn over(self, outcome: &'static str, status: u16) {
        if let (true, Some(trace)) = (self.telemetry.is_on(), &self.trace) {
            let span = trace.span();
            span.set_attribute(KeyValue::new("outcome", outcome));
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
            span.set_status(if status < 500 { Status::Ok } else { Status::error(outcome) });
            span.end();
        }
        self.telemetry.measure(Measure::Invocation { function: self.function, outcome, took: self.began.elapsed() });
        self.telemetry.ring();
    }
}

/// A call under way, all its tries together.
#[derive(Debug)]
pub struct CallSpan {
    telemetry: Telemetry,
    service: &'static str,
    span: Option<Span>,
    began: Instant,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameTo {
    /// The status of the last answer; nothing where there was none.
    pub status: Option<u16>,
    /// What failed, in one of a few words; nothing where it went as it may.
    pub failure: Option<&'static str>,
    /// How often it was sent.
    pub tries: u32,
}

impl CallSpan {
    pub(super) fn begin(telemetry: Telemetry, service: &'static str, name: impl FnOnce() -> (String, Vec<KeyValue>)) -> Self {
        let span = telemetry.tracer().map(|tracer| {
            let (name, attributes) = name();
            let builder = tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
            tracer.build_with_context(builder, &trace::current().unwrap_or_default())
        });
        CallSpan { telemetry, service, span, began: Instant::now() }
    }

    /// What the call carries, so that the service's own log can be laid beside it: this span, or where there is none that of
    /// the invocation.
    pub fn traceparent(&self) -> Option<String> {
        match &self.span {
            Some(span) => Some(trace::text(span.span_context())),
            None => trace::current().map(|trace| trace::text(trace.span().span_context())),
        }
    }

    /// It is over.
    pub fn over(mut self, came_to: CameTo) {
        self.end(came_to);
    }

    fn end(&mut self, came_to: CameTo) {
        let Some(mut span) = self.span.take() else { return };
        span.set_attribute(KeyValue::new("tries", i64::from(came_to.tries)));
        if let Some(status) = came_to.status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        match came_to.failure {
            None => span.set_status(Status::Ok),
            Some(failure) => {
                span.set_attribute(KeyValue::new("error.type", failure));
                span.set_status(Status::error(failure));
            }
        }
        span.end();
        let status = match came_to.status {
            None => "none",
            Some(..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(_) => "5xx",
        };
        self.telemetry.measure(Measure::Call { service: self.service, status, took: self.began.elapsed() });
    }
}

/// Whoever waited for it has given up.
impl Drop for CallSpan {
    fn drop(&mut self) {
        self.end(CameTo { status: None, failure: Some("GivenUp"), tries: 0 });
    }
}
