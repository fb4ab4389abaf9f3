//! Every five minutes: the estate in shards, one a subscription.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::{App, Ended, Message, PATIENCE, Stopped, TELL_WITHIN, all_in_lanes, somewhere, told_in_time};
use crate::azure::servicebus::Options;

/// A shard that was not looked at within one period is no longer worth it: the next one is under way.
const PERIOD: Duration = Duration::from_secs(300);

/// Handles one tick.
pub async fn run(app: &App) -> Ended {
    let mut subscriptions: Vec<String> = match app.governed_subscriptions().await {
        Ok(subscriptions) => subscriptions.iter().map(ToString::to_string).collect(),
        Err(failed) => {
            error!(error = %failed, "the subscriptions could not be listed: nothing is swept until the next tick");
            told_in_time(app.tell_failing("sweep", "sweep", &failed.to_string(), MEANWHILE)).await;
            return Ended::done(format!("nothing swept until the next tick: {failed}"));
        }
    };
    if subscriptions.is_empty() {
        let why = "the app's identity sees no subscription: give it its roles on the subscriptions that it is to govern";
        app.tell_failing("sweep", "no subscription", why, MEANWHILE).await;
    }
    if app.subscriptions.is_empty()
        && let Err(stopped) = tell_lost(app, &subscriptions).await
    {
        error!(error = %stopped, "whether a subscription is no longer seen is not known until the next tick");
    }
    // While not all of them get out, those behind are not the same ones each time.
    let first = somewhere(subscriptions.len());
    subscriptions.rotate_left(first);
    let sent = tokio::time::timeout(PATIENCE, all_in_lanes(&subscriptions, |subscription| send(app, subscription))).await;
    let why = match sent {
        Ok(Ok(())) => {
            info!(shards = subscriptions.len(), "sweep begun");
            tell_begun(app, subscriptions.len()).await;
            return Ended::done(format!("{} shards sent", subscriptions.len()));
        }
        Ok(Err(stopped)) => stopped.to_string(),
        Err(_) => format!("{} shards were not sent within {} s", subscriptions.len(), PATIENCE.as_secs()),
    };
    error!(error = why, "not every shard could be sent: the others are swept at the next tick");
    told_in_time(app.tell_failing("sweep", "sweep", &why, "not every subscription is swept")).await;
    Ended::done(format!("not every shard is swept until the next tick: {why}"))
}

async fn tell_begun(app: &App, shards: usize) {
    let told = async {
        let Ok(now) = app.azure.service_time().await else { return };
        let name = format!("sweep-{}", now.format("%Y%m%dT%H%M"));
        app.tell_swept(&name, now, "sweep", None, format!("a sweep of {shards} subscriptions was begun")).await;
    };
    if tokio::time::timeout(TELL_WITHIN, told).await.is_err() {
        warn!("that a sweep was begun could not be told in time");
    }
}

const MEANWHILE: &str = "nothing is swept, so that openings around Portcullis are found by their events alone";

/// The subscriptions of the last sweep, as the store keeps them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Their ids.
    pub subscriptions: BTreeSet<String>,
}

/// Tells once of each subscription that was swept before and is no longer seen: a right that was taken away looks the
/// same as a subscription that is gone.
async fn tell_lost(app: &App, seen: &[String]) -> Result<(), Stopped> {
    let held = app.store.service::<Swept>("swept").await?;
    let mut now = Swept { subscriptions: seen.iter().cloned().collect() };
    let (before, etag) = held.map(|held| (held.document, held.etag)).unwrap_or_default();
    let lost: Vec<&String> = before.subscriptions.iter().filter(|known| !now.subscriptions.contains(*known)).collect();
    for lost in lost {
        let why = "give the app's identity its roles back, if the subscription is still there";
        let meanwhile = format!("subscription {lost} is no longer seen, so that nothing in it is governed");
        if !app.tell_failing("subscription-lost", lost, why, &meanwhile).await {
            // The next sweep tells of it.
            now.subscriptions.insert(lost.clone());
        }
    }
    if now != before {
        app.store.save_service("swept", &now, etag.as_deref()).await?;
    }
    Ok(())
}

/// How long a queue that refused a shard is left alone: as it asks, as long as there are others to send.
fn pause(stopped: &Stopped) -> Duration {
    match stopped {
        Stopped::Queue(failed) => failed.retry_after.unwrap_or(SHORT).min(LONG),
        Stopped::Store(_) | Stopped::Lost(_) => SHORT,
    }
}

const SHORT: Duration = Duration::from_millis(200);
/// Service Bus asks for two seconds when it is busy (documentation).
const LONG: Duration = Duration::from_secs(2);

async fn send(app: &App, subscription: &str) -> Result<(), Stopped> {
    let shard = Message::Shard { subscription: subscription.to_owned(), tries: 0 };
    let send = || app.send_with(&shard, Options { time_to_live: Some(PERIOD), ..Options::default() });
    match send().await {
        Ok(()) => Ok(()),
        Err(stopped) => {
            // One that comes twice sweeps twice; one that does not come leaves its subscription unswept for a period.
            warn!(subscription.id = subscription, error = %stopped, "a shard could not be sent: it is sent again");
            tokio::time::sleep(pause(&stopped)).await;
            send().await
        }
    }
}
