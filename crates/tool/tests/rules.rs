//! `portcullis rules` as a person meets it: what is printed, and how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_rules::action::Action;
use portcullis_rules::set::SCHEMA_TEXT;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The exit status and all that was printed.
fn ran(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).current_dir(folder).arg("rules").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join("policies").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

const PEOPLE: &str = "groups:\n  developers: {members: []}\n";
const RULE: &str = "@id(\"developers\")\n@reason(\"Developers open\")\n@max(\"PT2H\")\npermit (principal in Group::\"developers\", action == Action::\"open\", resource);\n";

#[test]
fn every_mistake_of_every_file_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("a.cedar", &RULE.replace("developers\",", "develpers\",").replace("PT2H", "2h")),
            ("b.cedar", "@id(\"b\") @reason(\"x\")\nforbid (principal, action, resource) when { context.durration > duration(\"1h\") };"),
            ("networks.yaml", "networks:\n  office: [198.51.100.300]\n"),
            ("people.yaml", PEOPLE),
        ],
    );
    let (code, text) = ran(folder.path(), &["check"]);
    insta::assert_snapshot!(text, @r#"
    error: `@max` cannot be read: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M
     --> policies/a.cedar:3:6
      |
    3 | @max("2h")
      |      ^^^^
      |
      = help: write PT2H for two hours, PT30M for thirty minutes

    error: `develpers` is no group of people.yaml
     --> policies/a.cedar:4:22
      |
    4 | permit (principal in Group::"develpers", action == Action::"open", resource);
      |                      ^^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `developers`?

    error: `context` has no `durration`
     --> policies/b.cedar:2:45
      |
    2 | forbid (principal, action, resource) when { context.durration > duration("1h") };
      |                                             ^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `duration`?

    error: `198.51.100.300` is not a range of addresses
     --> policies/networks.yaml:2:12
      |
    2 |   office: [198.51.100.300]
      |            ^^^^^^^^^^^^^^
      |
      = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24

    4 errors: this set cannot be used
    "#);
    assert_eq!(code, 1);
    assert_eq!(ran(folder.path(), &["test"]), (code, text.clone()));
    assert_eq!(ran(folder.path(), &["explain", "--source", "198.51.100.7"]), (code, text));
}

#[test]
fn mistakes_of_scenarios_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = "scenarios:\n  - name: a\n    given: {person: {groups: [develpers]}, sources: [198.51.100.300], duration: 2h, at: noon}\n    expect: {decision: opne, rule: developer}\n  - name: b\n    right: open\n    expect: {decision: open}\n";
    write(folder.path(), &[("a.cedar", RULE), ("people.yaml", PEOPLE), ("tests/a.yaml", scenarios)]);
    let (code, text) = ran(folder.path(), &["check"]);
    insta::assert_snapshot!(text, @r"
    error: `develpers` is no group of people.yaml
     --> policies/tests/a.yaml:3:31
      |
    3 |     given: {person: {groups: [develpers]}, sources: [198.51.100.300], duration: 2h, at: noon}
      |                               ^^^^^^^^^
      |
      = help: did you mean `developers`?

    error: `198.51.100.300` is not a source: give an IPv4 or IPv6 address, a range in CIDR notation such as
           203.0.113.0/24, or a service tag
     --> policies/tests/a.yaml:3:54
      |
    3 |     given: {person: {groups: [develpers]}, sources: [198.51.100.300], duration: 2h, at: noon}
      |                                                      ^^^^^^^^^^^^^^
      |
      = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24

    error: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M
     --> policies/tests/a.yaml:3:81
      |
    3 |     given: {person: {groups: [develpers]}, sources: [198.51.100.300], duration: 2h, at: noon}
      |                                                                                 ^^
      |
      = help: write PT2H for two hours, PT30M for thirty minutes

    error: `noon` is not a time
     --> policies/tests/a.yaml:3:89
      |
    3 |     given: {person: {groups: [develpers]}, sources: [198.51.100.300], duration: 2h, at: noon}
      |                                                                                         ^^^^
      |
      = help: write it as 2026-01-15T09:00:00+01:00

    error: `opne` is no decision
     --> policies/tests/a.yaml:4:24
      |
    4 |     expect: {decision: opne, rule: developer}
      |                        ^^^^
      |
      = help: did you mean `open`?

    error: no rule is called `developer`
     --> policies/tests/a.yaml:4:36
      |
    4 |     expect: {decision: opne, rule: developer}
      |                                    ^^^^^^^^^
      |
      = help: did you mean `developers`?

    error: `open` is no right of its own
     --> policies/tests/a.yaml:6:12
      |
    6 |     right: open
      |            ^^^^
      |
      = help: leave `right` away: a request tries open, breakGlass and ask

    1 rule, 0 scenarios, set 24bb66bfb203bcab: 7 errors
    ");
    assert_eq!(code, 1);
    write(folder.path(), &[("tests/a.yaml", "scenarios:\n  - name: a\n    givn: {}\n    expect: {decision: open}\n")]);
    let (code, text) = ran(folder.path(), &["test"]);
    assert!(code == 1 && text.contains("--> policies/tests/a.yaml:3:5") && text.contains("givn"), "{text}");
}

