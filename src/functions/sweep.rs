//! Every five minutes: the estate in shards, one a subscription.

use std::time::Duration;

use tracing::{error, info};

use super::{App, Ended, Message, Stopped};
use crate::azure::CallFailed;
use crate::azure::servicebus::Options;

/// A shard that was not looked at within one period is no longer worth it: the next one is under way.
const PERIOD: Duration = Duration::from_secs(300);

/// Handles one tick.
pub async fn run(app: &App) -> Ended {
    match subscriptions(app).await {
        Ok(subscriptions) => match send(app, &subscriptions).await {
            Ok(()) => {
                info!(shards = subscriptions.len(), "sweep begun");
                Ended::done(format!("{} shards sent", subscriptions.len()))
            }
            Err(stopped) => {
                error!(error = %stopped, "not every shard could be sent: the others are swept at the next tick");
                Ended::done(format!("not every shard is swept until the next tick: {stopped}"))
            }
        },
        Err(failed) => {
            error!(error = %failed, "the subscriptions could not be listed: nothing is swept until the next tick");
            app.tell_failing("sweep", "sweep", &failed).await;
            Ended::done(format!("nothing swept until the next tick: {failed}"))
        }
    }
}

async fn subscriptions(app: &App) -> Result<Vec<String>, CallFailed> {
    let listed = if app.subscriptions.is_empty() { app.azure.subscriptions.visible().await? } else { app.subscriptions.clone() };
    Ok(listed.iter().map(ToString::to_string).collect())
}

async fn send(app: &App, subscriptions: &[String]) -> Result<(), Stopped> {
    for subscription in subscriptions {
        let shard = Message::Shard { subscription: subscription.clone(), tries: 0 };
        app.send_with(&shard, Options { time_to_live: Some(PERIOD), ..Options::default() }).await?;
    }
    Ok(())
}
