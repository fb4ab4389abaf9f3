//! What the probe waits by. What time it is, Azure says in each answer; a clock only lets time pass.

use async_trait::async_trait;
use chrono::TimeDelta;

/// Lets time pass.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Comes back once Azure's time has moved on by so much.
    async fn pass(&self, span: TimeDelta);
}

/// The machine's own clock, for the real Azure.
#[derive(Clone, Copy, Debug)]
pub struct WallClock;

#[async_trait]
impl Clock for WallClock {
    async fn pass(&self, span: TimeDelta) {
        tokio::time::sleep(span.to_std().unwrap_or_default()).await;
    }
}
