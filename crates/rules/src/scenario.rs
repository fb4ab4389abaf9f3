//! Scenario files: requests and what must come of them, beside the rules that they test.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_domain::duration;

use crate::action::Action;
use crate::decision::{Decided, Decision, Ground, Lack, Miss, Outcome, Permission, Refusal};
use crate::files::RuleFiles;
use crate::mistake::Mistake;
use crate::set::{Found, Names, Rules, find};
use crate::wish::{self, Wish};

use read::Reader;

/// One request and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its file.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What it shows.
    pub name: String,
    /// What it is about: a request for an opening, or a right.
    pub subject: Subject,
    /// What is asked for.
    pub wish: Wish,
    /// What must come of it.
    pub expect: Expect,
}

/// What a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A request for an opening: all its actions are tried.
    Opening,
    /// A right to decide, to close or to see.
    Right(Action),
}

/// What must come of a scenario; what is absent is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// What it comes to: one of [`Decided::OF_OPENINGS`], or of a right one of [`Decided::OF_RIGHTS`].
    pub decision: Decided,
    /// The deciding rule.
    pub rule: Option<String>,
    /// Why it is refused.
    pub because: Option<Ground>,
    /// The longest time of the deciding rule, in ISO 8601.
    pub max: Option<String>,
    /// Who decides, as `@approvers` writes it.
    pub approvers: Option<String>,
    /// The permit that came nearest.
    pub nearest: Option<String>,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// The scenario.
    pub scenario: Scenario,
    /// What was decided.
    pub came: Came,
    /// How it differs from what was expected; empty where it does not.
    pub differs: Vec<String>,
}

/// What was decided on a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// On a request.
    Opening(Box<Decision>),
    /// On a right.
    Right(Permission),
}

impl Came {
    /// It in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Came::Opening(decision) => decision.outcome.sentence(),
            Came::Right(permission) => permission.sentence(),
        }
    }

    /// What the nearest permit lacked, a sentence each.
    pub fn lacks(&self) -> Vec<String> {
        let miss = match self {
            Came::Opening(decision) => decision.nearest.as_ref(),
            Came::Right(_) => None,
        };
        let told = |miss: &Miss| {
            miss.lacks.iter().map(|lack| format!("{} permits {}, but {}", miss.rule.id, miss.action, lack.sentence())).collect()
        };
        miss.map(told).unwrap_or_default()
    }
}

/// What the scenarios of a set show together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each scenario, in the order of files and places.
    pub tested: Vec<Tested>,
    /// Rules that decide in no scenario.
    pub never_hit: Vec<String>,
    /// Rules that no scenario misses by one thing alone.
    pub never_nearly_hit: Vec<String>,
}

impl Report {
    /// How many scenarios came to something else than expected.
    pub fn failed(&self) -> usize {
        self.tested.iter().filter(|tested| !tested.differs.is_empty()).count()
    }
}

/// A set with its scenarios, and every mistake in any of its files.
#[derive(Debug)]
pub struct Checked {
    /// The set; absent where a mistake in it is an error.
    pub rules: Option<Rules>,
    /// The scenarios that can be read.
    pub scenarios: Vec<Scenario>,
    /// Every mistake: of the rules, and then of the scenarios.
    pub mistakes: Vec<Mistake>,
}

/// Checks a set and its scenarios, whatever is wrong with either. That a scenario names what is not there is told only where it is
/// known what is there.
pub fn check(files: &RuleFiles) -> Checked {
    let Found { rules, mut mistakes } = find(files);
    let names = match &rules {
        Ok(rules) => &rules.names,
        Err(names) => names,
    };
    let (scenarios, wrong) = read_all(files, names);
    mistakes.extend(wrong);
    Checked { rules: rules.ok(), scenarios, mistakes }
}

/// Reads all scenarios of a set, with every mistake in them.
pub fn read(files: &RuleFiles, rules: &Rules) -> (Vec<Scenario>, Vec<Mistake>) {
    read_all(files, &rules.names)
}

fn read_all(files: &RuleFiles, names: &Names) -> (Vec<Scenario>, Vec<Mistake>) {
    let (mut scenarios, mut mistakes) = (Vec::new(), Vec::new());
    let mut named = BTreeMap::new();
    for (name, text) in files.scenarios() {
        let mut reader = Reader::of(name, text, names);
        scenarios.extend(reader.file(&mut named));
        let mut wrong = reader.mistakes();
        wrong.retain(|mistake| !mistake.stands_on_unread(files));
        wrong.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        // What is wrong with a file's defaults is wrong with each of its scenarios.
        let mut told = BTreeSet::new();
        wrong.retain(|mistake| told.insert((mistake.span.start, mistake.span.end, mistake.what.clone())));
        mistakes.extend(wrong);
    }
    (scenarios, mistakes)
}

