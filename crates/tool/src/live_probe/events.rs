//! How the events of what the probe does arrive: at a queue that is subscribed to them meanwhile, and which schema the app's own event
//! subscription has.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::time;
use portcullis_rules::plain::plain;
use reqwest::Method;
use serde_json::{Value, json};

use super::azure::Trouble;
use super::bus::Bus;
use super::machine::{FIRST, SECOND};
use super::opening::LONG;
use super::report::seen;
use super::{LONGEST, Probe, Stage};

const EVENT_GRID: &str = "2025-02-15";
/// The function that the app's event subscription leads to.
const FUNCTION: &str = "/functions/jit_activity";
/// How the name of the probe's own event subscription begins; the time of the run follows.
const NAME: &str = "portcullis-live-probe";
/// Should nobody take it away, it ends by itself.
const EXPIRES_AFTER: TimeDelta = TimeDelta::hours(6);
/// An event subscription that was deleted is gone so soon.
const GONE_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// A second copy of an event comes so soon.
const COPIES_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// How often the queue may fail to answer in a row.
const FAILURES: u32 = 6;
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
        if bus.life(self.azure.now()).is_some_and(|left| left < LONGEST) {
            return Err(Trouble::Broken(format!("The token for Service Bus must have {} minutes left.", LONGEST.num_minutes())));
        }
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
            "expirationTimeUtc": (self.machine.began + EXPIRES_AFTER).to_rfc3339_opts(SecondsFormat::Secs, true),
        }});
        self.note(|notes| notes.may_be_subscribed = true);
        let made = self.azure.write_patiently(Method::PUT, &self.own_subscription(), EVENT_GRID, Some(&body)).await;
        if made.as_ref().is_err_and(|trouble| trouble.status().is_some_and(|status| status < 500)) {
            self.note(|notes| notes.may_be_subscribed = false);
        }
        made?;
        let since = self.azure.now();
        loop {
            let answer = self.azure.get(&self.own_subscription(), EVENT_GRID).await?;
            match answer.body.pointer("/properties/provisioningState").and_then(Value::as_str).unwrap_or_default() {
                "Succeeded" => {
                    self.note(|notes| notes.is_subscribed = true);
                    return Ok(());
                }
                "Failed" => return Err(Trouble::Broken("Event Grid could not subscribe the queue: see it in the portal.".to_owned())),
                _ if answer.at - since > MADE_WITHIN => {
                    return Err(Trouble::Broken("Event Grid has not subscribed the queue within five minutes.".to_owned()));
                }
                _ => self.azure.pass(EVERY).await,
            }
        }
    }

    /// Nobody else's: two probes may ask about two machines of one subscription.
    pub(super) fn own_name(&self) -> String {
        format!("{NAME}-{}", self.machine.began.format("%Y%m%d%H%M%S"))
    }

    fn own_subscription(&self) -> String {
        let subscription = self.machine.vm.subscription();
        format!("/subscriptions/{subscription}/providers/Microsoft.EventGrid/eventSubscriptions/{}", self.own_name())
    }

    /// Takes the probe's event subscription away, and what it sent; what to do, if that could not be.
    pub(super) async fn unsubscribe(&self) -> Option<String> {
        let bus = self.bus.as_ref().filter(|_| self.noted(|notes| notes.may_be_subscribed))?;
        if let Err(trouble) = self.delete_subscription().await {
            let path = self.own_subscription();
            return Some(format!(
                "The event subscription {path} may be there still. {trouble} Delete it by hand; it ends by itself after 6 hours."
            ));
        }
        if let Err(trouble) = take_all(bus, &self.own_name(), &mut BTreeMap::new()).await {
            return Some(format!("Messages of the probe may be left in the queue {}. {trouble}", bus.queue.name()));
        }
        self.note(|notes| notes.may_be_subscribed = false);
        None
    }

    async fn delete_subscription(&self) -> Stage {
        let (path, since) = (self.own_subscription(), self.azure.now());
        let mut tries = 0;
        loop {
            tries += 1;
            let deleted = self.azure.write_patiently(Method::DELETE, &path, EVENT_GRID, None).await;
            let there = match deleted {
                Ok(_) => self.azure.get(&path, EVENT_GRID).await.map(|_| ()),
                Err(trouble) => Err(trouble),
            };
            match there {
                Err(trouble) if trouble.status() == Some(404) => return Ok(()),
                Err(trouble) if trouble.status().is_some_and(|status| status < 500) || tries >= TRIES => return Err(trouble),
                Ok(()) if self.azure.now() - since > GONE_WITHIN => {
                    return Err(Trouble::Broken("It was deleted, and is there a minute later.".to_owned()));
                }
                Ok(()) | Err(_) => self.azure.pass(EVERY).await,
            }
        }
    }

    /// Two requests in a row, whose events show whether one may pass another. What they open is taken away with all else.
    pub(super) async fn in_a_row(&self) -> Stage {
        if !self.noted(|notes| notes.is_subscribed) {
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
        let Some(bus) = self.bus.as_ref().filter(|_| self.noted(|notes| notes.is_subscribed)) else { return Ok(()) };
        let asked = self.noted(|notes| notes.requests.clone());
        if asked.is_empty() {
            return Err(Trouble::Broken("JIT took no request, so that there is no event of one.".to_owned()));
        }
        self.tell("waiting for the events of what was asked, 20 minutes at most");
        let mut arrived = BTreeMap::new();
        let (mut since, mut failures, mut is_last) = (None, 0, false);
        loop {
            let now = match take_all(bus, &self.own_name(), &mut arrived).await {
                Ok(now) => now,
                Err(Trouble::Broken(_)) if failures < FAILURES => {
                    failures += 1;
                    self.azure.pass(EVERY).await;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            failures = 0;
            let is_there = |correlation: &String| arrived.values().any(|event| event.is_initiate() && event.is_of(correlation));
            let missing = asked.iter().filter(|correlation| !is_there(correlation)).count();
            if is_last || now - *since.get_or_insert(now) > LATEST {
                let arrived: Vec<Arrived> = arrived.into_values().collect();
                self.judge_events(&asked, missing, &arrived, now);
                return Ok(());
            }
            is_last = missing == 0;
            self.azure.pass(if is_last { COPIES_WITHIN } else { EVERY }).await;
        }
    }

    fn judge_events(&self, asked: &[String], missing: usize, arrived: &[Arrived], now: DateTime<Utc>) {
        let first = asked.first().map(String::as_str).unwrap_or_default();
        // JIT may write one by itself, under an id that nobody was told.
        let is_of_first = |event: &&Arrived| event.is_of(first) || (event.is_initiate() && !asked.iter().any(|one| event.is_of(one)));
        let (of_first, others): (Vec<&Arrived>, Vec<&Arrived>) = arrived.iter().partition(is_of_first);
        let mut lines: Vec<String> = of_first.iter().map(|event| seen(event.enqueued, format!("the first request gave {event}"))).collect();
        let mut by_operation: BTreeMap<&str, usize> = BTreeMap::new();
        for event in others {
            *by_operation.entry(event.operation.as_str()).or_default() += 1;
        }
        lines.extend(by_operation.iter().map(|(operation, count)| seen(now, format!("besides came {count} of {}", plain(operation)))));
        lines.push(seen(now, format!("of {} requests {} had an event", asked.len(), asked.len() - missing)));
        let initiates: Vec<&Arrived> = arrived.iter().filter(|event| event.is_initiate()).collect();
        match how(&initiates) {
            None => {
                let doubt = "a namespace without local authentication, or one that lets in some networks alone, takes no event: then this says nothing";
                lines.push(seen(now, doubt));
                self.found("events", json!("never"), lines.clone());
            }
            Some(_) if missing > 0 => self.open("events", "Events of some requests did not come.", lines.clone()),
            Some(how) => self.found("events", json!(how), lines.clone()),
        }
        let its: Vec<&&Arrived> = of_first.iter().filter(|event| event.is_initiate()).collect();
        let named: BTreeSet<&str> = its.iter().filter_map(|event| event.names()).collect();
        let setting = match (named.contains("policy"), named.contains("vm")) {
            (true, true) => "both",
            (true, false) => "policy",
            (false, true) => "vm",
            (false, false) => return self.open("eventResource", "No event of a request came that names the policy or the VM.", lines),
        };
        let lines =
            its.iter().map(|event| seen(event.enqueued, format!("an event of the request names {}", plain(&event.resource)))).collect();
        self.found("eventResource", json!(setting), lines);
    }
}

/// Takes what the event subscription of this name sent to the queue, and gives Azure's time. Anything else is given back: somebody else
/// uses the queue.
async fn take_all(bus: &Bus, name: &str, arrived: &mut BTreeMap<(u64, usize), Arrived>) -> Result<DateTime<Utc>, Trouble> {
    for _ in 0..MESSAGES {
        let (taken, now) = bus.take().await?;
        let Some(taken) = taken else { return Ok(now) };
        let body: Value = serde_json::from_str(&taken.body).unwrap_or_default();
        let events = match body {
            Value::Array(events) => events,
            one => vec![one],
        };
        let read: Option<Vec<Arrived>> = events.iter().map(|event| Arrived::read(event, taken.enqueued)).collect();
        let Some(read) = read.filter(|_| taken.subscription.eq_ignore_ascii_case(name)) else {
            bus.release(&taken).await?;
            return Err(Trouble::Broken(format!(
                "The queue {} holds what the probe did not send: give one that nothing else uses.",
                bus.queue.name()
            )));
        };
        // Before it is taken out: whether that was done may not come back.
        arrived.extend(read.into_iter().enumerate().map(|(place, event)| ((taken.sequence, place), event)));
        bus.complete(&taken).await?;
    }
    Err(Trouble::Broken(format!("More than {MESSAGES} messages came: give a queue that nothing else uses.")))
}

impl Arrived {
    fn read(event: &Value, enqueued: DateTime<Utc>) -> Option<Arrived> {
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
        })
    }

    fn is_of(&self, correlation: &str) -> bool {
        self.correlation.eq_ignore_ascii_case(correlation)
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

/// How events came, by what is worst of it. Two that came within a second are in either order.
fn how(arrived: &[&Arrived]) -> Option<&'static str> {
    let mut delays: Vec<TimeDelta> = arrived.iter().map(|event| event.enqueued - event.at).collect();
    delays.sort_unstable();
    let median = *delays.get(delays.len() / 2)?;
    let ids: BTreeSet<&str> = arrived.iter().map(|event| event.id.as_str()).collect();
    let overtakes = |one: &Arrived, other: &Arrived| one.at < other.at && one.enqueued > other.enqueued;
    let is_reordered = arrived.iter().any(|one| arrived.iter().any(|other| overtakes(one, other)));
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

    fn event(id: &str, at: i64, enqueued: i64) -> Arrived {
        let of = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let text = String::new;
        let (kind, operation, status, resource, correlation) = (text(), text(), text(), text(), text());
        Arrived { id: id.to_owned(), kind, operation, status, resource, correlation, at: of(at), enqueued: of(enqueued) }
    }

    #[test]
    fn how_events_came_is_told_by_what_is_worst() {
        for (how_it_is, arrived) in [
            (None, vec![]),
            (Some("inOrder"), vec![event("a", 0, 3), event("b", 0, 3), event("c", 9, 10)]),
            (Some("doubled"), vec![event("a", 0, 3), event("a", 0, 900)]),
            (Some("late"), vec![event("b", 9, 609), event("a", 0, 600)]),
            // One that is late is no habit.
            (Some("inOrder"), vec![event("a", 0, 1), event("b", 5, 6), event("c", 9, 900)]),
            (Some("reordered"), vec![event("b", 9, 10), event("a", 0, 30)]),
        ] {
            assert_eq!(how(&arrived.iter().collect::<Vec<_>>()), how_it_is, "{arrived:?}");
        }
    }
}
