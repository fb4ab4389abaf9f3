//! Event Grid told that something happened to a JIT policy: check, store, pass on. Makes no call to ARM.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::ArmId;
use portcullis_domain::opening::short_hash;
use portcullis_domain::time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};
use uuid::Uuid;

use super::people::object_id;
use super::{App, Ended, Message, Round, Stopped};

/// What an event says, as far as it matters. All of it is a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When it says that it happened.
    #[serde(deserialize_with = "portcullis_domain::time::stored")]
    pub at: DateTime<Utc>,
    /// What was done.
    pub operation: Operation,
    /// The JIT policy or the VM that it was done to.
    pub resource: ArmId,
    /// Who it says did it, by Entra object id; empty where it does not say.
    pub object_id: String,
    /// The same by name: UPN, display name or application id.
    pub name: String,
    /// The operation's correlation id, which the activity log shares.
    pub correlation_id: String,
    /// How far in seconds the nearest record lay from it that a read of its policy has shown; absent while none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart_seconds: Option<i64>,
}

/// What was done to a JIT policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Somebody asked for an opening.
    Initiate,
    /// Somebody wrote the policy.
    Write,
    /// Somebody deleted the policy.
    Delete,
}

/// Why an event is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotUsed {
    /// It is about something else: the subscription's filter lets more through than is needed.
    Foreign(String),
    /// Azure did not do what it is about, and so it names nobody who opened anything: what it says became of it.
    NotDone(String),
    /// It cannot be read.
    Malformed(String),
}

/// Handles the events of one invocation.
pub async fn run(app: &App, events: Vec<Value>) -> Ended {
    let mut lines = Vec::new();
    for event in events {
        match one(app, &event).await {
            Ok(ended) => lines.push(ended.line()),
            Err(Stopped::Store(why)) => match unstored(app, &event, &why.to_string()).await {
                Ok(line) => lines.push(line),
                Err(stopped) => return Ended::Failed { why: stopped.to_string() },
            },
            Err(stopped) => return Ended::Failed { why: stopped.to_string() },
        }
    }
    Ended::done(lines.join("; "))
}

/// Stores an event and passes its key on. A doubled event is stored once and looked at again, which is harmless.
pub(super) async fn one(app: &App, event: &Value) -> Result<Ended, Stopped> {
    let activity = match Activity::read(event) {
        Ok(activity) => activity,
        Err(NotUsed::Foreign(_)) => {
            info!("an event that is not about JIT was left alone");
            return Ok(Ended::done("left alone: the event is not about JIT"));
        }
        Err(NotUsed::NotDone(became)) => {
            info!(became, "an event of something that Azure did not do was left alone");
            return Ok(Ended::done("left alone: Azure did not do what the event is about"));
        }
        Err(NotUsed::Malformed(why)) => return app.reject("jit_activity", &event.to_string(), &why).await,
    };
    let subscription = activity.resource.subscription();
    if Uuid::parse_str(&subscription).is_err() {
        return app.reject("jit_activity", &event.to_string(), "the event's resource: its subscription is not a GUID").await;
    }
    if !app.governs(&subscription) {
        info!(subscription.id = %subscription, "an event of a subscription that the settings do not name was left alone");
        return Ok(Ended::done("left alone: the settings do not name the event's subscription"));
    }
    let id = activity.id(event);
    let now = app.store.keep_event(&id, &activity).await?;
    app.send_or_keep(&Message::Event { id: id.clone(), round: Round::First, rounds_sent: false, tries: 0 }, now).await?;
    info!(event.id = id, operation = ?activity.operation, resource = %activity.resource, "event passed on");
    Ok(Ended::done(format!("event {id} passed on")))
}

/// The store does not answer, but the queue holds the event just as well.
async fn unstored(app: &App, event: &Value, why: &str) -> Result<String, Stopped> {
    warn!(error = why, "the store could not take an event: the queue holds it");
    app.send(&Message::Unstored { event: event.clone(), tries: 0 }).await?;
    Ok("the queue holds the event until the store answers".to_owned())
}

