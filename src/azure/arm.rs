//! Azure Resource Manager: reading one resource, reading a list page by page.
//!
//! One resource is a JSON tree: the domain reads from it what it needs, and what is written back loses nothing. A list stays
//! text, and of its elements there is one tree at a time.

use std::ops::ControlFlow;

use azure_core::http::Method;
use bytes::Bytes;
use portcullis_domain::arm_id::ArmId;
use portcullis_domain::json::{elements, fields, tree};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::channel::{Answer, Attempts, Channel, Outgoing};
use super::error::{CallFailed, FailureKind, Service};

/// A version of a provider's API. Old ones are pinned: they stay valid for years, and a body keeps the form it was
/// recorded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersion(&'static str);

impl ApiVersion {
    /// Just-in-time network access (REST specification: the only stable one).
    pub const JIT: ApiVersion = ApiVersion("2020-01-01");
    /// Network interfaces, subnets, security groups (recorded).
    pub const NETWORK: ApiVersion = ApiVersion("2021-02-01");
    /// Virtual machines (recorded).
    pub const COMPUTE: ApiVersion = ApiVersion("2020-12-01");
    /// The activity log (documentation: the only one).
    pub const ACTIVITY_LOG: ApiVersion = ApiVersion("2015-04-01");
    /// Subscriptions (REST specification).
    pub const SUBSCRIPTIONS: ApiVersion = ApiVersion("2020-01-01");
    /// Management groups (REST specification).
    pub const MANAGEMENT_GROUPS: ApiVersion = ApiVersion("2020-05-01");
    /// Role assignments, role definitions, and what a caller may do (REST specification).
    pub const AUTHORIZATION: ApiVersion = ApiVersion("2022-04-01");
    /// Plans of Defender for Cloud (recorded).
    pub const PRICINGS: ApiVersion = ApiVersion("2023-01-01");
    /// Incidents of Microsoft Sentinel (REST specification; older ones name fewer of their parts).
    pub const SENTINEL: ApiVersion = ApiVersion("2024-03-01");
    /// Event Grid (the version that the templates deploy).
    pub const EVENT_GRID: ApiVersion = ApiVersion("2022-06-15");
}

/// More pages than any estate has: a list that is still not at its end runs in circles.
const MOST_PAGES: usize = 20_000;

/// Azure Resource Manager at one endpoint.
#[derive(Clone, Debug)]
pub struct Arm {
    channel: Channel,
    base: Url,
}

impl Arm {
    pub(super) fn new(channel: Channel, base: Url) -> Self {
        Arm { channel, base }
    }

    /// Reads one resource.
    pub async fn get(&self, what: &str, id: &ArmId, version: ApiVersion) -> Result<Value, CallFailed> {
        self.get_at(what, &id.to_string(), version).await
    }

    /// The same by its path, which is our own text but for a GUID.
    pub(super) async fn get_at(&self, what: &str, path: &str, version: ApiVersion) -> Result<Value, CallFailed> {
        let url = self.url(path, &[], version);
        let answer = self.channel.call(Outgoing::get(what.to_owned(), url)).await?;
        self.json(Method::Get, what, &answer)
    }

    /// Reads one resource and hands its text to `read`.
    pub(super) async fn get_text<T>(
        &self,
        what: &str,
        id: &ArmId,
        version: ApiVersion,
        read: impl FnOnce(&RawValue) -> T,
    ) -> Result<T, CallFailed> {
        let answer = self.channel.call(Outgoing::get(what.to_owned(), self.url(&id.to_string(), &[], version))).await?;
        self.json(Method::Get, what, &answer).map(read)
    }

    /// Reads a list and hands each page's `value` to `each`, which may end the reading. Only one page is held at a
    /// time. `path` is our own text; ids in it must have come from an [`ArmId`] or a GUID.
    ///
    /// `nextLink` is followed only to the same host: the token goes nowhere else.
    pub async fn list(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
        version: ApiVersion,
        mut each: impl FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send,
    ) -> Result<(), CallFailed> {
        let mut url = self.url(path, query, version);
        for _ in 0..MOST_PAGES {
            let answer = self.channel.call(Outgoing::get(what.to_owned(), url.clone())).await?;
            let malformed = |why: &str| self.malformed(Method::Get, what, &answer, why);
            let text = std::str::from_utf8(&answer.body).map_err(|_| malformed("the body is not text"))?;
            let page = Page::read(text);
            if page.is_err() {
                self.json::<&RawValue>(Method::Get, what, &answer)?;
            }
            let Page { values, next } = page.map_err(malformed)?;
            if each(values).is_break() {
                return Ok(());
            }
            let Some(next) = next else { return Ok(()) };
            url = following(&url, &self.base, &next).map_err(malformed)?;
        }
        Err(CallFailed::without_answer(Service::Arm, Method::Get, what, FailureKind::Malformed, "the list has no end"))
    }

