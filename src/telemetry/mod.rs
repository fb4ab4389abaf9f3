//! Telemetry: spans of what is done and metrics of what came of it, for Application Insights.
//!
//! Nothing waits for it. A span that is over is put into a queue of fixed size, and one task in the background sends what is
//! there; what does not fit, or is not taken, is counted and gone. The OpenTelemetry SDK's own processors and readers each
//! have a thread, so the queue, the timing and the way to the endpoint are ours, and of the exporter the form of the items
//! is used.

mod export;
mod metrics;
mod queue;
mod span;
pub mod trace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use self::export::Exporting;
pub use self::export::{NotSent, Way};
pub use self::metrics::Measure;
use self::metrics::Metrics;
use self::queue::Queue;
pub use self::span::{CallSpan, CameTo, InvocationSpan};
use crate::settings::{Insights, Sampling};

/// Spans go out so often at most, unless there are many.
const SPANS_EVERY: Duration = Duration::from_secs(5);

/// Metrics go out so often at most: each series is an item that costs.
const METRICS_EVERY: Duration = Duration::from_secs(60);

/// Whoever asks the program to stop does not want to wait for telemetry.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where spans and measures go; nowhere where the settings name no Application Insights. Cheap to clone.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Shared>>);

struct Shared {
    tracer: SdkTracer,
    metrics: Metrics,
    queue: Queue,
    /// Rung when an invocation is over.
    over: Notify,
    exporting: Mutex<Exporting>,
    /// Ends every span with it.
    _provider: SdkTracerProvider,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Telemetry(on)" } else { "Telemetry(off)" })
    }
}

impl Telemetry {
    /// Telemetry of the app of this name, over this way. Nothing is sent before [`Telemetry::run`].
    pub fn new(settings: &Insights, app: &str, way: Arc<dyn Way>) -> Self {
        let version = KeyValue::new("service.version", crate::VERSION);
        let resource = Resource::builder_empty().with_attributes([KeyValue::new("service.name", app.to_owned()), version]).build();
        let queue = Queue::default();
        let Ok(exporting) = Exporting::new(way, &settings.connection(), &resource, queue.clone()) else {
            // The settings take no connection string that the exporter would not.
            return Telemetry(None);
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(settings.sampling))
            .with_resource(resource.clone())
            .with_span_processor(queue.clone())
            .build();
        Telemetry(Some(Arc::new(Shared {
            tracer: provider.tracer("portcullis"),
            metrics: Metrics::new(resource),
            queue,
            over: Notify::new(),
            exporting: Mutex::new(exporting),
            _provider: provider,
        })))
    }

    /// Begins the span of an invocation of this function, with the host's id of it, below the span that the host named.
    pub fn invocation(&self, function: &'static str, id: Option<&str>, parent: Option<SpanContext>) -> InvocationSpan {
        InvocationSpan::begin(self.clone(), function, id, parent)
    }

    /// Begins the span of a call, below the invocation under way.
    pub fn call(&self, service: &'static str, name: impl FnOnce() -> (String, Vec<KeyValue>)) -> CallSpan {
        CallSpan::begin(self.clone(), service, name)
    }

    /// Counts or measures something.
    pub fn measure(&self, measure: Measure<'_>) {
        if let Some(shared) = &self.0 {
            shared.metrics.measure(measure);
        }
    }

