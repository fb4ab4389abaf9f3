//! Blob storage: the store's five calls, each with its condition, each telling the service's own clock.
//!
//! The REST calls go through our own channel and not through azure_storage_blob: that crate reads a blob in parallel
//! ranges (which a client that unpacks answers breaks), splits and repeats writes by its own lights, and keeps a token
//! for each of its clients. Here a call is one request, it says how often it may be sent, and the `Date` of every
//! answer, a refusal's too, comes back: it is the product's only clock.

use std::ops::ControlFlow;

use azure_core::http::Method;
use azure_core::xml::from_xml;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use portcullis_domain::time;
use serde::Deserialize;
use url::Url;

use super::channel::{Answer, Attempts, Channel, Outgoing};
use super::error::{CallFailed, Service};

/// Old enough for every store, Azurite included, and new enough for Entra tokens (documentation: 2017-11-09).
const VERSION: &str = "2021-12-02";

/// The most that one page of a list can hold (documentation).
const LARGEST_PAGE: usize = 5000;

/// The containers of one storage account.
#[derive(Clone, Debug)]
pub struct Blobs {
    channel: Channel,
    endpoint: Url,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The blob.
    Found {
        /// Its content.
        body: Bytes,
        /// Its version, for a conditional write.
        etag: String,
        /// The store's clock.
        date: DateTime<Utc>,
    },
    /// There is none of that name; the container is there.
    Missing {
        /// The store's clock.
        date: DateTime<Utc>,
    },
}

/// What a creation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    /// It was made.
    Created {
        /// Its version.
        etag: String,
        /// The store's clock.
        date: DateTime<Utc>,
    },
    /// There is one already; it is as it was.
    Exists {
        /// The store's clock.
        date: DateTime<Utc>,
    },
}

/// What a replacement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It was written.
    Replaced {
        /// Its new version.
        etag: String,
        /// The store's clock.
        date: DateTime<Utc>,
    },
    /// It is no longer what was read, or no longer there; nothing was written.
    Changed {
        /// The store's clock.
        date: DateTime<Utc>,
    },
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remove {
    /// It is gone.
    Deleted {
        /// The store's clock.
        date: DateTime<Utc>,
    },
    /// It was not there.
    Missing {
        /// The store's clock.
        date: DateTime<Utc>,
    },
    /// It is no longer what was read; it was left.
    Changed {
        /// The store's clock.
        date: DateTime<Utc>,
    },
}

/// A blob in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its whole name.
    pub name: String,
    /// Its version, in the form that a conditional write takes, if the store lists it.
    pub etag: Option<String>,
    /// When it was last written, to the second, if the store lists it.
    pub modified: Option<DateTime<Utc>>,
}

impl CallFailed {
    /// Whether the container itself is missing: the deployment is not complete, or the store was emptied.
    pub fn is_missing_container(&self) -> bool {
        self.service == Service::Blob && ["ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"].contains(&self.code.as_str())
    }
}

impl Blobs {
    pub(super) fn new(channel: Channel, endpoint: Url) -> Self {
        Blobs { channel, endpoint }
    }

    /// Reads a blob.
    pub async fn get(&self, container: &str, name: &str) -> Result<Read, CallFailed> {
        let call = self.outgoing("reading", Method::Get, container, name, Attempts::Safe);
        let asked = Asked::of(&call);
        let answer = self.channel.send(call).await?;
        match (answer.status, code(&answer)) {
            (200, _) => Ok(Read::Found { etag: asked.etag(&answer)?, date: asked.date(&answer)?, body: answer.body }),
            (404, "BlobNotFound") => Ok(Read::Missing { date: asked.date(&answer)? }),
            _ => Err(asked.failed(&answer)),
        }
    }

