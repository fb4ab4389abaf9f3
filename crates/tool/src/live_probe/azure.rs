//! Calls to Azure Resource Manager, each with the time that Azure says in its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::time;
use portcullis_rules::plain::plain;
use reqwest::header::{HeaderMap, IF_MATCH, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::clock::Clock;
use super::token::{Asker, Token};

/// How often a read is tried that fails for a reason that may pass.
const TRIES: u32 = 6;
/// How often a write is tried while Azure says that something else is under way.
const PATIENCE: u32 = 40;
const PAUSE: TimeDelta = TimeDelta::seconds(5);
/// The longest pause that an answer may ask for.
const LONGEST_PAUSE: i64 = 300;
/// More pages than any list here has.
const PAGES: usize = 1000;

/// Azure Resource Manager, and what was seen of its manners on the way.
pub struct Azure<'a> {
    http: reqwest::Client,
    endpoint: String,
    token: Token,
    clock: &'a dyn Clock,
    manners: Mutex<Manners>,
}

/// What answers show beside what they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Every id of a resource that stood in an answer, as it was written.
    pub ids: BTreeSet<String>,
    /// For each kind of list: how many items its longest page had, and whether any page had a next one.
    pub pages: BTreeMap<String, (usize, bool)>,
    /// The time of the latest answer.
    pub at: DateTime<Utc>,
}

/// An answer with success.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// When Azure gave it, to a second.
    pub at: DateTime<Utc>,
    /// The body; null where there was none.
    pub body: Value,
    /// What ties it to entries of the activity log.
    pub correlation: String,
}

/// Why there is no answer with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Azure refused.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Azure's code.
        code: String,
        /// Azure's sentence.
        message: String,
        /// When.
        at: DateTime<Utc>,
        /// Seconds after which Azure wants to be asked again.
        again_after: Option<i64>,
    },
    /// The connection failed, or the answer was none of Resource Manager, or something did not come in its time.
    Broken(String),
}

impl Trouble {
    /// The HTTP status, if Azure answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Trouble::Refused { status, .. } => Some(*status),
            Trouble::Broken(_) => None,
        }
    }

    /// Azure's code, if Azure answered.
    pub fn code(&self) -> &str {
        match self {
            Trouble::Refused { code, .. } => code,
            Trouble::Broken(_) => "",
        }
    }

    /// Whether another write to the same resource is in the way.
    pub fn is_busy(&self) -> bool {
        let code = self.code();
        match self.status() {
            Some(429) => code.eq_ignore_ascii_case("RetryableError"),
            Some(409) => code.eq_ignore_ascii_case("AnotherOperationInProgress"),
            _ => false,
        }
    }

    fn may_pass(&self) -> bool {
        self.is_busy() || matches!(self.status(), Some(429 | 503))
    }

    fn pause(&self) -> TimeDelta {
        match self {
            Trouble::Refused { again_after: Some(seconds), .. } => TimeDelta::seconds((*seconds).clamp(1, LONGEST_PAUSE)),
            Trouble::Refused { .. } | Trouble::Broken(_) => PAUSE,
        }
    }
}

