//! The store: what is remembered, as JSON blobs written with a condition, and the small entries that index it.
//!
//! An index entry is written before the record that needs it and removed after the record that does not: one too many
//! is harmless, one too few would be a port left open. No list reads history.

mod browse;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::AuditRecord;
use portcullis_domain::opening::short_hash;
use portcullis_domain::plain::quoted;
use portcullis_domain::record::{Claim, VmRecord};
use portcullis_domain::want::{Answer, Became, Want};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::azure::blob::{Blobs, Create, Listed, Read, Remove, Replace};
use crate::azure::{APPROVALS, CallFailed};

pub use self::browse::{AuditPlace, AuditsFound, VmIndex};

/// The blob that says that a container is Portcullis' store. The deployment or the sandbox writes it once.
pub const MARKER: &str = "portcullis-store.json";

/// Why the store could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It did not answer as it should.
    #[error("{0}")]
    Unreachable(CallFailed),
    /// It answers, but is not the store: an emptied one must not look like a new estate.
    #[error(
        "the container {0} has no {MARKER}: it is not the store of Portcullis, or it was emptied; restore it, or write the marker if the estate is new"
    )]
    Unmarked(String),
    /// It says that a blob is there, and does not show it.
    #[error("the store says that {0} is there already, and does not show it")]
    Hidden(String),
    /// A document in it cannot be read.
    #[error("{name} in the store cannot be read: {why}")]
    Unreadable {
        /// The blob.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl From<CallFailed> for StoreError {
    fn from(failed: CallFailed) -> Self {
        StoreError::Unreachable(failed)
    }
}

/// A document and what is needed to replace it.
#[derive(Clone, Debug)]
pub struct Held<T> {
    /// The document.
    pub document: T,
    /// Its version; absent while it was never written.
    pub etag: Option<String>,
    /// The store's clock when it was read or written.
    pub now: DateTime<Utc>,
}

/// What somebody was approved without a person, for the budgets of rules. One document, so that two runs cannot both be the last that a
/// budget has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approvals {
    /// When each grant was entered, by its id.
    #[serde(deserialize_with = "approved_at")]
    grants: BTreeMap<String, DateTime<Utc>>,
}

/// Approvals count for so long.
const APPROVALS_COUNT_FOR: TimeDelta = TimeDelta::days(1);

/// More approvals of one person in a day than any rule tells apart; the oldest give way.
const MOST_APPROVALS: usize = 1000;

impl Approvals {
    /// How many there were in the last day, but for this grant.
    pub fn in_a_day(&self, now: DateTime<Utc>, but_for: &str) -> u32 {
        let counts = |(grant, at): &(&String, &DateTime<Utc>)| grant.as_str() != but_for && **at + APPROVALS_COUNT_FOR > now;
        u32::try_from(self.grants.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// Enters a grant, unless it is there: gives whether it was not. What counts no longer goes.
    pub fn enter(&mut self, grant: &str, now: DateTime<Utc>) -> bool {
        self.grants.retain(|_, at| *at + APPROVALS_COUNT_FOR > now);
        if self.grants.contains_key(grant) {
            return false;
        }
        while self.grants.len() >= MOST_APPROVALS {
            let oldest = self.grants.iter().min_by_key(|(_, at)| **at).map(|(grant, _)| grant.clone());
            oldest.and_then(|grant| self.grants.remove(&grant));
        }
        self.grants.insert(grant.to_owned(), now);
        true
    }
}

fn approved_at<'de, D: Deserializer<'de>>(of: D) -> Result<BTreeMap<String, DateTime<Utc>>, D::Error> {
    #[derive(Deserialize)]
    struct At(#[serde(deserialize_with = "portcullis_domain::time::stored")] DateTime<Utc>);
    Ok(BTreeMap::<String, At>::deserialize(of)?.into_iter().map(|(grant, At(at))| (grant, at)).collect())
}

/// Whether a conditional write went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Done {
        /// The new version.
        etag: String,
        /// The store's clock.
        now: DateTime<Utc>,
    },
    /// Somebody else wrote in between; nothing was written.
    Lost,
}

/// An entry of the index of what is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: DateTime<Utc>,
    /// The VM.
    pub vm: VmId,
    /// The run that made it: two runs of the same second have an entry each, and neither takes the other's away.
    pub run: String,
}

