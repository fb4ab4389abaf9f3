//! What was found out, as people read it and as programs do.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::questions::{QUESTIONS, Question, meaning};

/// What became of one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The answer, as a setting of the switch; nothing where it was not found out.
    pub answer: Option<Value>,
    /// Why it was not found out.
    pub why: String,
    /// What was asked and seen, each with its time.
    pub seen: Vec<String>,
}

/// What was seen besides, which no switch plays and Portcullis does not depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Besides {
    /// What it answers.
    pub asks: &'static str,
    /// What was seen, each with its time.
    pub seen: Vec<String>,
}

/// Everything that was found out, and what is left of the asking.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The machine that was asked about.
    pub vm: String,
    /// When it was begun, by Azure's time.
    pub began: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// By the names of the questions.
    pub findings: BTreeMap<&'static str, Finding>,
    /// What was seen besides.
    pub besides: Vec<Besides>,
    /// What could not be put back, each with what to do.
    pub left: Vec<String>,
}

/// One moment of an asking.
pub fn seen(at: DateTime<Utc>, what: impl AsRef<str>) -> String {
    format!("{}  {}", at.format("%H:%M:%S"), what.as_ref())
}

impl Report {
    /// The answer to a question, if it was found out.
    pub fn answer(&self, name: &str) -> Option<&Value> {
        self.findings.get(name)?.answer.as_ref()
    }

    fn why(&self, question: &Question) -> String {
        let why = self.findings.get(question.name).map(|finding| finding.why.clone()).unwrap_or_default();
        match (why.is_empty(), question.otherwise.is_empty()) {
            (false, _) => why,
            (true, false) if !self.stopped => question.otherwise.to_owned(),
            (true, _) if self.stopped => "The probe was stopped before it.".to_owned(),
            (true, _) => "Nothing that was seen tells.".to_owned(),
        }
    }

    /// The settings of Portcullis that follow, and what to mind.
    pub fn settings(&self) -> Vec<String> {
        let is = |name: &str, value: &str| self.answer(name).is_some_and(|answer| answer == value);
        let mut lines = Vec::new();
        match self.answer("newerInitiate").and_then(Value::as_str) {
            Some("adds") => lines.push("PORTCULLIS_JIT_NEWER=adds".to_owned()),
            Some(_) => lines.push("PORTCULLIS_JIT_NEWER=replaces, which is the default".to_owned()),
            None => lines.push("PORTCULLIS_JIT_NEWER stays at its default, replaces: it is safe where nobody knows".to_owned()),
        }
        if is("sourceMust", "equal") {
            lines.push(meaning("sourceMust", &json!("equal")).to_owned());
        }
        let is_late = self.answer("activityLogSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds > 1800);
        if is("requestor", "empty") && is_late {
            lines.push(meaning("activityLogSeconds", &json!(i64::MAX)).to_owned());
        }
        if let Some(parents) = self.answer("subscriptionParents").filter(|parents| *parents != "shown") {
            lines.push(meaning("subscriptionParents", parents).to_owned());
        }
        lines
    }

    /// For programs: `switches` is what a world of the sandbox takes under that name.
    pub fn to_json(&self) -> Value {
        let questions = QUESTIONS.iter().map(|question| {
            let finding = self.findings.get(question.name).cloned().unwrap_or_default();
            let mut told = json!({"name": question.name, "asks": question.asks, "answer": finding.answer, "seen": finding.seen});
            match &finding.answer {
                Some(answer) => told["means"] = json!(meaning(question.name, answer)),
                None => told["why"] = json!(self.why(question)),
            }
            told
        });
        let switches: Map<String, Value> =
            self.findings.iter().filter_map(|(name, finding)| Some(((*name).to_owned(), finding.answer.clone()?))).collect();
        json!({
            "vm": self.vm,
            "began": self.began,
            "ended": self.ended,
            "stopped": self.stopped,
            "switches": switches,
            "questions": questions.collect::<Vec<_>>(),
            "besides": self.besides.iter().map(|one| json!({"asks": one.asks, "seen": one.seen})).collect::<Vec<_>>(),
            "settings": self.settings(),
            "left": self.left,
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut parts = vec![self.heading(), self.table(), self.details()];
        if !self.besides.is_empty() {
            let told = self.besides.iter().map(|one| format!("  {}\n{}", one.asks, indented(&one.seen)));
            parts.push(format!("Seen besides\n\n{}", told.collect::<Vec<_>>().join("\n\n")));
        }
        parts.push(format!("Settings of Portcullis\n\n{}", indented(&self.settings())));
        let left = match self.left.is_empty() {
            true => vec!["Nothing: the policy is as it was, and no rule of the probe is left.".to_owned()],
            false => self.left.clone(),
        };
        parts.push(format!("Left behind\n\n{}", indented(&left)));
        parts.join("\n\n")
    }

    fn heading(&self) -> String {
        let (from, until) = (self.began.format("%Y-%m-%d %H:%M:%S"), self.ended.format("%H:%M:%S UTC"));
        let found = self.findings.values().filter(|finding| finding.answer.is_some()).count();
        let stopped = if self.stopped { ", when it was stopped" } else { "" };
        format!(
            "Asked of {} from {from} to {until}{stopped}: {found} of {} questions are answered.\nTimes are Azure's, to a second.",
            self.vm.rsplit('/').next().unwrap_or_default(),
            QUESTIONS.len()
        )
    }

    fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["QUESTION", "ANSWER", "WHAT IT MEANS"]);
        for question in QUESTIONS {
            if let Some(answer) = self.answer(question.name) {
                table.add_row([question.name, &shown(answer), meaning(question.name, answer)]);
            }
        }
        let rows: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
        rows.join("\n")
    }

    fn details(&self) -> String {
        let told = QUESTIONS.iter().map(|question| {
            let finding = self.findings.get(question.name).cloned().unwrap_or_default();
            let answer = match &finding.answer {
                Some(answer) => format!("= {}", shown(answer)),
                None => "not found out".to_owned(),
            };
            let mut lines = finding.seen.clone();
            if finding.answer.is_none() {
                lines.push(self.why(question));
            }
            format!("{} {answer}\n  {}\n{}", question.name, question.asks, indented(&lines))
        });
        told.collect::<Vec<_>>().join("\n\n")
    }
}

fn shown(answer: &Value) -> String {
    answer.as_str().map_or_else(|| answer.to_string(), str::to_owned)
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
