//! A page of a list: what of it fits into one answer, and where the next one goes on.

use std::future::Future;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::AuditRecord;
use portcullis_domain::record::VmRecord;
use serde::Serialize;
use tokio::task::JoinSet;
use tracing::error;

use super::answer::Refusal;
use super::question::{MOST_LIMIT, Question, bookmark, not_a_bookmark};
use super::views::{self, AuditView};
use crate::store::{AuditPlace, AuditsFound, Store, StoreError, VmIndex};
use crate::telemetry::trace;

/// One answer of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    /// The items. There may be fewer than asked for, even none, though there is a next page.
    pub items: Vec<T>,
    /// What to hand back as `after` to go on; none at the end.
    pub next: Option<String>,
    /// Documents that could not be read, so that what they say is missing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// An item of a VM, with what it is known by among the VM's own.
pub(super) type Keyed<T> = (String, T);

/// Documents that are read at once: the HTTP client keeps as many connections.
const AT_ONCE: usize = 16;

/// VMs whose record is read for one answer, whatever comes of them: it keeps an answer within the deadline.
const MOST_READ: usize = 1000;

/// The place after which the next page goes on: behind a VM, or behind one of its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    vm: VmId,
    item: Option<String>,
}

impl Place {
    /// Reads the place of a bookmark; nothing where no answer gave it.
    pub fn read(text: &str) -> Option<Self> {
        let (vm, item) = text.split_once('\n').map_or((text, None), |(vm, item)| (vm, Some(item.to_owned())));
        Some(Place { vm: VmId::from_key(vm).ok()?, item })
    }

    /// The bookmark of the place.
    pub fn bookmark(&self) -> String {
        let item = self.item.as_ref().map(|item| format!("\n{item}")).unwrap_or_default();
        bookmark(&format!("{}{item}", self.vm.key()))
    }
}

/// The items of the VMs of an index, VM after VM.
pub(super) async fn of_vms<T>(
    store: &Store,
    index: VmIndex,
    question: &Question,
    items: impl Fn(&VmRecord) -> Vec<Keyed<T>>,
) -> Result<Page<T>, Refusal> {
    let after = match &question.after {
        Some(text) => Some(Place::read(text).ok_or_else(|| Refusal::BadQuestion(not_a_bookmark()))?),
        None => None,
    };
    if question.vm.as_ref().is_some_and(|vm| after.as_ref().is_some_and(|after| after.vm != *vm || after.item.is_none())) {
        return Err(Refusal::BadQuestion(not_a_bookmark()));
    }
    // An emptied store must not look like an estate where nothing is open.
    store.check().await?;
    let (vms, more) = vms(store, index, question, after.as_ref()).await?;
    let mut gathered = Gathered::new(question.limit, after);
    for some in vms.chunks(AT_ONCE) {
        let records = all_of(some.iter().cloned(), |vm| {
            let store = store.clone();
            async move { store.vm(&vm).await }
        });
        for (vm, held) in some.iter().zip(records.await) {
            match held {
                // Nobody must take a misspelt name for a VM of which nothing is open.
                Ok(held) if held.etag.is_none() && question.vm.is_some() => return Err(Refusal::NeverLookedAt),
                // Without a version it was never written: its entry in the index is one too many.
                Ok(held) => gathered.take(vm, if held.etag.is_some() { items(&held.document) } else { Vec::new() }),
                Err(StoreError::Unreadable { name, why }) => gathered.cannot_read(vm, name, &why),
                Err(error) => return Err(error.into()),
            }
        }
        if gathered.is_full() {
            break;
        }
    }
    Ok(gathered.page(more))
}

/// The VMs whose records are to be read, and whether there are more of them.
async fn vms(store: &Store, index: VmIndex, question: &Question, after: Option<&Place>) -> Result<(Vec<VmId>, bool), StoreError> {
    let subscription = question.subscription.as_deref();
    if let Some(vm) = &question.vm {
        let is_in = subscription.is_none_or(|wanted| wanted == vm.subscription());
        return Ok((is_in.then(|| vm.clone()).into_iter().collect(), false));
    }
    let mut vms = store.vms_after(index, subscription, after.map(|place| &place.vm), MOST_READ + 1).await?;
    let more = vms.len() > MOST_READ;
    vms.truncate(MOST_READ);
    let begun = after.filter(|place| place.item.is_some() && subscription.is_none_or(|wanted| wanted == place.vm.subscription()));
    vms.splice(0..0, begun.map(|place| place.vm.clone()));
    Ok((vms, more))
}

/// What was gathered so far: one item more than fits tells that there is a next page.
struct Gathered<T> {
    limit: usize,
    after: Option<Place>,
    items: Vec<(Place, T)>,
    last: Option<VmId>,
    unreadable: Vec<String>,
}