    /// Writes a blob that must not be there yet.
    pub async fn create(&self, container: &str, name: &str, body: Bytes) -> Result<Create, CallFailed> {
        let call = self.put("creating", container, name, body, ("if-none-match", "*".to_owned()));
        let asked = Asked::of(&call);
        let answer = self.channel.send(call).await?;
        match (answer.status, code(&answer)) {
            (201, _) => Ok(Create::Created { etag: asked.etag(&answer)?, date: asked.date(&answer)? }),
            // What a retention policy protects is there too.
            (409, "BlobAlreadyExists" | "BlobImmutableDueToPolicy") => Ok(Create::Exists { date: asked.date(&answer)? }),
            (412, code) if !is_of_lease(code) => Ok(Create::Exists { date: asked.date(&answer)? }),
            _ => Err(asked.failed(&answer)),
        }
    }

    /// Writes a blob that must still be the version that was read.
    pub async fn replace(&self, container: &str, name: &str, body: Bytes, etag: &str) -> Result<Replace, CallFailed> {
        let call = self.put("replacing", container, name, body, ("if-match", etag.to_owned()));
        let asked = Asked::of(&call);
        let answer = self.channel.send(call).await?;
        match (answer.status, code(&answer)) {
            (201, _) => Ok(Replace::Replaced { etag: asked.etag(&answer)?, date: asked.date(&answer)? }),
            (404, "BlobNotFound") => Ok(Replace::Changed { date: asked.date(&answer)? }),
            (412, code) if !is_of_lease(code) => Ok(Replace::Changed { date: asked.date(&answer)? }),
            _ => Err(asked.failed(&answer)),
        }
    }

    /// Deletes a blob; if `etag` is given, only that version of it.
    pub async fn delete(&self, container: &str, name: &str, etag: Option<&str>) -> Result<Remove, CallFailed> {
        let mut call = self.outgoing("deleting", Method::Delete, container, name, Attempts::NotTaken);
        call.headers.extend(etag.map(|etag| ("if-match", etag.to_owned())));
        let asked = Asked::of(&call);
        let answer = self.channel.send(call).await?;
        match (answer.status, code(&answer)) {
            (202, _) => Ok(Remove::Deleted { date: asked.date(&answer)? }),
            (404, "BlobNotFound") => Ok(Remove::Missing { date: asked.date(&answer)? }),
            (412, code) if !is_of_lease(code) => Ok(Remove::Changed { date: asked.date(&answer)? }),
            _ => Err(asked.failed(&answer)),
        }
    }

    /// Lists the blobs whose name begins with `prefix`, in the order of their names, page by page, until `each` ends
    /// it; a page holds at most `page` of them. Gives the store's clock at the first page.
    pub async fn list(
        &self,
        container: &str,
        prefix: &str,
        page: usize,
        mut each: impl FnMut(Vec<Listed>) -> ControlFlow<()> + Send,
    ) -> Result<DateTime<Utc>, CallFailed> {
        let mut marker = String::new();
        let mut first: Option<DateTime<Utc>> = None;
        loop {
            let call = self.listing(container, prefix, page, &marker);
            let asked = Asked::of(&call);
            let answer = self.channel.call(call).await?;
            let date = match first {
                Some(date) => date,
                None => *first.insert(asked.date(&answer)?),
            };
            let (listed, next) =
                Listed::read_page(&answer.body).ok_or_else(|| asked.malformed(&answer, "the list is not the XML of a container"))?;
            if !next.is_empty() && next == marker {
                return Err(asked.malformed(&answer, "the list points to its own page"));
            }
            if each(listed).is_break() || next.is_empty() {
                return Ok(date);
            }
            marker = next;
        }
    }

    fn listing(&self, container: &str, prefix: &str, page: usize, marker: &str) -> Outgoing {
        let mut call = self.outgoing("listing", Method::Get, container, "", Attempts::Safe);
        call.what = format!("listing {container}/{prefix}");
        let most = page.clamp(1, LARGEST_PAGE).to_string();
        let mut query = call.url.query_pairs_mut();
        query.extend_pairs([("restype", "container"), ("comp", "list"), ("prefix", prefix), ("maxresults", &most)]);
        if !marker.is_empty() {
            query.append_pair("marker", marker);
        }
        drop(query);
        call
    }