/// Reads one request about this, written as a scenario's `given` is.
pub fn read_request(name: &str, text: &str, subject: Subject, rules: &Rules) -> Result<Wish, Vec<Mistake>> {
    let mut reader = Reader::of(name, text, &rules.names);
    let wish = reader.request(subject);
    let mistakes = reader.mistakes();
    wish.filter(|_| mistakes.is_empty()).ok_or(mistakes)
}

/// Decides on every one of these scenarios.
pub fn test(scenarios: Vec<Scenario>, rules: &Rules) -> Report {
    let (mut hit, mut nearly) = (BTreeSet::new(), BTreeSet::new());
    let mut tested = Vec::new();
    for scenario in scenarios {
        let came = match scenario.subject {
            Subject::Opening => Came::Opening(Box::new(rules.decide(&scenario.wish))),
            Subject::Right(action) => Came::Right(rules.may(action, &scenario.wish)),
        };
        hit.extend(deciding(&came));
        let action = match scenario.subject {
            Subject::Opening => None,
            Subject::Right(action) => Some(action),
        };
        nearly.extend(rules.lacks(&scenario.wish, action).into_iter().filter(|(_, lacks)| misses_by_one(lacks)).map(|(rule, _)| rule));
        let differs = differences(&scenario.expect, &came);
        tested.push(Tested { scenario, came, differs });
    }
    let ids = || rules.rules().map(|rule| rule.terms.id.clone());
    let never_nearly = |id: &String| {
        // A rule for everybody, everything and every time cannot be missed.
        let can_be_missed = rules.rule(id).is_some_and(|rule| !rule.shape.parts.is_empty());
        can_be_missed && !nearly.contains(id)
    };
    Report { never_hit: ids().filter(|id| !hit.contains(id)).collect(), never_nearly_hit: ids().filter(never_nearly).collect(), tested }
}

fn misses_by_one(lacks: &[Lack]) -> bool {
    lacks.len() == 1
}

fn deciding(came: &Came) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    match came {
        Came::Opening(decision) => {
            ids.extend(decision.forbade.iter().map(|rule| rule.id.clone()));
            ids.extend(decision.outcome.rule().map(|rule| rule.id.clone()));
            if let Outcome::Refuse(Refusal::Forbidden { rules, .. }) = &decision.outcome {
                ids.extend(rules.iter().map(|rule| rule.id.clone()));
            }
        }
        Came::Right(permission) => ids.extend(permission.rules().map(|rule| rule.id.clone())),
    }
    ids
}

fn differences(expect: &Expect, came: &Came) -> Vec<String> {
    let mut differs = Vec::new();
    let mut compare = |what: &str, wanted: Option<&str>, is: Option<String>| {
        if let Some(wanted) = wanted.filter(|wanted| is.as_deref() != Some(*wanted)) {
            differs.push(format!("{what} is {}, not {wanted}", is.as_deref().unwrap_or("none")));
        }
    };
    match came {
        Came::Opening(decision) => {
            let outcome = &decision.outcome;
            compare("the decision", Some(expect.decision.text()), Some(outcome.text().to_owned()));
            compare("the deciding rule", expect.rule.as_deref(), outcome.rule().map(|rule| rule.id.clone()));
            compare("the reason", expect.because.map(Ground::text), because(outcome).map(str::to_owned));
            let cap = outcome.cap_seconds().map(|seconds| duration::format(wish::seconds(seconds)));
            compare("the longest time", expect.max.as_deref(), cap);
            let approvers = match outcome {
                Outcome::Ask { decides, .. } => Some(format!("{} of {}", decides.count, decides.group)),
                Outcome::Open { .. } | Outcome::BreakGlass { .. } | Outcome::Refuse(_) | Outcome::Undecided { .. } => None,
            };
            compare("who decides", expect.approvers.as_deref(), approvers);
            compare("the nearest miss", expect.nearest.as_deref(), decision.nearest.as_ref().map(|miss| miss.rule.id.clone()));
        }
        Came::Right(permission) => {
            compare("the decision", Some(expect.decision.text()), Some(permission.decided().text().to_owned()));
            compare("the deciding rule", expect.rule.as_deref(), permission.rules().next().map(|rule| rule.id.clone()));
        }
    }
    differs
}

fn because(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refuse(refusal) => Some(refusal.text()),
        Outcome::Open { .. } | Outcome::BreakGlass { .. } | Outcome::Ask { .. } | Outcome::Undecided { .. } => None,
    }
}