impl<T> Gathered<T> {
    fn new(limit: usize, after: Option<Place>) -> Self {
        Gathered { limit, after, items: Vec::new(), last: None, unreadable: Vec::new() }
    }

    fn take(&mut self, vm: &VmId, mut items: Vec<Keyed<T>>) {
        if self.is_full() {
            return;
        }
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        let passed = self.after.as_ref().filter(|after| after.vm == *vm).and_then(|after| after.item.clone());
        let fresh = items.into_iter().filter(|(key, _)| passed.as_ref().is_none_or(|passed| key > passed));
        self.items.extend(fresh.map(|(key, item)| (Place { vm: vm.clone(), item: Some(key) }, item)));
        self.last = Some(vm.clone());
    }

    fn cannot_read(&mut self, vm: &VmId, name: String, why: &str) {
        if self.is_full() {
            return;
        }
        error!(document = name, why, "a document in the store cannot be read and is missing in an answer");
        self.unreadable.push(vm.to_string());
        self.last = Some(vm.clone());
    }

    fn is_full(&self) -> bool {
        self.items.len() > self.limit
    }

    fn page(mut self, more: bool) -> Page<T> {
        let next = if self.is_full() {
            self.items.truncate(self.limit);
            self.items.last().map(|(place, _)| place.bookmark())
        } else {
            self.last.filter(|_| more).map(|vm| Place { vm, item: None }.bookmark())
        };
        Page { items: self.items.into_iter().map(|(_, item)| item).collect(), next, unreadable: self.unreadable }
    }
}

