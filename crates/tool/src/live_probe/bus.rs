//! A queue of Service Bus, which events are sent to: taken from it over REST, one message at a time, each under a lock.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::time;
use portcullis_rules::plain::plain;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use super::azure::{Trouble, is_of};
use super::token::Token;

/// The resource id of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueId {
    id: String,
    namespace: String,
    name: String,
}

impl QueueId {
    /// Where Azure has its namespace.
    pub fn endpoint(&self) -> String {
        format!("https://{}.servicebus.windows.net", self.namespace)
    }

    /// As it was given.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Whether it can be the first label of a host: a token is sent there.
fn is_host(namespace: &str) -> bool {
    !namespace.is_empty() && namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl FromStr for QueueId {
    type Err = String;

    fn from_str(id: &str) -> Result<Self, String> {
        let segments: Vec<&str> = id.trim_end_matches('/').split('/').collect();
        let is = |at: usize, word: &str| segments.get(at).is_some_and(|segment: &&str| segment.eq_ignore_ascii_case(word));
        let words =
            [(1, "subscriptions"), (3, "resourceGroups"), (5, "providers"), (6, "Microsoft.ServiceBus"), (7, "namespaces"), (9, "queues")];
        match segments.as_slice() {
            ["", _, _, _, _, _, _, _, namespace, _, name] if words.iter().all(|(at, word)| is(*at, word)) && is_host(namespace) => {
                Ok(QueueId { id: segments.join("/"), namespace: (*namespace).to_owned(), name: (*name).to_owned() })
            }
            _ => Err(
                "give the resource id of a queue, /subscriptions/…/resourceGroups/…/providers/Microsoft.ServiceBus/namespaces/…/queues/…"
                    .to_owned(),
            ),
        }
    }
}

/// A queue that can be taken from.
pub struct Bus {
    http: reqwest::Client,
    /// The queue.
    pub queue: QueueId,
    endpoint: String,
    token: Token,
}

/// A message under its lock.
pub struct Taken {
    /// Its body.
    pub body: String,
    /// When the queue took it, to a second.
    pub enqueued: DateTime<Utc>,
    /// Its number in the queue.
    pub sequence: u64,
    /// The event subscription that sent it, as Event Grid writes it beside the event; empty where nobody says so.
    pub subscription: String,
    lock: String,
}

/// Whom tokens of Service Bus are for.
const AUDIENCE: &str = "https://servicebus.azure.net";
const VERSION: &str = "api-version=2017-04";

impl Bus {
    /// The queue at this endpoint, asked with this token.
    pub fn new(http: reqwest::Client, queue: QueueId, endpoint: &str, token: Token) -> Self {
        Bus { http, queue, endpoint: endpoint.trim_end_matches('/').to_owned(), token }
    }

    /// How long its token lives on, where it cannot be renewed and says so.
    pub fn life(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.token.life(now)
    }

    /// Locks the next message, if there is one, and gives Azure's time.
    pub async fn take(&self) -> Result<(Option<Taken>, DateTime<Utc>), Trouble> {
        let answer = self.send(Method::POST, &format!("{}/{}/messages/head?timeout=0&{VERSION}", self.endpoint, self.queue.name)).await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let now = header("date").as_deref().and_then(time::of_header).ok_or_else(|| self.strange("it says no time"))?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok((None, now));
        }
        let properties: Value = header("brokerproperties").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let enqueued = properties["EnqueuedTimeUtc"].as_str().and_then(time::of_header);
        let subscription = header("aeg-subscription-name").unwrap_or_default().trim_matches('"').to_owned();
        let lock =
            header("location").filter(|lock| is_of(lock, &self.endpoint)).ok_or_else(|| self.strange("it says no lock of a message"))?;
        let sequence = properties["SequenceNumber"].as_u64().unwrap_or_default();
        let enqueued = enqueued.ok_or_else(|| self.strange("it does not say when a message came"))?;
        let body = answer.text().await.map_err(|why| self.broken(&why))?;
        Ok((Some(Taken { body, enqueued, sequence, subscription, lock }), now))
    }

    /// Takes a message out for good.
    pub async fn complete(&self, taken: &Taken) -> Result<(), Trouble> {
        self.send(Method::DELETE, &format!("{}?{VERSION}", taken.lock)).await.map(drop)
    }

    /// Gives a message back.
    pub async fn release(&self, taken: &Taken) -> Result<(), Trouble> {
        self.send(Method::PUT, &format!("{}?{VERSION}", taken.lock)).await.map(drop)
    }

    async fn send(&self, method: Method, url: &str) -> Result<Response, Trouble> {
        let bearer = self.token.get(AUDIENCE).await.map_err(Trouble::Broken)?;
        let answer = self.sent_as(&bearer, method.clone(), url).await?;
        let answer = match answer.status() == StatusCode::UNAUTHORIZED && self.token.forget(&bearer) {
            true => self.sent_as(&self.token.get(AUDIENCE).await.map_err(Trouble::Broken)?, method, url).await?,
            false => answer,
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.text().await.unwrap_or_default();
        let said =
            said.split_once("<Detail>").and_then(|(_, rest)| rest.split_once("</Detail>")).map_or(said.as_str(), |(detail, _)| detail);
        let cure = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " Ask for the role Azure Service Bus Data Receiver at the queue.",
            _ => "",
        };
        Err(Trouble::Broken(format!(
            "Service Bus answered {} of the queue {}: {}{cure}",
            status.as_u16(),
            self.queue.name,
            plain(said.trim())
        )))
    }

    async fn sent_as(&self, bearer: &str, method: Method, url: &str) -> Result<Response, Trouble> {
        let request = self.http.request(method, url).bearer_auth(bearer).header("content-length", "0").body("");
        request.send().await.map_err(|why| self.broken(&why))
    }

    fn broken(&self, why: &reqwest::Error) -> Trouble {
        Trouble::Broken(format!("the queue {} could not be asked: {why}", self.queue.name))
    }

    fn strange(&self, why: &str) -> Trouble {
        Trouble::Broken(format!("{} answers as Service Bus does not: {why}", self.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_by_its_resource_id() {
        let id = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ServiceBus/namespaces/ns/queues/probe";
        let queue: QueueId = id.parse().unwrap();
        assert_eq!((queue.id(), queue.name(), queue.endpoint().as_str()), (id, "probe", "https://ns.servicebus.windows.net"));
        let elsewhere = id.replace("/ns/", "/evil.example?x/");
        for wrong in [
            "probe",
            &elsewhere,
            "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ServiceBus/namespaces/ns",
            &format!("{id}/messages/x"),
        ] {
            assert!(wrong.parse::<QueueId>().is_err(), "{wrong}");
        }
    }
}