    /// Asks what Azure answers to a POST only, and which changes nothing.
    pub(super) async fn ask(&self, what: &str, path: &str, query: &[(&str, &str)], version: ApiVersion) -> Result<Value, CallFailed> {
        let outgoing = Outgoing { method: Method::Post, ..Outgoing::get(what.to_owned(), self.url(path, query, version)) };
        let answer = self.channel.call(outgoing).await?;
        self.json(Method::Post, what, &answer)
    }

    /// Sends a write once. Its answer is 2xx; what it did is found out by reading.
    pub(super) async fn write_once(
        &self,
        what: &str,
        method: Method,
        id: &str,
        version: ApiVersion,
        body: Option<&Value>,
    ) -> Result<Answer, CallFailed> {
        let mut outgoing = Outgoing { method, attempts: Attempts::Once, ..Outgoing::get(what.to_owned(), self.url(id, &[], version)) };
        if let Some(body) = body {
            outgoing.body = Bytes::from(body.to_string());
            outgoing.headers.push(("content-type", "application/json".to_owned()));
        }
        self.channel.call(outgoing).await
    }

    pub(super) fn json<'a, T: Deserialize<'a>>(&self, method: Method, what: &str, answer: &'a Answer) -> Result<T, CallFailed> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.malformed(method, what, answer, &format!("the body is not JSON ({error})")))
    }

    fn malformed(&self, method: Method, what: &str, answer: &Answer, message: &str) -> CallFailed {
        CallFailed::malformed(Service::Arm, method, what, answer, message)
    }

    /// Behind the endpoint's own path, if it has one. Segments are encoded one by one, so that a name with a space or a bracket stays one.
    fn url(&self, path: &str, query: &[(&str, &str)], version: ApiVersion) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/').filter(|segment| !segment.is_empty()));
        }
        url.query_pairs_mut().append_pair("api-version", version.0).extend_pairs(query);
        url
    }
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<'a> {
    /// What is in it, as it stands in the text.
    #[serde(borrow, rename = "value")]
    pub values: Vec<&'a RawValue>,
    /// Where the next one is said to be; never empty.
    #[serde(default, rename = "nextLink")]
    pub next: Option<String>,
}

impl<'a> Page<'a> {
    /// Reads a page from JSON; the error is why it is none.
    pub fn read(body: &'a str) -> Result<Self, &'static str> {
        let page = match serde_json::from_str(body) {
            Ok(page) => page,
            // A field may be there twice.
            Err(_) => {
                let fields = fields(body);
                let values = elements(&fields, "value").ok_or("the list has no `value`")?;
                let next = fields.get("nextLink").map(|link| serde_json::from_str(link.get()));
                Page { values, next: next.unwrap_or(Ok(None)).map_err(|_| "`nextLink` is no text")? }
            }
        };
        Ok(Page { next: page.next.filter(|link| !link.is_empty()), ..page })
    }
}

/// Where the page that `link` names after the one at `url` is: at the host of `base`, and nowhere else, since the token goes
/// there. The error is why there is none.
pub fn following(url: &Url, base: &Url, link: &str) -> Result<Url, &'static str> {
    let next = Url::parse(link).ok().filter(|next| next.origin() == base.origin()).ok_or("`nextLink` points to another host")?;
    if next == *url { Err("`nextLink` points to its own page") } else { Ok(next) }
}

/// The text at a JSON pointer of a body; empty where there is none.
pub fn text_at<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Gathers a list's pages into one: for lists that are small by nature.
pub(super) async fn gather(arm: &Arm, what: &str, path: &str, version: ApiVersion) -> Result<Vec<Value>, CallFailed> {
    gather_read(arm, what, path, version, tree).await
}

