//! The approval logic: the one function that changes anything in Azure.

mod budget;
mod event;
mod look;
mod open;
mod rule;
mod see;
mod shut;
mod want;

pub(super) use self::see::usable;
use super::{App, Ended, Message, Queue, Stopped, jit_activity};
use crate::store::StoreError;

/// Handles one message of the queue `approval`.
pub async fn run(app: &App, body: &str) -> Ended {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(why) => return reject(app, body, &why.to_string()).await,
    };
    match &message {
        Message::Event { .. } | Message::Unstored { .. } | Message::Look { .. } => app.within(&message, handle(app, &message)).await,
        Message::Shard { .. } | Message::Row { .. } => reject(app, body, "the queue approval takes events and looks only").await,
    }
}

async fn handle(app: &App, message: &Message) -> Result<Ended, Stopped> {
    // Boxed, so that an event does not take the room of a look, nor either of them that of what seldom happens.
    let ended = match message {
        Message::Event { id, round, rounds_sent, .. } => Box::pin(event::run(app, message, id, *round, *rounds_sent)).await,
        Message::Unstored { event, .. } => Box::pin(jit_activity::one(app, event)).await,
        Message::Look { vm, wake, due, busy, .. } => {
            Box::pin(look::run(app, message, look::Cause { vm, wake: *wake, due: due.as_ref(), busy: *busy })).await
        }
        Message::Shard { .. } | Message::Row { .. } => return Ok(Ended::done("nothing for this queue")),
    };
    match ended {
        // A document of the store that cannot be read will not become readable by waiting: the message is kept with the
        // reason, and the document stays as it is.
        Err(Stopped::Store(StoreError::Unreadable { name, why })) => {
            let why = Box::pin(tell_unreadable(app, &name, &why)).await;
            Box::pin(app.reject("approval", &message.body(), &why)).await
        }
        other => other,
    }
}

/// Tells of a document that cannot be read, and gives what is told.
async fn tell_unreadable(app: &App, name: &str, why: &str) -> String {
    let why = format!("{name} in the store cannot be read: {why}");
    app.tell_failing("unreadable", name, &why, "what it is about is not looked at until it is mended or removed").await;
    why
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    Box::pin(app.reject_or_hold("approval", Queue::Approval, body, reason)).await
}
