//! The host's connections, of which few are kept open when nothing is under way on them.
//!
//! The host opens a connection for each invocation that it has no idle one for, and keeps it for a minute. After a burst that is
//! more than a hundred, and each holds two buffers of 8 KB (hyper's) for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Notify;

/// How many connections stay open with nothing under way: as many as the host has invocations of one queue at once.
pub const IDLE: usize = 16;

/// How many connections there are, and on how many of them a request is under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    busy: AtomicUsize,
    /// Told when no request is under way any more.
    rests: Notify,
}

/// One connection, which counts as open until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Open>);

#[derive(Debug)]
struct Open(Arc<Counts>);

/// A request, under way until it is dropped.
struct UnderWay<'a>(&'a Counts);

impl Connections {
    /// One more.
    pub fn open(&self) -> Connection {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Connection(Arc::new(Open(Arc::clone(&self.0))))
    }

    /// Waits until no request is under way.
    pub async fn rest(&self) {
        loop {
            let rests = self.0.rests.notified();
            if self.0.busy.load(Ordering::SeqCst) == 0 {
                return;
            }
            rests.await;
        }
    }
}

impl Counts {
    fn begin(&self) -> UnderWay<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    fn idle(&self) -> usize {
        self.open.load(Ordering::SeqCst).saturating_sub(self.busy.load(Ordering::SeqCst))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.rests.notify_waiters();
        }
    }
}

/// Says with the answer that its connection closes, where enough others are idle. So no request is lost: a connection that is
/// closed at another time may be closed while one is on its way.
pub async fn few_idle(State(connection): State<Connection>, request: Request, next: Next) -> Response {
    let counts = &connection.0.0;
    let _under_way = counts.begin();
    let mut answer = next.run(request).await;
    if counts.idle() >= IDLE {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
