//! Files of rules: every mistake has a place in its file and a sentence, and what loads decides, explains and replays.

use std::sync::LazyLock;

use portcullis_domain::arm_id::VmId;
use portcullis_rules::action::Action;
use portcullis_rules::decision::{Decision, Outcome};
use portcullis_rules::explain;
use portcullis_rules::files::{NETWORKS, PEOPLE, RuleFiles};
use portcullis_rules::mistake::{Colours, Mistake, Weight};
use portcullis_rules::plain::plain;
use portcullis_rules::replay;
use portcullis_rules::scenario::{self, Subject, read_request};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::Wish;

use crate::checks::{is_told, survives_json, text};

/// Longer than any sentence about a mistake: one may hold a few names and what it says instead of them.
const A_MISTAKE: usize = 4000;

const CEDAR: &str = "rules.cedar";
const SCENARIOS: &str = "tests/scenarios.yaml";

/// The rules that are shipped, beside which a file is read.
fn shipped() -> RuleFiles {
    RuleFiles::of([
        ("everybody.cedar", include_str!("../../../policies/everybody.cedar")),
        ("developers.cedar", include_str!("../../../policies/developers.cedar")),
        (PEOPLE, include_str!("../../../policies/people.yaml")),
        (NETWORKS, include_str!("../../../policies/networks.yaml")),
    ])
}

static LOADED: LazyLock<Rules> = LazyLock::new(|| Rules::load(&shipped()).unwrap_or_else(|why| panic!("{why}")));

/// Rules: whatever loads decides on every wish, twice the same, and can tell why.
pub(crate) fn cedar(data: &[u8]) {
    let files = RuleFiles::of([
        (PEOPLE, include_str!("../../../policies/people.yaml")),
        (NETWORKS, include_str!("../../../policies/networks.yaml")),
    ])
    .with_bytes(CEDAR, data.to_vec());
    let (rules, mistakes) = Rules::check(&files);
    are_placed(&files, &mistakes);
    assert_eq!(rules.is_some(), mistakes.iter().all(|mistake| mistake.weight == Weight::Warning));
    let Some(rules) = rules else { return };
    for wish in wishes(&rules) {
        let decision = rules.decide(&wish);
        assert_eq!(rules.decide(&wish), decision, "a set decides the same on the same");
        a_decision(&rules, &decision);
        for right in [Action::Approve, Action::Close, Action::Read] {
            let permission = rules.may(right, &wish);
            steers_nothing(&explain::permission(&rules, right, &permission, &wish, "policies/"));
        }
    }
}

/// What no rule can switch off holds, and the decision can be stored, told and replayed.
fn a_decision(rules: &Rules, decision: &Decision) {
    let may_open = !matches!(decision.outcome, Outcome::Refuse(_) | Outcome::Undecided { .. });
    assert!(!may_open || !decision.wish.sources.amounts_to_internet(), "the whole internet is let in: {:?}", decision.outcome);
    assert!(!may_open || decision.outcome.cap_seconds().is_some_and(|cap| cap >= decision.wish.seconds), "{:?}", decision.outcome);
    survives_json(decision);
    is_told(&plain(&decision.outcome.sentence()), usize::MAX);
    steers_nothing(&explain::decision(rules, decision, "policies/"));
    let stored = serde_json::to_string(decision).expect("a decision can be written");
    let read = replay::read(&stored);
    assert_eq!((read.decisions.len(), read.unreadable.len()), (1, 0), "{:?}", read.unreadable);
    assert_eq!(replay::replay(rules, read.decisions).differences, []);
}

/// Wishes that reach into every part of the context.
fn wishes(rules: &Rules) -> Vec<Wish> {
    let given = [
        "sources: [198.51.100.7]\n",
        "person: {groups: [responders]}\nsources: [198.51.100.7, 203.0.113.0/24]\nports: [22, 3389]\nduration: PT24H\n",
        "person: {groups: [developers]}\nvm: {name: web-2, tags: {environment: development}}\nsources: [198.51.100.7]\nway: direct\n",
        "person: {groupsUnreachable: true}\nsources: [AzureCloud]\nway: breaksGlass\nreason: it burns\n",
        "person: {unknown: true}\nsources: [0.0.0.0/1]\nway: direct\n",
        "vm: {managementGroupsUnreachable: true}\nsources: [192.0.2.1]\nincident: {severity: high}\nalerts: 2\nwindow: w\nchange: c\n",
    ];
    let read = |given: &str| read_request("request.yaml", given, Subject::Opening, rules).ok();
    given.into_iter().filter_map(read).chain([read("sources: [192.0.2.1]\nway: direct\n")].into_iter().flatten()).collect()
}