    /// A write is sent again only when the store did not take it: else our own write could look like another's.
    fn put(&self, doing: &str, container: &str, name: &str, body: Bytes, condition: (&'static str, String)) -> Outgoing {
        let mut call = self.outgoing(doing, Method::Put, container, name, Attempts::NotTaken);
        call.headers.extend([("x-ms-blob-type", "BlockBlob".to_owned()), ("content-type", "application/json".to_owned()), condition]);
        call.body = body;
        call
    }

    fn outgoing(&self, doing: &str, method: Method, container: &str, name: &str, attempts: Attempts) -> Outgoing {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(container).extend(name.split('/').filter(|part| !part.is_empty()));
        }
        Outgoing {
            method,
            attempts,
            headers: vec![("x-ms-version", VERSION.to_owned())],
            ..Outgoing::get(format!("{doing} {container}/{name}"), url)
        }
    }
}

/// Whether a write was refused since somebody has leased the blob (`LeaseIdMissing` and its like, documentation): it is the version that
/// was read, and nobody else can write it.
fn is_of_lease(code: &str) -> bool {
    code.starts_with("Lease")
}

/// The code of a refusal: of its header, else of its body. Empty where neither has one.
pub fn code(answer: &Answer) -> &str {
    answer.header("x-ms-error-code").or_else(|| code_of_body(&answer.body).filter(|_| !answer.is_success())).unwrap_or_default()
}

