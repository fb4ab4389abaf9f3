//! How late the activity log shows what was asked, and what its entries name.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::time;
use portcullis_rules::plain::plain;
use serde_json::Value;

use super::asking::seconds;
use super::azure::Trouble;
use super::look::Asked;
use super::report::seen;
use super::{Probe, Stage};

const ACTIVITY: &str = "2015-04-01";
/// The log is waited for no longer.
const LATEST: TimeDelta = TimeDelta::minutes(65);
const EVERY: TimeDelta = TimeDelta::minutes(1);

/// Entries of one request.
struct Entries {
    /// When the first was made, and when the log says that it could be read.
    first: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    /// The resources that they name.
    resources: BTreeSet<String>,
}

impl Probe<'_> {
    /// Looks once whether the log shows the first request.
    pub(super) async fn glance_at_log(&self) -> Stage {
        let Some(first) = self.noted(|notes| notes.first.clone()).filter(|_| !self.is_answered("activityLogSeconds")) else {
            return Ok(());
        };
        let entries = self.entries(&first).await?;
        let Some((made, readable)) = entries.first else { return Ok(()) };
        let now = self.azure.now();
        let mut lines = vec![seen(made, "the request was entered"), seen(now, "its entry was read")];
        if let Some(readable) = readable {
            lines.insert(1, seen(readable, "the entry says that it could be read from then on"));
        }
        self.found("activityLogSeconds", seconds(made, readable.unwrap_or(now)), lines);
        let named = entries.resources.into_iter().map(|id| seen(now, format!("an entry of the activity log names {}", plain(&id))));
        if !self.is_told("eventResource") && self.bus.is_none() {
            self.open("eventResource", "", named.collect());
        }
        Ok(())
    }

    /// Waits until the log shows the first request.
    pub(super) async fn wait_for_log(&self) -> Stage {
        let Some(first) = self.noted(|notes| notes.first.clone()) else { return Ok(()) };
        loop {
            self.glance_at_log().await?;
            if self.is_answered("activityLogSeconds") {
                return Ok(());
            }
            let now = self.azure.now();
            if now - first.start > LATEST {
                let line = seen(now, format!("nothing of the request of {} was in it", first.start.format("%H:%M:%S")));
                self.open("activityLogSeconds", &format!("It takes more than {} minutes.", LATEST.num_minutes()), vec![line]);
                return Ok(());
            }
            self.tell(&format!("waiting for the activity log, until {} at the latest", (first.start + LATEST).format("%H:%M")));
            self.azure.pass(EVERY).await;
        }
    }

    async fn entries(&self, asked: &Asked) -> Result<Entries, Trouble> {
        let written = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, until) = (written(asked.start - TimeDelta::minutes(1)), written(asked.start + TimeDelta::minutes(2)));
        let vm = &self.machine.vm;
        let filter =
            format!("eventTimestamp ge '{from}' and eventTimestamp le '{until}' and resourceGroupName eq '{}'", vm.resource_group());
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.Insights/eventtypes/management/values?$filter={}",
            vm.subscription(),
            filter.replace(' ', "%20")
        );
        let all = self.azure.list("the activity log", &path, ACTIVITY).await?;
        let text = |entry: &Value, path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_its = |entry: &&Value| {
            text(entry, "/operationName/value").to_ascii_lowercase().ends_with("/initiate/action")
                && (asked.correlation.is_empty() || text(entry, "/correlationId").eq_ignore_ascii_case(&asked.correlation))
        };
        let its: Vec<&Value> = all.iter().filter(is_its).collect();
        let times = |entry: &&Value| {
            let made = time::parse(&text(entry, "/eventTimestamp"))?;
            Some((made, time::parse(&text(entry, "/submissionTimestamp"))))
        };
        Ok(Entries {
            first: its.iter().filter_map(times).min(),
            resources: its.iter().map(|entry| text(entry, "/resourceId")).filter(|id| !id.is_empty()).collect(),
        })
    }
}
