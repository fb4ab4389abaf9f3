//! The world as data: everything that the simulated Azure knows, in the form that `GET /state` shows and
//! `--world FILE` takes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeZone, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bounds;
use crate::faults::{Fault, Meeting};
use crate::servicebus::Line;
use crate::switches::{EventSchema, Switches};

/// The whole simulated world.
///
/// A file that is given to `--world` may leave out whatever it does not care about; an unknown key is refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct State {
    /// The world's time. It moves only through [`crate::engine`].
    #[serde(deserialize_with = "bounds::now")]
    pub now: DateTime<Utc>,
    /// The one Entra tenant.
    pub tenant_id: String,
    /// How this Azure behaves where nobody knows how the real one does.
    pub switches: Switches,
    /// Faults that wait for a matching request.
    pub faults: Vec<Fault>,
    /// The requests that met a fault, oldest first.
    pub met: Vec<Meeting>,
    /// The subscriptions of the tenant.
    pub subscriptions: Vec<Subscription>,
    /// Every ARM resource, as the bodies that ARM answers.
    pub resources: Resources,
    /// Workspaces of Microsoft Sentinel, with their incidents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workspaces: Vec<Workspace>,
    /// Management locks.
    pub locks: Vec<Lock>,
    /// Azure Policy denials.
    pub denials: Vec<Denial>,
    /// People, applications and managed identities.
    pub principals: Vec<Principal>,
    /// Asynchronous operations of Microsoft.Network, by id.
    pub operations: BTreeMap<String, Operation>,
    /// The activity log, oldest first.
    pub activity: Vec<ActivityEntry>,
    /// Event Grid: what is on its way and what was given up.
    pub event_grid: EventGrid,
    /// What the Functions host's monitors remember of timers, by function.
    pub timers: BTreeMap<String, TimerMemory>,
    /// Service Bus queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Blob containers by name.
    pub containers: BTreeMap<String, Container>,
    /// The columns that the stream of the data collection rule declares.
    pub columns: BTreeMap<String, ColumnType>,
    /// Rows that the Logs Ingestion endpoint took, oldest first, as the table has them.
    pub rows: Vec<IngestedRow>,
    /// Items that Application Insights took, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub telemetry: Vec<TelemetryItem>,
    /// Every write that anybody made, oldest first.
    pub log: Vec<LogEntry>,
    /// The rights that requests of anybody needed, each once.
    pub rights: RefCell<BTreeSet<NeededRight>>,
    /// What happens by itself later.
    pub due: Vec<Due>,
    /// Ids, in lower case, of JIT allow rules that came back once after somebody deleted them.
    pub returned_rules: BTreeSet<String>,
    /// Counts up to give each created thing an id that a second run of the same story repeats.
    #[serde(deserialize_with = "bounds::next_id")]
    pub next_id: u64,
}

/// The instant at which a world begins unless its file says otherwise.
pub fn beginning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 15, 9, 0, 0).single().unwrap_or_default()
}

impl Default for State {
    fn default() -> Self {
        State {
            now: beginning(),
            tenant_id: "72f988bf-0000-4000-8000-2d7cd011db47".to_owned(),
            switches: Switches::default(),
            faults: Vec::new(),
            met: Vec::new(),
            subscriptions: Vec::new(),
            resources: Resources::default(),
            workspaces: Vec::new(),
            locks: Vec::new(),
            denials: Vec::new(),
            principals: Vec::new(),
            operations: BTreeMap::new(),
            activity: Vec::new(),
            event_grid: EventGrid::default(),
            timers: BTreeMap::new(),
            queues: BTreeMap::new(),
            containers: BTreeMap::new(),
            columns: crate::logs::columns(),
            rows: Vec::new(),
            telemetry: Vec::new(),
            log: Vec::new(),
            rights: RefCell::default(),
            due: Vec::new(),
            returned_rules: std::collections::BTreeSet::new(),
            next_id: 1,
        }
    }
}

impl State {
    /// The next number for something new.
    pub fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A UUID-shaped id that the same story gets again when it is replayed.
    pub fn take_uuid(&mut self) -> String {
        let id = self.take_id();
        format!("5a4db0c5-{:04x}-4000-8000-{id:012x}", id % 0x1_0000)
    }

    /// Lets `what` happen at `at`; an instant that has passed counts as now.
    pub fn later(&mut self, at: DateTime<Utc>, what: DueKind) {
        let order = self.take_id();
        self.due.push(Due { at, order, what });
    }