    /// Whether anything is told at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn tracer(&self) -> Option<&SdkTracer> {
        self.0.as_ref().map(|shared| &shared.tracer)
    }

    fn ring(&self) {
        if let Some(shared) = &self.0 {
            shared.over.notify_one();
        }
    }

    /// Sends what there is, some seconds after an invocation is over or when there is much, for as long as the program runs.
    pub async fn run(self) {
        let Some(shared) = self.0 else { return };
        let (mut next, mut next_metrics) = (Instant::now(), Instant::now() + METRICS_EVERY);
        loop {
            shared.over.notified().await;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = shared.queue.is_full() => {}
            }
            let with_metrics = Instant::now() >= next_metrics;
            let mut exporting = shared.exporting.lock().await;
            exporting.send(&shared.metrics, with_metrics).await;
            next = exporting.quiet_until().max(Instant::now() + SPANS_EVERY);
            drop(exporting);
            if shared.queue.len() > 0 {
                shared.over.notify_one();
            }
            if with_metrics {
                next_metrics = Instant::now() + METRICS_EVERY;
            }
        }
    }

    /// Sends what there is, for the last time and within a second.
    pub async fn stop(&self) {
        let Some(shared) = &self.0 else { return };
        let last = async { shared.exporting.lock().await.send(&shared.metrics, true).await };
        if tokio::time::timeout(FAREWELL, last).await.is_err() {
            tracing::warn!("telemetry could not be sent within {} s, and what is left of it is lost", FAREWELL.as_secs());
        }
    }
}

