//! How the events of what the probe does arrive: at a queue that is subscribed to them meanwhile, and which schema the app's own event
//! subscription has.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::time;
use portcullis_rules::plain::plain;
use reqwest::Method;
use serde_json::{Value, json};

use super::azure::Trouble;
use super::bus::Bus;
use super::machine::{FIRST, SECOND};
use super::opening::LONG;
use super::report::seen;
use super::{Probe, Stage};

const EVENT_GRID: &str = "2025-02-15";
/// The function that the app's event subscription leads to.
const FUNCTION: &str = "/functions/jit_activity";
/// The name of the probe's own event subscription.
const NAME: &str = "portcullis-live-probe";
/// Events of what was done; failures are no openings.
const TYPES: [&str; 3] =
    ["Microsoft.Resources.ResourceActionSuccess", "Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceDeleteSuccess"];
/// An event subscription is there so soon.
const MADE_WITHIN: TimeDelta = TimeDelta::minutes(5);
/// Events are waited for no longer.
const LATEST: TimeDelta = TimeDelta::minutes(20);
const EVERY: TimeDelta = TimeDelta::seconds(15);
/// An event that comes later is late.
const LATE: TimeDelta = TimeDelta::minutes(5);
/// How often the delete of the event subscription may fail in a row.
const TRIES: u32 = 10;
/// More messages than the probe gives rise to.
const MESSAGES: usize = 10_000;

/// An event that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    id: String,
    kind: String,
    operation: String,
    status: String,
    resource: String,
    correlation: String,
    /// When it says that it happened.
    at: DateTime<Utc>,
    enqueued: DateTime<Utc>,
    sequence: u64,
}