/// The same of what `read` makes of each element.
pub(super) async fn gather_read<T: Send>(
    arm: &Arm,
    what: &str,
    path: &str,
    version: ApiVersion,
    read: impl Fn(&RawValue) -> T + Send + Sync,
) -> Result<Vec<T>, CallFailed> {
    let mut all = Vec::new();
    arm.list(what, path, &[], version, |page| {
        all.extend(page.into_iter().map(&read));
        ControlFlow::Continue(())
    })
    .await?;
    Ok(all)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::channel::tests::{FarEnd, Reply, channel};
    use super::*;

    /// ARM whose far end replies as told.
    pub fn arm(replies: Vec<Reply>) -> (Arm, Arc<FarEnd>) {
        let (channel, far_end) = channel(Service::Arm, replies);
        (Arm::new(channel, Url::parse("https://127.0.0.1:4004").unwrap()), far_end)
    }

    pub fn ok(body: &'static str) -> Reply {
        Reply::Status(200, Vec::new(), body)
    }

    async fn list(replies: Vec<Reply>) -> (Result<Vec<Value>, String>, Vec<String>) {
        let (arm, far_end) = arm(replies);
        let listed = gather(&arm, "listing", "/subscriptions/s/providers/x", ApiVersion::JIT).await;
        let asked = far_end.asked.lock().unwrap().iter().map(|request| request.url().to_string()).collect();
        (listed.map_err(|failed| failed.message.into()), asked)
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_last_page() {
        let pages =
            vec![ok(r#"{"value":[1],"nextLink":"https://127.0.0.1:4004/next?$skiptoken=a"}"#), ok(r#"{"value":[2],"nextLink":""}"#)];
        let (listed, asked) = list(pages).await;
        assert_eq!(listed.unwrap(), [Value::from(1), Value::from(2)]);
        assert_eq!(
            asked,
            ["https://127.0.0.1:4004/subscriptions/s/providers/x?api-version=2020-01-01", "https://127.0.0.1:4004/next?$skiptoken=a"]
        );
    }

    #[tokio::test]
    async fn a_next_link_never_takes_the_token_elsewhere() {
        for link in ["https://evil.example/next", "http://127.0.0.1:4004/next", "https://127.0.0.1:4005/next", "//evil.example", "next"] {
            let body: &'static str = Box::leak(format!(r#"{{"value":[],"nextLink":"{link}"}}"#).into_boxed_str());
            let (listed, asked) = list(vec![ok(body)]).await;
            assert_eq!(listed.unwrap_err(), "`nextLink` points to another host");
            assert_eq!(asked.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_list_that_points_to_itself_ends() {
        let own = r#"{"value":[],"nextLink":"https://127.0.0.1:4004/subscriptions/s/providers/x?api-version=2020-01-01"}"#;
        assert_eq!(list(vec![ok(own)]).await.0.unwrap_err(), "`nextLink` points to its own page");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_list_is_malformed() {
        for (body, why) in [
            ("", "the body is not JSON"),
            ("[]", "the list has no `value`"),
            ("{}", "the list has no `value`"),
            (r#"{"value":{}}"#, "the list has no `value`"),
            (r#"{"value":[],"nextLink":1}"#, "`nextLink` is no text"),
            ("<html>", "the body is not JSON"),
        ] {
            let said = list(vec![ok(body)]).await.0.unwrap_err();
            assert!(said.contains(why), "{body}: {said}");
        }
    }

    #[test]
    fn a_page_is_the_last_one_without_a_link_and_of_a_doubled_field_the_last_counts() {
        for (body, values, next) in [
            (r#"{"value":[1,2]}"#, 2, None),
            (r#"{"nextLink":null,"value":[1]}"#, 1, None),
            (r#"{"value":[1],"nextLink":""}"#, 1, None),
            (r#"{"value":[1],"count":7,"nextLink":"https://a.example/\u0062"}"#, 1, Some("https://a.example/b")),
            (r#"{"value":[1],"value":[],"nextLink":"a","nextLink":"b"}"#, 0, Some("b")),
        ] {
            let page = Page::read(body).unwrap();
            assert_eq!((page.values.len(), page.next.as_deref()), (values, next), "{body}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_with_a_path_keeps_it() {
        for base in ["https://127.0.0.1:4004/arm", "https://127.0.0.1:4004/arm/"] {
            let (channel, far_end) = channel(Service::Arm, vec![ok(r#"{"value":[]}"#)]);
            let arm = Arm::new(channel, Url::parse(base).unwrap());
            assert!(gather(&arm, "listing", "/subscriptions/s", ApiVersion::JIT).await.unwrap().is_empty());
            assert_eq!(far_end.asked.lock().unwrap()[0].url().path(), "/arm/subscriptions/s");
        }
    }

    #[tokio::test]
    async fn names_are_encoded_segment_by_segment() {
        let (arm, far_end) = arm(vec![ok("{}")]);
        let id = ArmId::parse("/subscriptions/s/resourceGroups/a (b)/providers/x/ys/z").unwrap();
        arm.get("reading", &id, ApiVersion::NETWORK).await.unwrap();
        let asked = far_end.asked.lock().unwrap();
        assert_eq!(asked[0].url().path(), "/subscriptions/s/resourceGroups/a%20(b)/providers/x/ys/z");
    }
}
