//! The approval logic: the one function that changes anything in Azure.

mod event;
mod look;
mod see;
mod shut;

use super::{App, Ended, Message, Queue, Stopped, jit_activity};

/// Handles one message of the queue `approval`.
pub async fn run(app: &App, body: &str) -> Ended {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(why) => return reject(app, body, &why.to_string()).await,
    };
    let ended = match &message {
        Message::Event { id, round, .. } => event::run(app, &message, id, *round).await,
        Message::Unstored { event, .. } => jit_activity::one(app, event).await,
        Message::Look { vm, wake, due, .. } => look::run(app, &message, look::Cause { vm, wake: *wake, due: *due }).await,
        Message::Shard { .. } | Message::Row { .. } => return reject(app, body, "the queue approval takes events and looks only").await,
    };
    match ended {
        Ok(ended) => ended,
        Err(stopped) => app.put_off(&message, stopped).await,
    }
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    match app.reject("approval", body, reason).await {
        Ok(ended) => ended,
        Err(stopped) => app.hold_unread(Queue::Approval, body, stopped).await,
    }
}

/// A document of the store that cannot be read will not become readable by waiting: the message is kept with the
/// reason, and the document stays as it is.
fn unreadable(stopped: &Stopped) -> Option<String> {
    match stopped {
        Stopped::Store(crate::store::StoreError::Unreadable { name, why }) => Some(format!("{name} in the store cannot be read: {why}")),
        Stopped::Store(_) | Stopped::Queue(_) | Stopped::Lost(_) => None,
    }
}
