//! Spans that are over and wait to be exported: so many, and no more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::Notify;

/// More than a burst of a hundred events leaves within one export; a megabyte at most.
pub(super) const MOST: usize = 1_024;

/// So many go out in one call: some 15 KB packed, for which they are written three times over.
pub(super) const BATCH: usize = 128;

/// The spans that wait. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    spans: Mutex<Vec<SpanData>>,
    full: Notify,
    lost: AtomicU64,
}

impl Queue {
    /// Takes the oldest, as many as one call carries.
    pub fn take(&self) -> Vec<SpanData> {
        let mut spans = self.spans();
        let most = spans.len().min(BATCH);
        spans.drain(..most).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans().len()
    }

    /// Ends when a call's worth is there.
    pub async fn is_full(&self) {
        self.0.full.notified().await;
    }

    /// How many found no room since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.0.lost.swap(0, Ordering::Relaxed)
    }

    fn spans(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        let mut spans = self.spans();
        if spans.len() >= MOST {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        spans.push(span);
        if spans.len() >= BATCH {
            self.0.full.notify_one();
        }
    }

    /// What is here is taken by whoever exports, and by nobody else.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