#[test]
fn a_scenario_that_came_to_something_else_fails_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = "defaults: {person: {groups: [developers]}, sources: [198.51.100.7]}\nscenarios:\n  - name: two hours\n    given: {duration: PT2H}\n    expect: {decision: open, rule: developers}\n  - name: three hours\n    given: {duration: PT3H}\n    expect: {decision: open, max: PT2H}\n";
    let other = format!(
        "{RULE}@id(\"never\") @reason(\"x\") forbid (principal, action == Action::\"open\", resource) when {{ context.reason == \"never\" && context.direct }};"
    );
    write(folder.path(), &[("a.cedar", &other), ("people.yaml", PEOPLE), ("tests/a.yaml", scenarios)]);
    let (code, text) = ran(folder.path(), &["test"]);
    insta::assert_snapshot!(text, @r"
    policies/tests/a.yaml
      ok    two hours
      FAIL  three hours (line 6)
            the decision is refuse, not open
            the longest time is none, not PT2H
            it came to this: no rule permits it
            developers permits open, but it permits 2 h at most

    2 scenarios: 1 as expected, 1 not
    Rules that decide in none of them: never
    Rules that none of them misses by one thing alone: never
    ");
    assert_eq!(code, 1);
    write(folder.path(), &[("tests/a.yaml", &scenarios.replace("decision: open, max: PT2H", "decision: refuse"))]);
    assert_eq!(ran(folder.path(), &["test"]).0, 0);
    assert_eq!(ran(folder.path(), &["test", "--every-rule"]).0, 1);
}

#[test]
fn what_cannot_be_read_is_named_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, says) in [
        (&["check"][..], "there are no rules at policies: name their folder"),
        (&["test", "elsewhere"], "there are no rules at elsewhere: name their folder"),
    ] {
        let (code, text) = ran(folder.path(), arguments);
        assert!(code == 1 && text.contains(says), "{text}");
    }
    write(folder.path(), &[("a.cedar", RULE), ("people.yaml", PEOPLE)]);
    fs::write(folder.path().join("nothing.json"), "[]").unwrap();
    fs::write(folder.path().join("broken.json"), "{\n{").unwrap();
    for (arguments, says) in [
        (&["test"][..], "there are no scenarios: write some in policies/tests/"),
        (&["explain", "--scenario", "x"], "no scenario is called \"x\""),
        (&["explain", "--source", "not/here"], "`not/here` is not a source"),
        (&["explain", "--for", "soon"], "--for soon: write a duration such as 2h30m, PT2H30M or P1D"),
        (&["explain", "--tag", "x"], "--tag x: write NAME=VALUE"),
        (&["explain", "--group", "developer"], "did you mean `developers`?"),
        (&["explain", "--request", "none.yaml"], "none.yaml cannot be read"),
    ] {
        let (code, text) = ran(folder.path(), arguments);
        assert!(code == 1 && text.contains(says), "{arguments:?}: {text}");
    }
    for (file, says) in [("nothing.json", "nothing.json holds no decision"), ("none.json", "none.json cannot be read")] {
        let (code, text) = ran(folder.path(), &["replay", "--decisions", file]);
        assert!(code == 2 && text.contains(says), "{file}: {text}");
    }
    // Something that is decided otherwise and something that cannot be read are told apart by what starts the command.
    let (code, text) = ran(folder.path(), &["replay", "--decisions", "broken.json"]);
    assert!(code == 2 && text.contains("line 1: it is not JSON") && text.contains("line 2: it is not JSON"), "{text}");
    let (code, text) = ran(folder.path(), &["explain", "--request", "request.yaml", "--vm", "web-1", "--for", "9h"]);
    assert!(code == 2 && text.contains("cannot be used with"), "{text}");
    fs::write(folder.path().join("policies/a.cedar"), b"// \xe9").unwrap();
    let (code, text) = ran(folder.path(), &["check"]);
    assert!(
        code == 1 && text.contains("this character is not UTF-8") && text.contains("a.cedar:1:4") && !text.contains("there are no rules"),
        "{text}"
    );
}

