//! Every minute: a look for whatever is due by the store, and the rows that have no receipt once more.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_domain::arm_id::VmId;
use tracing::{error, info};

use super::{App, DueEntry, Ended, Message, PATIENCE, Stopped, all_in_lanes, told_in_time};
use crate::azure::servicebus::Options;
use crate::store::Due;

/// The most that one tick sends; the rest is as due a minute later.
const MOST: usize = 1000;

/// Handles one tick. What is not done by its end is as due at the next one.
pub async fn run(app: &App) -> Ended {
    let told = tokio::time::timeout(PATIENCE, tick(app)).await;
    match told {
        Ok(Ok(note)) => Ended::done(note),
        Ok(Err(Stopped::Store(why))) => {
            told_in_time(app.tell_without_receipt(&why)).await;
            Ended::done(format!("nothing sent until the next tick: {why}"))
        }
        Ok(Err(stopped @ (Stopped::Queue(_) | Stopped::Lost(_)))) => {
            error!(error = %stopped, "not all that is due could be sent");
            told_in_time(app.tell_queue(&stopped)).await;
            Ended::done(format!("the rest is sent at the next tick: {stopped}"))
        }
        Err(_) => {
            error!("not all that is due could be sent within {} s", PATIENCE.as_secs());
            Ended::done(format!("the rest is sent at the next tick: this one was not done within {} s", PATIENCE.as_secs()))
        }
    }
}

async fn tick(app: &App) -> Result<String, Stopped> {
    let now = app.store.check().await?;
    let unsent = app.store.list_unsent(MOST).await?;
    // What is not governed now may be governed again, and then nothing else would have it looked at.
    let (due, older) = newest(app.store.list_due(now, MOST, |vm| app.governs(&vm.subscription())).await?);
    let kept = app.store.list_kept_messages(now, MOST).await?;
    // Side by side: none keeps another waiting.
    let rows = all_in_lanes(&unsent, |audit| send_row(app, audit));
    let looks = all_in_lanes(&due, |entry| async {
        let due = DueEntry { at: entry.at, run: entry.run.clone() };
        app.send(&Message::Look { vm: entry.vm.clone(), wake: None, due: Some(due), busy: None, tries: 0 }).await
    });
    let messages = all_in_lanes(&kept, |name| send_kept(app, name));
    let (looks, messages, rows) = tokio::join!(looks, messages, rows);
    if looks.is_ok() {
        all_in_lanes(&older, |due| app.store.remove_due(due)).await?;
    }
    looks.and(messages).and(rows)?;
    info!(due = due.len(), kept = kept.len(), rows = unsent.len(), "scheduled");
    Ok(format!("{} looks, {} kept messages and {} rows sent", due.len(), kept.len(), unsent.len()))
}

/// The newest entry of each VM, and the others: a look that begins after the newest has seen whatever they are for. Looks that are cut off
/// leave one each, and a look for each of those, each minute, would be ever more.
fn newest(mut due: Vec<Due>) -> (Vec<Due>, Vec<Due>) {
    due.sort_by_key(|entry| entry.at);
    let mut newest: BTreeMap<VmId, Due> = BTreeMap::new();
    let older = due.into_iter().filter_map(|entry| newest.insert(entry.vm.clone(), entry)).collect();
    (newest.into_values().collect(), older)
}

/// Sends a message that was kept, and only then takes it away: however many there are, each tick gets some of them out.
async fn send_kept(app: &App, name: &str) -> Result<(), Stopped> {
    let Some(body) = app.store.kept_message(name).await? else { return Ok(()) };
    match Message::read(&body) {
        Ok(known) => app.send(&known).await?,
        // Another version wrote it, or another hand. It is kept with the reason before it goes from here.
        Err(why) => {
            app.reject("schedule", &body, &why.to_string()).await?;
        }
    }
    Ok(app.store.remove(name).await?)
}

/// Sends a message that lives as long as it takes until the next tick sends the next one.
async fn send_row(app: &App, audit: &str) -> Result<(), Stopped> {
    let options = Options { time_to_live: Some(PERIOD), ..Options::default() };
    app.send_with(&Message::Row { audit: audit.to_owned(), with: Vec::new(), tries: 0 }, options).await
}

/// The time between two ticks.
const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn one_look_is_sent_for_a_vm_and_what_it_is_for_stays() {
        let due = |vm: &str, at: i64, run: &str| {
            let vm = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/{vm}").parse().unwrap();
            Due { at: DateTime::from_timestamp(at, 0).unwrap(), vm, run: run.to_owned() }
        };
        let all = vec![due("a", 1, "x"), due("b", 2, "x"), due("A", 3, "y"), due("a", 3, "z"), due("a", 2, "w")];
        let (newest, mut older) = newest(all);
        older.sort_by(|a, b| a.run.cmp(&b.run));
        assert_eq!(newest, [due("a", 3, "z"), due("b", 2, "x")]);
        assert_eq!(older, [due("a", 2, "w"), due("a", 1, "x"), due("a", 3, "y")]);
    }
}