/// The two containers of Portcullis.
#[derive(Clone, Debug)]
pub struct Store {
    blobs: Blobs,
    state: String,
    audit: String,
    /// When it was last made sure that this is the store, in Unix seconds of its clock.
    checked: Arc<AtomicI64>,
}

/// A message that its queue did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// The name to remove it by.
    pub name: String,
    /// Its body.
    pub body: String,
}

/// What was left for a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbox {
    /// The claims, with the names to remove them by.
    pub claims: Vec<(String, Claim)>,
    /// What people want, with the names to remove it by.
    pub wants: Vec<(String, Want)>,
    /// What is no claim, by name, and why.
    pub unreadable: Vec<(String, String)>,
    /// Whether there is more than was asked for.
    pub more: bool,
}

/// How the names of wishes in an inbox begin. Those of claims are hexadecimal and come after them in a list: however many
/// events anybody sends, no wish waits behind them.
const WANT: &str = "-want-";

fn answer_name(id: &str) -> String {
    format!("requests/{id}.json")
}

/// Where messages are kept that their queue does not take.
const KEPT: &str = "later/";

/// Entries that one page of a list holds: unpacked, which it is whole, each takes more than half a kilobyte.
const PAGE: usize = 250;

impl Store {
    /// The store in these containers.
    pub fn new(blobs: Blobs, state: &str, audit: &str) -> Self {
        Store { blobs, state: state.to_owned(), audit: audit.to_owned(), checked: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    /// Makes sure that this is the store, and gives its clock.
    pub async fn check(&self) -> Result<DateTime<Utc>, StoreError> {
        match self.blobs.get(&self.state, MARKER).await {
            Ok(Read::Found { date, .. }) => {
                self.checked.store(date.timestamp(), Ordering::Relaxed);
                Ok(date)
            }
            Ok(Read::Missing { .. }) => Err(StoreError::Unmarked(self.state.clone())),
            Err(failed) if failed.is_missing_container() => Err(StoreError::Unmarked(self.state.clone())),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Makes sure that audit records can be reached, too: they have a container, and perhaps rights, of their own.
    pub async fn check_audits(&self) -> Result<(), StoreError> {
        match self.blobs.get(&self.audit, MARKER).await? {
            Read::Found { .. } | Read::Missing { .. } => Ok(()),
        }
    }

    /// What is remembered of a VM; a VM that was never looked at has an empty record that is not yet written.
    pub async fn vm(&self, vm: &VmId) -> Result<Held<VmRecord>, StoreError> {
        let name = vm_name(vm);
        match self.read::<VmRecord>(&name).await? {
            Found::Document(held) => Ok(held),
            Found::Nothing(now) => {
                self.check().await?;
                Ok(Held { document: VmRecord::new(vm.clone()), etag: None, now })
            }
        }
    }

    /// Writes a VM's record over the version that was read.
    pub async fn save_vm(&self, record: &VmRecord, etag: Option<&str>) -> Result<Written, StoreError> {
        self.write(&vm_name(&record.vm), record, etag).await
    }

    /// Hands over the VMs that are remembered, in the order of their keys, whose key begins with `prefix`.
    pub async fn list_vms(&self, prefix: &str) -> Result<Vec<VmId>, StoreError> {
        let names = self.names(&format!("vm/{prefix}"), usize::MAX).await?;
        Ok(names.iter().filter_map(|name| vm_of_key(name.strip_prefix("vm/")?.strip_suffix(".json")?)).collect())
    }

    /// Says that a VM has to be looked at at a time.
    pub async fn put_due(&self, due: &Due) -> Result<(), StoreError> {
        self.put_once(&due.name(), &serde_json::json!({})).await.map(|_| ())
    }

    /// Takes such an entry away.
    pub async fn remove_due(&self, due: &Due) -> Result<(), StoreError> {
        self.remove(&due.name()).await
    }

    /// What is due up to now of the VMs that count, the earliest first, at most `most`.
    pub async fn list_due(&self, now: DateTime<Utc>, most: usize, counts: impl Fn(&VmId) -> bool + Sync) -> Result<Vec<Due>, StoreError> {
        let mut due = Vec::new();
        let each = |listed: Vec<Listed>| {
            for entry in listed.iter().filter_map(|listed| Due::of_name(&listed.name)) {
                if entry.at > now || due.len() >= most {
                    return ControlFlow::Break(());
                }
                if counts(&entry.vm) {
                    due.push(entry);
                }
            }
            ControlFlow::Continue(())
        };
        self.blobs.list(&self.state, "due/", PAGE, each).await?;
        Ok(due)
    }

    /// Enters a VM into the index of what is open, with the fingerprint of what the last look saw.
    pub async fn put_open(&self, vm: &VmId, fingerprint: &str, run: &str) -> Result<(), StoreError> {
        self.put_once(&open_name(vm, fingerprint, run), &serde_json::json!({})).await.map(|_| ())
    }

    /// The names of a VM's entries in that index but for those with this fingerprint.
    pub async fn outdated_open(&self, vm: &VmId, fingerprint: Option<&str>) -> Result<Vec<String>, StoreError> {
        let mut names = self.names(&format!("open/{}/", vm.key()), usize::MAX).await?;
        names.retain(|name| fingerprint.is_none() || open_entry(name).map(|(_, fingerprint)| fingerprint) != fingerprint);
        Ok(names)
    }

    /// The index of what is open for VMs whose key begins with `prefix`: the VM and the fingerprint.
    pub async fn list_open(&self, prefix: &str) -> Result<Vec<(VmId, String)>, StoreError> {
        let names = self.names(&format!("open/{prefix}"), usize::MAX).await?;
        let read = |name: &String| {
            let (key, fingerprint) = open_entry(name)?;
            Some((vm_of_key(key)?, fingerprint.to_owned()))
        };
        Ok(names.iter().filter_map(read).collect())
    }

    /// Leaves a claim for the next look at a VM. The same claim is left once.
    pub async fn leave_claim(&self, vm: &VmId, claim: &Claim) -> Result<(), StoreError> {
        self.put_once(&format!("inbox/{}/{}", vm.key(), claim.event), claim).await.map(|_| ())
    }

    /// What was left for a VM, with the names to remove it by: at most `most`, in no order.
    pub async fn inbox(&self, vm: &VmId, most: usize) -> Result<Inbox, StoreError> {
        let names = self.names(&format!("inbox/{}/", vm.key()), most.saturating_add(1)).await?;
        let mut inbox = Inbox { more: names.len() > most, ..Inbox::default() };
        for name in names.into_iter().take(most) {
            let read = if Self::is_want(&name) {
                self.read::<Want>(&name).await.map(|found| found.into_document().map(|want| inbox.wants.push((name.clone(), want))))
            } else {
                self.read::<Claim>(&name).await.map(|found| found.into_document().map(|claim| inbox.claims.push((name.clone(), claim))))
            };
            match read {
                Ok(Some(()) | None) => {}
                Err(StoreError::Unreadable { why, .. }) => inbox.unreadable.push((name, why)),
                Err(failed) => return Err(failed),
            }
        }
        inbox.wants.sort_by(|(_, one), (_, other)| (one.at, &one.id).cmp(&(other.at, &other.id)));
        Ok(inbox)
    }

    /// Leaves what somebody wants for the next look at the VM, and says that it was received.
    pub async fn leave_want(&self, want: &Want) -> Result<(), StoreError> {
        self.check().await?;
        let received = Answer { want: want.clone(), became: Became::Received, at: None, why: String::new(), rule: None };
        self.put_once(&answer_name(&want.id), &received).await?;
        self.put_once(&format!("inbox/{}/{WANT}{}", want.vm.key(), want.id), want).await.map(|_| ())
    }

    /// Whether an entry of an inbox is what somebody wants.
    fn is_want(name: &str) -> bool {
        name.rsplit('/').next().is_some_and(|last| last.starts_with(WANT))
    }

    /// Writes what became of a wish over what was known of it. The first answer stands.
    pub async fn answer(&self, answer: &Answer) -> Result<(), StoreError> {
        let name = answer_name(&answer.want.id);
        let held = match self.read::<Answer>(&name).await? {
            Found::Document(held) => Some(held),
            Found::Nothing(_) => None,
        };
        if held.as_ref().is_some_and(|held| held.document.became != Became::Received) {
            return Ok(());
        }
        self.write(&name, answer, held.and_then(|held| held.etag).as_deref()).await.map(|_| ())
    }

    /// What became of a wish.
    pub async fn answer_to(&self, id: &str) -> Result<Option<Answer>, StoreError> {
        Ok(self.read::<Answer>(&answer_name(id)).await?.into_document())
    }

    /// What somebody was approved lately.
    pub async fn approvals(&self, person: &str) -> Result<Held<Approvals>, StoreError> {
        Ok(match self.read(&approvals_name(person)).await? {
            Found::Document(held) => held,
            Found::Nothing(now) => Held { document: Approvals::default(), etag: None, now },
        })
    }

    /// Writes it over the version that was read.
    pub async fn save_approvals(&self, person: &str, approvals: &Approvals, etag: Option<&str>) -> Result<Written, StoreError> {
        self.write(&approvals_name(person), approvals, etag).await
    }

    /// The text of a blob that cannot be read as what it should be, to be kept elsewhere.
    pub async fn text(&self, name: &str) -> Result<String, StoreError> {
        match self.blobs.get(&self.state, name).await? {
            Read::Found { body, .. } => Ok(String::from_utf8_lossy(&body).into_owned()),
            Read::Missing { .. } => Ok(String::new()),
        }
    }

    /// Stores an event under its own id, once. An emptied store takes none: it must not fill up as if it were the store.
    pub async fn keep_event<T: Serialize>(&self, id: &str, event: &T) -> Result<DateTime<Utc>, StoreError> {
        self.check().await?;
        self.put_once(&format!("events/{id}.json"), event).await
    }

    /// Writes over the version of an event that was read, what is known of it by now.
    pub async fn save_event<T: Serialize>(&self, id: &str, event: &T, etag: Option<&str>) -> Result<Written, StoreError> {
        self.write(&format!("events/{id}.json"), event, etag).await
    }

    /// A stored event, with the store's clock.
    pub async fn event<T: DeserializeOwned>(&self, id: &str) -> Result<Option<Held<T>>, StoreError> {
        match self.read(&format!("events/{id}.json")).await? {
            Found::Document(held) => Ok(Some(held)),
            Found::Nothing(_) => Ok(None),
        }
    }

    /// Keeps a message that its queue does not take, to be sent from its time on.
    pub async fn keep_message(&self, at: DateTime<Utc>, body: &str) -> Result<(), StoreError> {
        let name = format!("{KEPT}{}/{}", at.format(DUE_TIME), short_hash(body));
        self.put_once(&name, &KeptMessage { name: name.clone(), body: body.to_owned() }).await.map(|_| ())
    }

    /// The names of the kept messages whose time has come, the earliest first, at most `most`.
    pub async fn list_kept_messages(&self, now: DateTime<Utc>, most: usize) -> Result<Vec<String>, StoreError> {
        let until = format!("{KEPT}{}/~", now.format(DUE_TIME));
        let mut names = self.names(KEPT, most).await?;
        names.retain(|name| *name <= until);
        Ok(names)
    }

    /// The body of a kept message, if it is still there. What was not written by [`Store::keep_message`] is its own text, for whoever
    /// finds out that it is no message.
    pub async fn kept_message(&self, name: &str) -> Result<Option<String>, StoreError> {
        match self.read::<KeptMessage>(name).await {
            Ok(found) => Ok(found.into_document().map(|kept| kept.body)),
            Err(StoreError::Unreadable { .. }) => self.text(name).await.map(Some),
            Err(failed) => Err(failed),
        }
    }

    /// Stores what came in and cannot be used, with the reason. An emptied store takes nothing.
    pub async fn reject<T: Serialize>(&self, id: &str, what: &T) -> Result<DateTime<Utc>, StoreError> {
        self.check().await?;
        self.put_once(&format!("rejected/{id}.json"), what).await
    }

    /// The names of what came in and cannot be used that begin so, and when each was stored, the newest first.
    pub async fn rejected(&self, begins: &str) -> Result<Vec<(String, Option<DateTime<Utc>>)>, StoreError> {
        let mut names = Vec::new();
        let each = |listed: Vec<Listed>| {
            for Listed { name, modified, .. } in listed {
                let name = name.strip_prefix("rejected/").and_then(|name| name.strip_suffix(".json")).map(str::to_owned);
                names.extend(name.map(|name| (name, modified)));
            }
            ControlFlow::Continue(())
        };
        self.blobs.list(&self.state, &format!("rejected/{begins}"), PAGE, each).await?;
        names.sort_by(|(a, one), (b, other)| (other, a).cmp(&(one, b)));
        Ok(names)
    }

    /// Writes an audit record for good, once, after the entry that says that its row has no receipt yet. Writing it again
    /// owes the row again: it may come twice, never not at all. Where its id is that of another record, which a machine's record left
    /// behind that is no longer there, it stands under an id of its own, and is given as it stands then.
    pub async fn write_audit(&self, audit: &AuditRecord) -> Result<Option<AuditRecord>, StoreError> {
        let Some(there) = self.put_audit(audit).await? else { return Ok(None) };
        // What cannot be read is a record of before, as any other is that a run writes again.
        let Ok(there) = from_bytes::<AuditRecord>(&audit.id, &there) else { return Ok(None) };
        if !audit.is_another_than(&there) {
            return Ok(None);
        }
        let audit = audit.apart();
        self.put_audit(&audit).await?;
        Ok(Some(audit))
    }

    /// Gives what is there already.
    async fn put_audit(&self, audit: &AuditRecord) -> Result<Option<Bytes>, StoreError> {
        self.put_once(&unsent_name(&audit.id), &Unsent { at: audit.at }).await?;
        let body = to_bytes(&audit.id, audit)?;
        let (now, there) = self.create(&self.audit, &audit_name(&audit.id), body).await?;
        if there.is_none() && now >= audit.at + NEVER_WRITTEN_AFTER {
            // Whoever looked for it right before took the entry for one of a record that never comes.
            self.put_once(&unsent_name(&audit.id), &Unsent { at: audit.at }).await?;
        }
        Ok(there)
    }

    /// Whether the row of an audit record still has no receipt.
    pub async fn is_unsent(&self, audit: &str) -> Result<bool, StoreError> {
        match self.blobs.get(&self.state, &unsent_name(audit)).await? {
            Read::Found { .. } => Ok(true),
            Read::Missing { .. } => Ok(false),
        }
    }

    /// An audit record.
    pub async fn audit(&self, id: &str) -> Result<Option<AuditRecord>, StoreError> {
        match self.blobs.get(&self.audit, &audit_name(id)).await? {
            Read::Found { body, .. } => Ok(Some(from_bytes(id, &body)?)),
            Read::Missing { .. } => Ok(None),
        }
    }

    /// The ids of audit records that begin with `prefix`.
    pub async fn list_audits(&self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        let names = self.names_in(&self.audit, prefix, most).await?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect())
    }

    /// Ids of audit records whose row has no receipt, at most `most`.
    pub async fn list_unsent(&self, most: usize) -> Result<Vec<String>, StoreError> {
        let names = self.names("unsent/", most).await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("unsent/").map(str::to_owned)).collect())
    }

    /// The receipt: the row of this audit record was accepted. Gives the store's clock.
    pub async fn mark_sent(&self, audit: &str) -> Result<DateTime<Utc>, StoreError> {
        self.taken_away(&unsent_name(audit)).await
    }

    /// Takes the entry of an audit record away that is not there, once it is certain that it never will be: the run
    /// that made the entry was killed before it wrote the record. Gives whether it did.
    pub async fn forget_unwritten(&self, audit: &str) -> Result<bool, StoreError> {
        let Found::Document(held) = self.read::<Unsent>(&unsent_name(audit)).await? else {
            self.check().await?;
            return Ok(true);
        };
        if held.now < held.document.at + NEVER_WRITTEN_AFTER {
            return Ok(false);
        }
        self.mark_sent(audit).await?;
        Ok(true)
    }

    /// A document about the service itself, such as what keeps rows from going out. One that cannot be read is as good
    /// as none: it is written anew.
    pub async fn service<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Held<T>>, StoreError> {
        Ok(match self.read_service(name).await? {
            Found::Document(held) => Some(held),
            Found::Nothing(_) => None,
        })
    }

    /// Such a document, or none where it was made sure within the last minute that this is the store: a sweep asks for one of each
    /// of a thousand subscriptions.
    pub async fn service_or_nothing<T: DeserializeOwned>(&self, name: &str) -> Result<Found<T>, StoreError> {
        match self.read_service(name).await? {
            Found::Nothing(now) if !self.was_checked_lately(now) => self.check().await.map(Found::Nothing),
            found => Ok(found),
        }
    }

    async fn read_service<T: DeserializeOwned>(&self, name: &str) -> Result<Found<T>, StoreError> {
        match self.read(&service_name(name)).await {
            Err(StoreError::Unreadable { name, .. }) => {
                self.remove(&name).await?;
                self.read(&name).await
            }
            found => found,
        }
    }

    fn was_checked_lately(&self, now: DateTime<Utc>) -> bool {
        let since = now.timestamp().saturating_sub(self.checked.load(Ordering::Relaxed));
        (0..CHECK_COUNTS_SECONDS).contains(&since)
    }

    /// Writes such a document over the version that was read. A lost race is harmless: the other one is as new.
    pub async fn save_service<T: Serialize>(&self, name: &str, document: &T, etag: Option<&str>) -> Result<Written, StoreError> {
        self.write(&service_name(name), document, etag).await
    }

    /// Takes an entry away; one that is not there is as good.
    pub async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.taken_away(name).await.map(drop)
    }

