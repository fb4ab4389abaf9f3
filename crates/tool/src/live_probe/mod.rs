//! `portcullis live-probe`: asks the real Azure what nobody outside Microsoft knows about JIT, on one VM that may be opened.
//!
//! It opens to addresses of documentation alone, which nobody has, and puts back what it changed, however it ends.

mod afterwards;
mod asking;
pub mod azure;
pub mod bus;
pub mod clock;
mod command;
mod deleting;
mod ending;
mod events;
mod incidents;
pub mod ingestion;
mod logging;
mod look;
mod machine;
mod opening;
pub mod questions;
mod reading;
pub mod report;
mod restoring;
pub mod token;
mod writing;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use portcullis_domain::arm_id::VmId;
use serde_json::Value;

use azure::{Azure, Trouble};
use bus::Bus;
pub use command::{ACTIONS, ACTIONS_FOR_EVENTS, ACTIONS_FOR_INCIDENTS, ACTIONS_FOR_LOGS, Arguments, run};
use ingestion::Ingestion;
use look::Asked;
use machine::Machine;
use report::{Besides, Finding, Report};

/// What a question ends in: either it was settled, or the trouble that kept it from being.
type Stage = Result<(), Trouble>;

/// A token that cannot be renewed must live so long: without it nothing could be put back.
const LONGEST: TimeDelta = TimeDelta::minutes(45);

/// An asking that is under way.
pub struct Probe<'a> {
    azure: Azure<'a>,
    machine: Machine,
    bus: Option<Bus>,
    ingestion: Option<Ingestion>,
    workspace: Option<String>,
    notes: Mutex<Notes>,
    tell: &'a (dyn Fn(&str) + Send + Sync),
}

/// What is known so far, and what has to be put back.
#[derive(Debug, Default)]
struct Notes {
    findings: BTreeMap<&'static str, Finding>,
    besides: Vec<Besides>,
    /// How many requests JIT refused.
    refused: usize,
    /// The last request that JIT took.
    last: Option<Asked>,
    /// The first request, which the activity log is asked about.
    first: Option<Asked>,
    /// Whether JIT was asked for anything, answered or not.
    asked_jit: bool,
    /// What ties each request that JIT took to its events.
    requests: Vec<String>,
    /// Whether the queue may be subscribed to events, answered or not.
    may_be_subscribed: bool,
    /// Whether Event Grid says that it is.
    is_subscribed: bool,
    /// The machines that were written into the policy, answered or not.
    written: Option<Value>,
    /// What could not be put back, once that was tried.
    left: Option<Vec<String>>,
}

impl<'a> Probe<'a> {
    /// Looks at the machine and refuses one that cannot be asked about; nothing is written. `tell` hears what is being done.
    pub async fn prepare(azure: Azure<'a>, vm: &VmId, tell: &'a (dyn Fn(&str) + Send + Sync)) -> anyhow::Result<Self> {
        let machine = Machine::find(&azure, vm).await?;
        azure.demand_life(LONGEST)?;
        Ok(Probe { azure, machine, bus: None, ingestion: None, workspace: None, notes: Mutex::default(), tell })
    }

    /// Asks besides how events arrive, at this queue.
    #[must_use]
    pub fn with_queue(self, bus: Option<Bus>) -> Self {
        Probe { bus, ..self }
    }

    /// Asks besides what the ingestion endpoint takes.
    #[must_use]
    pub fn with_ingestion(self, ingestion: Option<Ingestion>) -> Self {
        Probe { ingestion, ..self }
    }

    /// Asks besides which right incidents take, in the workspace with this resource id.
    #[must_use]
    pub fn with_workspace(self, workspace: Option<String>) -> Self {
        Probe { workspace, ..self }
    }

    /// Asks everything until it is done or `stop` comes, and puts back what it changed. Should `hurry` come meanwhile, that is given up.
    pub async fn run(&self, stop: impl Future<Output = ()>, hurry: impl Future<Output = ()>) -> Report {
        let stopped = tokio::select! {
            () = self.ask_everything() => false,
            () = stop => true,
        };
        let all_back = async {
            let mut left = match self.noted(|notes| notes.left.clone()) {
                Some(left) => left,
                None => self.put_back().await,
            };
            left.extend(self.unsubscribe().await);
            left
        };
        let left = tokio::select! {
            left = all_back => left,
            () = hurry => vec![self.given_up()],
        };
        self.judge_letters();
        Report {
            vm: self.machine.vm.to_string(),
            began: self.machine.began,
            ended: self.azure.now(),
            stopped,
            findings: self.noted(|notes| notes.findings.clone()),
            besides: self.noted(|notes| notes.besides.clone()),
            left,
        }
    }