impl Activity {
    /// Reads an event of the Event Grid schema or of CloudEvents 1.0.
    pub fn read(event: &Value) -> Result<Self, NotUsed> {
        let malformed = |why: &str| NotUsed::Malformed(why.to_owned());
        let data = event.get("data").filter(|data| data.is_object()).ok_or_else(|| malformed("the event has no `data` object"))?;
        let operation = Operation::read(text(data, "operationName"))?;
        let became = [text(event, "eventType"), text(event, "type"), text(data, "status")];
        if let Some(became) = became.into_iter().find(|became| Stage::read(became) == Stage::NotDone) {
            return Err(NotUsed::NotDone(became.to_owned()));
        }
        let at = [text(event, "eventTime"), text(event, "time")].into_iter().find_map(time::parse);
        let named = [text(data, "resourceUri"), text(event, "subject")].into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        let resource = resource(named).map_err(|why| NotUsed::Malformed(format!("the event's resource: {why}")))?;
        let claims = object_or_json(data.get("claims"));
        let claim = |names: &[&str]| names.iter().map(|name| text(&claims, name)).find(|t| !t.is_empty()).unwrap_or_default().to_owned();
        Ok(Activity {
            at: at.ok_or_else(|| malformed("the event has no readable `eventTime` or `time`"))?,
            operation,
            resource,
            object_id: claim(&OBJECT_ID_CLAIMS).to_ascii_lowercase(),
            name: claim(&[UPN, "upn", NAME, "name", "appid"]),
            correlation_id: text(data, "correlationId").to_owned(),
            apart_seconds: None,
        })
    }

    /// The key under which an event is stored: made of what the sender calls it, so that the same event has one key,
    /// and hashed, so that nobody outside chooses a name in the store.
    pub fn id(&self, event: &Value) -> String {
        let source = [text(event, "topic"), text(event, "source")].join("|");
        short_hash(&format!("{}|{source}|{}|{}", text(event, "id"), self.at.to_rfc3339(), self.resource.key()))
    }
}

/// The claims that hold the caller's object id, in an event and in the activity log.
const OBJECT_ID_CLAIMS: [&str; 2] = [OBJECT_ID, "oid"];
const OBJECT_ID: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
const UPN: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn";
const NAME: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";
const POLICIES: &str = "microsoft.security/locations/jitnetworkaccesspolicies/";

impl Operation {
    /// Reads an operation's name, in any letter case.
    fn read(name: &str) -> Result<Self, NotUsed> {
        if name.is_empty() {
            return Err(NotUsed::Malformed("the event has no `data.operationName`".to_owned()));
        }
        match name.to_ascii_lowercase().strip_prefix(POLICIES) {
            Some("initiate/action") => Ok(Operation::Initiate),
            Some("write") => Ok(Operation::Write),
            Some("delete") => Ok(Operation::Delete),
            Some(_) | None => Err(NotUsed::Foreign(name.to_owned())),
        }
    }
}

/// How far what an event or an entry of the activity log is about has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It was asked for.
    Begun,
    /// It was done, or Azure took it on.
    Done,
    /// It failed or was cancelled.
    NotDone,
}

impl Stage {
    /// Reads a status or an event's type, in any letter case: `Failed`, `Canceled`, `Microsoft.Resources.ResourceActionFailure`
    /// (documentation). A word that nobody knows is taken for done.
    fn read(word: &str) -> Self {
        let word = word.to_ascii_lowercase();
        if ["failed", "failure", "cancel", "canceled", "cancelled"].iter().any(|end| word.ends_with(end)) {
            Stage::NotDone
        } else if word.ends_with("started") {
            Stage::Begun
        } else {
            Stage::Done
        }
    }
}

/// Somebody who asked JIT for an opening, as an entry of the activity log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// When the entry is of.
    pub at: DateTime<Utc>,
    /// Who, by Entra object id.
    pub id: String,
    /// The same by name.
    pub name: String,
    /// The request's correlation id; empty where the entry does not say.
    request: String,
    stage: Stage,
}

