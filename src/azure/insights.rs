//! Application Insights: where telemetry goes. Its calls are no telemetry themselves.
//!
//! The endpoint's protocol is the public one of its swagger file (ApplicationInsights-Home, `EndpointSpecs`): 200 where all
//! was taken, 206 where some was, and a body that tells how many.

use async_trait::async_trait;
use azure_core::http::Method;
use bytes::Bytes;
use serde_json::Value;
use url::Url;

use super::channel::{Attempts, Channel, Outgoing};
use super::error::CallFailed;
use crate::telemetry::{NotSent, Way};

/// The track endpoint of one component.
#[derive(Clone, Debug)]
pub struct Insights {
    channel: Channel,
    url: Url,
}

impl Insights {
    pub(super) fn new(channel: Channel, endpoint: &Url) -> Self {
        let mut url = endpoint.clone();
        url.set_path("/v2.1/track");
        Insights { channel, url }
    }
}

#[async_trait]
impl Way for Insights {
    async fn send(&self, items: Bytes) -> Result<u64, NotSent> {
        let headers = vec![("content-type", "application/json".to_owned()), ("content-encoding", "gzip".to_owned())];
        let outgoing = Outgoing {
            what: "sending telemetry to Application Insights".to_owned(),
            method: Method::Post,
            url: self.url.clone(),
            headers,
            body: items,
            // What was taken and not answered must not count twice.
            attempts: Attempts::NotTaken,
        };
        let answer = self.channel.call(outgoing).await.map_err(|failed| not_sent(&failed))?;
        Ok(refused(&answer.body))
    }
}

/// How many items were not taken, by the body of an answer of success. One that says nothing of it took them all.
pub fn refused(body: &[u8]) -> u64 {
    // A structure of serde's would read a list as well.
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = |name| told.get(name).and_then(Value::as_u64);
    count("itemsReceived").zip(count("itemsAccepted")).map(|(received, accepted)| received.saturating_sub(accepted)).unwrap_or_default()
}

fn not_sent(failed: &CallFailed) -> NotSent {
    NotSent { why: failed.to_string(), wait: failed.retry_after }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::channel::tests::{Reply, channel};
    use super::super::error::Service;
    use super::*;

    async fn sent(replies: Vec<Reply>) -> (Result<u64, Option<Duration>>, Vec<String>) {
        let (channel, far_end) = channel(Service::Insights, replies);
        let insights = Insights::new(channel, &Url::parse("https://127.0.0.1:4008/").unwrap());
        let sent = insights.send(Bytes::from_static(b"[]")).await.map_err(|failed| failed.wait);
        let asked = far_end.asked.lock().unwrap().iter().map(|request| request.url().to_string()).collect();
        (sent, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_is_counted_and_what_may_have_been_is_not_sent_twice() {
        let once = vec!["https://127.0.0.1:4008/v2.1/track".to_owned()];
        let partly = r#"{"itemsReceived":5,"itemsAccepted":3,"errors":[]}"#;
        assert_eq!(sent(vec![Reply::Status(206, vec![], partly)]).await, (Ok(2), once.clone()));
        assert_eq!(sent(vec![Reply::Status(200, vec![], "")]).await, (Ok(0), once.clone()));
        assert_eq!(sent(vec![Reply::Status(500, vec![], "")]).await, (Err(None), once.clone()));
        assert_eq!(sent(vec![Reply::CutAfterSending]).await, (Err(None), once.clone()));
        let quiet = Some(Duration::from_secs(60));
        assert_eq!(sent(vec![Reply::Status(439, vec![("retry-after", "60")], "")]).await, (Err(quiet), once));
        let (came_to, asked) = sent(vec![Reply::Status(503, vec![], ""), Reply::NeverConnects, Reply::Status(200, vec![], "{}")]).await;
        assert_eq!((came_to, asked.len()), (Ok(0), 3));
    }
}
