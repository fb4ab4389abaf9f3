//! Logs Ingestion: rows to Microsoft Sentinel.

use std::fmt;
use std::io::Write;

use azure_core::http::Method;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use url::Url;

use super::channel::{Attempts, Channel, Outgoing};
use super::error::{CallFailed, FailureKind, Service};
use crate::telemetry::Measure;

/// What is shorter goes out as it is: what packs it takes a third of a megabyte, and longer than sending it.
const WORTH_PACKING: usize = 8 * 1024;

/// A call may carry 1 MB, counted both packed and unpacked (documentation); a little is left for what Azure counts
/// besides the rows.
const LARGEST_CALL: usize = 1_000_000;

/// The stream of one data collection rule.
#[derive(Clone, Debug)]
pub struct Logs {
    channel: Channel,
    url: Url,
}

/// Rows that were not taken. Those before them were: sending all again doubles rows, which their ids make good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotIngested {
    /// How many rows, from the first, were accepted before the failure.
    pub accepted: usize,
    /// Why the others were not.
    pub cause: CallFailed,
}

impl fmt::Display for NotIngested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} rows were accepted before)", self.cause, self.accepted)
    }
}

impl std::error::Error for NotIngested {}

impl Logs {
    pub(super) fn new(channel: Channel, endpoint: &Url, rule_id: &str, stream: &str) -> Self {
        let mut url = endpoint.clone();
        url.set_path(&format!("/dataCollectionRules/{rule_id}/streams/{stream}"));
        url.set_query(Some("api-version=2023-01-01"));
        Logs { channel, url }
    }

    /// Hands rows over, in as few calls as the limits allow. Success means accepted, not stored: Azure drops what its
    /// table does not know without a word.
    pub async fn ingest(&self, rows: &[Value]) -> Result<(), NotIngested> {
        let mut accepted = 0;
        let failed = |accepted, cause| NotIngested { accepted, cause };
        let chunks = chunks(rows, LARGEST_CALL).map_err(|cause| failed(0, cause))?;
        for chunk in chunks {
            self.send(&chunk).await.map_err(|cause| failed(accepted, cause))?;
            accepted += chunk.rows;
            self.channel.telemetry().measure(Measure::Rows(chunk.rows));
        }
        Ok(())
    }

    async fn send(&self, chunk: &Chunk) -> Result<(), CallFailed> {
        let what = format!("sending {} rows to Microsoft Sentinel", chunk.rows);
        let packed = (chunk.body.len() >= WORTH_PACKING).then(|| pack(&chunk.body));
        let packed = packed.transpose().map_err(|error| {
            CallFailed::without_answer(
                Service::Logs,
                Method::Post,
                &what,
                FailureKind::Refused,
                &format!("the rows cannot be packed: {error}"),
            )
        })?;
        // Rows that do not get smaller go as they are, which also keeps the packed size under the limit.
        let (body, encoding) = match packed.filter(|packed| packed.len() < chunk.body.len()) {
            Some(packed) => (packed, Some("gzip")),
            None => (chunk.body.clone(), None),
        };
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(encoding.map(|encoding| ("content-encoding", encoding.to_owned())));
        let outgoing =
            Outgoing { what, method: Method::Post, url: self.url.clone(), headers, body: Bytes::from(body), attempts: Attempts::NotTaken };
        self.channel.call(outgoing).await.map(|_| ())
    }
}

/// Rows of one call, as the JSON array that goes out.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    rows: usize,
    body: Vec<u8>,
}

fn chunks(rows: &[Value], limit: usize) -> Result<Vec<Chunk>, CallFailed> {
    let mut all: Vec<Chunk> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let text = row.to_string();
        if text.len() + 2 > limit {
            return Err(too_large(number, row, text.len()));
        }
        match all.last_mut().filter(|chunk| chunk.body.len() + 1 + text.len() <= limit) {
            Some(chunk) => {
                chunk.body.pop();
                chunk.body.push(b',');
                chunk.body.extend_from_slice(text.as_bytes());
                chunk.body.push(b']');
                chunk.rows += 1;
            }
            None => all.push(Chunk { rows: 1, body: format!("[{text}]").into_bytes() }),
        }
    }
    Ok(all)
}