    /// Writes one line of the world's log at the world's time, and gives it, for whoever has more to say in it.
    pub fn record(&mut self, caller: &Caller, face: &str, what: &str, target: &str, status: u16) -> &mut LogEntry {
        let order = self.take_id();
        let place = self.log.len();
        self.log.push(LogEntry {
            at: self.now,
            order,
            caller: caller.name.clone(),
            object_id: caller.object_id.clone(),
            function: caller.function.clone(),
            invocation: caller.invocation.clone(),
            face: face.to_owned(),
            what: what.to_owned(),
            target: target.to_owned(),
            status,
            condition: None,
            access: None,
            direction: None,
            asked: Vec::new(),
            fault: None,
        });
        &mut self.log[place]
    }
}

/// A subscription and its Defender for Servers plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Subscription {
    /// The subscription's GUID.
    pub id: String,
    /// What a person calls it.
    #[serde(default)]
    pub display_name: String,
    /// Whether Defender for Servers Plan 2 is on; JIT calls answer 403 without it.
    #[serde(default = "yes")]
    pub jit_plan: bool,
    /// Whether an event subscription of its topic leads to the product; without one, nothing tells of its events.
    #[serde(default = "yes")]
    pub events: bool,
    /// The management groups above it, by name, from below the tenant's root group down to its parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub management_groups: Vec<String>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// ARM resources by lower-cased id. In JSON it is the plain list of their bodies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Value>", into = "Vec<Value>")]
pub struct Resources {
    by_id: BTreeMap<String, Value>,
}

impl TryFrom<Vec<Value>> for Resources {
    type Error = String;

    /// Refuses a body of a shape that this world could not write into.
    fn try_from(bodies: Vec<Value>) -> Result<Self, String> {
        let mut resources = Resources::default();
        for (place, body) in bodies.into_iter().enumerate() {
            bounds::check_resource(&body).map_err(|why| format!("resource {} of the list: {why}", place + 1))?;
            resources.put(body);
        }
        Ok(resources)
    }
}

impl From<Resources> for Vec<Value> {
    fn from(resources: Resources) -> Self {
        resources.by_id.into_values().collect()
    }
}

impl Resources {
    /// The resource of this id, whatever the letter case of the id.
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.by_id.get(&id.to_ascii_lowercase())
    }

    /// The same, to be changed in place. Its `id` must stay what it is.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Value> {
        self.by_id.get_mut(&id.to_ascii_lowercase())
    }

    /// Adds or replaces a resource under the `id` of its body. A body without an id is dropped.
    pub fn put(&mut self, body: Value) {
        if let Some(id) = body.get("id").and_then(Value::as_str) {
            self.by_id.insert(id.to_ascii_lowercase(), body);
        }
    }

    /// Takes a resource away.
    pub fn remove(&mut self, id: &str) -> Option<Value> {
        self.by_id.remove(&id.to_ascii_lowercase())
    }

    /// Resources whose lower-cased id begins with `prefix` (given in any case), in the order of their ids.
    pub fn under<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Value> {
        let prefix = prefix.to_ascii_lowercase();
        self.by_id.range(prefix.clone()..).take_while(move |(id, _)| id.starts_with(&prefix)).map(|(_, body)| body)
    }

    /// Every resource whose `type` is `kind`, letter case aside, in the order of their ids.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.by_id.values().filter(move |body| body.get("type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case(kind)))
    }
}

/// A workspace of Microsoft Sentinel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workspace {
    /// Its ARM id.
    pub id: String,
    /// Its incidents, in the order of their list.
    #[serde(default)]
    pub incidents: Vec<Incident>,
}

/// An incident of Microsoft Sentinel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Incident {
    /// The GUID at the end of its ARM id.
    pub id: String,
    /// The number that people quote.
    pub number: u32,
    /// What it is called.
    #[serde(default)]
    pub title: String,
    /// How severe it is.
    pub severity: IncidentSeverity,
    /// How far it is.
    pub status: IncidentStatus,
    /// The object id of whoever works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// What it names.
    #[serde(default)]
    pub entities: Vec<Entity>,
}

/// How severe an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IncidentSeverity {
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// Informational.
    Informational,
}

/// How far an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IncidentStatus {
    /// Nobody works on it yet.
    New,
    /// Somebody works on it.
    Active,
    /// Nobody works on it any more.
    Closed,
}

