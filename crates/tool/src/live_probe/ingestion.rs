//! Whether the Logs Ingestion endpoint holds its limit against what a packed body unpacks to, too.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_rules::plain::plain;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::json;

use super::azure::Trouble;
use super::report::seen;
use super::token::Token;
use super::{Probe, Stage};

/// Whom tokens of Azure Monitor are for.
const AUDIENCE: &str = "https://monitor.azure.com";
const VERSION: &str = "2023-01-01";
/// What is sent unpacks to so much: twice the limit.
const UNPACKED: usize = 2 << 20;

/// Where rows are sent.
pub struct Ingestion {
    http: reqwest::Client,
    url: String,
    token: Token,
}

impl Ingestion {
    /// A stream of a data collection rule, by its immutable id, at an ingestion endpoint.
    pub fn new(http: reqwest::Client, endpoint: &str, rule: &str, stream: &str, token: Token) -> Self {
        let url = format!("{}/dataCollectionRules/{rule}/streams/{stream}?api-version={VERSION}", endpoint.trim_end_matches('/'));
        Ingestion { http, url, token }
    }
}

impl Probe<'_> {
    /// Sends a list of no rows that is two megabytes of blanks: nothing comes into the table.
    pub(super) async fn unpacked_counts(&self) -> Stage {
        let Some(ingestion) = &self.ingestion else { return Ok(()) };
        self.tell("sending an empty list of rows that unpacks to 2 MB");
        let broken = |why: &dyn std::fmt::Display| Trouble::Broken(format!("the ingestion endpoint could not be asked: {why}"));
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        let list = format!("[{}]", " ".repeat(UNPACKED));
        let packed = packed.write_all(list.as_bytes()).and_then(|()| packed.finish()).map_err(|why| broken(&why))?;
        let bearer = ingestion.token.get(AUDIENCE).await.map_err(Trouble::Broken)?;
        let request = ingestion.http.post(&ingestion.url).bearer_auth(bearer);
        let request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_ENCODING, "gzip").body(packed);
        let answer = request.send().await.map_err(|why| broken(&why))?;
        let status = answer.status();
        let said = answer.text().await.map_err(|why| broken(&why))?;
        let line = seen(self.azure.now(), format!("an empty list that unpacks to 2 MB was answered {}", status.as_u16()));
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => self.found("logsUnpackedCounts", json!(true), vec![line]),
            _ if status.is_success() => self.found("logsUnpackedCounts", json!(false), vec![line]),
            _ => {
                let why = format!("The ingestion endpoint answered {}: {}", status.as_u16(), plain(said.trim()));
                self.open("logsUnpackedCounts", &why, Vec::new());
            }
        }
        Ok(())
    }
}