/// `people.yaml`: every mistake is placed, whoever it names is found, and rules can be read beside it.
pub(crate) fn people(data: &[u8]) {
    let files = shipped().with_bytes(PEOPLE, data.to_vec());
    let (rules, mistakes) = Rules::check(&files);
    are_placed(&files, &mistakes);
    let Some(rules) = rules else { return };
    for (name, id) in rules.people().entra_groups() {
        assert!(!name.is_empty() && id == id.to_lowercase());
    }
    for wish in wishes(&rules) {
        a_decision(&rules, &rules.decide(&wish));
    }
}

/// `networks.yaml`: every mistake is placed, and a network holds what it names.
pub(crate) fn networks(data: &[u8]) {
    let files = shipped().with_bytes(NETWORKS, data.to_vec());
    let (rules, mistakes) = Rules::check(&files);
    are_placed(&files, &mistakes);
    let Some(rules) = rules else { return };
    for wish in wishes(&rules) {
        for network in rules.networks().holding(&wish.sources) {
            assert!(rules.networks().names().any(|name| name == network));
        }
        a_decision(&rules, &rules.decide(&wish));
    }
}

/// Files of scenarios, and the same text as a request: every mistake is placed, and what can be read can be tried.
pub(crate) fn scenarios(data: &[u8]) {
    let files = shipped().with_bytes(SCENARIOS, data.to_vec());
    let (scenarios, mistakes) = scenario::read(&files, &LOADED);
    are_placed(&files, &mistakes);
    let report = scenario::test(scenarios, &LOADED);
    for tested in &report.tested {
        assert!(tested.scenario.line >= 1 && !tested.scenario.name.trim().is_empty());
        is_told(&plain(&tested.came.sentence()), usize::MAX);
    }
    assert!(report.failed() <= report.tested.len());
    let Some(text) = text(data) else { return };
    for subject in [Subject::Opening, Subject::Right(Action::Approve), Subject::Right(Action::Close)] {
        match read_request("request.yaml", text, subject, &LOADED) {
            Ok(wish) => {
                survives_json(&wish);
                if subject == Subject::Opening {
                    a_decision(&LOADED, &LOADED.decide(&wish));
                }
            }
            Err(mistakes) => {
                assert!(!mistakes.is_empty());
                are_placed(&RuleFiles::of([("request.yaml", text)]), &mistakes);
            }
        }
    }
}

/// Stored decisions: each is replayed, counted or told, and none is dropped.
pub(crate) fn replay(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let file = replay::read(text);
    for unreadable in &file.unreadable {
        assert!(unreadable.line >= 1);
        is_told(&plain(&unreadable.why), A_MISTAKE);
    }
    let says_something = text.lines().any(|line| !line.trim_start_matches('\u{feff}').trim().is_empty());
    let is_empty_list = serde_json::from_str::<serde_json::Value>(text.trim_start_matches('\u{feff}')).is_ok_and(|value| {
        value.as_array().or_else(|| value.get("items").and_then(serde_json::Value::as_array)).is_some_and(Vec::is_empty)
    });
    let found = file.decisions.len() + file.without + file.unreadable.len();
    assert!(found > 0 || !says_something || is_empty_list, "all of it is dropped without a word");
    let machines: Vec<VmId> = file.decisions.iter().map(|stored| stored.decision.wish.vm.id.clone()).collect();
    let replay = replay::replay(&LOADED, file.decisions);
    assert_eq!(replay.decisions, machines.len());
    for difference in &replay.differences {
        survives_json(&difference.after);
        steers_nothing(&difference.sentence());
    }
}

/// Of so many mistakes it is looked at how they are shown, for which the file is read again each time.
const SHOWN: usize = 50;

/// Every mistake lies in its file, between two characters, and can be shown.
fn are_placed(files: &RuleFiles, mistakes: &[Mistake]) {
    for mistake in mistakes {
        is_told(mistake, A_MISTAKE);
        if let Some(text) = files.text(&mistake.file) {
            assert!(text.get(mistake.span.clone()).is_some(), "{:?} is no place of {}: {mistake}", mistake.span, mistake.file);
        }
    }
    for mistake in mistakes.iter().take(SHOWN) {
        let (line, column) = mistake.place(files);
        assert!(line >= 1 && column >= 1);
        let shown = mistake.shown(files, "policies/", Colours::Plain);
        steers_nothing(&shown);
        assert!(shown.contains(&*plain(&mistake.file)), "{shown}");
    }
}

/// Of many lines none moves the cursor or hides anything.
fn steers_nothing(told: &str) {
    for line in told.lines() {
        assert_eq!(plain(line), line, "what is told steers a terminal");
    }
}