fn code_of_body(body: &[u8]) -> Option<&str> {
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// What was asked, for the failures that its answer may tell.
struct Asked {
    method: Method,
    what: String,
}

impl Asked {
    fn of(call: &Outgoing) -> Self {
        Asked { method: call.method, what: call.what.clone() }
    }

    fn date(&self, answer: &Answer) -> Result<DateTime<Utc>, CallFailed> {
        answer.date().ok_or_else(|| self.malformed(answer, "the answer has no Date, so the store's clock is unknown"))
    }

    fn etag(&self, answer: &Answer) -> Result<String, CallFailed> {
        let etag = answer.header("etag").map(str::to_owned);
        etag.ok_or_else(|| self.malformed(answer, "the answer has no ETag"))
    }

    fn failed(&self, answer: &Answer) -> CallFailed {
        if answer.is_success() {
            return self.malformed(answer, "this status of success is not one of this call's");
        }
        CallFailed::from_answer(Service::Blob, self.method, &self.what, answer)
    }

    fn malformed(&self, answer: &Answer, message: &str) -> CallFailed {
        CallFailed::malformed(Service::Blob, self.method, &self.what, answer, message)
    }
}

#[derive(Deserialize)]
struct Page {
    /// There in every list, an empty one included (documentation); not in what a proxy answers in its place.
    #[serde(rename = "Blobs")]
    blobs: PageBlobs,
    #[serde(rename = "NextMarker")]
    next_marker: Option<String>,
}

#[derive(Default, Deserialize)]
struct PageBlobs {
    #[serde(rename = "Blob", default)]
    blob: Vec<PageBlob>,
}

#[derive(Deserialize)]
struct PageBlob {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Properties", default)]
    properties: PageProperties,
}

#[derive(Default, Deserialize)]
struct PageProperties {
    #[serde(rename = "Etag", alias = "ETag")]
    etag: Option<String>,
    #[serde(rename = "Last-Modified")]
    modified: Option<String>,
}

impl Listed {
    /// Reads a page of a list: its blobs, and the marker of the next page, which is empty at the end. Nothing where it is
    /// none.
    pub fn read_page(body: &[u8]) -> Option<(Vec<Listed>, String)> {
        let page: Page = from_xml(body).ok()?;
        Some((page.blobs.blob.into_iter().map(Listed::from).collect(), page.next_marker.unwrap_or_default()))
    }
}

impl From<PageBlob> for Listed {
    fn from(blob: PageBlob) -> Self {
        // A list gives the version without the quotes that the header and a condition have (recorded).
        let quoted = |etag: String| if etag.starts_with(['"', 'W']) { etag } else { format!("\"{etag}\"") };
        Listed {
            name: blob.name,
            etag: blob.properties.etag.filter(|etag| !etag.is_empty()).map(quoted),
            modified: blob.properties.modified.as_deref().and_then(time::of_header),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::channel::tests::{FarEnd, Reply, channel};
    use super::super::error::FailureKind;
    use super::*;

    const DATE: (&str, &str) = ("date", "Thu, 15 Jan 2026 10:00:00 GMT");

    fn blobs(replies: Vec<Reply>) -> (Blobs, Arc<FarEnd>) {
        let (channel, far_end) = channel(Service::Blob, replies);
        (Blobs::new(channel, Url::parse("https://127.0.0.1:4001/account").unwrap()), far_end)
    }

    fn date() -> DateTime<Utc> {
        "2026-01-15T10:00:00Z".parse().unwrap()
    }

    fn refusal(status: u16, code: &'static str) -> Reply {
        Reply::Status(status, vec![DATE, ("x-ms-error-code", code)], "")
    }

    #[tokio::test]
    async fn a_read_tells_the_blob_its_version_and_the_stores_clock() {
        let (blobs, far_end) = blobs(vec![Reply::Status(200, vec![DATE, ("etag", "\"1\"")], "{}"), refusal(404, "BlobNotFound")]);
        let found = Read::Found { body: Bytes::from("{}"), etag: "\"1\"".to_owned(), date: date() };
        assert_eq!(blobs.get("state", "vm/a b/c%2f.json").await.unwrap(), found);
        assert_eq!(blobs.get("state", "x").await.unwrap(), Read::Missing { date: date() });
        let asked = far_end.asked.lock().unwrap();
        assert_eq!(asked[0].url().as_str(), "https://127.0.0.1:4001/account/state/vm/a%20b/c%252f.json");
    }

    #[tokio::test]
    async fn a_missing_container_is_never_a_missing_blob() {
        for code in ["ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"] {
            let (blobs, _) = blobs(vec![refusal(404, code)]);
            let failed = blobs.get("state", "x").await.unwrap_err();
            assert_eq!((failed.kind, failed.is_missing_container()), (FailureKind::NotFound, code != "ResourceNotFound"), "{code}");
        }
    }

    #[tokio::test]
    async fn conditional_writes_tell_what_they_met() {
        let written = || Reply::Status(201, vec![DATE, ("etag", "\"2\"")], "");
        let body = Bytes::from("{}");
        let (store, far_end) = blobs(vec![
            written(),
            refusal(409, "BlobAlreadyExists"),
            written(),
            refusal(412, "ConditionNotMet"),
            refusal(404, "BlobNotFound"),
        ]);
        assert_eq!(store.create("state", "x", body.clone()).await.unwrap(), Create::Created { etag: "\"2\"".to_owned(), date: date() });
        assert_eq!(store.create("state", "x", body.clone()).await.unwrap(), Create::Exists { date: date() });
        assert_eq!(
            store.replace("state", "x", body.clone(), "\"1\"").await.unwrap(),
            Replace::Replaced { etag: "\"2\"".to_owned(), date: date() }
        );
        assert_eq!(store.replace("state", "x", body.clone(), "\"1\"").await.unwrap(), Replace::Changed { date: date() });
        assert_eq!(store.replace("state", "x", body, "\"1\"").await.unwrap(), Replace::Changed { date: date() });
        let asked = far_end.asked.lock().unwrap();
        let header = |at: usize, name| asked[at].headers().get_optional_string(&azure_core::http::headers::HeaderName::from_static(name));
        assert_eq!(header(0, "if-none-match").as_deref(), Some("*"));
        assert_eq!(header(2, "if-match").as_deref(), Some("\"1\""));
        assert_eq!(header(2, "x-ms-blob-type").as_deref(), Some("BlockBlob"));
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_not_repeated() {
        let (blobs, far_end) = blobs(vec![Reply::CutAfterSending]);
        let failed = blobs.replace("state", "x", Bytes::new(), "\"1\"").await.unwrap_err();
        assert_eq!(failed.kind, FailureKind::Doubtful);
        assert_eq!(far_end.asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_deletion_tells_what_it_met() {
        let (blobs, _) = blobs(vec![
            Reply::Status(202, vec![DATE], ""),
            refusal(404, "BlobNotFound"),
            refusal(412, "ConditionNotMet"),
            refusal(403, "AuthorizationPermissionMismatch"),
        ]);
        assert_eq!(blobs.delete("state", "x", None).await.unwrap(), Remove::Deleted { date: date() });
        assert_eq!(blobs.delete("state", "x", None).await.unwrap(), Remove::Missing { date: date() });
        assert_eq!(blobs.delete("state", "x", Some("\"1\"")).await.unwrap(), Remove::Changed { date: date() });
        assert_eq!(blobs.delete("state", "x", None).await.unwrap_err().kind, FailureKind::MissingRight);
    }

    #[tokio::test]
    async fn an_answer_without_a_date_is_of_no_use() {
        let (blobs, _) = blobs(vec![Reply::Status(200, vec![("etag", "\"1\"")], "{}")]);
        assert_eq!(blobs.get("state", "x").await.unwrap_err().kind, FailureKind::Malformed);
    }

    #[tokio::test]
    async fn a_blob_that_somebody_has_leased_is_no_other_version() {
        let leased = || refusal(412, "LeaseIdMissing");
        let (blobs, _) = blobs(vec![leased(), leased(), leased()]);
        let failed = [
            blobs.create("state", "vm/1", Bytes::new()).await.unwrap_err(),
            blobs.replace("state", "vm/1", Bytes::new(), "1").await.unwrap_err(),
            blobs.delete("state", "vm/1", Some("1")).await.unwrap_err(),
        ];
        assert!(failed.iter().all(|failed| failed.to_string().contains("LeaseIdMissing")), "{failed:?}");
    }

    #[tokio::test]
    async fn what_is_no_list_is_no_empty_one() {
        for body in ["<html/>", "<Error><Code>ServerBusy</Code></Error>", "<EnumerationResults/>", ""] {
            let (blobs, _) = blobs(vec![Reply::Status(200, vec![DATE], body)]);
            let failed = blobs.list("state", "due/", 9999, |_| ControlFlow::Continue(())).await.unwrap_err();
            assert!(failed.kind == FailureKind::Malformed && failed.to_string().contains("not the XML of a container"), "{failed}");
        }
    }

    #[tokio::test]
    async fn a_list_is_read_page_by_page() {
        let first = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" ContainerName=\"state\"><Prefix>due/</Prefix><Blobs><Blob><Name>due/1</Name><Properties><Last-Modified>Thu, 15 Jan 2026 10:00:00 GMT</Last-Modified><Etag>0x8D</Etag><BlobType>BlockBlob</BlobType></Properties></Blob><Blob><Name>due/2 &amp; 3</Name><Properties><Etag>\"0x8E\"</Etag></Properties><OrMetadata/></Blob></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let last = "<?xml version=\"1.0\"?><EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
        let (blobs, far_end) = blobs(vec![Reply::Status(200, vec![DATE], first), Reply::Status(200, vec![DATE], last)]);
        let mut all = Vec::new();
        let clock = blobs.list("state", "due/", 9999, |page| {
            all.extend(page);
            ControlFlow::Continue(())
        });
        assert_eq!(clock.await.unwrap(), date());
        let listed = |name: &str, etag: &str, modified| Listed { name: name.to_owned(), etag: Some(etag.to_owned()), modified };
        assert_eq!(all, [listed("due/1", "\"0x8D\"", Some(date())), listed("due/2 & 3", "\"0x8E\"", None)]);
        let asked = far_end.asked.lock().unwrap();
        assert_eq!(asked[0].url().query(), Some("restype=container&comp=list&prefix=due%2F&maxresults=5000"));
        assert!(asked[1].url().query().unwrap().ends_with("&marker=m"));
    }

    #[tokio::test]
    async fn a_list_can_be_ended_early() {
        let page = "<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let (blobs, far_end) = blobs(vec![Reply::Status(200, vec![DATE], page)]);
        blobs.list("state", "", 1, |_| ControlFlow::Break(())).await.unwrap();
        assert_eq!(far_end.asked.lock().unwrap().len(), 1);
    }
}