fn too_large(number: usize, row: &Value, size: usize) -> CallFailed {
    let id = row.get("EventUid").or_else(|| row.get("Id")).and_then(Value::as_str).unwrap_or("without an id");
    let message = format!("row {} ({id}) has {size} bytes, more than the {LARGEST_CALL} that one call may carry; shorten it", number + 1);
    CallFailed {
        code: "RowTooLarge".to_owned(),
        ..CallFailed::without_answer(Service::Logs, Method::Post, "sending rows to Microsoft Sentinel", FailureKind::Refused, &message)
    }
}

fn pack(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use azure_core::http::Body;
    use flate2::read::GzDecoder;
    use serde_json::json;

    use super::super::channel::tests::{FarEnd, Reply, channel};
    use super::*;

    fn logs(replies: Vec<Reply>) -> (Logs, Arc<FarEnd>) {
        let (channel, far_end) = channel(Service::Logs, replies);
        (Logs::new(channel, &Url::parse("https://127.0.0.1:4003").unwrap(), "dcr-1", "Custom-Portcullis_CL"), far_end)
    }

    fn taken() -> Reply {
        Reply::Status(204, vec![], "")
    }

    #[tokio::test]
    async fn rows_go_out_as_one_array_and_many_are_packed() {
        let (logs, far_end) = logs(vec![taken(), taken()]);
        let few = vec![json!({"EventUid": "1"}), json!({"EventUid": "2"})];
        let rows = vec![json!({"EventUid": "1", "EventMessage": "x".repeat(WORTH_PACKING)}), json!({"EventUid": "2"})];
        logs.ingest(&rows).await.unwrap();
        logs.ingest(&few).await.unwrap();
        let asked = far_end.asked.lock().unwrap();
        let Body::Bytes(plain) = asked[1].body().clone() else { panic!("bytes") };
        assert_eq!(serde_json::from_slice::<Value>(&plain).unwrap(), Value::from(few));
        assert_eq!(
            asked[0].url().as_str(),
            "https://127.0.0.1:4003/dataCollectionRules/dcr-1/streams/Custom-Portcullis_CL?api-version=2023-01-01"
        );
        let Body::Bytes(packed) = asked[0].body().clone() else { panic!("bytes") };
        let mut text = String::new();
        GzDecoder::new(packed.as_ref()).read_to_string(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::from(rows));
    }

    #[test]
    fn no_call_is_over_the_limit_and_no_row_is_lost_or_turned() {
        let rows: Vec<Value> = (0..50).map(|n| json!({"n": n, "text": "x".repeat(n)})).collect();
        let chunks = chunks(&rows, 200).unwrap();
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.body.len() <= 200));
        let all: Vec<Value> = chunks.iter().flat_map(|chunk| serde_json::from_slice::<Vec<Value>>(&chunk.body).unwrap()).collect();
        assert_eq!(all, rows);
        assert_eq!(chunks.iter().map(|chunk| chunk.rows).sum::<usize>(), 50);
    }

    #[tokio::test]
    async fn nothing_is_sent_for_no_rows() {
        let (logs, far_end) = logs(vec![]);
        logs.ingest(&[]).await.unwrap();
        assert!(far_end.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_row_over_the_limit_is_named() {
        let (logs, _) = logs(vec![]);
        let failed = logs.ingest(&[json!({}), json!({"EventUid": "e-7", "x": "x".repeat(LARGEST_CALL)})]).await.unwrap_err();
        assert_eq!((failed.accepted, failed.cause.code.as_str()), (0, "RowTooLarge"));
        assert!(failed.cause.message.starts_with("row 2 (e-7) has 1"), "{}", failed.cause.message);
    }

    #[tokio::test]
    async fn what_was_accepted_before_a_failure_is_told() {
        let (logs, _) = logs(vec![taken(), Reply::Status(403, vec![], "")]);
        let rows: Vec<Value> = (0..3).map(|n| json!({"n": n, "x": "x".repeat(600_000)})).collect();
        let failed = logs.ingest(&rows).await.unwrap_err();
        assert_eq!((failed.accepted, failed.cause.kind), (1, FailureKind::MissingRight));
    }
}