    /// The same, with the store's clock.
    async fn taken_away(&self, name: &str) -> Result<DateTime<Utc>, StoreError> {
        match self.blobs.delete(&self.state, name, None).await? {
            Remove::Deleted { date } | Remove::Missing { date } | Remove::Changed { date } => Ok(date),
        }
    }

    async fn names(&self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        self.names_in(&self.state, prefix, most).await
    }

    async fn names_in(&self, container: &str, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let each = |listed: Vec<Listed>| {
            names.extend(listed.into_iter().map(|listed| listed.name));
            if names.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.blobs.list(container, prefix, PAGE.min(most), each).await?;
        names.truncate(most);
        Ok(names)
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Found<T>, StoreError> {
        match self.blobs.get(&self.state, name).await? {
            Read::Found { body, etag, date } => {
                Ok(Found::Document(Held { document: from_bytes(name, &body)?, etag: Some(etag), now: date }))
            }
            Read::Missing { date } => Ok(Found::Nothing(date)),
        }
    }

    async fn put_once<T: Serialize>(&self, name: &str, document: &T) -> Result<DateTime<Utc>, StoreError> {
        let body = to_bytes(name, document)?;
        Ok(self.create(&self.state, name, body).await?.0)
    }

    /// Makes sure that a blob is there, and gives the store's clock, and what was there already. That it is there is believed when it
    /// can be read: what others rely on may follow.
    async fn create(&self, container: &str, name: &str, body: Bytes) -> Result<(DateTime<Utc>, Option<Bytes>), StoreError> {
        for _ in 0..CREATED_WITHIN {
            if let Create::Created { date, .. } = self.blobs.create(container, name, body.clone()).await? {
                return Ok((date, None));
            }
            // It may have been taken away in between, as a claim is by the look that takes it in.
            if let Read::Found { date, body, .. } = self.blobs.get(container, name).await? {
                return Ok((date, Some(body)));
            }
        }
        Err(StoreError::Hidden(format!("{container}/{name}")))
    }

    async fn write<T: Serialize>(&self, name: &str, document: &T, etag: Option<&str>) -> Result<Written, StoreError> {
        let body = to_bytes(name, document)?;
        Ok(match etag {
            Some(etag) => match self.blobs.replace(&self.state, name, body, etag).await? {
                Replace::Replaced { etag, date } => Written::Done { etag, now: date },
                Replace::Changed { .. } => Written::Lost,
            },
            None => match self.blobs.create(&self.state, name, body).await? {
                Create::Created { etag, date } => Written::Done { etag, now: date },
                Create::Exists { .. } => Written::Lost,
            },
        })
    }
}

/// So often a blob is created that is said to be there and is not.
const CREATED_WITHIN: usize = 3;

/// What stands in the index of rows without a receipt.
#[derive(Serialize, Deserialize)]
struct Unsent {
    /// The time of the run that wrote it.
    #[serde(deserialize_with = "portcullis_domain::time::stored")]
    at: DateTime<Utc>,
}

/// No invocation lives this long, and a run writes the record right after the entry.
const NEVER_WRITTEN_AFTER: TimeDelta = TimeDelta::minutes(5);

/// How long a check counts for who would otherwise ask many times.
const CHECK_COUNTS_SECONDS: i64 = 60;

/// What was found under a name.
pub enum Found<T> {
    /// A document.
    Document(Held<T>),
    /// None, at this time of the store's clock.
    Nothing(DateTime<Utc>),
}

impl<T> Found<T> {
    fn into_document(self) -> Option<T> {
        match self {
            Found::Document(held) => Some(held.document),
            Found::Nothing(_) => None,
        }
    }
}

fn to_bytes<T: Serialize>(name: &str, document: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(document).map(Bytes::from).map_err(|why| StoreError::Unreadable { name: name.to_owned(), why: why.to_string() })
}

fn from_bytes<T: DeserializeOwned>(name: &str, body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|why| StoreError::Unreadable { name: name.to_owned(), why: quoted(&why.to_string()) })
}

fn vm_name(vm: &VmId) -> String {
    format!("vm/{}.json", vm.key())
}

/// The VM of a key in a name, as the store writes it: an entry in another letter case is of no VM, and nobody would take it away.
fn vm_of_key(key: &str) -> Option<VmId> {
    VmId::from_key(key).ok().filter(|vm| vm.key() == key)
}

fn approvals_name(person: &str) -> String {
    format!("{APPROVALS}/{person}")
}

fn open_name(vm: &VmId, fingerprint: &str, run: &str) -> String {
    format!("open/{}/{fingerprint}.{run}", vm.key())
}

/// The VM's key and the fingerprint of such a name.
fn open_entry(name: &str) -> Option<(&str, &str)> {
    let (key, entry) = name.strip_prefix("open/")?.rsplit_once('/')?;
    Some((key, entry.split_once('.').map_or(entry, |(fingerprint, _)| fingerprint)))
}

fn audit_name(id: &str) -> String {
    format!("{id}.json")
}

fn unsent_name(audit: &str) -> String {
    format!("unsent/{audit}")
}

fn service_name(name: &str) -> String {
    format!("service/{name}.json")
}

/// Sorts as time does.
const DUE_TIME: &str = "%Y%m%dT%H%M%SZ";

impl Due {
    /// The name of the entry.
    pub fn name(&self) -> String {
        format!("due/{}/{}/{}", self.at.format(DUE_TIME), self.vm.key(), self.run)
    }

