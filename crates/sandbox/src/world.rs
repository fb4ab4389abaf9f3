//! The one world that all faces share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::state::State;

/// A handle to the one world. Cheap to clone.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Calls of the handler that are in some face now.
    calls: AtomicU64,
    /// Trace ids that the host stand-in minted, with function and invocation.
    traces: Mutex<HashMap<String, (String, String)>>,
    latency: Duration,
    killer: Mutex<Option<Killer>>,
}

type Killer = Box<dyn Fn() + Send>;

impl World {
    /// A world that begins as `state` says. `latency` is added to every answer of every face.
    pub fn new(state: State, latency: Duration) -> Self {
        World {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
                calls: AtomicU64::new(0),
                traces: Mutex::new(HashMap::new()),
                latency,
                killer: Mutex::new(None),
            }),
        }
    }

    /// The state, for one short look or change. Never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told whenever something may have become deliverable: a message, an event, a new due thing.
    ///
    /// Whoever waits asks to be told before looking for what there is, so that nothing is missed in between.
    pub fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// Tells all who wait.
    pub fn tell_changed(&self) {
        self.shared.changed.notify_waiters();
    }

    /// What is added to every answer.
    pub fn latency(&self) -> Duration {
        self.shared.latency
    }

    /// Remembers which invocation a trace id stands for.
    pub fn name_trace(&self, trace_id: &str, function: &str, invocation: &str) {
        self.traces().insert(trace_id.to_owned(), (function.to_owned(), invocation.to_owned()));
    }

    /// The function and the invocation behind a `traceparent` header (W3C Trace Context), if the stand-in minted it or whoever is
    /// the host named it.
    pub fn trace(&self, traceparent: &str) -> Option<(String, String)> {
        let trace_id = traceparent.split('-').nth(1)?;
        self.traces().get(trace_id).cloned()
    }

    /// How many outgoing calls of anybody have arrived so far.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Counts one more call and gives its number, beginning with 1.
    pub fn count_call(&self) -> u64 {
        self.shared.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Says how the handler is killed when a fault asks for it.
    pub fn on_kill(&self, killer: impl Fn() + Send + 'static) {
        *self.shared.killer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(killer));
    }

    /// Kills the handler at once (SIGKILL), if there is one that this can kill. Whether there is.
    pub fn kill_handler(&self) -> bool {
        let killer = self.shared.killer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kill) = killer.as_ref() else { return false };
        kill();
        true
    }

    fn traces(&self) -> MutexGuard<'_, HashMap<String, (String, String)>> {
        self.shared.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