fn sampler(sampling: Sampling) -> Sampler {
    match sampling {
        Sampling::AsTheHost => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
        Sampling::All => Sampler::AlwaysOn,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use flate2::read::GzDecoder;
    use opentelemetry::trace::TraceContextExt;
    use serde_json::Value;

    use super::*;

    /// A way that answers as told, and keeps what was sent.
    #[derive(Debug, Default)]
    struct Kept {
        sent: StdMutex<Vec<Vec<Value>>>,
        answer: Option<NotSent>,
        hangs: bool,
    }

    #[async_trait]
    impl Way for Kept {
        async fn send(&self, items: Bytes) -> Result<u64, NotSent> {
            self.sent.lock().unwrap().push(serde_json::from_reader(GzDecoder::new(&items[..])).unwrap());
            if self.hangs {
                std::future::pending::<()>().await;
            }
            self.answer.clone().map_or(Ok(0), Err)
        }
    }

    impl Kept {
        fn calls(&self) -> usize {
            self.sent.lock().unwrap().len()
        }

        fn items(&self, kind: &str) -> Vec<Value> {
            let sent = self.sent.lock().unwrap();
            sent.iter().flatten().filter(|item| item["data"]["baseType"] == kind).map(|item| item["data"]["baseData"].clone()).collect()
        }
    }

    fn telling(way: Kept, sampling: Sampling) -> (Telemetry, Arc<Kept>) {
        let endpoint = "https://127.0.0.1:4008/".parse().unwrap();
        let settings = Insights { endpoint, key: "k".to_owned(), identity: None, sampling };
        let way = Arc::new(way);
        (Telemetry::new(&settings, "app", way.clone()), way)
    }

    fn host(flags: &str) -> Option<SpanContext> {
        trace::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"))
    }

    fn invoke(telemetry: &Telemetry, parent: Option<SpanContext>) {
        telemetry.invocation("approval", Some("i"), parent).over("done", 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_says_which_traces_are_told_of_unless_all_are() {
        for (sampling, flags, spans) in [(Sampling::AsTheHost, "01", 1), (Sampling::AsTheHost, "00", 0), (Sampling::All, "00", 1)] {
            let (telemetry, way) = telling(Kept::default(), sampling);
            invoke(&telemetry, host(flags));
            telemetry.stop().await;
            assert_eq!(way.items("RemoteDependencyData").len(), spans, "{sampling:?} {flags}");
            let measured = way.items("MetricData");
            assert_eq!((measured.len(), &measured[0]["metrics"][0]["count"]), (1, &Value::from(1)), "what is measured is all of it");
        }
    }

    #[tokio::test]
    async fn a_call_is_below_the_invocation_that_made_it_and_carries_its_own_span() {
        let (telemetry, way) = telling(Kept::default(), Sampling::AsTheHost);
        let span = telemetry.invocation("approval", None, host("01"));
        let inside = trace::within(span.trace(), async {
            let call = telemetry.call("Blob storage", || ("GET Blob storage".to_owned(), Vec::new()));
            let carried = call.traceparent().unwrap();
            call.over(CameTo { status: Some(404), failure: None, tries: 2 });
            carried
        });
        let carried = trace::parse(&inside.await).unwrap();
        let invocation = span.trace().unwrap().span().span_context().clone();
        span.over("done", 200);
        telemetry.stop().await;
        let sent = way.sent.lock().unwrap();
        let of = |item: &Value| (item["tags"]["ai.operation.parentId"].clone(), item["data"]["baseData"]["id"].clone());
        assert_eq!(of(&sent[0][0]), (invocation.span_id().to_string().into(), carried.span_id().to_string().into()));
        assert_eq!(of(&sent[0][1]), ("00f067aa0ba902b7".into(), invocation.span_id().to_string().into()));
        assert_eq!(carried.trace_id(), host("01").unwrap().trace_id());
        let properties = &sent[0][0]["data"]["baseData"];
        assert_eq!(
            (&properties["success"], &properties["resultCode"], &properties["properties"]["tries"]),
            (&true.into(), &"404".into(), &"2".into())
        );
    }

    #[tokio::test]
    async fn without_telemetry_what_came_is_passed_on() {
        let telemetry = Telemetry::default();
        let span = telemetry.invocation("approval", None, host("01"));
        let carried = trace::within(span.trace(), async { telemetry.call("x", || panic!("nothing is told")).traceparent() }).await;
        assert_eq!(carried, host("01").as_ref().map(trace::text));
        telemetry.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_waits_for_any_longer_is_told_as_given_up() {
        let (telemetry, way) = telling(Kept::default(), Sampling::All);
        drop(telemetry.call("x", || ("x".to_owned(), Vec::new())));
        telemetry.stop().await;
        let spans = way.items("RemoteDependencyData");
        assert_eq!((&spans[0]["success"], &spans[0]["properties"]["error.type"]), (&false.into(), &"GivenUp".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_goes_out_in_batches_and_metrics_every_minute() {
        let (telemetry, way) = telling(Kept::default(), Sampling::All);
        tokio::spawn(telemetry.clone().run());
        let after = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (way.calls(), way.items("RemoteDependencyData").len(), way.items("MetricData").len())
        };
        invoke(&telemetry, None);
        assert_eq!(after(1).await, (1, 1, 0), "the first goes out at once");
        invoke(&telemetry, None);
        invoke(&telemetry, None);
        assert_eq!(after(2).await, (1, 1, 0), "the next wait for each other");
        assert_eq!(after(3).await, (2, 3, 0));
        for _ in 0..queue::BATCH {
            invoke(&telemetry, None);
        }
        assert_eq!(after(1).await, (3, 3 + queue::BATCH, 0), "many do not wait");
        assert_eq!(after(60).await, (3, 3 + queue::BATCH, 0), "nothing is sent where nothing is done");
        invoke(&telemetry, None);
        assert_eq!(after(1).await, (5, 4 + queue::BATCH, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_is_left_alone_for_a_while_and_what_finds_no_room_is_counted() {
        let quiet = NotSent { why: "busy".to_owned(), wait: Some(Duration::from_secs(60)) };
        let (telemetry, way) = telling(Kept { answer: Some(quiet), ..Kept::default() }, Sampling::All);
        tokio::spawn(telemetry.clone().run());
        for _ in 0..5_000 {
            invoke(&telemetry, None);
        }
        for second in 1..=60 {
            tokio::time::sleep(Duration::from_millis(999)).await;
            invoke(&telemetry, None);
            assert_eq!(way.calls(), 1, "after {second} s");
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(way.calls(), 2);
        let shared = telemetry.0.as_ref().unwrap();
        assert!(shared.queue.len() <= queue::MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_is_asked_to_stop_waits_a_second_for_an_endpoint_that_hangs() {
        let (telemetry, way) = telling(Kept { hangs: true, ..Kept::default() }, Sampling::All);
        tokio::spawn(telemetry.clone().run());
        invoke(&telemetry, None);
        tokio::time::sleep(Duration::from_secs(10)).await;
        invoke(&telemetry, None);
        let before = Instant::now();
        telemetry.stop().await;
        assert_eq!((before.elapsed(), way.calls()), (FAREWELL, 1));
    }
}