    /// The entry of a name; nothing where it is none.
    pub fn of_name(name: &str) -> Option<Due> {
        let (at, rest) = name.strip_prefix("due/")?.split_once('/')?;
        let (key, run) = rest.rsplit_once('/')?;
        let at = NaiveDateTime::parse_from_str(at, DUE_TIME).ok()?.and_utc();
        let due = Due { at, vm: VmId::from_key(key).ok()?, run: run.to_owned() };
        // Another spelling of it would be done again and again: it is taken away by its name.
        (due.name() == name).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_counts_for_a_day_and_once() {
        let at = |minutes: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let mut approvals = Approvals::default();
        assert!(approvals.enter("a", at(0)) && approvals.enter("b", at(10)) && !approvals.enter("a", at(20)));
        assert_eq!((approvals.in_a_day(at(20), ""), approvals.in_a_day(at(20), "a"), approvals.in_a_day(at(20), "c")), (2, 1, 2));
        assert_eq!((approvals.in_a_day(at(1439), ""), approvals.in_a_day(at(1440), ""), approvals.in_a_day(at(1450), "")), (2, 1, 0));
        assert!(approvals.enter("c", at(1445)));
        assert_eq!(approvals.grants.keys().collect::<Vec<_>>(), ["b", "c"], "what counts no longer goes");
        for n in 0..=MOST_APPROVALS {
            approvals.enter(&format!("d{n}"), at(1446));
        }
        assert_eq!((approvals.grants.len(), approvals.grants.contains_key("c")), (MOST_APPROVALS, false), "the oldest give way");
    }

    #[test]
    fn a_due_entry_is_read_from_its_name_and_sorts_by_time() {
        let vm: VmId = "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1".parse().unwrap();
        let at = portcullis_domain::time::parse("2026-01-15T09:00:00Z").unwrap();
        let due = Due { at, vm, run: "0a1b".to_owned() };
        assert_eq!(due.name(), "due/20260115T090000Z/s/rg/vm1/0a1b");
        assert_eq!(Due::of_name(&due.name()), Some(due));
        for name in ["due/x/s/rg/vm1/0a1b", "due/20260115T090000Z/rg/vm1/0a1b", "vm/s/rg/vm1/0a1b"] {
            assert_eq!(Due::of_name(name), None, "{name}");
        }
    }
}