impl std::error::Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Broken(why) => f.write_str(why),
            Trouble::Refused { status, code, message, .. } => {
                write!(f, "Azure answered {status} {code}: {message}")?;
                match next_step(*status, code, message) {
                    Some(step) => write!(f, " {step}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What a person does about a refusal.
fn next_step(status: u16, code: &str, message: &str) -> Option<String> {
    let action = message.split("perform action '").nth(1).and_then(|rest| rest.split('\'').next());
    match (status, action) {
        (401, _) => Some("Sign in again with `az login`, or put a new token into PORTCULLIS_ARM_TOKEN.".to_owned()),
        (403, Some(action)) => {
            let scope = message.split("over scope '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap_or("the VM's resource group");
            Some(format!("Ask for a role with the action {action} at {scope}."))
        }
        (429, _) if !code.eq_ignore_ascii_case("RetryableError") => {
            Some("Run the probe again later, when fewer others ask Azure.".to_owned())
        }
        _ => None,
    }
}

impl<'a> Azure<'a> {
    /// Resource Manager at this endpoint, asked with this token.
    pub fn new(http: reqwest::Client, endpoint: &str, token: Token, clock: &'a dyn Clock) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Azure { http, endpoint, token, clock, manners: Mutex::default() }
    }

    /// What was seen of its manners so far.
    pub fn manners(&self) -> Manners {
        self.noted().clone()
    }

    /// The time of the latest answer.
    pub fn now(&self) -> DateTime<Utc> {
        self.noted().at
    }

    /// Who asks, as the token says.
    pub fn asker(&self) -> Asker {
        self.token.asker()
    }

    /// Refuses a token that ends too soon and cannot be renewed.
    pub fn demand_life(&self, long: TimeDelta) -> anyhow::Result<()> {
        match self.token.life(self.now()) {
            Some(left) if left < long => bail!(
                "the access token that was given ends in {} minutes, and {} are needed: give a new one, or none, so that the Azure CLI is asked",
                left.num_minutes().max(0),
                long.num_minutes()
            ),
            _ => Ok(()),
        }
    }

    /// Lets time pass.
    pub async fn pass(&self, span: TimeDelta) {
        self.clock.pass(span.max(TimeDelta::zero())).await;
    }

    /// Reads a resource; tried again where the trouble may pass.
    pub async fn get(&self, path: &str, version: &str) -> Result<Answer, Trouble> {
        self.read(Method::GET, &self.url(path, version)).await
    }

    /// Reads by a POST that changes nothing.
    pub async fn ask(&self, path: &str, version: &str) -> Result<Answer, Trouble> {
        self.read(Method::POST, &self.url(path, version)).await
    }

    /// Reads every page of a list, and notes under this name how long its pages are.
    pub async fn list(&self, name: &str, path: &str, version: &str) -> Result<Vec<Value>, Trouble> {
        let mut items = Vec::new();
        let mut next = Some(self.url(path, version));
        for _ in 0..PAGES {
            let Some(url) = next.take() else { break };
            if !is_of(&url, &self.endpoint) {
                return Err(Trouble::Broken(format!("a list of Azure leads on to {}, which is another host", plain(&url))));
            }
            let mut answer = self.read(Method::GET, &url).await?;
            let page = answer.body["value"].as_array_mut().map(std::mem::take).unwrap_or_default();
            next = answer.body["nextLink"].as_str().filter(|link| !link.is_empty()).map(str::to_owned);
            let mut manners = self.noted();
            let longest = manners.pages.entry(name.to_owned()).or_default();
            *longest = (longest.0.max(page.len()), longest.1 || next.is_some());
            items.extend(page);
        }
        Ok(items)
    }

    /// Writes once, and gives what Azure says to it.
    pub async fn write(&self, method: Method, path: &str, version: &str, body: Option<&Value>) -> Result<Answer, Trouble> {
        self.send(method, &self.url(path, version), body, None).await
    }

    /// Writes, and tries again while something else is under way.
    pub async fn write_patiently(&self, method: Method, path: &str, version: &str, body: Option<&Value>) -> Result<Answer, Trouble> {
        self.patiently(method, &self.url(path, version), body, None).await
    }

    /// Deletes on the condition that the etag is the resource's, and tries again while something else is under way.
    pub async fn delete_if(&self, path: &str, version: &str, etag: &str) -> Result<Answer, Trouble> {
        self.patiently(Method::DELETE, &self.url(path, version), None, Some(etag)).await
    }

    async fn patiently(&self, method: Method, url: &str, body: Option<&Value>, etag: Option<&str>) -> Result<Answer, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send(method.clone(), url, body, etag).await {
                Err(trouble) if trouble.may_pass() && tries < PATIENCE => self.pass(trouble.pause()).await,
                answered => return answered,
            }
        }
    }

    async fn read(&self, method: Method, url: &str) -> Result<Answer, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send(method.clone(), url, None, None).await {
                Err(trouble) if trouble.status().is_none_or(|status| status == 429 || status >= 500) && tries < TRIES => {
                    self.pass(trouble.pause()).await;
                }
                answered => return answered,
            }
        }
    }

    fn url(&self, path: &str, version: &str) -> String {
        let join = if path.contains('?') { '&' } else { '?' };
        format!("{}{path}{join}api-version={version}", self.endpoint)
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>, etag: Option<&str>) -> Result<Answer, Trouble> {
        let bearer = self.token.get(&self.endpoint).await.map_err(Trouble::Broken)?;
        match self.send_as(&bearer, method.clone(), url, body, etag).await {
            Err(trouble) if trouble.status() == Some(401) && self.token.forget(&bearer) => {
                let bearer = self.token.get(&self.endpoint).await.map_err(Trouble::Broken)?;
                self.send_as(&bearer, method, url, body, etag).await
            }
            answered => answered,
        }
    }

    async fn send_as(&self, bearer: &str, method: Method, url: &str, body: Option<&Value>, etag: Option<&str>) -> Result<Answer, Trouble> {
        let mut request = self.http.request(method.clone(), url).bearer_auth(bearer);
        request = match (body, &method) {
            (Some(body), _) => request.json(body),
            // Azure's front end refuses a POST that says nothing of its length.
            (None, &Method::POST) => request.body("").header("content-length", "0"),
            (None, _) => request,
        };
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, etag);
        }
        let broken = |why: &dyn fmt::Display| Trouble::Broken(format!("{method} {} did not come through: {why}", plain(url)));
        let response = request.send().await.map_err(|why| broken(&why))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|why| broken(&why))?;
        let at = header(&headers, "date")
            .and_then(time::of_header)
            .ok_or_else(|| Trouble::Broken(format!("{} says no time in its answer: is it Azure Resource Manager?", self.endpoint)))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let mut manners = self.noted();
        manners.at = at;
        if status.is_success() {
            note_ids(&body, &mut manners.ids);
            let correlation = header(&headers, "x-ms-correlation-request-id").unwrap_or_default().to_owned();
            return Ok(Answer { status, at, body, correlation });
        }
        Err(refusal(status, at, &body, header(&headers, RETRY_AFTER.as_str())))
    }

    fn noted(&self) -> MutexGuard<'_, Manners> {
        self.manners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a link leads to the endpoint: nobody else is sent the token.
