//! Every minute: a look for whatever is due by the store, and the rows that have no receipt once more.

use tracing::{error, info};

use super::{App, Ended, Message, Stopped};

/// The most that one tick sends; the rest is as due a minute later.
const MOST: usize = 1000;

/// Handles one tick.
pub async fn run(app: &App) -> Ended {
    match tick(app).await {
        Ok(note) => Ended::done(note),
        Err(Stopped::Store(why)) => {
            app.tell_without_receipt(&why).await;
            Ended::done(format!("nothing sent until the next tick: {why}"))
        }
        // What is due is still due then.
        Err(stopped @ (Stopped::Queue(_) | Stopped::Lost(_))) => {
            error!(error = %stopped, "not all that is due could be sent");
            Ended::done(format!("the rest is sent at the next tick: {stopped}"))
        }
    }
}

async fn tick(app: &App) -> Result<String, Stopped> {
    let now = app.store.check().await?;
    let due = app.store.list_due(now, MOST).await?;
    for entry in &due {
        app.send(&Message::Look { vm: entry.vm.clone(), wake: None, due: Some(entry.at), tries: 0 }).await?;
    }
    let kept = app.store.list_kept_messages(now, MOST).await?;
    for message in &kept {
        match Message::read(&message.body) {
            Ok(known) => app.send(&known).await?,
            // Another version wrote it. It is kept with the reason before it goes from here.
            Err(why) => {
                app.reject("schedule", &message.body, &why.to_string()).await?;
            }
        }
        app.store.remove(&message.name).await?;
    }
    let unsent = app.store.list_unsent(MOST).await?;
    for audit in &unsent {
        app.send(&Message::Row { audit: audit.clone(), tries: 0 }).await?;
    }
    info!(due = due.len(), kept = kept.len(), rows = unsent.len(), "scheduled");
    Ok(format!("{} looks, {} kept messages and {} rows sent", due.len(), kept.len(), unsent.len()))
}