/// Audit records, the newest first.
pub(super) async fn of_audits(store: &Store, question: &Question) -> Result<Page<AuditView>, Refusal> {
    let before = match &question.after {
        Some(text) => Some(audit_place(text).ok_or_else(|| Refusal::BadQuestion(not_a_bookmark()))?),
        None => question.to.map(|to| AuditPlace { at: to + WRITTEN_WITHIN, id: String::new() }),
    };
    store.check().await?;
    let prefix = question.vm.as_ref().map(|vm| format!("{}-", AuditRecord::prefix(vm))).unwrap_or_default();
    // What is asked for by its content is found by reading: more is read than is answered.
    let most = if question.asks_for_content() { MOST_READ } else { question.limit };
    let (mut places, mut more) = match store.newest_audits(&prefix, before.as_ref(), most).await? {
        AuditsFound::Newest { places, more } => (places, more),
        AuditsFound::TooMany => return Err(Refusal::BadQuestion(TOO_MANY_AUDITS.to_owned())),
    };
    // A record is never written before its time, so behind the first one that was there is none of later.
    if let Some(too_old) = question.from.and_then(|from| places.iter().position(|place| place.at < from)) {
        places.truncate(too_old);
        more = false;
    }
    let mut page = Page { items: Vec::new(), next: None, unreadable: Vec::new() };
    let mut read_to = 0;
    for some in places.chunks(AT_ONCE) {
        let read = all_of(some.iter().cloned(), |place| {
            let store = store.clone();
            async move { store.audit(&place.id).await }
        });
        for (place, audit) in some.iter().zip(read.await) {
            if page.items.len() == question.limit {
                break;
            }
            read_to += 1;
            match audit {
                Ok(audit) => page.items.extend(audit.filter(|audit| is_asked_for(audit, question)).map(|audit| views::audit(&audit))),
                Err(StoreError::Unreadable { why, .. }) => {
                    error!(audit.id = place.id, why, "an audit record cannot be read and is missing in an answer");
                    page.unreadable.push(place.id.clone());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if page.items.len() == question.limit {
            break;
        }
    }
    let goes_on = more || read_to < places.len();
    page.next = places.get(..read_to).and_then(<[AuditPlace]>::last).filter(|_| goes_on).map(audit_bookmark);
    Ok(page)
}

/// A record has the time of its run's beginning and is written before the run's lease of 30 s has ended; the rest is
/// for a store that is slow to take it.
const WRITTEN_WITHIN: TimeDelta = TimeDelta::minutes(2);

const TOO_MANY_AUDITS: &str =
    "There are too many audit records to look through them all here: name a VM with `vm`, or ask Microsoft Sentinel.";

fn is_asked_for(audit: &AuditRecord, question: &Question) -> bool {
    let subscription = question.subscription.as_deref();
    subscription.is_none_or(|wanted| audit.vm.as_ref().is_some_and(|vm| vm.subscription() == wanted))
        && question.vm.as_ref().is_none_or(|wanted| audit.vm.as_ref() == Some(wanted))
        && question.kind.is_none_or(|wanted| audit.kind == wanted)
        && question.code.as_ref().is_none_or(|wanted| audit.code == *wanted)
        && question.from.is_none_or(|from| audit.at >= from)
        && question.to.is_none_or(|to| audit.at < to)
}

/// The bookmark of the place of an audit record.
pub fn audit_bookmark(place: &AuditPlace) -> String {
    bookmark(&format!("{}\n{}", place.at.to_rfc3339_opts(SecondsFormat::Secs, true), place.id))
}

/// Reads the place of such a bookmark; nothing where no answer gave it.
pub fn audit_place(text: &str) -> Option<AuditPlace> {
    let (at, id) = text.split_once('\n')?;
    let at: DateTime<Utc> = portcullis_domain::time::parse(at)?;
    Some(AuditPlace { at, id: id.to_owned() })
}

/// Reads one thing for each key, all at once, and gives them in the order of the keys.
async fn all_of<K, T, F>(keys: impl Iterator<Item = K>, read: impl Fn(K) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut reads = JoinSet::new();
    for (at, key) in keys.enumerate() {
        let reading = read(key);
        reads.spawn(trace::within(trace::current(), async move { (at, reading.await) }));
    }
    let mut all = reads.join_all().await;
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, read)| read).collect()
}

const _: () = assert!(MOST_READ >= MOST_LIMIT, "a list of VMs must be able to fill an answer");

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    fn vm(name: &str) -> VmId {
        VmId::from_key(&format!("s/rg/{name}")).unwrap()
    }

    fn items(vm: &str, keys: &[&str]) -> Vec<Keyed<String>> {
        keys.iter().map(|key| ((*key).to_owned(), format!("{vm}.{key}"))).collect()
    }

    /// Walks through a whole list, `limit` items at a time.
    fn walk(limit: usize, estate: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut after: Option<Place> = None;
        loop {
            let mut gathered = Gathered::new(limit, after.clone());
            let from = after.as_ref().map_or(0, |place| {
                let at = estate.iter().position(|(name, _)| vm(name) == place.vm).unwrap();
                if place.item.is_some() { at } else { at + 1 }
            });
            for (name, keys) in &estate[from..] {
                gathered.take(&vm(name), items(name, keys));
            }
            let page = gathered.page(false);
            pages.push(page.items);
            match page.next {
                Some(next) => {
                    let text = Question::read(Some(&format!("after={next}")), &super::super::question::OF_VMS).unwrap().after.unwrap();
                    after = Place::read(&text);
                    assert!(after.is_some());
                }
                None => return pages,
            }
        }
    }

    #[test]
    fn every_item_is_on_one_page() {
        let estate: [(&str, &[&str]); 4] = [("a", &["2", "1", "3"]), ("b", &[]), ("c", &["1"]), ("d", &["1", "2"])];
        let all = ["a.1", "a.2", "a.3", "c.1", "d.1", "d.2"];
        for limit in 1..=7 {
            let pages = walk(limit, &estate);
            assert_eq!(pages.concat(), all, "{limit}");
            assert_eq!(pages.len(), all.len().div_ceil(limit), "{limit}");
        }
        assert_eq!(walk(5, &[]), [Vec::<String>::new()]);
    }

    #[test]
    fn a_page_that_ended_early_goes_on_behind_its_last_vm() {
        let mut gathered = Gathered::<String>::new(10, None);
        gathered.take(&vm("a"), Vec::new());
        gathered.cannot_read(&vm("b"), "vm/s/rg/b.json".to_owned(), "EOF");
        let page = gathered.page(true);
        assert_eq!(page.next, Some(Place { vm: vm("b"), item: None }.bookmark()));
        assert_eq!(page.unreadable, [vm("b").to_string()]);
    }

    #[test]
    fn a_place_survives_its_bookmark() {
        for item in [None, Some("/subscriptions/s/…/securityRules/x".to_owned())] {
            let place = Place { vm: vm("a"), item };
            let query = format!("after={}", place.bookmark());
            let text = Question::read(Some(&query), &super::super::question::OF_VMS).unwrap().after.unwrap();
            assert_eq!(Place::read(&text), Some(place));
        }
        let place = AuditPlace { at: "2026-01-15T09:00:00Z".parse().unwrap(), id: "a-b".to_owned() };
        let query = format!("after={}", audit_bookmark(&place));
        let text = Question::read(Some(&query), &super::super::question::OF_VMS).unwrap().after.unwrap();
        assert_eq!(audit_place(&text), Some(place));
        assert!(Place::read("nonsense").is_none() && audit_place("s/rg/a").is_none() && audit_place("now\nx").is_none());
    }

    #[tokio::test]
    async fn what_is_read_at_once_keeps_its_order_and_its_trace() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = all_of(0..5u32, |n| async move {
            for _ in n..5 {
                tokio::task::yield_now().await;
            }
            (n, trace::current().map(|trace| trace::text(trace.span().span_context())).unwrap_or_default())
        });
        let read = trace::within(trace::parse(TRACE).map(trace::of), read).await;
        assert_eq!(read, (0..5).map(|n| (n, TRACE.to_owned())).collect::<Vec<_>>());
    }
}