impl Probe<'_> {
    /// The schema of the event subscription that leads to the app.
    pub(super) async fn event_schema(&self) -> Stage {
        let subscription = self.machine.vm.subscription();
        let topics = format!("/subscriptions/{subscription}/providers/Microsoft.EventGrid/systemTopics");
        let mut leading = Vec::new();
        for topic in self.azure.list("system topics", &topics, EVENT_GRID).await? {
            let source = topic["properties"]["source"].as_str().unwrap_or_default();
            if source.eq_ignore_ascii_case(&format!("/subscriptions/{subscription}")) {
                let of = format!("{}/eventSubscriptions", topic["id"].as_str().unwrap_or_default());
                leading.extend(self.azure.list("event subscriptions", &of, EVENT_GRID).await?);
            }
        }
        let destination =
            |known: &Value| known.pointer("/properties/destination/properties/resourceId")?.as_str().map(str::to_ascii_lowercase);
        let its = leading.iter().find(|known| destination(known).is_some_and(|id| id.ends_with(FUNCTION)));
        let why = "No event subscription leads to the function jit_activity yet: it chooses the schema, and Portcullis takes both.";
        let Some(its) = its else {
            self.open("eventSchema", why, Vec::new());
            return Ok(());
        };
        let schema = its.pointer("/properties/eventDeliverySchema").and_then(Value::as_str).unwrap_or_default();
        let line = seen(
            self.azure.now(),
            format!("the event subscription {} has `{}`", plain(its["name"].as_str().unwrap_or_default()), plain(schema)),
        );
        match schema {
            "EventGridSchema" => self.found("eventSchema", json!("eventGrid"), vec![line]),
            "CloudEventSchemaV1_0" => self.found("eventSchema", json!("cloudEvents"), vec![line]),
            _ => self.open("eventSchema", "It is none that Portcullis knows.", vec![line]),
        }
        Ok(())
    }

    /// Subscribes the queue to the events of the VM's resource group.
    pub(super) async fn subscribe(&self) -> Stage {
        let Some(bus) = &self.bus else { return Ok(()) };
        if let (Some(message), _) = bus.take().await? {
            bus.release(&message).await?;
            return Err(Trouble::Broken(format!(
                "The queue {} holds messages already: give one of its own, which is empty.",
                bus.queue.name()
            )));
        }
        self.tell(&format!("subscribing the queue {} to the events of the resource group", bus.queue.name()));
        let vm = &self.machine.vm;
        let group = format!("/subscriptions/{}/resourceGroups/{}/", vm.subscription(), vm.resource_group());
        let body = json!({"properties": {
            "destination": {"endpointType": "ServiceBusQueue", "properties": {"resourceId": bus.queue.id()}},
            "filter": {"includedEventTypes": TYPES, "subjectBeginsWith": group, "isSubjectCaseSensitive": false},
            "eventDeliverySchema": "EventGridSchema",
        }});
        self.note(|notes| notes.subscribed = true);
        self.azure.write_patiently(Method::PUT, &self.own_subscription(), EVENT_GRID, Some(&body)).await?;
        let since = self.azure.now();
        loop {
            let answer = self.azure.get(&self.own_subscription(), EVENT_GRID).await?;
            match answer.body.pointer("/properties/provisioningState").and_then(Value::as_str).unwrap_or_default() {
                "Succeeded" => return Ok(()),
                "Failed" => return Err(Trouble::Broken("Event Grid could not subscribe the queue: see it in the portal.".to_owned())),
                _ if answer.at - since > MADE_WITHIN => {
                    return Err(Trouble::Broken("Event Grid has not subscribed the queue within five minutes.".to_owned()));
                }
                _ => self.azure.pass(EVERY).await,
            }
        }
    }

    fn own_subscription(&self) -> String {
        format!("/subscriptions/{}/providers/Microsoft.EventGrid/eventSubscriptions/{NAME}", self.machine.vm.subscription())
    }

    /// Takes the probe's event subscription away; what to do, if it could not be.
    pub(super) async fn unsubscribe(&self) -> Option<String> {
        if !self.noted(|notes| notes.subscribed) {
            return None;
        }
        let path = self.own_subscription();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.azure.write_patiently(Method::DELETE, &path, EVENT_GRID, None).await {
                Ok(_) => {
                    self.note(|notes| notes.subscribed = false);
                    return None;
                }
                Err(trouble) if trouble.status().is_none_or(|status| status >= 500) && tries < TRIES => self.azure.pass(EVERY).await,
                Err(trouble) => return Some(format!("The event subscription {path} may be there still. {trouble} Delete it by hand.")),
            }
        }
    }

    /// Two requests in a row, whose events show whether one may pass another. What they open is taken away with all else.
    pub(super) async fn in_a_row(&self) -> Stage {
        if self.bus.is_none() || !self.noted(|notes| notes.subscribed) {
            return Ok(());
        }
        self.tell("asking JIT twice in a row, to learn whether the events keep their order");
        let end = self.azure.now() + self.machine.time_at_most(LONG);
        self.ask(&[FIRST], end).await?;
        self.azure.pass(TimeDelta::seconds(2)).await;
        self.ask(&[SECOND], end).await.map(drop)
    }

    /// Waits until each request has an event, or none is to be expected any more, and says how they came.
    pub(super) async fn arriving(&self) -> Stage {
        let Some(bus) = self.bus.as_ref().filter(|_| self.noted(|notes| notes.subscribed)) else { return Ok(()) };
        let asked = self.noted(|notes| notes.requests.clone());
        if asked.is_empty() {
            return Err(Trouble::Broken("JIT took no request, so that there is no event of one.".to_owned()));
        }
        self.tell("waiting for the events of what was asked, 20 minutes at most");
        let mut arrived = Vec::new();
        let mut since = None;
        loop {
            let now = take_all(bus, &mut arrived).await?;
            let is_there = |correlation: &String| {
                arrived.iter().any(|event| event.is_initiate() && event.correlation.eq_ignore_ascii_case(correlation))
            };
            let missing = asked.iter().filter(|correlation| !is_there(correlation)).count();
            if missing == 0 || now - *since.get_or_insert(now) > LATEST {
                self.judge_events(&asked, missing, &arrived, now);
                return Ok(());
            }
            self.azure.pass(EVERY).await;
        }
    }

    fn judge_events(&self, asked: &[String], missing: usize, arrived: &[Arrived], now: DateTime<Utc>) {
        let first = asked.first().map(String::as_str).unwrap_or_default();
        let of_first: Vec<&Arrived> = arrived.iter().filter(|event| event.correlation.eq_ignore_ascii_case(first)).collect();
        let mut lines: Vec<String> = of_first.iter().map(|event| seen(event.enqueued, format!("the first request gave {event}"))).collect();
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for event in arrived.iter().filter(|event| !event.correlation.eq_ignore_ascii_case(first)) {
            *others.entry(event.operation.as_str()).or_default() += 1;
        }
        lines.extend(others.iter().map(|(operation, count)| seen(now, format!("besides came {count} of {}", plain(operation)))));
        lines.push(seen(now, format!("of {} requests {} had an event", asked.len(), asked.len() - missing)));
        match (how(arrived), missing) {
            (None, _) => self.found("events", json!("never"), lines.clone()),
            (Some(_), 1..) => self.open("events", "Events of some requests did not come.", lines.clone()),
            (Some(how), 0) => self.found("events", json!(how), lines.clone()),
        }
        let named: BTreeSet<&str> = of_first.iter().filter(|event| event.is_initiate()).filter_map(|event| event.names()).collect();
        let setting = match (named.contains("policy"), named.contains("vm")) {
            (true, true) => "both",
            (true, false) => "policy",
            (false, true) => "vm",
            (false, false) => return self.open("eventResource", "No event of a request came that names the policy or the VM.", lines),
        };
        let its = of_first.iter().filter(|event| event.is_initiate());
        let lines = its.map(|event| seen(event.enqueued, format!("an event of the request names {}", plain(&event.resource)))).collect();
        self.found("eventResource", json!(setting), lines);
    }
}

