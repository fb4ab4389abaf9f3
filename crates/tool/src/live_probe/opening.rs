//! What is seen of two openings of one port: how the first comes, and what the second does to it.

use chrono::TimeDelta;
use portcullis_domain::nsg::{JitRuleGeneration, JitRuleName};
use reqwest::Method;
use serde_json::json;

use super::asking::{Opened, seconds};
use super::azure::Trouble;
use super::look::{Asked, Look};
use super::machine::{FIRST, Group, NETWORK, Plan, SECOND};
use super::report::seen;
use super::token::Asker;
use super::{Probe, Stage};

/// Longer than everything takes that is done while these are open.
pub(super) const LONG: TimeDelta = TimeDelta::minutes(20);
/// JIT has so long to take the older rule away.
const REPLACED_WITHIN: TimeDelta = TimeDelta::seconds(30);

impl Probe<'_> {
    /// The first opening; the next questions ask about it.
    pub(super) async fn first_opening(&self) -> Result<Opened, Trouble> {
        let opened = match self.open_for(&[FIRST], LONG).await {
            Err(trouble) if self.machine.plan == Plan::Off && trouble.status() == Some(403) => {
                let line = seen(self.azure.now(), format!("the plan is off; policies were read, and a request is refused: {trouble}"));
                self.found("planOffRefuses", json!("writes"), vec![line]);
                return Err(trouble);
            }
            opened => opened?,
        };
        if self.machine.plan == Plan::Off {
            self.open("planOffRefuses", "The plan is read as off, and JIT opened all the same.", Vec::new());
        }
        self.note(|notes| notes.first = Some(opened.asked.clone()));
        self.judge_requestor(&opened);
        let took = seconds(opened.asked.start, opened.look.at);
        let lines = vec![
            seen(opened.asked.start, format!("JIT took the request to open to {FIRST}")),
            seen(opened.before, "it was still `Initiating`, or not looked at yet"),
            seen(opened.look.at, "it was `Initiated`"),
        ];
        self.found("initiatingSeconds", took, lines);
        let settled = self.settled(opened.look.at).await?;
        self.found(
            "operationSeconds",
            seconds(opened.look.at, settled.at),
            vec![seen(opened.look.at, "JIT's rule was seen"), seen(settled.at, "every group in front of the VM was `Succeeded`")],
        );
        self.judge_rules(&opened.asked, &settled);
        Ok(opened)
    }

    fn judge_requestor(&self, opened: &Opened) {
        let by_record = opened.look.record(&opened.asked).and_then(|record| record.requestor.clone()).unwrap_or_default();
        let told = if by_record.is_empty() { opened.asked.requestor.clone() } else { by_record };
        let line = seen(opened.look.at, format!("the record's requestor is `{told}`"));
        match (told.is_empty(), self.azure.asker()) {
            (false, _) => self.found("requestor", json!("filled"), vec![line]),
            (true, Asker::Person) => self.found("requestor", json!("empty"), vec![line]),
            (true, Asker::Application | Asker::Unknown) => {
                let why = "It is empty, as it is known to be for applications: run the probe as a person.";
                self.open("requestor", why, vec![line]);
            }
        }
    }

    fn judge_rules(&self, asked: &Asked, look: &Look) {
        let rules = look.rules(asked);
        let lines: Vec<String> = rules.iter().map(|rule| seen(look.at, rule.named())).collect();
        match rules.iter().find_map(|rule| JitRuleName::parse(rule.rule.name())) {
            None => self.open("ruleNames", "No rule was left to read.", lines.clone()),
            Some(name) => {
                let setting = match name.generation {
                    JitRuleGeneration::SecurityCenter => "securityCenter",
                    JitRuleGeneration::MicrosoftDefenderForCloud => "microsoftDefenderForCloud",
                };
                self.found("ruleNames", json!(setting), lines.clone());
            }
        }
        let is_in = |of: fn(&Group) -> bool| {
            let groups: Vec<_> = self.machine.groups.iter().filter(|group| of(group)).collect();
            (groups.len(), groups.iter().any(|group| rules.iter().any(|rule| rule.nsg().is_some_and(|nsg| nsg == group.id))))
        };
        let (nic, subnet) = (is_in(|group| group.of_nic && !group.of_subnet), is_in(|group| group.of_subnet && !group.of_nic));
        let setting = match (nic, subnet) {
            ((0, _), _) | (_, (0, _)) => None,
            ((_, true), (_, true)) => Some("both"),
            ((_, true), _) => Some("nic"),
            (_, (_, true)) => Some("subnet"),
            _ => None,
        };
        match setting {
            Some(setting) => self.found("rulesLand", json!(setting), lines),
            None => {
                let why = "The interface and the subnet of this VM do not have a group each: give them one, and run the probe again.";
                self.open("rulesLand", why, lines);
            }
        }
    }

    /// A second opening beside the first.
    pub(super) async fn second_opening(&self, first: &Opened) -> Stage {
        let second = self.open_for(&[SECOND], LONG).await?;
        if !second.asked.before.iter().any(|opening| opening.sources.covers(&first.asked.sources)) {
            return Err(Trouble::Broken(
                "The first rule was gone before the second request: somebody else may delete JIT's rules.".to_owned(),
            ));
        }
        self.write_while_busy(&second).await?;
        let replaced = self.azure.now() + REPLACED_WITHIN;
        let settled = self.settled(self.azure.now()).await?;
        self.azure.pass(replaced - settled.at).await;
        let look = self.look().await?;
        let mut lines = vec![
            seen(second.asked.start, format!("JIT took a request to open to {SECOND} while {FIRST} was let in")),
            seen(second.look.at, "it was `Initiated`"),
        ];
        let record = look.record(&first.asked);
        let told =
            record.map_or("gone".to_owned(), |record| format!("`{}`, `{}`", String::from(record.status.clone()), record.status_reason));
        let rules = look.rules(&first.asked).len();
        lines.push(seen(look.at, format!("of the older one there are {rules} rules, and its record is {told}")));
        let is_over = record.is_none_or(|record| record.was_replaced());
        match (rules, is_over) {
            (0, _) => self.found("newerInitiate", json!("replaces"), lines),
            (_, false) => self.found("newerInitiate", json!("adds"), lines),
            (_, true) => self.open("newerInitiate", "The older record is over, and its rule is still there.", lines),
        }
        Ok(())
    }

    /// Deletes a rule of the probe in a group that JIT is writing, if it still is.
    async fn write_while_busy(&self, opened: &Opened) -> Stage {
        let look = Look::at_groups(&self.azure, &self.machine).await?;
        let Some(rule) = look.rules(&opened.asked).first().map(|opening| opening.rule.clone()).filter(|_| !look.settled) else {
            return Ok(());
        };
        let answered = self.azure.write(Method::DELETE, &rule.to_string(), NETWORK, None).await.map(|_| ());
        self.judge_busy(&answered, "while JIT was writing the group");
        Ok(())
    }

    /// What the answer to a write says that met another one.
    pub(super) fn judge_busy(&self, answered: &Result<(), Trouble>, when: &str) {
        let Err(trouble) = answered else { return };
        if trouble.is_busy() {
            let setting = if trouble.status() == Some(409) { "conflict" } else { "retryableError" };
            let line = seen(self.azure.now(), format!("deleted a rule of the probe {when}: {trouble}"));
            self.found("busyNsg", json!(setting), vec![line]);
        }
    }
}
