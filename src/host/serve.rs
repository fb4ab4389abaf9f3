//! Serving on loopback until asked to stop.

use std::future::IntoFuture;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// What is under way when the program is asked to stop may take this long to be answered. The Functions host never
/// asks (it kills); a person at a terminal does not want to wait longer.
const FAREWELL: Duration = Duration::from_secs(3);

/// Binds the port that the host gave, on IPv4 loopback only: nothing but the host may reach the triggers, which have
/// no authentication. Done before anything else, since the host's polls then wait in the backlog.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Serves until SIGTERM or SIGINT. Returning `Ok` means that the program was asked to stop.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel::<()>();
    // A router that is served as it is copies all its routes for each connection; so made, connections share one.
    let server = axum::serve(listener, router.into_make_service()).with_graceful_shutdown(async move {
        // An error means that the sender is gone, which also is the end.
        let _ = stopped.await;
    });
    let mut server = pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return Err(ended.err().unwrap_or_else(|| io::Error::other("the server ended without being asked to"))),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    let _ = stop.send(());
    // A connection that stays open must not keep the program alive.
    let _ = tokio::time::timeout(FAREWELL, server).await;
    Ok(())
}
