//! A VM that the tests look at again and again.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::audit::AuditRecord;
use crate::conclude::conclude;
use crate::finding::FindingCode;
use crate::grant::Grant;
use crate::initiate::Newer;
use crate::jit::JitRecord;
use crate::judge::Limits;
use crate::opening::Opening;
use crate::reconcile::{Jit, Look, Mode, Plan, Remark, reconcile};
use crate::record::{Cause, Outcome, Trouble, VmRecord};
use crate::ruling::{Confirmations, Rulings};
use crate::samples::{at, opening, vm};

/// The VM, as it stands before the next look.
pub(crate) struct Story {
    pub(crate) memory: VmRecord,
    pub(crate) openings: Vec<Opening>,
    pub(crate) records: Vec<JitRecord>,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) settled: bool,
    pub(crate) versions: &'static str,
    pub(crate) jit_unread: bool,
    pub(crate) gone: bool,
    pub(crate) mode: Mode,
    pub(crate) newer: Newer,
    pub(crate) rulings: Rulings,
    pub(crate) confirmations: Confirmations,
    pub(crate) unaudited: BTreeSet<String>,
}

impl Story {
    pub(crate) fn of(openings: Vec<Opening>) -> Self {
        Story {
            memory: VmRecord::new(vm()),
            openings,
            records: Vec::new(),
            remarks: Vec::new(),
            settled: true,
            versions: "",
            jit_unread: false,
            gone: false,
            mode: Mode::Enforce,
            newer: Newer::default(),
            rulings: Rulings::new(),
            confirmations: Confirmations::new(),
            unaudited: BTreeSet::new(),
        }
    }

    pub(crate) fn granted(mut self, grants: Vec<Grant>) -> Self {
        self.memory.grants = grants;
        self
    }

    /// A look whose reads take a second.
    pub(crate) fn look(&mut self, time: &str) -> Plan {
        let now = at(time);
        let look = Look {
            now,
            ended: now + TimeDelta::seconds(1),
            openings: &self.openings,
            groups_settled: self.settled,
            versions: self.versions,
            jit: (!self.jit_unread).then_some(Jit { records: &self.records, remarks: &self.remarks }),
            gone: self.gone,
            limits: Limits { longest_opening: TimeDelta::hours(8) },
            mode: self.mode,
            newer: self.newer,
            rulings: &self.rulings,
            confirmations: &self.confirmations,
            unaudited: &self.unaudited,
        };
        let plan = reconcile(self.memory.clone(), &look);
        self.memory = plan.record.clone();
        plan
    }

    pub(crate) fn delete(&mut self, time: &str, opening: &Opening, outcome: Outcome, trouble: Option<Cause>) {
        let port = opening.port().unwrap();
        self.memory.intend_delete(port, &opening.rule, at(time));
        self.memory.delete_came_to(port, outcome, trouble.map(|cause| Trouble { cause, said: "Azure says no".to_owned() }));
    }

    /// A look of which every delete is accepted and has its effect at once.
    pub(crate) fn look_and_shut(&mut self, time: &str) -> Plan {
        let plan = self.look(time);
        for close in &plan.closes {
            self.delete(time, &close.opening, Outcome::Accepted, None);
            self.openings.retain(|opening| *opening != close.opening);
        }
        plan
    }

    pub(crate) fn conclude(&mut self, time: &str) -> Vec<AuditRecord> {
        conclude(&mut self.memory, at(time), self.mode)
    }

    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.memory.next_look
    }
}

pub(crate) fn any(n: u32) -> Opening {
    opening(n, "22", &["*"])
}

pub(crate) fn home(n: u32) -> Opening {
    opening(n, "22", &["203.0.113.4"])
}

pub(crate) fn kinds(audits: &[AuditRecord]) -> Vec<&'static str> {
    audits.iter().map(|audit| audit.kind.text()).collect()
}

pub(crate) fn said(audits: &[AuditRecord]) -> Vec<String> {
    audits.iter().map(AuditRecord::message).collect()
}

pub(crate) const RULE_1: &str = "MicrosoftDefenderForCloud-JITRule-1-00000000000000000000000000000001";
pub(crate) const RULE_2: &str = "MicrosoftDefenderForCloud-JITRule-2-00000000000000000000000000000002";

pub(crate) fn remark(code: FindingCode, about: &str, evidence: &str) -> Remark {
    Remark { code, port: None, about: about.to_owned(), evidence: evidence.to_owned() }
}