#[test]
fn a_request_is_the_same_from_the_command_line_and_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.cedar", RULE), ("people.yaml", PEOPLE)]);
    let request = "person: {groups: [developers]}\nvm: {name: web-1, tags: {a: b}}\nports: [22, 80]\nsources: [198.51.100.7]\nduration: PT90M\nat: 2026-01-16T09:00:00+01:00\nway: direct\nreason: why\n";
    fs::write(folder.path().join("request.yaml"), request).unwrap();
    let line = [
        "explain",
        "--group",
        "developers",
        "--vm",
        "web-1",
        "--tag",
        "a=b",
        "--port",
        "22",
        "--port",
        "80",
        "--source",
        "198.51.100.7",
        "--for",
        "1h30m",
        "--at",
        "2026-01-16T09:00:00+01:00",
        "--direct",
        "--reason",
        "why",
    ];
    let of_line = ran(folder.path(), &line);
    assert_eq!(of_line, ran(folder.path(), &["explain", "--request", "request.yaml"]));
    assert!(
        of_line.0 == 0 && of_line.1.starts_with("open: rule developers permits it, for 2 h at most: Developers open\n"),
        "{}",
        of_line.1
    );
    let (_, unknown) = ran(folder.path(), &["explain", "--unknown", "--source", "198.51.100.7"]);
    assert!(unknown.contains("who        nobody knows"), "{unknown}");
    let (_, right) = ran(folder.path(), &["explain", "--right", "close", "--group", "developers"]);
    assert!(right.starts_with("refused: no rule permits it\n"), "{right}");
}