/// Those of these entries whose requests were not all refused: who asks in vain has opened nothing. A request has several entries, of
/// which one says in the end what became of it, and whoever asks chooses its correlation id: as many as began and did not fail count.
pub fn not_refused(entries: Vec<Caller>) -> Vec<Caller> {
    let of = |entry: &Caller| (entry.request.clone(), entry.id.clone());
    let mut open: BTreeMap<(String, String), (i64, bool)> = BTreeMap::new();
    for entry in &entries {
        let (balance, is_done) = open.entry(of(entry)).or_default();
        match entry.stage {
            Stage::Begun => *balance += 1,
            Stage::Done => *is_done = true,
            Stage::NotDone => *balance -= 1,
        }
    }
    let counts = |entry: &Caller| open.get(&of(entry)).is_some_and(|&(balance, is_done)| is_done || balance > 0);
    entries.into_iter().filter(|entry| entry.stage != Stage::NotDone && counts(entry)).collect()
}

/// Who asked JIT for an opening, as an entry of the activity log has it; nothing where it is about something else or does not say.
pub fn caller(entry: &Value) -> Option<Caller> {
    let word = |name: &str| entry.pointer(&format!("/{name}/value")).or_else(|| entry.get(name)).and_then(Value::as_str);
    if !matches!(Operation::read(word("operationName")?), Ok(Operation::Initiate)) {
        return None;
    }
    let claims = entry.get("claims")?;
    let id = OBJECT_ID_CLAIMS.iter().find_map(|name| claims.get(*name)).and_then(Value::as_str).and_then(object_id)?;
    let name = entry.get("caller").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or(&id).to_owned();
    let at = entry.get("eventTimestamp").and_then(Value::as_str).and_then(time::parse)?;
    Some(Caller {
        at,
        id,
        name,
        request: text(entry, "correlationId").to_ascii_lowercase(),
        stage: Stage::read(word("status").unwrap_or_default()),
    })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Claims are an object, or in an old form of the event a string that holds one.
fn object_or_json(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(other) => other.clone(),
        None => Value::Null,
    }
}