/// Something that an incident names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all_fields = "camelCase")]
pub enum Entity {
    /// A machine.
    Host {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host_name: Option<String>,
        /// The ARM id of the VM that it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        azure_id: Option<String>,
    },
    /// A resource of Azure.
    AzureResource {
        /// Its ARM id.
        resource_id: String,
    },
    /// An address.
    Ip {
        /// The address.
        address: String,
    },
}

/// A lock on a scope; a write below it answers 409 `ScopeLocked`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lock {
    /// The ARM id that is locked, with all below it.
    pub scope: String,
    /// What it forbids.
    pub level: LockLevel,
    /// Its name; without one it is counted through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its maker wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

impl Lock {
    /// A lock without a name or notes.
    pub fn new(scope: impl Into<String>, level: LockLevel) -> Self {
        Lock { scope: scope.into(), level, name: None, notes: None }
    }
}

/// What a lock forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockLevel {
    /// No deletes.
    CanNotDelete,
    /// No writes and no deletes.
    ReadOnly,
}

/// An Azure Policy that answers 403 `RequestDisallowedByPolicy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Denial {
    /// The ARM id below which it acts.
    pub scope: String,
    /// The ARM action that it denies, such as `Microsoft.Network/networkSecurityGroups/securityRules/delete`.
    pub action: String,
}

/// Somebody who can get a token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Principal {
    /// The Entra object id.
    pub object_id: String,
    /// The client id of an application or managed identity; empty for a person.
    pub app_id: String,
    /// The user principal name of a person; empty otherwise.
    pub upn: String,
    /// A name for people.
    pub name: String,
    /// The client secret of an application; empty where there is none.
    pub secret: String,
    /// Whether the managed-identity endpoint hands out this one's tokens.
    pub managed_identity: bool,
    /// What it may do.
    pub assignments: Vec<Assignment>,
    /// App roles of the product's own API.
    pub app_roles: Vec<String>,
    /// Object ids of the groups that it is in.
    pub groups: Vec<String>,
}

/// A right that a request needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NeededRight {
    /// Who asked, by object id.
    pub object_id: String,
    /// The action or data action, as Azure names it.
    pub action: String,
    /// Whether it was held.
    pub held: bool,
}

/// A role assignment: actions on everything below a scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Assignment {
    /// The ARM scope; `/` is the whole tenant.
    pub scope: String,
    /// Actions and data actions, `*` matching any run of characters.
    pub actions: Vec<String>,
}

/// An asynchronous operation of the network provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Operation {
    /// `InProgress`, `Succeeded`, `Failed` or `Canceled`.
    pub status: String,
    /// The resource that it works on.
    pub resource: String,
    /// The error that a failed one reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// What it does when it ends.
    #[serde(default)]
    pub work: OperationWork,
    /// The object id of who began it; empty for the world itself.
    #[serde(default)]
    pub started_by: String,
}

/// What an operation does when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationWork {
    /// Nothing but end: what was written is there already, as `Updating`.
    #[default]
    Write,
    /// Takes a security rule away.
    DeleteRule,
    /// Takes a network security group away.
    DeleteGroup,
}

/// An entry of the activity log; a query shows it only when the log has caught up (see `activityLogSeconds`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ActivityEntry {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The entry as the activity log answers it.
    pub body: Value,
}

/// Event Grid's side of the world.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EventGrid {
    /// Events that are not yet delivered.
    pub pending: Vec<PendingEvent>,
    /// Events that were given up, with the reason in the dead-letter form of Event Grid.
    pub dead_letters: Vec<Value>,
    /// How many events were delivered and answered with success.
    pub delivered: u64,
    /// Queues that somebody has subscribed to the events of a subscription.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueSubscription>,
}

/// An event subscription that leads to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct QueueSubscription {
    /// Its name.
    pub name: String,
    /// The subscription whose events it wants.
    pub subscription: String,
    /// The resource id of the queue.
    pub queue_id: String,
    /// The schema that it has chosen.
    pub schema: EventSchema,
    /// The types of events that it wants; all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// How the subjects begin that it wants.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub begins_with: String,
}

impl QueueSubscription {
    /// The queue's name.
    pub fn queue(&self) -> String {
        self.queue_id.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
    }
}

