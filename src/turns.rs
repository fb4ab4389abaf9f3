//! Turns: so many do something at once, and the others wait, but not for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a turn is waited for. Then it is done out of turn: those that hang must not hold up the others until their own
/// invocations are over their deadline.
pub const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// Turns for so many at once. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// Turns for so many at once.
    pub fn new(at_once: usize) -> Self {
        Turns(Arc::new(Semaphore::new(at_once)))
    }

    /// A turn, which lasts as long as what is given is kept; nothing where none came in time.
    pub async fn next(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN_PATIENCE, self.0.acquire()).await.ok()?.ok()
    }
}