/// The fenced `sh` blocks of docs/rules.md, run as they stand over a copy of the shipped rules.
#[test]
fn the_commands_of_the_document_work_as_they_stand() {
    let document = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let blocks: Vec<&str> = document.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(String, String)> = shipped(&root().join("policies"), "");
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    write(folder.path(), &files);
    let tool = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
    let script = format!("set -euo pipefail\nPATH={}:$PATH\n{}", tool.display(), blocks.concat());
    let output = Command::new("bash").current_dir(folder.path()).args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for says in [
        "no mistakes",
        "as expected",
        "people decide: rule ask-for-a-machine",
        "open, by breaking the glass: rule break-glass",
        "permitted: rule security-duty-closes",
        "1 decision: 1 decided otherwise",
        "something is decided otherwise",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

fn shipped(folder: &Path, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            found.extend(shipped(&path, &format!("{name}/")));
        } else {
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    found
}

#[test]
fn the_document_names_every_action_and_everything_that_a_rule_may_speak_of() {
    let document = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    for action in Action::ALL {
        assert!(document.contains(&format!("| `{action}` |")), "{action}");
    }
    let ask = SCHEMA_TEXT.split_once("type Ask = {").unwrap().1.split_once("};").unwrap().0;
    let attributes: BTreeSet<&str> =
        ask.lines().filter(|line| line.contains("\": ") || line.contains("\"?: ")).filter_map(|line| line.split('"').nth(1)).collect();
    assert!(attributes.len() > 15);
    for attribute in attributes {
        assert!(document.contains(&format!("`context.{attribute}`")), "{attribute}");
    }
}

#[test]
fn warnings_keep_nothing_from_being_used_unless_they_are_denied() {
    let folder = tempfile::tempdir().unwrap();
    let warned = format!("{RULE}@id(\"any\") @reason(\"x\") permit (principal, action == Action::\"open\", resource);");
    write(folder.path(), &[("a.cedar", &warned), ("people.yaml", PEOPLE)]);
    let (code, text) = ran(folder.path(), &["check"]);
    assert!(code == 0 && text.contains("warning: ") && text.contains(": 1 warning"), "{text}");
    assert_eq!(ran(folder.path(), &["check", "--deny-warnings"]), (1, text));
    fs::write(folder.path().join("none.json"), "{\"kind\": \"close\"}").unwrap();
    let (_, replayed) = ran(folder.path(), &["replay", "--decisions", "none.json"]);
    assert!(replayed.contains("none.json holds no decision"), "{replayed}");
    let (code, explained) = ran(folder.path(), &["explain", "--source", "198.51.100.7"]);
    assert!(code == 0 && explained.contains("open: rule any permits it"), "{explained}");
}

#[test]
fn a_duration_of_days_is_one_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = "scenarios:\n  - name: a day\n    given: {duration: P1D, person: {groups: [developers]}, sources: [198.51.100.7]}\n    expect: {decision: open, max: P1D}\n";
    write(folder.path(), &[("a.cedar", &RULE.replace("PT2H", "P1D")), ("people.yaml", PEOPLE), ("tests/a.yaml", scenario)]);
    assert_eq!(ran(folder.path(), &["test"]).0, 0);
    for day in ["P1D", "1d", "24h", "PT24H"] {
        let (code, text) = ran(folder.path(), &["explain", "--group", "developers", "--source", "198.51.100.7", "--for", day]);
        assert!(code == 0 && text.starts_with("open: ") && text.contains("duration   24 h"), "{day}: {text}");
    }
    for wrong in ["P1M", "PT0.5S", "soon", "P99999999D"] {
        let (code, text) = ran(folder.path(), &["explain", &format!("--for={wrong}")]);
        assert!(code == 1 && text.contains(&format!("--for {wrong}: write a duration such as 2h30m, PT2H30M or P1D")), "{text}");
    }
}

#[test]
fn nothing_that_others_wrote_steers_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\u{1b}[2J\u{202e}b";
    let rule = RULE.replace("Developers open", evil);
    let scenario = r#"defaults: {person: {groups: [developers]}, sources: [198.51.100.7]}
scenarios:
  - name: "one\e[2J\nFAIL two"
    given: {reason: "x\e[2J", window: "x\e[2J", change: "x\e[2J", vm: {tags: {"t\e": "v\e[2J\nRule set 0"}, managementGroups: ["m\e"]}}
    expect: {decision: refuse}
  - name: "one\e[2J\nFAIL two"
    expect: {decision: "\e[2J"}
"#;
    let two = scenario.rfind("  - name").unwrap();
    write(folder.path(), &[("a.cedar", &rule), ("people.yaml", PEOPLE), ("tests/a.yaml", &scenario[..two])]);
    let decision = r#"{"outcome": {"kind": "open", "rule": {"id": "x\u001b[2J", "reason": "y\u001b[2J"}, "capSeconds": 60}, "set": "0", "wish": {"who": {"kind": "person", "id": "w\u001b[2J", "groups": {"known": {"of": [], "notOf": []}}}, "vm": {"id": "/subscriptions/5a4db0c5-0001-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/web-1"}, "ports": [22], "sources": ["198.51.100.7"], "seconds": 3600, "at": "2026-01-15T12:00:00Z", "way": "direct"}}"#;
    fs::write(folder.path().join("decisions.json"), format!("[{decision}]")).unwrap();
    fs::write(folder.path().join("broken.json"), decision.replace("\"open\"", "\"\\u001b[2J\"")).unwrap();
    let name = "one\u{1b}[2J\nFAIL two";
    let clean = |arguments: &[&str]| {
        let (_, text) = ran(folder.path(), arguments);
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("\nFAIL two") && !text.contains("\nRule set 0"), "{text}");
        text
    };
    assert!(clean(&["test"]).contains("FAIL  one\\u{1b}[2J\\nFAIL two"));
    assert!(clean(&["explain", "--scenario", name]).contains("t\\u{1b} = v\\u{1b}[2J\\nRule set 0"));
    assert!(clean(&["replay", "--decisions", "decisions.json"]).contains("w\\u{1b}[2J wants port 22"));
    assert!(clean(&["replay", "--decisions", "broken.json"]).contains("\\u{1b}[2J"));
    write(folder.path(), &[("tests/a.yaml", scenario)]);
    assert!(clean(&["check"]).contains("`\\u{1b}[2J` is no decision"));
}

