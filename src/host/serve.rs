//! Serving on loopback until asked to stop.

use std::convert::Infallible;
use std::future::{IntoFuture, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tower::{Layer, service_fn};

use super::connections::{Connections, few_idle};

/// What is under way when the program is asked to stop may take this long to be answered, which is longer than an invocation may
/// take: one that is cut off is one delivery of ten. Until then it answers whatever else comes, too: a host that goes on delivering to a
/// program that listens no longer uses up ten deliveries of a message in a moment. The Functions host never asks (it kills); a person
/// at a terminal who does not want to wait asks again.
const FAREWELL: Duration = Duration::from_secs(29);

/// Who asked the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM: whoever manages processes.
    ToEnd,
    /// SIGINT: a person at a terminal.
    ByHand,
}

/// Binds the port that the host gave, on IPv4 loopback only: nothing but the host may reach the triggers, which have
/// no authentication. Done before anything else, since the host's polls then wait in the backlog.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Serves until SIGTERM or SIGINT, and then until nothing is under way, or the second such signal. Gives which it was.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<Asked> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let connections = Connections::default();
    let under_way = connections.clone();
    // A layer of the router itself would copy all its routes for each connection; around it, connections share one.
    let of_each = service_fn(move |_: IncomingStream<'_, TcpListener>| {
        ready(Ok::<_, Infallible>(from_fn_with_state(connections.open(), few_idle).layer(router.clone())))
    });
    let server = axum::serve(listener, of_each).with_graceful_shutdown(async move {
        // An error means that the sender is gone, which also is the end.
        let _ = stopped.await;
        under_way.rest().await;
    });
    let mut server = pin!(server.into_future());
    let asked = tokio::select! {
        ended = &mut server => return Err(ended.err().unwrap_or_else(|| io::Error::other("the server ended without being asked to"))),
        _ = terminate.recv() => Asked::ToEnd,
        _ = interrupt.recv() => Asked::ByHand,
    };
    tracing::info!("asked to stop: what is under way is answered first");
    let _ = stop.send(());
    tokio::select! {
        // A connection that stays open must not keep the program alive.
        said = tokio::time::timeout(FAREWELL, server) => said.unwrap_or(Ok(()))?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpStream;
    use tokio::sync::{Semaphore, mpsc};

    use super::super::connections::IDLE;
    use super::*;

    /// Asks on a connection that is open already.
    async fn ask(connection: &mut BufReader<TcpStream>) {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: handler\r\n\r\n").await.unwrap();
    }

    /// The head of an answer; whether it says that its connection closes.
    async fn closes(connection: &mut BufReader<TcpStream>) -> bool {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(connection.read_line(&mut head).await.unwrap() > 0, "cut after {head:?}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        head.contains("connection: close")
    }

    #[tokio::test]
    async fn after_a_burst_few_connections_stay_open_and_those_answer_again() {
        let go = Arc::new(Semaphore::new(0));
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let waits = {
            let go = go.clone();
            get(move || async move {
                arrived.send(()).unwrap();
                go.acquire().await.unwrap().forget();
            })
        };
        let listener = bind(0).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new().route("/", waits)));
        let mut connections = Vec::new();
        for _ in 0..IDLE + 5 {
            let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
            ask(&mut connection).await;
            arrivals.recv().await.unwrap();
            connections.push(connection);
        }

        let mut kept = Vec::new();
        for mut connection in connections {
            go.add_permits(1);
            if !closes(&mut connection).await {
                kept.push(connection);
            }
        }
        assert_eq!(kept.len(), IDLE);

        go.add_permits(IDLE);
        for connection in &mut kept {
            ask(connection).await;
            assert!(!closes(connection).await);
        }
    }
}