pub(super) fn is_of(link: &str, endpoint: &str) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin());
    origin(link).is_some_and(|of_link| origin(endpoint) == Some(of_link))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn refusal(status: StatusCode, at: DateTime<Utc>, body: &Value, again_after: Option<&str>) -> Trouble {
    let error = &body["error"];
    let details = error["details"].as_array().into_iter().flatten().filter_map(|detail| detail["message"].as_str());
    let said = error["message"].as_str().into_iter().chain(details).collect::<Vec<_>>().join(" ");
    Trouble::Refused {
        status: status.as_u16(),
        code: plain(error["code"].as_str().unwrap_or_default()).into_owned(),
        message: if said.is_empty() { "it gives no reason.".to_owned() } else { plain(&said).into_owned() },
        at,
        again_after: again_after.and_then(|seconds| seconds.parse().ok()),
    }
}

fn note_ids(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.get(..15).is_some_and(|head| head.eq_ignore_ascii_case("/subscriptions/")) => {
            ids.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| note_ids(item, ids)),
        Value::Object(fields) => fields.values().for_each(|field| note_ids(field, ids)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> Trouble {
        let body = json!({"error": {"code": code, "message": message, "details": [{"message": "More."}]}});
        refusal(StatusCode::from_u16(status).unwrap(), DateTime::UNIX_EPOCH, &body, None)
    }

    #[test]
    fn a_refusal_is_told_in_azures_words_with_what_to_do() {
        let missing = "The client 'a' does not have authorization to perform action 'Microsoft.Network/x/delete' over scope 's'.";
        assert_eq!(
            refused(403, "AuthorizationFailed", missing).to_string(),
            format!(
                "Azure answered 403 AuthorizationFailed: {missing} More. Ask for a role with the action Microsoft.Network/x/delete at s."
            )
        );
        assert_eq!(refused(400, "BadRequest", "a\u{1b}[2Jb").to_string(), "Azure answered 400 BadRequest: a\\u{1b}[2Jb More.");
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, DateTime::UNIX_EPOCH, &Value::Null, None).to_string(),
            "Azure answered 502 : it gives no reason."
        );
    }

    #[test]
    fn a_list_leads_on_at_its_own_host_alone() {
        let arm = "https://management.azure.com";
        assert!(is_of("https://management.azure.com:443/subscriptions?$skiptoken=a", arm));
        for other in
            ["https://management.azure.com.example/", "http://management.azure.com/", "https://example/management.azure.com", "/next"]
        {
            assert!(!is_of(other, arm), "{other}");
        }
    }

    #[test]
    fn only_another_write_makes_a_group_busy() {
        for (status, code, busy) in [
            (429, "RetryableError", true),
            (409, "AnotherOperationInProgress", true),
            (429, "TooManyRequests", false),
            (409, "ScopeLocked", false),
            (412, "PreconditionFailed", false),
        ] {
            assert_eq!(refused(status, code, "").is_busy(), busy, "{status} {code}");
        }
    }
}