#[test]
fn a_request_with_mistakes_is_told_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = "scenarios:\n  - {name: the glass may be broken, expect: {decision: refuse}}\n";
    write(folder.path(), &[("a.cedar", RULE), ("people.yaml", PEOPLE), ("tests/a.yaml", scenario)]);
    let request = folder.path().join("request.yaml");
    fs::write(&request, "prts: [22]\nduration: 2h\n").unwrap();
    let (code, text) = ran(folder.path(), &["explain", "--request", "request.yaml"]);
    insta::assert_snapshot!(text, @r"
    error: `prts` is not known in a request
     --> request.yaml:1:1
      |
    1 | prts: [22]
      | ^^^^
      |
      = help: did you mean `ports`?

    error: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M
     --> request.yaml:2:11
      |
    2 | duration: 2h
      |           ^^
      |
      = help: write PT2H for two hours, PT30M for thirty minutes
    ");
    assert_eq!(code, 1);
    fs::write(&request, b"reason: \xe9\n").unwrap();
    assert!(ran(folder.path(), &["explain", "--request", "request.yaml"]).1.contains("request.yaml is not UTF-8: save it as UTF-8"));
    let (_, text) = ran(folder.path(), &["explain", "--scenario", "the glas may be broken"]);
    assert!(text.contains("did you mean \"the glass may be broken\"?"), "{text}");
    let (_, text) = ran(folder.path(), &["explain", "--right", "close", "--source", "198.51.100.7"]);
    assert!(text.contains("nobody looks at `sources` for the right `close`"), "{text}");
}

#[test]
fn what_is_no_decision_is_told_in_words_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.cedar", RULE), ("people.yaml", PEOPLE)]);
    let told = |text: &str| {
        fs::write(folder.path().join("d.json"), text).unwrap();
        let (code, text) = ran(folder.path(), &["replay", "--decisions", "d.json"]);
        assert_eq!(code, 2, "{text}");
        text.trim_start_matches("portcullis: d.json, ").trim_end().to_owned()
    };
    let written = [
        "[1]",
        "{\"outcome\": {\"kind\": \"opne\"}}",
        "{\"outcome\": {\"kind\": \"open\"}}",
        "{\"outcome\": [], \"set\": 5}",
        "{\"set\": 5}",
        "[{\"outcome\":",
        "hello",
    ];
    insta::assert_snapshot!(written.map(told).join("\n"), @r"
    line 1: it is no decision: `1` stands where an object with its fields must stand
    line 1: it is no decision: `opne` stands where one of `open`, `breakGlass`, `ask`, `refuse`, `undecided` must stand
    line 1: it is no decision: `rule` is missing
    line 1: it is no decision: `kind` is missing
    line 1: it is no decision: `5` stands where a text must stand
    line 1: it is not a JSON list: it ends too early, at character 12
    line 1: it is not JSON: expected value, at character 1
    ");
}