/// Takes everything that is in the queue, and gives Azure's time. What is no event is given back: somebody else uses the queue.
async fn take_all(bus: &Bus, arrived: &mut Vec<Arrived>) -> Result<DateTime<Utc>, Trouble> {
    for _ in 0..MESSAGES {
        let (taken, now) = bus.take().await?;
        let Some(taken) = taken else { return Ok(now) };
        let body: Value = serde_json::from_str(&taken.body).unwrap_or_default();
        let events = match body {
            Value::Array(events) => events,
            one => vec![one],
        };
        let read: Option<Vec<Arrived>> = events.iter().map(|event| Arrived::read(event, taken.enqueued, taken.sequence)).collect();
        let Some(read) = read else {
            bus.release(&taken).await?;
            return Err(Trouble::Broken(format!(
                "The queue {} holds what is no event: give one that nothing else uses.",
                bus.queue.name()
            )));
        };
        bus.complete(&taken).await?;
        arrived.extend(read);
    }
    Err(Trouble::Broken(format!("More than {MESSAGES} messages came: give a queue that nothing else uses.")))
}

impl Arrived {
    fn read(event: &Value, enqueued: DateTime<Utc>, sequence: u64) -> Option<Arrived> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let owned = |pointer: &str| text(pointer).unwrap_or_default().to_owned();
        Some(Arrived {
            id: text("/id")?.to_owned(),
            kind: text("/eventType")?.to_owned(),
            operation: text("/data/operationName")?.to_owned(),
            status: owned("/data/status"),
            resource: owned("/data/resourceUri"),
            correlation: owned("/data/correlationId"),
            at: time::parse(text("/eventTime")?)?,
            enqueued,
            sequence,
        })
    }

    fn is_initiate(&self) -> bool {
        self.operation.to_ascii_lowercase().ends_with("/jitnetworkaccesspolicies/initiate/action")
    }

    fn names(&self) -> Option<&'static str> {
        let resource = self.resource.to_ascii_lowercase();
        let is = |kind: &str| resource.contains(kind);
        is("/jitnetworkaccesspolicies/").then_some("policy").or(is("/virtualmachines/").then_some("vm"))
    }
}

impl std::fmt::Display for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.rsplit('.').next().unwrap_or_default();
        let named = self.names().unwrap_or("neither the policy nor the VM");
        let late = (self.enqueued - self.at).num_seconds().max(0);
        write!(
            f,
            "{} of {}, `{}`, which names the {named}, {late} s after it says",
            plain(kind),
            plain(&self.operation),
            plain(&self.status)
        )
    }
}

/// How events came, by what is worst of it.
fn how(arrived: &[Arrived]) -> Option<&'static str> {
    let mut delays: Vec<TimeDelta> = arrived.iter().map(|event| event.enqueued - event.at).collect();
    delays.sort_unstable();
    let median = *delays.get(delays.len() / 2)?;
    let ids: BTreeSet<&str> = arrived.iter().map(|event| event.id.as_str()).collect();
    let mut in_order: Vec<&Arrived> = arrived.iter().collect();
    in_order.sort_by_key(|event| event.sequence);
    let is_reordered = in_order.windows(2).any(|pair| pair[1].at < pair[0].at);
    Some(match () {
        () if ids.len() < arrived.len() => "doubled",
        () if median >= LATE => "late",
        () if is_reordered => "reordered",
        () => "inOrder",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, at: i64, enqueued: i64, sequence: u64) -> Arrived {
        let of = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let text = String::new;
        let (kind, operation, status, resource, correlation) = (text(), text(), text(), text(), text());
        Arrived { id: id.to_owned(), kind, operation, status, resource, correlation, at: of(at), enqueued: of(enqueued), sequence }
    }

    #[test]
    fn how_events_came_is_told_by_what_is_worst() {
        for (how_it_is, arrived) in [
            (None, vec![]),
            (Some("inOrder"), vec![event("a", 0, 3, 1), event("b", 0, 3, 2), event("c", 9, 10, 3)]),
            (Some("doubled"), vec![event("a", 0, 3, 1), event("a", 0, 900, 2)]),
            (Some("late"), vec![event("b", 9, 609, 1), event("a", 0, 600, 2)]),
            // One that is late is no habit.
            (Some("inOrder"), vec![event("a", 0, 1, 1), event("b", 5, 6, 2), event("c", 9, 900, 3)]),
            (Some("reordered"), vec![event("b", 9, 10, 1), event("a", 0, 30, 2)]),
        ] {
            assert_eq!(how(&arrived), how_it_is, "{arrived:?}");
        }
    }
}
