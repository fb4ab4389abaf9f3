//! Turns: so many do something at once, and the others wait, but not for long.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// How long a turn is waited for while nobody gets one. Then it is done out of turn: those that hang must not hold up the others
/// until their own invocations are over their deadline.
pub const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a turn is waited for while others get theirs: some of them may hang, too. What waits has time left for its own work, be it
/// a message that is to be taken within four seconds, or an invocation that fills all that it has.
pub const TURN_PATIENCE_AT_MOST: Duration = Duration::from_millis(1_900);

/// Turns for so many at once. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    turns: Semaphore,
    /// How many were got so far.
    got: AtomicU64,
}

impl Turns {
    /// Turns for so many at once.
    pub fn new(at_once: usize) -> Self {
        Turns(Arc::new(Shared { turns: Semaphore::new(at_once), got: AtomicU64::new(0) }))
    }

    /// Whether all are taken.
    pub fn are_taken(&self) -> bool {
        self.0.turns.available_permits() == 0
    }

    /// A turn, which lasts as long as what is given is kept; nothing where for [`TURN_PATIENCE`] nobody got one, or none came within
    /// [`TURN_PATIENCE_AT_MOST`].
    pub async fn next(&self) -> Option<SemaphorePermit<'_>> {
        let Shared { turns, got } = &*self.0;
        let began = Instant::now();
        let mut turn = pin!(turns.acquire());
        loop {
            let before = got.load(Ordering::Relaxed);
            let left = TURN_PATIENCE_AT_MOST.saturating_sub(began.elapsed());
            if let Ok(turn) = timeout(TURN_PATIENCE.min(left), turn.as_mut()).await {
                got.fetch_add(1, Ordering::Relaxed);
                return turn.ok();
            }
            if got.load(Ordering::Relaxed) == before || began.elapsed() >= TURN_PATIENCE_AT_MOST {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn that lasts so long, and then the next one.
    async fn keeps_taking_turns(turns: Turns, each: Duration) {
        loop {
            let _turn = turns.next().await;
            tokio::time::sleep(each).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_done_out_of_turn_once_nobody_gets_a_turn_for_a_second() {
        let turns = Turns::new(1);
        let _hangs = turns.next().await;
        let began = Instant::now();
        assert!(turns.next().await.is_none());
        assert_eq!(began.elapsed(), TURN_PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_moves_is_waited_in() {
        let turns = Turns::new(1);
        let quarter = TURN_PATIENCE / 4;
        for _ in 0..7 {
            let turns = turns.clone();
            tokio::spawn(async move {
                let _turn = turns.next().await;
                tokio::time::sleep(quarter).await;
            });
        }
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert!(turns.next().await.is_some());
        assert_eq!(began.elapsed(), quarter * 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_moves_too_slowly_is_left() {
        let turns = Turns::new(1);
        let half = TURN_PATIENCE / 2;
        for _ in 0..20 {
            tokio::spawn(keeps_taking_turns(turns.clone(), half));
        }
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert!(turns.next().await.is_none());
        assert_eq!(began.elapsed(), TURN_PATIENCE_AT_MOST);
    }
}