/// An event on its way to a function.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PendingEvent {
    /// When it is tried next.
    pub at: DateTime<Utc>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Its place among events of the same instant.
    pub order: u64,
    /// The function that it goes to.
    pub function: String,
    /// How many deliveries failed so far.
    pub attempts: u32,
    /// When the last delivery failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<DateTime<Utc>>,
    /// How it failed, in Event Grid's word; empty before the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_outcome: String,
    /// The event, in the Event Grid or the CloudEvents schema.
    pub body: Value,
}

/// What a timer's monitor remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TimerMemory {
    /// The last run that is over.
    pub last: Option<DateTime<Utc>>,
    /// The occurrence after it; a host that starts later than that has missed it.
    pub next: Option<DateTime<Utc>>,
}

/// A Service Bus queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Queue {
    /// Deliveries after which a message goes to the dead letters.
    pub max_delivery_count: u32,
    /// Seconds for which a peek-lock holds.
    #[serde(deserialize_with = "bounds::lock_seconds")]
    pub lock_seconds: i64,
    /// How many of the messages that are sent next come twice: a broker delivers at least once.
    #[serde(skip_serializing_if = "is_zero")]
    pub come_twice: u32,
    /// Messages, scheduled and locked ones included, in the order in which they came.
    pub messages: Line,
    /// The dead-letter queue.
    pub dead_letters: Line,
    /// The next sequence number.
    #[serde(deserialize_with = "bounds::next_sequence")]
    pub next_sequence: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            max_delivery_count: 10,
            lock_seconds: 60,
            come_twice: 0,
            messages: Line::default(),
            dead_letters: Line::default(),
            next_sequence: 1,
        }
    }
}

/// A message of a queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Message {
    /// Its place in the queue.
    pub sequence: u64,
    /// The body as text.
    pub body: String,
    /// The content type that the sender gave.
    pub content_type: Option<String>,
    /// The broker properties that the sender gave: `MessageId`, `Label`, `CorrelationId`, `SessionId` and so on.
    pub properties: BTreeMap<String, Value>,
    /// The sender's own properties.
    pub user_properties: BTreeMap<String, Value>,
    /// When it came in.
    pub enqueued_at: DateTime<Utc>,
    /// When a scheduled message becomes visible.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// When it is dropped.
    pub expires_at: Option<DateTime<Utc>>,
    /// Deliveries so far.
    pub delivery_count: u32,
    /// The lock that holds it, and until when.
    pub lock: Option<(String, DateTime<Utc>)>,
    /// Why it is among the dead letters.
    pub dead_letter_reason: Option<String>,
}

/// A blob container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Container {
    /// Blobs by name.
    pub blobs: BTreeMap<String, Blob>,
}

/// A block blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Blob {
    /// The content: text as it is, other bytes as base64 with `base64:` before it.
    pub content: String,
    /// The content type.
    #[serde(default)]
    pub content_type: String,
    /// What else is given back with it as a header: `Cache-Control`, `Content-Encoding` and the like, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Metadata by name, which is in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The ETag with its quotation marks.
    pub etag: String,
    /// When it was last written.
    pub last_modified: DateTime<Utc>,
}

/// The type of a column of a stream, as a data collection rule writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A number.
    Real,
    /// True or false.
    Boolean,
    /// An instant.
    DateTime,
    /// Any JSON.
    Dynamic,
}

/// A row that the Logs Ingestion endpoint took.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IngestedRow {
    /// When it came.
    pub at: DateTime<Utc>,
    /// The immutable id of the data collection rule.
    pub rule: String,
    /// The stream of the rule.
    pub stream: String,
    /// The row.
    pub row: Value,
}

/// An item of telemetry, as it was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TelemetryItem {
    /// When it came.
    pub at: DateTime<Utc>,
    /// The envelope.
    pub item: Value,
}

/// One write of anybody, as `GET /log` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LogEntry {
    /// World time.
    pub at: DateTime<Utc>,
    /// Its place among entries of the same instant.
    pub order: u64,
    /// Who called, by name.
    pub caller: String,
    /// Who called, by object id; empty for the world itself.
    pub object_id: String,
    /// The function of ours whose invocation made the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The invocation of ours that made the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The service that was called: `arm`, `blob`, `servicebus`, `logs`, `eventgrid`, `control` or `world`.
    pub face: String,
    /// What was done: an ARM action such as `Microsoft.Network/networkSecurityGroups/securityRules/delete`, or
    /// `put`, `delete`, `send`, `ingest`, `deliver`.
    pub what: String,
    /// What it was done to.
    pub target: String,
    /// The HTTP status that was answered.
    pub status: u16,
    /// The condition that the request carried, met or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// `Allow` or `Deny` of the security rule that it was done to, as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// `Inbound` or `Outbound` of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// What an `initiate` asked for, as far as its body says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskedPort>,
    /// The fault that stood in the way: the service itself never saw the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Obstacle>,
}