    async fn ask_everything(&self) {
        let read = self.read().await;
        self.settle(&[], read);
        let schema = self.event_schema().await;
        self.settle(&["eventSchema"], schema);
        let entities = self.incident_entities().await;
        self.settle(&["incidentEntities"], entities);
        let ingestion = self.unpacked_counts().await;
        self.settle(&["logsUnpackedCounts"], ingestion);
        let subscribed = self.subscribe().await;
        self.settle(&["events", "eventResource"], subscribed);
        let opening = ["requestor", "initiatingSeconds", "operationSeconds", "ruleNames", "rulesLand"];
        match self.first_opening().await {
            Ok(first) => {
                let log = self.glance_at_log().await;
                self.settle(&[], log);
                let second = self.second_opening(&first).await;
                self.settle(&["newerInitiate"], second);
            }
            Err(trouble) => {
                self.settle(&opening, Err(trouble.clone()));
                self.settle(&["newerInitiate"], Err(trouble));
            }
        }
        let deleting = self.deleting().await;
        self.settle(&["nsgIfMatch", "deleteAnswers", "deletedRuleReturns", "recordOfDeletedRule", "busyNsg"], deleting);
        if !self.is_told("busyNsg") {
            self.open("busyNsg", "No write to a group was met that was still under way.", Vec::new());
        }
        let nearest = self.nearest_end().await;
        self.settle(&["smallestEndSeconds"], nearest);
        let ended = self.watched_end().await;
        self.settle(&["pluralSources", "expiryDelaySeconds"], ended);
        let in_a_row = self.in_a_row().await;
        self.settle(&[], in_a_row);
        let written = self.writing().await;
        self.settle(&["putClosesRecords", "sourceMust"], written);
        let kept = self.refusals_kept().await;
        self.settle(&[], kept);
        // Before the waits for events and the log, which may take an hour: nothing stays open for them.
        let left = self.put_back().await;
        self.note(|notes| notes.left = Some(left));
        let arriving = self.arriving().await;
        self.settle(&["events", "eventResource"], arriving);
        // Told after the second time, when everything is put back.
        let _first = self.unsubscribe().await;
        let log = self.wait_for_log().await;
        self.settle(&["activityLogSeconds"], log);
        let ended = self.end_of_deleted().await;
        self.settle(&[], ended);
    }

    /// Says why questions stay open that this stage was to answer and said nothing of.
    fn settle(&self, names: &[&'static str], stage: Stage) {
        let Err(trouble) = stage else { return };
        (self.tell)(&trouble.to_string());
        for name in names.iter().filter(|name| !self.is_told(name)) {
            self.open(name, &trouble.to_string(), Vec::new());
        }
    }

    fn found(&self, name: &'static str, answer: Value, seen: Vec<String>) {
        let finding = Finding { answer: Some(answer), why: String::new(), seen };
        self.note(|notes| drop(notes.findings.insert(name, finding)));
    }

    fn open(&self, name: &'static str, why: &str, seen: Vec<String>) {
        let finding = Finding { answer: None, why: why.to_owned(), seen };
        self.note(|notes| drop(notes.findings.insert(name, finding)));
    }

    fn also(&self, asks: &'static str, seen: Vec<String>) {
        self.note(|notes| notes.besides.push(Besides { asks, seen }));
    }

    fn answered(&self, name: &str) -> Option<Value> {
        self.noted(|notes| notes.findings.get(name)?.answer.clone())
    }

    fn is_answered(&self, name: &str) -> bool {
        self.answered(name).is_some()
    }

    /// Whether anything was said of it, be it why it is not answered.
    fn is_told(&self, name: &str) -> bool {
        self.noted(|notes| notes.findings.contains_key(name))
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn noted<T>(&self, look: impl FnOnce(&Notes) -> T) -> T {
        look(&self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, what: &str) {
        (self.tell)(what);
    }

    fn given_up(&self) -> String {
        let groups: Vec<&str> = self.machine.groups.iter().map(|group| group.id.name()).collect();
        let policy = self.machine.policy.as_ref().map(|policy| policy.path.as_str()).unwrap_or_default();
        format!(
            "Putting back was stopped. Look at the sources in the policy {policy}, and for rules with `JITRule-` in their name and a source \
             of {} or {} in {}.{}",
            machine::FIRST,
            machine::SECOND,
            groups.join(" and "),
            match self.noted(|notes| notes.may_be_subscribed) {
                true => format!(" Delete the subscription's event subscription {}.", self.own_name()),
                false => String::new(),
            }
        )
    }
}