/// Some events name the action behind the resource (seen in a third party's sample).
fn resource(text: &str) -> Result<ArmId, portcullis_domain::arm_id::ArmIdError> {
    let lower = text.to_ascii_lowercase();
    let bare =
        ["/initiate/action", "/initiate"].into_iter().find_map(|tail| lower.ends_with(tail).then(|| &text[..text.len() - tail.len()]));
    ArmId::parse(bare.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/default";

    fn event() -> Value {
        json!({
            "id": "1", "topic": "/subscriptions/s", "eventTime": "2018-07-12T08:53:04.0000000Z",
            "data": {
                "operationName": "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action", "resourceUri": POLICY, "correlationId": "c",
                "claims": {OBJECT_ID: "ABC", UPN: "barbara@contoso.com", "name": "Barbara"}
            }
        })
    }

    #[test]
    fn both_schemas_and_both_forms_of_claims_are_read_alike() {
        let grid = Activity::read(&event()).unwrap();
        assert_eq!((grid.object_id.as_str(), grid.name.as_str(), grid.operation), ("abc", "barbara@contoso.com", Operation::Initiate));
        let mut cloud = event();
        let fields = cloud.as_object_mut().unwrap();
        let time = fields.remove("eventTime").unwrap();
        fields.insert("time".to_owned(), time);
        cloud["data"]["claims"] = json!(event()["data"]["claims"].to_string());
        cloud["data"]["operationName"] = json!("MICROSOFT.SECURITY/LOCATIONS/JITNETWORKACCESSPOLICIES/INITIATE/ACTION");
        assert_eq!(Activity::read(&cloud).unwrap(), grid);
    }

    #[test]
    fn the_resource_may_come_with_the_action_behind_it_or_as_the_subject() {
        for uri in [format!("{POLICY}/initiate"), format!("{POLICY}/INITIATE/action"), POLICY.to_owned()] {
            let mut event = event();
            event["data"]["resourceUri"] = json!(uri);
            assert_eq!(Activity::read(&event).unwrap().resource.to_string(), POLICY);
        }
        let mut event = event();
        event["data"].as_object_mut().unwrap().remove("resourceUri");
        event["subject"] = json!(POLICY);
        assert_eq!(Activity::read(&event).unwrap().resource.to_string(), POLICY);
    }

    #[test]
    fn an_event_about_something_else_is_left_alone() {
        for name in ["Microsoft.Compute/virtualMachines/write", "Microsoft.Security/locations/jitNetworkAccessPolicies/read"] {
            let mut event = event();
            event["data"]["operationName"] = json!(name);
            assert_eq!(Activity::read(&event), Err(NotUsed::Foreign(name.to_owned())));
        }
    }

    #[test]
    fn an_event_of_what_azure_did_not_do_is_left_alone() {
        for (field, word) in [
            ("/eventType", "Microsoft.Resources.ResourceActionFailure"),
            ("/type", "microsoft.resources.resourceactioncancel"),
            ("/data/status", "Failed"),
            ("/data/status", "CANCELED"),
        ] {
            let mut event = event();
            event["eventType"] = json!("Microsoft.Resources.ResourceActionSuccess");
            event["type"] = Value::Null;
            event["data"]["status"] = json!("Succeeded");
            assert!(Activity::read(&event).is_ok());
            *event.pointer_mut(field).unwrap() = json!(word);
            assert_eq!(Activity::read(&event), Err(NotUsed::NotDone(word.to_owned())));
        }
    }

    fn entry(request: &str, status: Value) -> Caller {
        caller(&json!({
            "operationName": {"value": "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action"}, "status": status,
            "claims": {OBJECT_ID: "6F7DE4C5-1C1A-4A3E-9B9A-6D1E7B0C2A11"}, "correlationId": request, "eventTimestamp": "2026-01-15T10:00:00Z"
        }))
        .unwrap()
    }

    #[test]
    fn a_request_that_was_refused_was_nobodys() {
        let all = |words: &[&str]| words.iter().map(|word| entry("R", json!({"value": word}))).collect::<Vec<_>>();
        assert!(not_refused(all(&["Failed", "Started"])).is_empty());
        assert!(not_refused(all(&["Canceled"])).is_empty());
        assert_eq!(not_refused(all(&["Succeeded", "Accepted", "Started"])).len(), 3);
        assert_eq!(not_refused(all(&["Started"])).len(), 1, "what became of it is not known yet");
        assert_eq!(not_refused(all(&["Odd"])).len(), 1);
        assert!(not_refused(vec![entry("r", json!("Started")), entry("R", json!("Failed"))]).is_empty(), "old forms have texts");
    }

    #[test]
    fn a_request_that_was_done_does_not_hide_behind_the_number_of_one_that_was_refused() {
        let one = |word: &str| entry("r", json!({"value": word}));
        assert_eq!(not_refused(vec![one("Failed"), one("Started"), one("Started")]).len(), 2);
        assert_eq!(not_refused(vec![one("Failed"), one("Started"), one("Succeeded")]).len(), 2);
        let other = entry("other", json!({"value": "Started"}));
        assert_eq!(not_refused(vec![one("Failed"), one("Started"), other.clone()]), [other]);
    }

    #[test]
    fn a_malformed_event_says_what_is_wrong() {
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut event = event();
            change(&mut event);
            match Activity::read(&event) {
                Err(NotUsed::Malformed(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(broken(&|e| e["data"] = json!("x")), "the event has no `data` object");
        assert_eq!(broken(&|e| e["eventTime"] = json!("soon")), "the event has no readable `eventTime` or `time`");
        assert_eq!(broken(&|e| e["data"]["operationName"] = json!(7)), "the event has no `data.operationName`");
        assert!(broken(&|e| e["data"]["resourceUri"] = json!("vm1")).starts_with("the event's resource: `vm1` is not an ARM resource id"));
    }

    #[test]
    fn one_event_has_one_key_whatever_its_fractions() {
        let one = Activity::read(&event()).unwrap();
        let mut other = event();
        other["eventTime"] = json!("2018-07-12T08:53:04Z");
        assert_eq!(one.id(&event()), Activity::read(&other).unwrap().id(&other));
        other["id"] = json!("2");
        assert_ne!(one.id(&event()), one.id(&other));
    }
}