/// A port that somebody asked JIT to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AskedPort {
    /// The machine's id, as it was sent.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// The sources, as they were sent; none are the caller's own address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// A fault that leaves a request without its effect and with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Obstacle {
    /// An injected status.
    Status,
}

/// Under which condition a write was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Only what was read may be replaced or deleted.
    IfMatch,
    /// Only if it is not there yet.
    IfNoneMatch,
}

/// What a request would do, as the world's log writes it.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who asks for it.
    pub caller: Caller,
    /// As in [`LogEntry::what`].
    pub what: String,
    /// As in [`LogEntry::target`].
    pub target: String,
}

/// Who is calling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// A name for people.
    pub name: String,
    /// The Entra object id; empty for the world itself.
    pub object_id: String,
    /// The client id, where the token has one.
    pub app_id: String,
    /// The user principal name, where the token has one.
    pub upn: String,
    /// The address that the call came from.
    pub ip: String,
    /// The function whose invocation's `traceparent` the call carries.
    pub function: Option<String>,
    /// The invocation whose `traceparent` the call carries.
    pub invocation: Option<String>,
}

impl Caller {
    /// How ARM names whoever it refuses: a person by UPN, an application by its client id.
    pub fn client_name(&self) -> &str {
        if self.upn.is_empty() { &self.app_id } else { &self.upn }
    }

    /// Whoever calls without a good token.
    pub fn anonymous(ip: &str) -> Self {
        Caller { ip: ip.to_owned(), ..Caller::world("anonymous") }
    }

    /// The world itself: Defender's own resource provider, Event Grid, the broker.
    pub fn world(name: &str) -> Self {
        Caller { name: name.to_owned(), ..Caller::default() }
    }
}

/// Something that happens by itself at an instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Due {
    /// When.
    pub at: DateTime<Utc>,
    /// Its place among things of the same instant.
    pub order: u64,
    /// What.
    pub what: DueKind,
}

/// What can happen by itself. Each kind is carried out by the module that schedules it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DueKind {
    /// JIT writes the allow rules of a record and turns it from `Initiating` to `Initiated`.
    JitOpens {
        /// The policy's id.
        policy: String,
        /// The record's key (see `arm::jit`).
        record: String,
    },
    /// JIT takes the allow rules of a record away after its end.
    JitCloses {
        /// The policy's id.
        policy: String,
        /// The record's key.
        record: String,
        /// The VM's id.
        vm: String,
        /// The port.
        port: u16,
    },
    /// JIT takes every rule of a VM away that left its policy, or whose policy is gone.
    JitCleans {
        /// The policy's id.
        policy: String,
        /// The VM's id.
        vm: String,
    },
    /// A policy goes from `Updating` to `Succeeded`.
    PolicySettles {
        /// The policy's id.
        policy: String,
    },
    /// An asynchronous operation of the network provider takes its effect and ends.
    OperationEnds {
        /// The operation's id.
        operation: String,
    },
    /// A JIT allow rule that somebody deleted is written again.
    RuleReturns {
        /// The NSG's id.
        nsg: String,
        /// The rule's body.
        #[serde(deserialize_with = "bounds::rule")]
        rule: Value,
    },
    /// An event comes into a queue that is subscribed to it.
    EventArrives {
        /// The queue.
        queue: String,
        /// The event subscription.
        of: String,
        /// The event.
        event: Value,
    },
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A world with one application, `oid`, that may do these things everywhere.
    pub(crate) fn one_application(actions: &[&str]) -> State {
        let assignment = Assignment { scope: "/".to_owned(), actions: actions.iter().map(|action| (*action).to_owned()).collect() };
        let application = Principal {
            object_id: "oid".to_owned(),
            app_id: "app".to_owned(),
            name: "App".to_owned(),
            assignments: vec![assignment],
            ..Principal::default()
        };
        State { principals: vec![application], ..State::default() }
    }
}
