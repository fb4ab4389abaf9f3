//! Every five minutes: the estate in shards, one a subscription.

use std::time::Duration;

use tracing::{error, info};

use super::{App, Ended, Message, PATIENCE, Stopped, in_lanes};
use crate::azure::CallFailed;
use crate::azure::servicebus::Options;

/// A shard that was not looked at within one period is no longer worth it: the next one is under way.
const PERIOD: Duration = Duration::from_secs(300);

/// Handles one tick.
pub async fn run(app: &App) -> Ended {
    let subscriptions = match subscriptions(app).await {
        Ok(subscriptions) => subscriptions,
        Err(failed) => {
            error!(error = %failed, "the subscriptions could not be listed: nothing is swept until the next tick");
            app.tell_failing("sweep", "sweep", &failed.to_string(), MEANWHILE).await;
            return Ended::done(format!("nothing swept until the next tick: {failed}"));
        }
    };
    if subscriptions.is_empty() {
        let why = "the app's identity sees no subscription: give it its roles on the subscriptions that it is to govern";
        app.tell_failing("sweep", "no subscription", why, MEANWHILE).await;
    }
    let sent = tokio::time::timeout(PATIENCE, in_lanes(&subscriptions, |subscription| send(app, subscription))).await;
    let why = match sent {
        Ok(Ok(())) => {
            info!(shards = subscriptions.len(), "sweep begun");
            return Ended::done(format!("{} shards sent", subscriptions.len()));
        }
        Ok(Err(stopped)) => stopped.to_string(),
        Err(_) => format!("{} shards were not sent within {} s", subscriptions.len(), PATIENCE.as_secs()),
    };
    error!(error = why, "not every shard could be sent: the others are swept at the next tick");
    app.tell_failing("sweep", "sweep", &why, "not every subscription is swept").await;
    Ended::done(format!("not every shard is swept until the next tick: {why}"))
}

const MEANWHILE: &str = "nothing is swept, so that openings around Portcullis are found by their events alone";

async fn subscriptions(app: &App) -> Result<Vec<String>, CallFailed> {
    let listed = if app.subscriptions.is_empty() { app.azure.subscriptions.visible().await? } else { app.subscriptions.clone() };
    Ok(listed.iter().map(ToString::to_string).collect())
}

async fn send(app: &App, subscription: &str) -> Result<(), Stopped> {
    let shard = Message::Shard { subscription: subscription.to_owned(), tries: 0 };
    app.send_with(&shard, Options { time_to_live: Some(PERIOD), ..Options::default() }).await
}
