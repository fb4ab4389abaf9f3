//! What is queued goes out: one call after another, each told to the log only if it fails, and that not often.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_application_insights::Exporter;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::time::Instant;
use tracing::warn;

use super::metrics::{Measure, Metrics};
use super::queue::Queue;

/// How telemetry gets to Application Insights.
#[async_trait]
pub trait Way: fmt::Debug + Send + Sync {
    /// Sends items, as a packed JSON array, with as many tries as it gives a call, and tells how many were not taken.
    async fn send(&self, items: Bytes) -> Result<u64, NotSent>;
}

/// Why items were not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSent {
    /// A sentence for the log.
    pub why: String,
    /// How long the endpoint wants no more.
    pub wait: Option<Duration>,
}

/// A failure is told so often: a sweep's period.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// No endpoint that asks for more is worth listening to for so long.
const LONGEST_QUIET: Duration = Duration::from_secs(600);

/// The exporter, and what it has come to.
pub(super) struct Exporting {
    exporter: Exporter<Client>,
    client: Client,
    queue: Queue,
    told: Option<Instant>,
    /// Lost since it was last told.
    untold: u64,
    /// Until when the endpoint wants nothing.
    quiet_until: Instant,
}

impl Exporting {
    /// Of the connection string only these two count.
    pub fn new(way: Arc<dyn Way>, connection: &str, resource: &Resource, queue: Queue) -> Result<Self, String> {
        let client = Client { way, came_to: Arc::default() };
        let exporter = Exporter::new_from_connection_string(connection, client.clone()).map_err(|error| error.to_string());
        let mut exporter = exporter?;
        SpanExporter::set_resource(&mut exporter, resource);
        Ok(Exporting { exporter, client, queue, told: None, untold: 0, quiet_until: Instant::now() })
    }

    /// Sends what is queued now. Where a call fails what is behind it stays, as long as there is room.
    pub async fn send(&mut self, metrics: &Metrics, with_metrics: bool) {
        self.count_lost(metrics, "noRoom", self.queue.take_lost(), "there is no room for more");
        let mut left = self.queue.len();
        while left > 0 && !self.is_quiet() {
            let spans = self.queue.take();
            left = left.saturating_sub(spans.len());
            if spans.is_empty() {
                break;
            }
            self.send_spans(metrics, spans).await;
        }
        if with_metrics
            && !self.is_quiet()
            && let Some(measured) = metrics.take().filter(|measured| items_of(measured) > 0)
        {
            let items = items_of(&measured);
            // How it went is in the client: the exporter knows of one attempt.
            let _ = PushMetricExporter::export(&self.exporter, &measured).await;
            self.ended(metrics, items);
        }
    }

    async fn send_spans(&mut self, metrics: &Metrics, spans: Vec<SpanData>) {
        let items = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let _ = SpanExporter::export(&self.exporter, spans).await;
        self.ended(metrics, items);
    }

    /// Until when nothing is sent; that may be over.
    pub fn quiet_until(&self) -> Instant {
        self.quiet_until
    }

    fn is_quiet(&self) -> bool {
        Instant::now() < self.quiet_until
    }

    fn ended(&mut self, metrics: &Metrics, items: u64) {
        match self.client.take() {
            Some(Ok(refused)) => {
                self.count_lost(metrics, "refused", refused, "Application Insights does not take some of them");
            }
            Some(Err(failed)) => {
                let wait = failed.wait.unwrap_or(PAUSE).clamp(PAUSE, LONGEST_QUIET);
                self.quiet_until = Instant::now() + wait;
                self.count_lost(metrics, "notSent", items, &failed.why);
            }
            // The exporter could not even write them.
            None => self.count_lost(metrics, "unreadable", items, "they cannot be written as JSON"),
        }
    }

    fn count_lost(&mut self, metrics: &Metrics, why: &str, items: u64, said: &str) {
        if items == 0 {
            return;
        }
        metrics.measure(Measure::Lost { why, items });
        self.untold += items;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let items = std::mem::take(&mut self.untold);
            self.told = Some(Instant::now());
            warn!(items, "{items} items of telemetry are lost, and the work goes on without them: {said}");
        }
    }
}

/// After a call that failed the next one waits: the endpoint has had its tries.
const PAUSE: Duration = Duration::from_secs(15);

fn items_of(metrics: &ResourceMetrics) -> u64 {
    let all = metrics.scope_metrics().flat_map(|scope| scope.metrics());
    let points = all.map(|metric| match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(data)) => data.data_points().count(),
        AggregatedMetrics::U64(MetricData::Sum(data)) => data.data_points().count(),
        // There are no others.
        _ => 0,
    });
    u64::try_from(points.sum::<usize>()).unwrap_or(u64::MAX)
}

/// What the exporter sends through. It always hears of success: its own tries would start a thread for their pauses and
/// know nothing of `Retry-After`, and the way has had its tries by then.
#[derive(Clone, Debug)]
struct Client {
    way: Arc<dyn Way>,
    came_to: Arc<Mutex<Option<Result<u64, NotSent>>>>,
}

impl Client {
    fn take(&self) -> Option<Result<u64, NotSent>> {
        self.came_to.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let came_to = self.way.send(request.into_body()).await;
        *self.came_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(came_to);
        Ok(Response::new(Bytes::new()))
    }
}
