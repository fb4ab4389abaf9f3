//! What `rules check` says: every mistake at once, with its place and what to write instead.

use std::path::Path;

use portcullis_rules::files::RuleFiles;
use portcullis_rules::mistake::{Colours, Mistake, Weight};
use portcullis_rules::scenario;
use portcullis_rules::set::{Rules, SCHEMA_TEXT};

const PEOPLE: &str = "groups:\n  responders: {members: []}\n  security-duty: {members: []}\n";
const NETWORKS: &str = "networks:\n  office: [198.51.100.0/24]\n";

fn files(rules: &str) -> RuleFiles {
    RuleFiles::of([("a.cedar", rules), ("people.yaml", PEOPLE), ("networks.yaml", NETWORKS)])
}

/// All that is said of one file of rules.
fn shown(rules: &str) -> String {
    let files = files(rules);
    let (set, mistakes) = Rules::check(&files);
    assert_eq!(set.is_none(), mistakes.iter().any(|mistake| mistake.weight == Weight::Error), "{mistakes:#?}");
    mistakes.iter().map(|mistake| mistake.shown(&files, "policies/", Colours::Plain)).collect::<Vec<_>>().join("\n")
}

#[test]
fn names_that_nobody_knows_are_told_with_the_nearest_that_is_known() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal in Group::"responder", action == Action::"opne", resource)
when { context.networks.contains(Network::"offce") && context.prots.contains(22) };
"#), @r#"
    error: `responder` is no group of people.yaml
     --> policies/a.cedar:3:22
      |
    3 | permit (principal in Group::"responder", action == Action::"opne", resource)
      |                      ^^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `responders`?
    error: there is no action `opne`
     --> policies/a.cedar:3:52
      |
    3 | permit (principal in Group::"responder", action == Action::"opne", resource)
      |                                                    ^^^^^^^^^^^^^^
      |
      = help: did you mean `Action::"open"`?
    error: `offce` is no network of networks.yaml
     --> policies/a.cedar:4:34
      |
    4 | when { context.networks.contains(Network::"offce") && context.prots.contains(22) };
      |                                  ^^^^^^^^^^^^^^^^
      |
      = help: did you mean `office`?
    error: `context` has no `prots`
     --> policies/a.cedar:4:55
      |
    4 | when { context.networks.contains(Network::"offce") && context.prots.contains(22) };
      |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `ports`?
    "#);
}

#[test]
fn the_mistakes_of_one_rule_do_not_hide_those_of_the_next() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal, action == Action::"open", resource) wen { true };

@id("b") @reson("x")
permit (principal, action == Action::"open", resource) when { context.duration > duration("2hours") };

@id("c") @reason("x")
permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
"#), @r#"
    error: `wen` is no part of a rule
     --> policies/a.cedar:3:56
      |
    3 | permit (principal, action == Action::"open", resource) wen { true };
      |                                                        ^^^
      |
      = help: write `when` or `unless`
    error: `@reson` is no annotation of a rule
     --> policies/a.cedar:5:11
      |
    5 | @id("b") @reson("x")
      |           ^^^^^
      |
      = help: did you mean `reason`?
    error: `2hours` is not a duration
     --> policies/a.cedar:6:82
      |
    6 | permit (principal, action == Action::"open", resource) when { context.duration > duration("2hours") };
      |                                                                                  ^^^^^^^^^^^^^^^^^^
      |
      = help: write numbers, each with its unit, and nothing between them: `2h`, `1h30m`, `1d`
    error: the rule lets people ask, and nobody is named who decides
     --> policies/a.cedar:9:1
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: put `@approvers("1 of GROUP")` before it
    error: there is no kind `VMM`
     --> policies/a.cedar:9:57
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      |                                                         ^^^
      |
      = help: did you mean `VM`?
    error: `context.incident` may be absent
     --> policies/a.cedar:9:69
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      |                                                                     ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: ask first whether it is there: `context has incident && …`
    "#);
}

#[test]
fn annotations_are_checked_by_name_value_and_place() {
    insta::assert_snapshot!(shown(r#"
@id("A b") @reason("") @max("2h") @timezone("Europe/Berln")
permit (principal, action == Action::"open", resource);

@id("b") @reason("x") @max("PT25H") @approvers("1 of security-duty")
permit (principal, action == Action::"open", resource);

@id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
permit (principal, action == Action::"ask", resource);

@id("c") @reason("x") @max("PT1H")
forbid (principal, action, resource);

permit (principal, action == Action::"ask", resource);

@id("e") @reason
permit (principal, action == Action::"ask", resource);

@id("f") @reason("x") @approvers("1 of security-duty") @escalate("PT30M responders") @expire("PT20M")
permit (principal, action == Action::"ask", resource);
"#), @r#"
    error: `A b` cannot name a rule
     --> policies/a.cedar:2:5
      |
    2 | @id("A b") @reason("") @max("2h") @timezone("Europe/Berln")
      |     ^^^^^
      |
      = help: use small letters, digits and hyphens, 60 at most
    error: `@reason` is empty
     --> policies/a.cedar:2:20
      |
    2 | @id("A b") @reason("") @max("2h") @timezone("Europe/Berln")
      |                    ^^
      |
      = help: write `@reason("Why, for the people who are told")`
    error: `@max` cannot be read: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M
     --> policies/a.cedar:2:29
      |
    2 | @id("A b") @reason("") @max("2h") @timezone("Europe/Berln")
      |                             ^^^^
      |
      = help: write PT2H for two hours, PT30M for thirty minutes
    error: `Europe/Berln` is no time zone
     --> policies/a.cedar:2:45
      |
    2 | @id("A b") @reason("") @max("2h") @timezone("Europe/Berln")
      |                                             ^^^^^^^^^^^^^^
      |
      = help: did you mean `Europe/Berlin`?
    error: `@max` is PT25H, which no opening can be
     --> policies/a.cedar:5:28
      |
    5 | @id("b") @reason("x") @max("PT25H") @approvers("1 of security-duty")
      |                            ^^^^^^^
      |
      = help: it must lie between PT5M and PT24H
    error: `@approvers` has no meaning here: only a permit of ask leaves a decision to people
     --> policies/a.cedar:5:48
      |
    5 | @id("b") @reason("x") @max("PT25H") @approvers("1 of security-duty")
      |                                                ^^^^^^^^^^^^^^^^^^^^
      |
      = help: take it away
    error: `@approvers` cannot be read: `security-duty`
     --> policies/a.cedar:8:34
      |
    8 | @id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
      |                                  ^^^^^^^^^^^^^^^
      |
      = help: write `2 of security-duty`, with a number from 1 to 10
    error: `nobody` is no group of people.yaml
     --> policies/a.cedar:8:61
      |
    8 | @id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
      |                                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: known are responders, security-duty
    error: `PT15M nobody` does not come after the escalation before it
     --> policies/a.cedar:8:61
      |
    8 | @id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
      |                                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: put the times in order
    error: `@escalate` cannot be read: `soon`
     --> policies/a.cedar:8:61
      |
    8 | @id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
      |                                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `PT15M security-leads; PT30M ciso`, with a `;` between
    error: the request is over before its last escalation
     --> policies/a.cedar:8:109
      |
    8 | @id("c") @reason("x") @approvers("security-duty") @escalate("PT30M responders; PT15M nobody; soon") @expire("PT20M")
      |                                                                                                             ^^^^^^^
      |
      = help: give `@expire` a longer time than `@escalate` has
    error: another rule is called `c`
      --> policies/a.cedar:11:5
       |
    11 | @id("c") @reason("x") @max("PT1H")
       |     ^^^
       |
       = help: it is in a.cedar, line 8: give one of them another @id
    error: `@max` has no meaning here: only a permit of open, ask or breakGlass opens anything
      --> policies/a.cedar:11:28
       |
    11 | @id("c") @reason("x") @max("PT1H")
       |                            ^^^^^^
       |
       = help: take it away
    error: the rule has no `@id`
      --> policies/a.cedar:14:1
       |
    14 | permit (principal, action == Action::"ask", resource);
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: put `@id("what-it-is-called")` before it
    error: the rule has no `@reason`
      --> policies/a.cedar:14:1
       |
    14 | permit (principal, action == Action::"ask", resource);
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: put `@reason("Why, for the people who are told")` before it
    error: the rule lets people ask, and nobody is named who decides
      --> policies/a.cedar:14:1
       |
    14 | permit (principal, action == Action::"ask", resource);
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: put `@approvers("1 of GROUP")` before it
    error: `@reason` has no value
      --> policies/a.cedar:16:11
       |
    16 | @id("e") @reason
       |           ^^^^^^
       |
       = help: write `@reason("…")`
    error: the rule lets people ask, and nobody is named who decides
      --> policies/a.cedar:17:1
       |
    17 | permit (principal, action == Action::"ask", resource);
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: put `@approvers("1 of GROUP")` before it
    error: the request is over before its last escalation
      --> policies/a.cedar:19:94
       |
    19 | @id("f") @reason("x") @approvers("1 of security-duty") @escalate("PT30M responders") @expire("PT20M")
       |                                                                                              ^^^^^^^
       |
       = help: give `@expire` a longer time than `@escalate` has
    "#);
}

#[test]
fn a_permit_of_every_action_is_refused_and_a_forbid_is_not() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal in Group::"responders", action, resource);

@id("b") @reason("x")
forbid (principal, action, resource) when { context has nothing };
"#), @r#"
    error: the rule permits every action there is
     --> policies/a.cedar:3:1
      |
    3 | permit (principal in Group::"responders", action, resource);
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: name what it permits: `action == Action::"open"`
    error: the rule never holds, whatever is asked for
     --> policies/a.cedar:5:1
      |
    5 | / @id("b") @reason("x")
    6 | | forbid (principal, action, resource) when { context has nothing };
      | |__________________________________________________________________^
      |
      = help: look for what excludes something else in it, or for a kind that never stands there
    error: `nothing` is no attribute of `context`, so this never holds
     --> policies/a.cedar:6:53
      |
    6 | forbid (principal, action, resource) when { context has nothing };
      |                                                     ^^^^^^^^^^^
      |
      = help: known are alerts, approvalsToday, change, direct, duration, greatestPort, incident, leastPort,
              networks, openToday, ports, reason, sources, timeOfDay, weekday, widestPrefix, window
    "#);
}

#[test]
fn spellings_that_azure_never_has_are_told() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal == Person::"Ada", action == Action::"open", resource in Subscription::"5A4DB0C5-0001-4000-8000-000000000001")
when { resource.hasTag("Environment") && resource.getTag("Environment") == "Development" };

@id("b") @reason("x")
permit (principal, action == Action::"open", resource in ResourceGroup::"rg-workload")
when { resource in ManagementGroup::"Prod" && resource != VM::"5a4db0c5-0001-4000-8000-000000000001/rg/VM-1" };
"#), @r#"
    error: `Ada` is never met
     --> policies/a.cedar:3:22
      |
    3 | permit (principal == Person::"Ada", action == Action::"open", resource in Subscription::"5A4DB0C5-0001-4000-8000-000000000001")
      |                      ^^^^^^^^^^^^^
      |
      = help: write Person::"OBJECT-ID"
    error: `5A4DB0C5-0001-4000-8000-000000000001` is never met: ids are in lower case
     --> policies/a.cedar:3:75
      |
    3 | permit (principal == Person::"Ada", action == Action::"open", resource in Subscription::"5A4DB0C5-0001-4000-8000-000000000001")
      |                                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write Subscription::"5a4db0c5-0001-4000-8000-000000000001"
    error: no machine has a tag `Environment` here: names of tags are in lower case
     --> policies/a.cedar:4:24
      |
    4 | when { resource.hasTag("Environment") && resource.getTag("Environment") == "Development" };
      |                        ^^^^^^^^^^^^^
      |
      = help: write "environment": Azure does not tell their cases apart
    error: `rg-workload` is never met
     --> policies/a.cedar:7:58
      |
    7 | permit (principal, action == Action::"open", resource in ResourceGroup::"rg-workload")
      |                                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write ResourceGroup::"SUBSCRIPTION-ID/resource-group"
    error: `Prod` is never met: names are in lower case
     --> policies/a.cedar:8:20
      |
    8 | when { resource in ManagementGroup::"Prod" && resource != VM::"5a4db0c5-0001-4000-8000-000000000001/rg/VM-1" };
      |                    ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write ManagementGroup::"prod"
    error: `5a4db0c5-0001-4000-8000-000000000001/rg/VM-1` is never met: ids are in lower case
     --> policies/a.cedar:8:59
      |
    8 | when { resource in ManagementGroup::"Prod" && resource != VM::"5a4db0c5-0001-4000-8000-000000000001/rg/VM-1" };
      |                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write VM::"5a4db0c5-0001-4000-8000-000000000001/rg/vm-1"
    "#);
}

#[test]
fn a_rule_of_every_action_is_told_that_some_know_nothing_of_a_request() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
forbid (principal, action, resource) when { context.duration > duration("1h") };
"#), @r#"
    error: `context` has no `duration` where the action is `close`
     --> policies/a.cedar:3:45
      |
    3 | forbid (principal, action, resource) when { context.duration > duration("1h") };
      |                                             ^^^^^^^^^^^^^^^^
      |
      = help: closing and seeing have no such thing: name what the rule is about,
              `action in [Action::"open", Action::"ask", Action::"breakGlass"]`
    "#);
}

#[test]
fn what_can_never_hold_is_a_warning() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal, action == Action::"open", resource) when { context.direct && false };
"#), @r#"
    warning: the rule never holds, whatever is asked for
     --> policies/a.cedar:2:1
      |
    2 | / @id("a") @reason("x")
    3 | | permit (principal, action == Action::"open", resource) when { context.direct && false };
      | |________________________________________________________________________________________^
      |
      = help: look for what excludes something else in it, or for a kind that never stands there
    "#);
}

#[test]
fn another_schema_than_the_programs_is_refused() {
    let fits = files("@id(\"a\") @reason(\"x\") forbid (principal, action, resource);").with("portcullis.cedarschema", SCHEMA_TEXT);
    assert_eq!(Rules::check(&fits).1, []);
    let changed = fits.with("portcullis.cedarschema", &SCHEMA_TEXT.replace("\"leastPort\": Long", "\"leastPort\": String"));
    let (set, mistakes) = Rules::check(&changed);
    assert!(set.is_none());
    insta::assert_snapshot!(mistakes[0].shown(&changed, "policies/", Colours::Plain), @r#"
    error: this is not the schema of this version of Portcullis
      --> policies/portcullis.cedarschema:47:1
       |
    47 |   "leastPort": String,
       | ^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: the program fills what rules see, so its schema cannot be changed here: restore the file
    "#);
}

/// What is told of one text of rules, each mistake in a line with the text that is underlined.
fn underlined(text: &str) -> Vec<String> {
    let files = files(text);
    let (_, mistakes) = Rules::check(&files);
    let told = |mistake: &Mistake| format!("{:?} {} `{}`", mistake.weight, mistake, &text[mistake.span.clone()]);
    mistakes.iter().map(told).collect()
}

#[test]
fn an_attribute_that_nobody_knows_is_told_also_where_it_is_only_asked_for() {
    let rule = |effect: &str, condition: &str| {
        format!("@id(\"a\") @reason(\"x\") {effect} (principal is Person, action == Action::\"open\", resource) {condition};")
    };
    for (effect, condition, name, of, cure) in [
        ("permit", "unless { context has alrets && context.alrets > 0 }", "alrets", "context", "did you mean `alerts`?"),
        ("permit", "when { context.direct || (context has incidnt && true) }", "incidnt", "context", "did you mean `incident`?"),
        ("forbid", "when { context has incident.opne }", "opne", "context.incident", "did you mean `open`?"),
        ("forbid", "when { context has incident && context.incident has ownr }", "ownr", "context.incident", "did you mean `owner`?"),
        ("permit", "when { resource has nmae }", "nmae", "resource", "did you mean `name`?"),
    ] {
        let told = underlined(&rule(effect, condition));
        let sentence = format!("`{name}` is no attribute of `{of}`, so this never holds; {cure}");
        assert!(told.iter().any(|line| line.starts_with("Error") && line.contains(&sentence) && line.contains(name)), "{told:#?}");
    }
    assert_eq!(
        underlined(&rule("permit", "when { context has incident && context.incident has owner && context has alerts }")),
        Vec::<String>::new()
    );
}

#[test]
fn a_forgotten_semicolon_hides_nothing_of_the_next_rule() {
    let text = "@id(\"a\") @reason(\"x\") forbid (principal, action, resource)\n@id(\"b\") @reason(\"x\") @max(\"2h\")\npermit (principal in Group::\"nobody\", action == Action::\"open\", resource);\n";
    let told = underlined(text);
    assert!(told[0].contains("the rule does not end; put a `;` here"), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("`@max`")) && told.iter().any(|line| line.contains("`nobody` is no group")), "{told:#?}");
}

#[test]
fn what_is_missing_at_the_end_of_a_rule_is_told_where_its_text_ends() {
    insta::assert_snapshot!(underlined("@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource) when { context.direct").join("\n"), @"Error a.cedar: the rule ends here, and something is missing; a `&&`, a `||`, a comparison or the end of the condition must stand here; `!` says that something is not so ``");
}

#[test]
fn whoever_asks_is_never_a_group_and_what_is_opened_never_more_than_a_machine() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x") @max("PT1H")
permit (principal == Group::"responders", action == Action::"open", resource)
unless { principal == Group::"security-duty" || ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg" != resource };
"#), @r#"
    error: somebody who asks is never a Group: comparing them says nothing
     --> policies/a.cedar:3:22
      |
    3 | permit (principal == Group::"responders", action == Action::"open", resource)
      |                      ^^^^^^^^^^^^^^^^^^^
      |
      = help: write `principal in Group::"responders"`
    error: somebody who asks is never a Group: comparing them says nothing
     --> policies/a.cedar:4:23
      |
    4 | unless { principal == Group::"security-duty" || ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg" != resource };
      |                       ^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `principal in Group::"security-duty"`
    error: what is opened is never a ResourceGroup: comparing them says nothing
     --> policies/a.cedar:4:49
      |
    4 | unless { principal == Group::"security-duty" || ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg" != resource };
      |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `resource in ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg"`
    "#);
    for (condition, cure) in [
        ("principal == Unknown::\"x\"", "somebody unknown has no id; write `principal is Unknown`"),
        (
            "resource == Weekday::\"monday\"",
            "what is opened is never a Weekday: comparing them says nothing; write `resource == VM::\"…\"`",
        ),
    ] {
        let told = underlined(&format!("@id(\"a\") @reason(\"x\") forbid (principal, action, resource) when {{ {condition} }};"));
        assert!(told.iter().any(|line| line.contains(cure)), "{told:#?}");
    }
}

#[test]
fn while_it_is_not_known_what_a_rule_is_about_no_limit_of_it_is_called_meaningless() {
    for broken in [
        "permit (principal, action == Action::\"open\", resource) when { context.direct = false };",
        "permit (principal, action == Action::\"opne\", resource);",
        "permit (principal, action, resource);",
    ] {
        let told = underlined(&format!("@id(\"a\") @reason(\"x\") @max(\"PT15M\") @expire(\"PT1H\") {broken}"));
        assert!(!told.is_empty() && told.iter().all(|line| !line.contains("no meaning")), "{told:#?}");
        let told = underlined(&format!("@id(\"a\") @reason(\"x\") @max(\"15m\") {broken}"));
        assert!(told.iter().any(|line| line.contains("`@max` cannot be read")), "{told:#?}");
    }
}

#[test]
fn a_text_may_go_over_several_lines_as_it_may_for_cedar() {
    let rule = "@id(\"a\") @reason(\"one;\ntwo\") permit (principal, action == Action::\"open\", resource) when { context.reason like \"*;\n*\" };";
    let rules = Rules::load(&files(rule)).unwrap();
    assert_eq!(rules.rule("a").unwrap().terms.reason, "one;\ntwo");
    let deep = format!(
        "@id(\"a\") @reason(\"x\") forbid (principal, action == Action::\"open\", resource) when {{ \"a\n\" == \"\" && {}true{} }};",
        "(".repeat(3000),
        ")".repeat(3000)
    );
    assert!(underlined(&deep)[0].contains("nested too deeply"));
}

#[test]
fn the_schema_may_have_come_by_way_of_windows() {
    let rule = "@id(\"a\") @reason(\"x\") forbid (principal, action, resource);";
    let schema = format!("\u{feff}{}", SCHEMA_TEXT.replace('\n', "\r\n"));
    assert!(Rules::load(&files(rule).with("portcullis.cedarschema", &schema)).is_ok());
}

#[test]
fn what_stands_behind_a_lone_carriage_return_is_a_rule() {
    let rules = Rules::load(&files("// closed\r@id(\"a\") @reason(\"x\") forbid (principal, action, resource);")).unwrap();
    assert_eq!(rules.rules().count(), 1);
    let marked = Rules::load(&files("\u{feff}@id(\"a\") @reason(\"x\") forbid (principal, action, resource);")).unwrap();
    assert_eq!(marked.rules().count(), 1);
}

#[test]
fn a_rule_that_is_too_deep_is_told_and_ends_nothing() {
    for condition in [format!("{}true{}", "(".repeat(3000), ")".repeat(3000)), vec!["true"; 20_000].join(" || "), "!".repeat(5000) + "true"]
    {
        let text = format!("@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) when {{ {condition} }};");
        let told = underlined(&text);
        assert!(told.len() == 1 && told[0].contains("nested too deeply, or is too long, to be read; take it apart"), "{told:#?}");
    }
}

#[test]
fn a_forbid_that_can_never_hold_is_an_error_and_a_permit_a_warning() {
    let told = |effect: &str| {
        underlined(&format!("@id(\"a\") @reason(\"x\") {effect} (principal is Unknown, action == Action::\"close\", resource);"))
    };
    assert!(told("forbid").iter().all(|line| line.starts_with("Error")) && told("permit").iter().all(|line| line.starts_with("Warning")));
    assert!(!told("forbid").is_empty() && !told("permit").is_empty());
}

#[test]
fn names_are_not_unknown_while_their_file_cannot_be_read() {
    let rule = "@id(\"a\") @reason(\"x\") permit (principal in Group::\"a\", action == Action::\"open\", resource);";
    let told = |files: &RuleFiles| Rules::check(files).1.iter().map(ToString::to_string).collect::<Vec<_>>();
    let broken = told(&RuleFiles::of([("a.cedar", rule), ("people.yaml", "groups: [\n")]));
    assert!(broken.len() == 1 && broken[0].starts_with("people.yaml: "), "{broken:#?}");
    let absent = told(&RuleFiles::of([("a.cedar", rule)]));
    assert_eq!(absent, ["a.cedar: `a` is no group: there is no people.yaml; write people.yaml, with its groups"]);
}

#[test]
fn a_folder_without_rules_is_no_set() {
    let (set, mistakes) = Rules::check(&RuleFiles::of([("people.yaml", PEOPLE)]));
    assert!(set.is_none());
    assert_eq!(
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [": there are no rules: no file here ends in .cedar; write some, or name their folder"]
    );
    let empty = Rules::check(&RuleFiles::of([("a.cedar", "// nothing yet\n")])).1;
    assert!(empty[0].what.contains("the files that end in .cedar say nothing"), "{empty:?}");
    assert!(Rules::load(&RuleFiles::default()).unwrap_err().to_string().contains("there are no rules"));
}

#[test]
fn a_file_that_was_meant_to_be_read_does_not_go_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    write("a.cedar", "@id(\"a\") @reason(\"x\") forbid (principal, action, resource);");
    for name in ["README.md", ".gitignore", "notes.txt", "a.cedar~", "tests/a.yaml", "tests/README.md"] {
        write(name, "");
    }
    // What is left of a file that is being edited, or beside one that was copied, is hidden.
    for name in [".b.cedar", "._a.cedar", "tests/.t.yaml"] {
        write(name, "no rule and no scenario");
    }
    std::os::unix::fs::symlink("somebody@nowhere", folder.path().join(".#a.cedar")).unwrap();
    assert_eq!(Rules::check(&RuleFiles::read(folder.path()).unwrap()).1, []);
    write("b.ceder", "");
    write("peopel.yaml", "");
    write("tests/b.cedar", "");
    std::fs::create_dir(folder.path().join("prod")).unwrap();
    std::fs::create_dir(folder.path().join("tests/more")).unwrap();
    let (set, mistakes) = Rules::check(&RuleFiles::read(folder.path()).unwrap());
    assert!(set.is_none());
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "b.ceder: this file is not read, so what it says does not hold; rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away",
            "peopel.yaml: this file is not read, so what it says does not hold; did you mean `people.yaml`?",
            "prod/: this folder is not read, so what it says does not hold; rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away",
            "tests/b.cedar: this file is not read, so what it says does not hold; rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away",
            "tests/more/: this folder is not read, so what it says does not hold; rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away",
        ]
    );
    let none = RuleFiles::read(&folder.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("none cannot be read: "), "{none}");
}

/// What is told of a folder's files and their scenarios, a line each.
fn told_at(folder: &Path) -> Vec<String> {
    let files = RuleFiles::read(folder).unwrap();
    let told = |mistake: &Mistake| mistake.to_string().replacen(": ", &format!(":{}: ", mistake.place(&files).0), 1);
    scenario::check(&files).mistakes.iter().map(told).collect()
}

#[test]
fn a_file_that_is_not_utf_8_hides_no_mistake_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    write("latin.cedar", b"// a\n// \xe9\n@id(\"a\") @reason(\"x\") @max(\"2h\") permit (principal in Group::\"b\xfcro\", action == Action::\"open\", resource);");
    write(
        "good.cedar",
        "@id(\"b\") @reason(\"x\") permit (principal in Group::\"büro\", action == Action::\"opne\", resource);".as_bytes(),
    );
    write("people.yaml", b"groups:\n  b\xfcro: {members: [ada]}\n");
    let wide: Vec<u8> = "\u{feff}networks:\n  office: [198.51.100.7/24]\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("networks.yaml", &wide);
    write("tests/a.yaml", b"scenarios:\n  - name: \xe9\n    given: {ports: 22}\n    expect: {decision: open, rule: a}\n");
    assert_eq!(
        told_at(folder.path()),
        [
            "good.cedar:1: there is no action `opne`; did you mean `Action::\"open\"`?",
            "latin.cedar:2: this character is not UTF-8; save the file as UTF-8",
            "latin.cedar:3: `@max` cannot be read: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M; write PT2H for two hours, PT30M for thirty minutes",
            "networks.yaml:1: the file is UTF-16, and not UTF-8; save the file as UTF-8",
            "networks.yaml:2: `198.51.100.7/24` is not the start of a range; write `198.51.100.0/24` for the range, or `198.51.100.7` for the address",
            "people.yaml:2: this character is not UTF-8; save the file as UTF-8",
            "people.yaml:2: `ada` is not an object id; an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a person or group in Entra",
            "tests/a.yaml:2: this character is not UTF-8; save the file as UTF-8",
            "tests/a.yaml:3: a number stands here, and `ports` must be a list; write `[22]`",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_hides_no_mistake_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    write("a.cedar", "@id(\"a\") @reason(\"x\") permit (principal in Group::\"some\", action == Action::\"opne\", resource);");
    std::os::unix::fs::symlink("nowhere", folder.path().join("gone.cedar")).unwrap();
    std::fs::create_dir(folder.path().join("people.yaml")).unwrap();
    write(
        "tests/a.yaml",
        "scenarios:\n  - name: a\n    given: {person: {id: ada, groups: [some]}}\n    expect: {decision: opne, rule: b}\n",
    );
    assert_eq!(
        told_at(folder.path()),
        [
            "a.cedar:1: there is no action `opne`; did you mean `Action::\"open\"`?",
            "gone.cedar:1: this file cannot be read: No such file or directory (os error 2); put a file that can be read there, or take it away",
            "people.yaml:1: this file cannot be read: it is no file; put a file that can be read there, or take it away",
            "tests/a.yaml:4: `opne` is no decision; did you mean `open`?",
        ]
    );
}

#[test]
fn mistakes_of_rules_hide_none_of_scenarios_and_make_none() {
    let scenarios = "scenarios:\n  - name: a\n    given: {person: {groups: [respnders]}}\n    expect: {decision: open, rule: a}\n  - name: b\n    expect: {decision: open, rule: ab}\n";
    let told = |rules: &str| {
        let files = files(rules).with("tests/a.yaml", scenarios);
        let checked = scenario::check(&files);
        assert!(checked.rules.is_none());
        checked
            .mistakes
            .iter()
            .map(|mistake| mistake.what.clone())
            .filter(|what| what.contains("is no group") || what.contains("no rule is"))
            .collect::<Vec<_>>()
    };
    // The rule has a name, whatever else is wrong with it.
    let broken = "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) when { ( };";
    assert_eq!(told(broken), ["`respnders` is no group of people.yaml", "no rule is called `ab`"]);
    let deep = format!("@id(\"a\") @reason(\"x\") forbid (principal, action, resource) when {{ {}true }};", "(".repeat(60));
    assert_eq!(told(&deep), ["`respnders` is no group of people.yaml", "no rule is called `ab`"]);
    // One without a name may be the one that is meant.
    assert_eq!(
        told("@reason(\"x\") permit (principal, action == Action::\"open\", resource);"),
        ["`respnders` is no group of people.yaml"]
    );
}

#[test]
fn two_rules_of_one_name_are_told_also_where_one_is_broken() {
    let told = underlined(
        "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) wen { true };\n@id(\"a\") @reason(\"x\") forbid (principal, action, resource);",
    );
    assert!(told[1].contains("another rule is called `a`; it is in a.cedar, line 1"), "{told:#?}");
}

#[test]
fn the_hash_is_that_of_everything_that_decides_and_of_nothing_else() {
    let hash = |files: &RuleFiles| Rules::load(files).unwrap().hash().to_owned();
    let rule = "@id(\"a\") @reason(\"x\") forbid (principal, action, resource);";
    let one = files(rule);
    assert_eq!(hash(&one), hash(&files(rule)));
    assert_eq!(hash(&one), hash(&one.clone().with("tests/a.yaml", "scenarios: []")));
    for other in [
        one.clone().with("a.cedar", &rule.replace('x', "y")),
        one.clone().with("people.yaml", "groups: {}"),
        one.clone().with("networks.yaml", "networks: {}"),
        one.clone().with("b.cedar", "// nothing"),
    ] {
        assert_ne!(hash(&one), hash(&other));
    }
    assert_eq!(hash(&one).len(), 16);
}

#[test]
fn a_scenario_expects_nothing_that_is_never_looked_at() {
    let rules = "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"close\", resource);";
    let scenarios = r#"defaults:
  vm: {id: nonsense}
scenarios:
  - name: one
    right: close
    expect: {decision: permit, because: limits, max: PT1H, approvers: 1 of a, nearest: a}
  - name: one
    given: {person: {unknown: true, groups: [responders]}}
    expect: {decision: refuse}
"#;
    let files = files(rules).with("tests/a.yaml", scenarios);
    let (read, mistakes) = scenario::read(&files, &Rules::load(&files).unwrap());
    assert_eq!(read, []);
    let told: Vec<&str> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
    assert_eq!(told.iter().filter(|what| what.contains("nonsense")).count(), 1, "{told:#?}");
    for says in ["a right has no `because`", "a right has no `max`", "a right has no `approvers`", "a right has no `nearest`"] {
        assert!(told.contains(&says), "{says}: {told:#?}");
    }
    assert!(
        told.contains(&"another scenario is called `one`") && told.contains(&"somebody unknown has neither an id nor groups"),
        "{told:#?}"
    );
}

#[test]
fn every_mistake_in_how_scenarios_are_written_is_told_at_once() {
    let scenarios = r#"defaults:
  ports: [70000, ssh]
  way: directly
scenarios:
  - nme: one
    given:
      person: ada
      ports: 22
      alerts: many
      incident: {severity: hgh, opn: true, age: soon}
      vm: {tags: [a, b], name: [x]}
    expect: {desicion: open, rule: [a]}
  - name: two
    name: three
    right: open
    expect: open
  - name: four
  - just a text
"#;
    let files =
        files("@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource);").with("tests/a.yaml", scenarios);
    let (_, mistakes) = scenario::read(&files, &Rules::load(&files).unwrap());
    let told: Vec<String> =
        mistakes.iter().map(|mistake| format!("{}: {mistake}", mistake.place(&files).0).replace("tests/a.yaml: ", "")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    2: 70000 is more than 65535, the most that a port can be; write a whole number of at most 65535
    2: a text stands here, and a port must be a whole number; write it with digits alone
    3: `directly` is no way; did you mean `direct`?
    5: `nme` is not known in a scenario; did you mean `name`?
    7: a text stands here, and `person` must be fields such as `id`; write `{id: ada}`
    8: a number stands here, and `ports` must be a list; write `[22]`
    9: a text stands here, and `alerts` must be a whole number; write it with digits alone
    10: `hgh` is no severity; did you mean `high`?
    10: `opn` is not known in `incident`; did you mean `open`?
    10: `soon` is not an ISO 8601 duration such as PT3H or PT1H30M; write PT2H for two hours, PT30M for thirty minutes
    11: a list stands here, and `tags` must be names with something under each; write `{name: value}`
    11: a list stands here, and `name` must be a text
    12: `desicion` is not known in `expect`; did you mean `decision`?
    12: a list stands here, and `rule` must be a text
    14: `name` is here twice; it stands in line 13, column 5, too: keep one of them
    15: `open` is no right of its own; leave `right` away: a request tries open, breakGlass and ask
    16: a text stands here, and `expect` must be fields such as `decision`; write `{decision: open}`
    17: a scenario needs `expect`, and this one has none; write `expect: …` here
    18: a text stands here, and a scenario must be fields such as `name`; write `{name: just a text}`
    ");
}

#[test]
fn the_names_of_machines_are_in_lower_case_in_whatever_way_a_rule_compares_them() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
forbid (principal, action, resource)
when { resource.name == "WEB-1" || "web-2" == resource.name || resource.name like "DB-*" || ["ok", "Two"].contains(resource.name) };

@id("b") @reason("x")
forbid (principal, action, resource) when { ["Three", "web-1"].containsAny([resource.name]) };
"#), @r#"
    error: no machine is called `WEB-1` here: names of machines are in lower case
     --> policies/a.cedar:4:25
      |
    4 | when { resource.name == "WEB-1" || "web-2" == resource.name || resource.name like "DB-*" || ["ok", "Two"].contains(resource.name) };
      |                         ^^^^^^^
      |
      = help: write "web-1": Azure does not tell their cases apart
    error: no machine is called `DB-*` here: names of machines are in lower case
     --> policies/a.cedar:4:83
      |
    4 | when { resource.name == "WEB-1" || "web-2" == resource.name || resource.name like "DB-*" || ["ok", "Two"].contains(resource.name) };
      |                                                                                   ^^^^^^
      |
      = help: write "db-*": Azure does not tell their cases apart
    error: no machine is called `Two` here: names of machines are in lower case
     --> policies/a.cedar:4:100
      |
    4 | when { resource.name == "WEB-1" || "web-2" == resource.name || resource.name like "DB-*" || ["ok", "Two"].contains(resource.name) };
      |                                                                                                    ^^^^^
      |
      = help: write "two": Azure does not tell their cases apart
    error: no machine is called `Three` here: names of machines are in lower case
     --> policies/a.cedar:7:46
      |
    7 | forbid (principal, action, resource) when { ["Three", "web-1"].containsAny([resource.name]) };
      |                                              ^^^^^^^
      |
      = help: write "three": Azure does not tell their cases apart
    "#);
}

#[test]
fn what_is_reached_in_an_odd_way_is_read_to_its_end() {
    let rule = |of: &str| {
        format!(
            "@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource) when {{ {of} has incident && 1 == context.leastPort }};"
        )
    };
    assert_eq!(shown(&rule("(if context.direct then context else context)")), "");
    assert_ne!(shown(&rule("{\"a\": 1}")), "");
}

#[test]
fn an_annotation_says_what_its_escapes_mean() {
    let files = files("@id(\"a\") @reason(\"says \\\"no\\\" \\u{e9}\") permit (principal, action == Action::\"open\", resource);");
    let rules = Rules::load(&files).unwrap();
    assert_eq!(rules.rule("a").unwrap().terms.reason, "says \"no\" é");
}

#[test]
fn a_rule_that_opens_without_a_person_asks_nobody() {
    let rule = |actions: &str, more: &str| {
        format!(
            "@id(\"a\") @reason(\"x\") @approvers(\"1 of responders\") {more} permit (principal is Person, action in [{actions}], resource);"
        )
    };
    let told = underlined(&rule("Action::\"open\", Action::\"ask\"", ""));
    assert!(told.len() == 1 && told[0].starts_with("Warning") && told[0].contains("it permits `open`, too"), "{told:#?}");
    assert_eq!(underlined(&rule("Action::\"ask\"", "")), Vec::<String>::new());
    for more in ["@expire(\"PT0S\")", "@escalate(\"PT0S responders\")"] {
        assert!(underlined(&rule("Action::\"ask\"", more))[0].starts_with("Error"), "{more}");
    }
}

#[test]
fn a_condition_that_no_value_passes_is_told() {
    let rule = |effect: &str, condition: &str| {
        format!("@id(\"a\") @reason(\"x\") {effect} (principal is Person, action == Action::\"open\", resource) {condition};")
    };
    for (condition, says, words) in [
        (
            "when { context.duration < duration(\"5m\") }",
            "`context.duration < duration(\"5m\")` never holds: hard limits hold it from 5 minutes to 24 hours",
            "context.duration < duration(\"5m\")",
        ),
        ("when { duration(\"25h\") <= context.duration }", "never holds", "duration(\"25h\") <= context.duration"),
        ("when { context.ports.contains(70000) }", "`70000` is no port", "70000"),
        ("when { [22, 0].containsAny(context.ports) }", "`0` is no port", "0"),
        ("when { context.leastPort > 65535 }", "ports are from 1 to 65535", "context.leastPort > 65535"),
        ("when { context.greatestPort == 0 }", "never holds", "context.greatestPort == 0"),
        (
            "when { context.timeOfDay >= duration(\"24h\") }",
            "a time of day is at least 0h and less than 24h",
            "context.timeOfDay >= duration(\"24h\")",
        ),
        ("when { context.timeOfDay < duration(\"-1h\") }", "never holds", "context.timeOfDay < duration(\"-1h\")"),
        ("when { context.widestPrefix > 32 }", "a prefix is at most 32 long", "context.widestPrefix > 32"),
        ("when { context.approvalsToday < 0 }", "no count is less than 0", "context.approvalsToday < 0"),
        ("unless { context.duration <= duration(\"1d\") }", "always holds", "context.duration <= duration(\"1d\")"),
        ("when { !(context.leastPort >= 1) }", "always holds", "context.leastPort >= 1"),
        (
            "when { context.timeOfDay >= duration(\"22h\") && context.timeOfDay < duration(\"6h\") }",
            "`context.timeOfDay < duration(\"6h\")` and `context.timeOfDay >= duration(\"22h\")` never hold together; put `||` between them",
            "context.timeOfDay < duration(\"6h\")",
        ),
        (
            "when { context.leastPort > 1024 } unless { context.leastPort > 22 }",
            "`context.leastPort > 22` always holds where `context.leastPort > 1024` does",
            "context.leastPort > 22",
        ),
        (
            "when { context.leastPort >= 100 && context.leastPort >= 50 && context.leastPort < 80 }",
            "`context.leastPort < 80` and `context.leastPort >= 100` never hold together",
            "context.leastPort < 80",
        ),
        (
            "unless { context.timeOfDay >= duration(\"6h\") || context.timeOfDay < duration(\"22h\") }",
            "`context.timeOfDay < duration(\"22h\")` or `context.timeOfDay >= duration(\"6h\")` always holds; put `&&` between them",
            "context.timeOfDay < duration(\"22h\")",
        ),
    ] {
        let told = underlined(&rule("permit", condition));
        assert!(
            told.len() == 1 && told[0].starts_with("Warning") && told[0].contains(says) && told[0].ends_with(&format!("`{words}`")),
            "{told:#?}"
        );
        let weight = if condition.contains("context.duration ") || condition.contains("duration(\"25h\")") { "Warning" } else { "Error" };
        assert!(underlined(&rule("forbid", condition))[0].starts_with(weight), "{condition}");
    }
    for condition in [
        "when { context.timeOfDay >= duration(\"7h\") && context.timeOfDay < duration(\"20h\") }",
        "when { context.timeOfDay >= duration(\"22h\") || context.timeOfDay < duration(\"6h\") }",
        "when { context.duration <= duration(\"24h\") && context.widestPrefix >= 24 && context.ports.containsAny([22, 3389]) }",
        "unless { context.leastPort < 1024 } unless { context.approvalsToday >= 10 || context.duration > duration(\"4h\") }",
    ] {
        assert_eq!(underlined(&rule("permit", condition)), Vec::<String>::new());
    }
}

#[test]
fn groups_that_nobody_has_to_be_asked_about_cannot_be_unreachable() {
    let people = "groups:\n  a: {members: []}\n  b: {entra: bbbbbbbb-0000-4000-8000-000000000002}\n";
    let scenario = "scenarios:\n  - name: x\n    given: {person: {groupsUnreachable: true}}\n    expect: {decision: undecided}\n";
    let told = |group: &str| {
        let rule = format!("@id(\"a\") @reason(\"x\") permit (principal in Group::\"{group}\", action == Action::\"open\", resource);");
        let files = RuleFiles::of([("a.cedar", rule.as_str()), ("people.yaml", people), ("tests/x.yaml", scenario)]);
        scenario::check(&files).mistakes.iter().map(|mistake| mistake.what.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("b"), Vec::<String>::new());
    assert_eq!(told("a"), ["nobody looks at `groupsUnreachable`: no rule names a group of Entra, so nobody has to be reached"]);
}

#[test]
fn one_thing_that_is_written_wrong_is_told_once_where_it_is_and_how_to_write_it() {
    let head = "permit (principal in Group::\"responders\", action == Action::\"open\", resource)";
    let of = |rule: String| format!("{rule}\n  {}", underlined(&rule).join("\n  "));
    let mut told: Vec<String> = [
        "context has incidents",
        "context.duration <= 7200",
        "context has incident && context.incident.severity >= Severity::\"medium\"",
        "context.leastPort in [22, 23]",
        "context.networks.contains(Network::\"\u{43e}ffice\")",
        "context.openToday + context.duration <= duration(\"4h\")",
        "context.direct === true",
        "resource.name like \"web-\\d+\"",
        "context.duration <= duration(7h)",
        "context.networks contains Network::\"office\"",
        "context.leastPort <> 22",
        "resource.name.startsWith(\"web\")",
        "context.ports[0] == 22",
        "context.ports.contains(22, 3389)",
    ]
    .map(|condition| of(format!("@id(\"a\") @reason(\"x\") {head} when {{ {condition} }};")))
    .into();
    told.extend(
        [
            "@id(\"a\") @reason(\"x)\nHEAD;\n@id(\"b\") @reason(\"y\") forbid (principal, action, resource);",
            "@id(\"a\"); @reason(\"x\") HEAD;",
            "@id \"a\" @reason(\"x\") HEAD;",
            "@id(a) @reason(\"x\") HEAD;",
            "@Id(\"a\") @reason(\"x\") HEAD;",
            "permit(",
        ]
        .map(|rule| of(rule.replace("HEAD", head))),
    );
    insta::assert_snapshot!(told.join("\n"), @r#"
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context has incidents };
      Error a.cedar: `incidents` is no attribute of `context`, so this never holds; did you mean `incident`? `has incidents`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.duration <= 7200 };
      Error a.cedar: a duration stands here, and a number is needed; write a duration as `duration("2h")` `context.duration`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context has incident && context.incident.severity >= Severity::"medium" };
      Error a.cedar: no Severity is more or less than another here; name those that are meant: `[Severity::"medium", Severity::"high"].contains(context.incident.severity)` `context.incident.severity`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.leastPort in [22, 23] };
      Error a.cedar: a number is in nothing; ask the set: `.contains(…)`, `.containsAny([…])` or `.containsAll([…])` `context.leastPort`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.networks.contains(Network::"оffice") };
      Error a.cedar: `оffice` is no network of networks.yaml; did you mean `office`? `Network::"оffice"`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.openToday + context.duration <= duration("4h") };
      Error a.cedar: durations cannot be added, taken away or multiplied; count in minutes: `context.openToday.toMinutes() + context.duration.toMinutes() <= 240` `context.openToday`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.direct === true };
      Error a.cedar: `=` cannot stand here; take it away: `==` has two of them `=`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { resource.name like "web-\d+" };
      Error a.cedar: `\d` means nothing in a text; a pattern has but `*`, which stands for anything, and `\*` for a star itself; write `\\` for a backslash `"web-\d+"`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.duration <= duration(7h) };
      Error a.cedar: `h` cannot stand here; a duration stands in quotes: `duration("2h")` `h`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.networks contains Network::"office" };
      Error a.cedar: `contains` cannot stand here; write `.contains(…)` behind the set `contains`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.leastPort <> 22 };
      Error a.cedar: `>` cannot stand here; write `!=` `>`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { resource.name.startsWith("web") };
      Error a.cedar: nothing has a `.startsWith(…)`; write `like "web-*"`, where `*` stands for anything `resource.name.startsWith("web")`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.ports[0] == 22 };
      Error a.cedar: nothing is reached by its number; ask a set `.contains(…)`, `.containsAny([…])` or `.containsAll([…])` `0`
    @id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource) when { context.ports.contains(22, 3389) };
      Error a.cedar: `.contains(…)` asks for one thing; for several write `.containsAny([…])` or `.containsAll([…])` `context.ports.contains(22, 3389)`
    @id("a") @reason("x)
    permit (principal in Group::"responders", action == Action::"open", resource);
    @id("b") @reason("y") forbid (principal, action, resource);
      Error a.cedar: a text begins here and does not end; put a `"` behind it `"`
    @id("a"); @reason("x") permit (principal in Group::"responders", action == Action::"open", resource);
      Error a.cedar: `;` cannot stand here; take it away `;`
    @id "a" @reason("x") permit (principal in Group::"responders", action == Action::"open", resource);
      Error a.cedar: `@id` has no value; write `@id("…")` `id`
      Error a.cedar: `"a"` cannot stand here; put the value into brackets: `@id("…")` `"a"`
    @id(a) @reason("x") permit (principal in Group::"responders", action == Action::"open", resource);
      Error a.cedar: `@id` has no value; write `@id("…")` `id`
      Error a.cedar: `a` cannot stand here; a text in quotes must stand here `a`
    @Id("a") @reason("x") permit (principal in Group::"responders", action == Action::"open", resource);
      Error a.cedar: `@Id` is no annotation of a rule; did you mean `id`? `Id`
    permit(
      Error a.cedar: the rule has no `@id`; put `@id("what-it-is-called")` before it `permit`
      Error a.cedar: the rule has no `@reason`; put `@reason("Why, for the people who are told")` before it `permit`
      Error a.cedar: the rule ends here, and something is missing; `principal`, `action` or `resource` must stand here ``
    "#);
}

#[test]
fn what_is_forbidden_to_whoever_opens_around_portcullis_is_forbidden_to_everybody_unknown() {
    let permit = "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource);";
    let forbid = "@id(\"b\") @reason(\"x\") forbid (principal is Unknown, action, resource)";
    assert_eq!(shown(&format!("{permit} {} when {{ context.direct }};", forbid.replace("action,", "action == Action::\"open\","))), "");
}

#[test]
fn a_section_under_another_name_is_told_once() {
    let rule = "@id(\"a\") @reason(\"x\") permit (principal in Group::\"b\", action == Action::\"open\", resource) \
                when { context.networks.contains(Network::\"office\") };";
    let people = "persons:\n  ada@contoso.com: aaaaaaaa-0000-4000-8000-000000000001\ngroups:\n  b: {members: [ada@contoso.com]}\n";
    let files = RuleFiles::of([("a.cedar", rule), ("people.yaml", people), ("networks.yaml", "network:\n  office: [198.51.100.0/24]\n")]);
    let told: Vec<String> = Rules::check(&files).1.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "networks.yaml: `network` is not known in networks.yaml; did you mean `networks`?",
            "people.yaml: `persons` is not known in people.yaml; known are people, groups",
        ]
    );
}

/// What is said of a rule of each effect with this condition: that of a permit, and that of a forbid.
fn told_of_both(condition: &str) -> String {
    let of = |effect: &str| {
        let head = format!("@id(\"a\") @reason(\"x\") {effect} (principal is Person, action == Action::\"open\", resource)");
        underlined(&format!("{head} {condition};"))
    };
    let (permit, forbid) = (of("permit"), of("forbid"));
    let unweighed =
        |told: &[String]| told.iter().map(|one| one.split_once(' ').map_or("", |(_, said)| said).to_owned()).collect::<Vec<_>>();
    assert_eq!(unweighed(&permit), unweighed(&forbid), "{condition}");
    assert!(permit.iter().all(|one| one.starts_with("Warning")), "{permit:?}");
    let weight = forbid.iter().map(|one| one.split_whitespace().next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    format!("{condition}\n  {weight}: {}", unweighed(&permit).join("\n  ").replace("a.cedar: ", ""))
}

#[test]
fn a_condition_or_an_exception_that_never_holds_is_told_and_is_an_error_where_a_forbid_then_forbids_less() {
    let told: Vec<String> = [
        "unless { context.timeOfDay >= duration(\"22h\") && context.timeOfDay < duration(\"6h\") }",
        "unless { context.timeOfDay >= duration(\"25h\") }",
        "unless { context.widestPrefix > 32 }",
        "unless { context.leastPort >= 1 }",
        "when { !(context.timeOfDay >= duration(\"22h\") && context.timeOfDay < duration(\"6h\")) }",
        "when { context.timeOfDay >= duration(\"6h\") || context.timeOfDay < duration(\"22h\") }",
        "when { context.weekday == Weekday::\"monday\" && context.weekday == Weekday::\"tuesday\" }",
        "when { context.weekday == Weekday::\"monday\" } unless { context.weekday != Weekday::\"sunday\" }",
        "when { [Weekday::\"monday\"].contains(context.weekday) } unless { [Weekday::\"monday\"].contains(context.weekday) }",
        "when { context.direct || context.timeOfDay >= duration(\"22h\") && context.timeOfDay < duration(\"6h\") }",
        "when { context.direct || context.timeOfDay >= duration(\"24h\") }",
        "when { if context.direct then context.leastPort > 70000 else context.leastPort == 22 }",
        "when { if context.leastPort > 80 then context.leastPort < 80 else context.direct }",
        "when { context.timeOfDay.toHours() >= 22 && context.timeOfDay.toHours() < 6 }",
        "when { context.leastPort == 3389 && context.greatestPort == 22 }",
        "when { context.ports.contains(22) && context.leastPort > 1024 }",
        "when { resource.hasTag(\"a\") && resource.getTag(\"a\") == \"x\" && resource.getTag(\"a\") == \"y\" }",
        "when { resource.name == \"web-1\" && resource.name == \"web-2\" }",
        "when { context has incident && context.incident.age < duration(\"-1h\") }",
        "when { context.direct } unless { context.direct }",
        "when { context.direct == true && !context.direct }",
        "when { context.networks.contains(Network::\"office\") && !context.networks.contains(Network::\"office\") }",
        "when { context.leastPort != 22 && context.leastPort == 22 }",
        "when { (context.leastPort < 22 || context.leastPort > 80) && context.leastPort >= 22 && context.leastPort <= 80 }",
        "when { context.sources.contains(ip(\"2001:db8::1\")) }",
        "when { context.sources.contains(ip(\"198.51.100.7/24\")) }",
        "when { context.duration > duration(\"25h\") }",
    ]
    .map(told_of_both)
    .into();
    insta::assert_snapshot!(told.join("\n"), @r#"
    unless { context.timeOfDay >= duration("22h") && context.timeOfDay < duration("6h") }
      Warning: `context.timeOfDay < duration("6h")` and `context.timeOfDay >= duration("22h")` never hold together; put `||` between them for a time that goes over midnight `context.timeOfDay < duration("6h")`
    unless { context.timeOfDay >= duration("25h") }
      Warning: `context.timeOfDay >= duration("25h")` never holds: a time of day is at least 0h and less than 24h; write a value that there can be, or take it away `context.timeOfDay >= duration("25h")`
    unless { context.widestPrefix > 32 }
      Warning: `context.widestPrefix > 32` never holds: a prefix is at most 32 long; write a value that there can be, or take it away `context.widestPrefix > 32`
    unless { context.leastPort >= 1 }
      Error: `context.leastPort >= 1` always holds: ports are from 1 to 65535; write a value that there can be, or take it away `context.leastPort >= 1`
    when { !(context.timeOfDay >= duration("22h") && context.timeOfDay < duration("6h")) }
      Warning: `context.timeOfDay < duration("6h")` and `context.timeOfDay >= duration("22h")` never hold together; put `||` between them for a time that goes over midnight `context.timeOfDay < duration("6h")`
    when { context.timeOfDay >= duration("6h") || context.timeOfDay < duration("22h") }
      Warning: `context.timeOfDay < duration("22h")` or `context.timeOfDay >= duration("6h")` always holds; put `&&` between them for a time that does not go over midnight `context.timeOfDay < duration("22h")`
    when { context.weekday == Weekday::"monday" && context.weekday == Weekday::"tuesday" }
      Error: `context.weekday == Weekday::"tuesday"` and `context.weekday == Weekday::"monday"` never hold together; look which of them is meant `context.weekday == Weekday::"tuesday"`
    when { context.weekday == Weekday::"monday" } unless { context.weekday != Weekday::"sunday" }
      Error: `context.weekday != Weekday::"sunday"` always holds where `context.weekday == Weekday::"monday"` does; look which of them is meant `context.weekday != Weekday::"sunday"`
    when { [Weekday::"monday"].contains(context.weekday) } unless { [Weekday::"monday"].contains(context.weekday) }
      Error: `[Weekday::"monday"].contains(context.weekday)` cannot both hold and not hold; look which of them is meant `[Weekday::"monday"].contains(context.weekday)`
    when { context.direct || context.timeOfDay >= duration("22h") && context.timeOfDay < duration("6h") }
      Error: `context.timeOfDay < duration("6h")` and `context.timeOfDay >= duration("22h")` never hold together; put `||` between them for a time that goes over midnight `context.timeOfDay < duration("6h")`
    when { context.direct || context.timeOfDay >= duration("24h") }
      Error: `context.timeOfDay >= duration("24h")` never holds: a time of day is at least 0h and less than 24h; write a value that there can be, or take it away `context.timeOfDay >= duration("24h")`
    when { if context.direct then context.leastPort > 70000 else context.leastPort == 22 }
      Error: `context.leastPort > 70000` never holds: ports are from 1 to 65535; write a value that there can be, or take it away `context.leastPort > 70000`
    when { if context.leastPort > 80 then context.leastPort < 80 else context.direct }
      Error: `context.leastPort < 80` and `context.leastPort > 80` never hold together; look which of them is meant `context.leastPort < 80`
    when { context.timeOfDay.toHours() >= 22 && context.timeOfDay.toHours() < 6 }
      Error: `context.timeOfDay.toHours() < 6` and `context.timeOfDay.toHours() >= 22` never hold together; put `||` between them for a time that goes over midnight `context.timeOfDay.toHours() < 6`
    when { context.leastPort == 3389 && context.greatestPort == 22 }
      Error: `context.greatestPort == 22` and `context.leastPort == 3389` never hold together; look which of them is meant `context.greatestPort == 22`
    when { context.ports.contains(22) && context.leastPort > 1024 }
      Error: `context.leastPort > 1024` and `context.ports.contains(22)` never hold together; look which of them is meant `context.leastPort > 1024`
    when { resource.hasTag("a") && resource.getTag("a") == "x" && resource.getTag("a") == "y" }
      Error: `resource.getTag("a") == "y"` and `resource.getTag("a") == "x"` never hold together; look which of them is meant `resource.getTag("a") == "y"`
    when { resource.name == "web-1" && resource.name == "web-2" }
      Error: `resource.name == "web-2"` and `resource.name == "web-1"` never hold together; look which of them is meant `resource.name == "web-2"`
    when { context has incident && context.incident.age < duration("-1h") }
      Error: `context.incident.age < duration("-1h")` never holds: no incident is of the future; write a value that there can be, or take it away `context.incident.age < duration("-1h")`
    when { context.direct } unless { context.direct }
      Error: `context.direct` cannot both hold and not hold; look which of them is meant `context.direct`
    when { context.direct == true && !context.direct }
      Error: `context.direct` always holds where `context.direct == true` does; look which of them is meant `context.direct`
    when { context.networks.contains(Network::"office") && !context.networks.contains(Network::"office") }
      Error: `context.networks.contains(Network::"office")` cannot both hold and not hold; look which of them is meant `context.networks.contains(Network::"office")`
    when { context.leastPort != 22 && context.leastPort == 22 }
      Error: `context.leastPort == 22` and `context.leastPort != 22` never hold together; look which of them is meant `context.leastPort == 22`
    when { (context.leastPort < 22 || context.leastPort > 80) && context.leastPort >= 22 && context.leastPort <= 80 }
      Error: `context.leastPort <= 80` never holds together with the rest; look which of them is meant `context.leastPort <= 80`
    when { context.sources.contains(ip("2001:db8::1")) }
      Warning: `2001:db8::1` is never a source: JIT takes no IPv6 address, and hard limits refuse it; write a value that there can be, or take it away `ip("2001:db8::1")`
    when { context.sources.contains(ip("198.51.100.7/24")) }
      Error: `198.51.100.7/24` is never a source: a range begins at its first address; write `ip("198.51.100.0/24")` `ip("198.51.100.7/24")`
    when { context.duration > duration("25h") }
      Warning: `context.duration > duration("25h")` never holds: hard limits hold it from 5 minutes to 24 hours; write a value that there can be, or take it away `context.duration > duration("25h")`
    "#);
}

#[test]
fn what_a_rules_own_longest_time_excludes_is_told() {
    let rule = |condition: &str| {
        let head = "@id(\"a\") @reason(\"x\") @max(\"PT2H\") permit (principal is Person, action == Action::\"open\", resource)";
        underlined(&format!("{head} {condition};")).join("\n")
    };
    insta::assert_snapshot!(rule("when { context.duration > duration(\"4h\") }"), @r#"Warning a.cedar: `context.duration > duration("4h")` never holds up to this rule's `@max` of PT2H, and beyond it the rule permits nothing; raise `@max`, or take the condition away `context.duration > duration("4h")`"#);
    assert_eq!(rule("when { context.duration >= duration(\"2h\") }"), "");
}

#[test]
fn a_condition_that_some_value_passes_is_not_told() {
    for condition in [
        "when { context.timeOfDay.toHours() >= 23 || context.timeOfDay.toHours() < 0 + 6 }",
        "when { context.timeOfDay.toHours() == 22 && context.timeOfDay > duration(\"22h30m\") }",
        "when { context.leastPort == 22 && context.greatestPort == 3389 && context.ports.contains(443) }",
        "when { context.leastPort != 22 && context.greatestPort != 22 && context.weekday != Weekday::\"monday\" }",
        "when { context.direct || !context.direct && context.leastPort == 22 } unless { context.leastPort == 80 || context.direct }",
        "when { if context.direct then context.leastPort == 22 else context.leastPort == 80 }",
        "when { if context.direct then false else context.leastPort == 80 } unless { context.reason == \"\" }",
        "when { context.networks.contains(Network::\"office\") } unless { context.ports.containsAny([3389]) }",
        "when { resource.hasTag(\"a\") && (resource.getTag(\"a\") == \"x\" || resource.getTag(\"a\") == \"y\") }",
        "when { context.sources.contains(ip(\"198.51.100.7\")) || context.sources.contains(ip(\"198.51.100.0/24\")) }",
        "when { [Weekday::\"saturday\", Weekday::\"sunday\"].contains(context.weekday) } unless { context.weekday == Weekday::\"sunday\" }",
    ] {
        let rule = format!("@id(\"a\") @reason(\"x\") forbid (principal is Person, action == Action::\"open\", resource) {condition};");
        assert_eq!(underlined(&rule), Vec::<String>::new(), "{condition}");
    }
}

#[test]
fn a_number_that_is_too_large_to_negate_ends_nothing() {
    let rule = "@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource) \
        when { context.approvalsToday < -(-9223372036854775808) };";
    assert_eq!(underlined(rule), Vec::<String>::new());
}

#[test]
fn a_permit_that_lets_in_somebody_unknown_is_told() {
    let rule = |head: &str, more: &str| format!("@id(\"a\") @reason(\"x\") permit ({head}, resource) {more};");
    insta::assert_snapshot!(shown(&rule("principal, action == Action::\"open\"", "when { context.direct }")), @r#"
    warning: the rule lets in somebody of whom nobody knows who it is
     --> policies/a.cedar:1:23
      |
    1 | @id("a") @reason("x") permit (principal, action == Action::"open", resource) when { context.direct };
      |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `principal is Person` or name a group; or forbid it for all:
              `forbid (principal is Unknown, action, resource);`
    "#);
    for (head, more) in [
        ("principal is Unknown, action == Action::\"breakGlass\"", ""),
        ("principal, action in [Action::\"read\", Action::\"open\"]", "unless { principal in Group::\"responders\" }"),
    ] {
        let told = underlined(&rule(head, more));
        assert!(told.len() == 1 && told[0].starts_with("Warning") && told[0].contains("nobody knows who it is"), "{told:#?}");
    }
    for (head, more) in [
        ("principal is Person, action == Action::\"open\"", ""),
        ("principal in Group::\"responders\", action == Action::\"open\"", ""),
        ("principal, action == Action::\"open\"", "when { principal in [Group::\"responders\"] }"),
        ("principal, action == Action::\"open\"", "unless { principal is Unknown }"),
        // Whoever is unknown opened it around Portcullis.
        ("principal, action == Action::\"open\"", "unless { context.direct }"),
        ("principal, action == Action::\"approve\"", ""),
    ] {
        assert_eq!(underlined(&rule(head, more)), Vec::<String>::new(), "{head} {more}");
    }
    let with =
        |forbid: &str| underlined(&format!("{}\n@id(\"b\") @reason(\"x\") {forbid};", rule("principal, action == Action::\"open\"", "")));
    for forbid in [
        "forbid (principal is Unknown, action, resource)",
        "forbid (principal is Unknown, action == Action::\"open\", resource)",
        "forbid (principal, action, resource) when { principal is Unknown }",
        "forbid (principal, action, resource) unless { principal is Person }",
    ] {
        assert_eq!(with(forbid), Vec::<String>::new(), "{forbid}");
    }
    for forbid in [
        "forbid (principal is Unknown, action == Action::\"ask\", resource)",
        "forbid (principal is Unknown, action, resource) unless { resource.name == \"a\" }",
        "forbid (principal is Person, action, resource) unless { principal in Group::\"responders\" }",
    ] {
        assert_eq!(with(forbid).len(), 1, "{forbid}");
    }
}

#[test]
fn a_rule_is_checked_to_its_depth_on_the_smallest_stack() {
    let deepest = [
        format!("1{}", " && true".repeat(1450)),
        format!("context.direct{} || 1", " || context.direct".repeat(700)),
        format!("{}1{}", "(".repeat(45), ")".repeat(45)),
        format!("{}1{}", "(".repeat(45), " && true)".repeat(45)),
        format!("{}1", "if context.direct then true else ".repeat(50)),
    ];
    for condition in deepest {
        let text =
            format!("@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource) when {{ {condition} }};");
        let small = std::thread::Builder::new().stack_size(200 << 10).spawn(move || underlined(&text)).unwrap();
        let told = small.join().unwrap();
        assert!(told.iter().any(|line| line.starts_with("Error") && line.contains("a number")), "{told:#?}");
    }
}

/// What is told of one scenario file beside a rule, each in a line with its line.
fn told_of(scenarios: &str) -> String {
    let rules = "@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource);";
    let people = "people:\n  ada@contoso.com: 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55\ngroups:\n  responders: {members: []}\n";
    let files = files(rules).with("tests/a.yaml", scenarios).with("people.yaml", people);
    let told = |mistake: &Mistake| format!("{}: {mistake}", mistake.place(&files).0).replace("tests/a.yaml: ", "");
    scenario::check(&files).mistakes.iter().map(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_field_under_which_nothing_stands_is_not_taken_for_absent() {
    insta::assert_snapshot!(told_of("defaults:\nscenarios:\n  - name: one\n    expect:\n  - name: two\n    given: {incident: , reason: , vm: {tags: {a: }}}\n    expect: {decision: open, rule: }\n  -\n  - name:\n    expect: {decision: open}\n"), @r#"
    4: nothing stands under `expect`; say what it is, or take it away
    6: nothing stands under `incident`; say what it is, or take it away
    6: nothing stands under `reason`; say what it is, or take it away
    6: nothing stands under the tag `a`; write its value, or `""` for an empty one
    7: nothing stands under `rule`; say what it is, or take it away
    8: nothing stands here, and a scenario must be fields such as `name`
    9: nothing stands under `name`; say what it is, or take it away
    "#);
}

#[test]
fn a_field_that_stands_twice_is_told_with_both_places_and_hides_nothing() {
    insta::assert_snapshot!(told_of("scenarios:\n  - name: one\n    given: {ports: [ssh]}\n    given:\n      ports: [22]\n      alerts: many\n    expect: {decision: open, decision: ask}\nscenarios:\n  - nme: two\n    expect: {decision: open}\n"), @r"
    3: a text stands here, and a port must be a whole number; write it with digits alone
    4: `given` is here twice; it stands in line 3, column 5, too: keep one of them
    6: a text stands here, and `alerts` must be a whole number; write it with digits alone
    7: `decision` is here twice; it stands in line 7, column 14, too: keep one of them
    8: `scenarios` is here twice; it stands in line 1, column 1, too: keep one of them
    9: `nme` is not known in a scenario; did you mean `name`?
    ");
    let people = "groups:\n  a: {members: []}\ngroups:\n  b: {members: [ada]}\n";
    let rule = "@id(\"a\") @reason(\"x\") permit (principal in Group::\"a\", action == Action::\"open\", resource) when { principal in Group::\"b\" };";
    let mistakes = Rules::check(&files(rule).with("people.yaml", people)).1;
    let told: Vec<&str> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
    assert_eq!(told, ["`groups` is here twice", "`ada` is not an object id"]);
}

#[test]
fn an_anchor_may_be_taken_over_and_changed() {
    assert_eq!(
        told_of(
            "defaults: &all\n  person: {groups: [responders]}\n  ports: [22]\nscenarios:\n  - name: one\n    given: {<<: *all, ports: [80]}\n    expect: {decision: open}\n"
        ),
        ""
    );
}

#[test]
fn what_contradicts_itself_in_a_scenario_is_told() {
    insta::assert_snapshot!(told_of(r#"scenarios:
  - name: one
    given:
      person: {groups: [responders], groupsUnreachable: true}
      vm: {id: /subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm, name: web-1, managementGroups: [a], managementGroupsUnreachable: true}
      asker: ada@contoso.com
    expect: {decision: refuse, max: PT1H}
  - name: two
    given: {person: {unknown: true, id: ada@contoso.com, groupsUnreachable: true}, ports: [0, -1], vm: {tags: {env: a, Env: b}}}
    expect: {decision: refuse, because: limits, rule: a, nearest: a}
  - name: three
    right: close
    given: {ports: [22], duration: PT1H, way: direct, vm: {name: a}}
    expect: {decision: permit}
  - name: four
    right: approve
    given: {asker: ada@contoso.com, ports: [22], jitLongest: PT1H}
    expect: {decision: permit}
  - name: five
    expect: {decision: open, because: limits, approvers: 2 of respnders, nearest: a}
  - name: six
    expect: {decision: ask, approvers: two of responders}
  - name: seven
    given: {incident: {owner: adaa@contoso.com}, person: {id: ada}}
    expect: {decision: undecided, rule: a}
  - name: seven
    given: {incident: {owner: ada@contoso.com}, vm: {name: a/b}}
    expect: {decision: open}
  - name: ""
    expect: {decision: open}
"#), @r"
    4: nobody knows the groups of somebody whose groups are unreachable; take this away, or `groupsUnreachable`
    5: the machine's id says this already; take this away, or `id`
    5: nobody knows management groups that are unreachable; take this away, or `managementGroupsUnreachable`
    6: nobody looks at `asker` of an opening: whoever asks is `person`; take it away, or write `right: approve` for somebody who decides on a request
    7: no `max` can be expected where the decision is `refuse`; take it away, or expect something else
    9: somebody unknown has neither an id nor groups; take this away, or `unknown`
    9: somebody unknown has neither an id nor groups; take this away, or `unknown`
    9: 0 is no port; ports are from 1 to 65535
    9: `-1` is not a whole number from 0 to 65535, which a port must be; write it with digits alone
    9: the tag `Env` is here twice: Azure does not tell their cases apart; keep one of them
    10: no `rule` can be expected where it is refused because of `limits`; take it away, or expect something else
    10: no `nearest` can be expected where it is refused because of `limits`; take it away, or expect something else
    13: nobody looks at `ports` for the right `close`; take it away: who it is and which machine is all that decides
    13: nobody looks at `duration` for the right `close`; take it away: who it is and which machine is all that decides
    13: nobody looks at `way` for the right `close`; take it away: who it is and which machine is all that decides
    17: nobody looks at `jitLongest` for the right `approve`; take it away: what JIT allows is looked at when it is opened
    20: no `because` can be expected where the decision is `open`; take it away, or expect something else
    20: no `approvers` can be expected where the decision is `open`; take it away, or expect something else
    20: `respnders` is no group of people.yaml; did you mean `responders`?
    20: no `nearest` can be expected where the decision is `open`; take it away, or expect something else
    22: `approvers` cannot be read: `two of responders`; write `2 of security-duty`, as `@approvers` has it
    24: `adaa@contoso.com` is neither an object id nor a name of people.yaml; did you mean `ada@contoso.com`?
    24: `ada` is neither an object id nor a name of people.yaml; write an object id, which is a GUID, or take `id` away for somebody without a name
    25: no `rule` can be expected where the decision is `undecided`; take it away, or expect something else
    26: another scenario is called `seven`; it is in tests/a.yaml, line 23: give one of them another name
    27: `a/b` cannot be a `name`; write a name alone, or the VM's resource id as `id`
    29: the name is empty; say what the scenario shows
    ");
}

#[test]
fn a_yaml_file_may_be_long_and_says_in_our_words_what_it_may_not() {
    let many = |count: usize| {
        (0..count).map(|n| format!("  - name: s{n}\n    given: {{<<: *all}}\n    expect: {{decision: open}}\n")).collect::<String>()
    };
    assert_eq!(told_of(&format!("defaults: &all {{ports: [22]}}\nscenarios:\n{}", many(2000))), "");
    let deep = told_of(&format!("scenarios: {}{}\n", "[".repeat(70), "]".repeat(70)));
    assert_eq!(
        deep,
        "1: more than 64 lists and fields stand within each other here; take them apart: no file of these needs more than eight"
    );
    assert_eq!(told_of("scenarios: *none\n"), "1: no anchor before this alias has its name; write `&name` before what `*name` stands for");
    assert_eq!(
        told_of("scenarios: []\n---\nscenarios: []\n"),
        "3: a second document begins here, after `---`; take the line away, or put what follows into a file of its own"
    );
    let bomb = (1..12).map(|n| format!("b{n}: &b{n} [{}]\n", vec![format!("*b{}", n - 1); 10].join(", "))).collect::<String>();
    let told = told_of(&format!("b0: &b0 [x, x, x, x, x, x, x, x, x, x]\n{bomb}"));
    assert!(told.contains("with what its aliases (`*name`) stand for, the file says too much"), "{told}");
}

#[test]
fn what_cedar_says_is_told_in_words_of_ours() {
    let told = |condition: &str| {
        let rule = format!("@id(\"a\") @reason(\"x\")\npermit (principal is Person, action == Action::\"open\", resource)\n{condition};\n");
        underlined(&rule).join("\n")
    };
    let turned = told("when { resource.name == \"a\u{202e}b\" }");
    assert!(turned.contains("has marks that move what is seen after them; write it without them"), "{turned}");
    let conditions = CONDITIONS.lines().map(|condition| format!("{condition}\n{}", told(condition)));
    insta::assert_snapshot!(conditions.collect::<Vec<_>>().join("\n\n"), @r#"
    when { context.prots.contains(22) }
    Error a.cedar: `context` has no `prots`; did you mean `ports`? `context.prots.contains(22)`

    when { context.incident.open }
    Error a.cedar: `context.incident` may be absent; ask first whether it is there: `context has incident && …` `context.incident.open`

    when { resource.nmae == "x" }
    Error a.cedar: a machine has no `nmae`; did you mean `name`? `resource.nmae`

    when { principal.groups == "x" }
    Error a.cedar: nothing is known of a Person that could be called `groups`; ask who or what it is: `principal in Group::"NAME"`, or `principal == Person::"OBJECT-ID"` `principal.groups`

    when { context.ports == 22 }
    Error a.cedar: a number is never a set; ask a set `.contains(…)` for one thing, `.containsAny([…])` or `.containsAll([…])` for several `context.ports == 22`

    when { context.duration > 3600 }
    Error a.cedar: a duration stands here, and a number is needed; write a duration as `duration("2h")` `context.duration`

    when { context.duration > "2h" }
    Error a.cedar: a text stands here, and a duration is needed; write a duration as `duration("2h")` `"2h"`

    when { context.ports.contains("22") }
    Error a.cedar: a number is never a text; a number stands without quotes, a text in quotes `context.ports.contains("22")`

    when { context.weekday == "monday" }
    Error a.cedar: a text is never a Weekday; write `Weekday::"…"` `context.weekday == "monday"`

    when { context.weekday == Weekday::"mon" }
    Error a.cedar: there is no Weekday `mon`; known are monday, tuesday, wednesday, thursday, friday, saturday, sunday `Weekday::"mon"`

    when { context has incident && context.incident.severity > Severity::"low" }
    Error a.cedar: no Severity is more or less than another here; name those that are meant: `[Severity::"medium", Severity::"high"].contains(context.incident.severity)` `context.incident.severity`

    when { resource.getTag("env") == "prod" }
    Error a.cedar: the machine may have no tag "env"; ask first whether it has one: `resource.hasTag("env") && …` `resource.getTag("env")`

    when { resource.hasTag("environment") && resource.getTag("enviroment") == "prod" }
    Error a.cedar: the machine may have no tag "enviroment"; did you mean `environment`, which the rule asks for? `resource.getTag("enviroment")`

    when { context.sources.isInRange(ip("10.0.0.0/8")) }
    Error a.cedar: these are several addresses, and a rule cannot go through them; name the range in networks.yaml, and write `context.networks.contains(Network::"NAME")` `context.sources.isInRange(ip("10.0.0.0/8"))`

    when { ip("10.0.0.0/33").isLoopback() }
    Error a.cedar: `10.0.0.0/33` is not an address or a range; write an address such as 203.0.113.4 or a range such as 203.0.113.0/24 `ip("10.0.0.0/33").isLoopback()`

    when { duration("2 hours") < context.duration }
    Error a.cedar: `2 hours` is not a duration; write numbers, each with its unit, and nothing between them: `2h`, `1h30m`, `1d` `duration("2 hours")`

    when { context.ports = 22 }
    Error a.cedar: `=` compares nothing; write `==` `context.ports = 22`

    when { context.direct and context.direct }
    Error a.cedar: `and` cannot stand here; write `&&` `and`

    when { context.direct & context.direct }
    Error a.cedar: `&` means nothing in a rule; write `&&` `&`

    when { not context.direct }
    Error a.cedar: `context` cannot stand here; a `&&`, a `||`, a comparison or the end of the condition must stand here; `!` says that something is not so `context`

    when { resource.name == 'web' }
    Error a.cedar: a text stands in double quotes; write `"…"` `'`

    when { context.ports.includes(22) }
    Error a.cedar: nothing has a `.includes(…)`; known are contains, containsAny, containsAll, isEmpty, hasTag, getTag, toMinutes, toHours, toSeconds, isInRange `context.ports.includes(22)`

    when { hours(3) < context.duration }
    Error a.cedar: there is no function `hours`; known are duration, ip `hours(3)`

    when { Group::"responders".contains(principal) }
    Error a.cedar: a set is needed here, and a Group stands here; write `principal in Group::"NAME"` `Group::"responders"`

    when { [].contains(1) }
    Error a.cedar: this set is empty, so nothing is ever in it; say what is in it, or ask `.isEmpty()` `[]`

    when { context.duration > duration(context.reason) }
    Error a.cedar: `duration(…)` and `ip(…)` take a text in quotes, and nothing else; write it out, such as `duration("2h")` `duration(context.reason)`

    when { context.reason }
    Error a.cedar: a text stands here, where something must be true or not; compare it with something: `==`, `<`, `.contains(…)` `context.reason`

    when { if context.direct then 1 else "a" }
    Error a.cedar: this is a number or a text; both sides of `if … then … else …` must be of one kind `if context.direct then 1 else "a"`

    when { context.ports.contains(99999999999999999999) }
    Error a.cedar: this number is too large; write one of at most 9223372036854775807 `99999999999999999999`

    when { context.leastPort / 2 == 11 }
    Error a.cedar: a rule cannot divide; multiply the other side `context.leastPort / 2`

    when { 1 < context.leastPort < 20 }
    Error a.cedar: this compares more than two things at once; compare two at a time, with `&&` between `1 < context.leastPort < 20`

    when { context.timeOfDay.hour > 7 }
    Error a.cedar: a duration has no parts that a `.` could name; compare it with a duration: `context.timeOfDay >= duration("7h")` `context.timeOfDay.hour`

    when { principal in "responders" }
    Error a.cedar: `in` asks for something such as `Group::"NAME"`, and a text stands here; write what kind it is before the quotes `"responders"`

    when { principal in responders }
    Error a.cedar: nothing is called `responders` here; a text stands in quotes, what is asked for in `context`, and a group is `Group::"NAME"` `responders`

    when { contxt.direct }
    Error a.cedar: nothing is called `contxt` here; did you mean `context`? `contxt.direct`

    when { context.direct == yes }
    Error a.cedar: nothing is called `yes` here; write `true` or `false` `yes`

    when { context.reason like context.reason }
    Error a.cedar: `like` takes a pattern in quotes, and nothing else; write it out, such as `like "web-*"` `context.reason`

    when { resource is VMM }
    Error a.cedar: there is no kind `VMM`; did you mean `VM`? `VMM`

    when { ?principal }
    Error a.cedar: `?` stands for something that nobody fills in here; write who or what is meant, such as `principal in Group::"NAME"` `?principal`

    when { }
    Error a.cedar: nothing stands in this `when`; say what must hold, or take it away `when { }`

    when ( true )
    Error a.cedar: `(` cannot stand here; `{` must stand here `(`

    when { context.ports in [22] }
    Error a.cedar: a set is in nothing; ask the set: `.contains(…)`, `.containsAny([…])` or `.containsAll([…])` `context.ports`

    when { "a" + "b" == "ab" }
    Error a.cedar: a rule cannot put texts together; write the text out `"a"`
    Error a.cedar: a number is never a text; a number stands without quotes, a text in quotes `"a" + "b" == "ab"`
    Error a.cedar: a rule cannot put texts together; write the text out `"b"`

    when { context.ports.containsAny(22) }
    Error a.cedar: a set is needed here, and a number stands here; put it in brackets, `[…]`, or ask `.contains(…)` for one thing `22`

    when { context.reason == "раypal" }
    Warning a.cedar: "раypal" has letters of several scripts, which may look like others; write it in one script `"раypal"`

    when { context.reason.contains("x") }
    Error a.cedar: a set is needed here, and a text stands here; ask a text with `like "*…*"` `context.reason.contains("x")`

    when { resource.hasTag("environment") == "prod" }
    Error a.cedar: `true` or `false` is never a text; what is asked with `has` is true or not; for a tag's value write `resource.getTag("…") == "…"` `resource.hasTag("environment") == "prod"`

    when { context.direct === true }
    Error a.cedar: `=` cannot stand here; take it away: `==` has two of them `=`

    when { principal in [Group::"responders" Group::"security-duty"] }
    Error a.cedar: `Group` cannot stand here; a comma, a `&&`, a `||`, a comparison or the end of the bracket must stand here `Group`

    whn { true }
    Error a.cedar: `whn` is no part of a rule; write `when` or `unless` `whn`

    unless { true } && true
    Error a.cedar: `&&` cannot stand here; a `;`, a `when` or an `unless` must stand here `&&`

    when { context.reason == "a\q" }
    Error a.cedar: `\q` means nothing in a text; write `\\` for a backslash `"a\q"`

    when { principal.getTag("x") == "y" }
    Error a.cedar: a Person has no tags; tags are the machine's: `resource.hasTag("environment")` `principal.getTag("x")`

    when { context.direct | context.direct }
    Error a.cedar: `|` means nothing in a rule; write `||` `|`

    when { resource.name == “web” }
    Error a.cedar: `“` is no quote of a rule; write `"` `“`

    when { context.direct ~ context.direct }
    Error a.cedar: `~` means nothing in a rule; take it away, or put it into a text in quotes `~`

    when { resource.name == "abc }
    Error a.cedar: a text begins here and does not end; put a `"` behind it `"`

    when { context.sources.contains("203.0.113.4") }
    Error a.cedar: a text is never an address; write an address as `ip("203.0.113.4")` `context.sources.contains("203.0.113.4")`

    when { context.ports.containsAny(context.sources) }
    Error a.cedar: a number is never an address; write an address as `ip("203.0.113.4")` `context.ports.containsAny(context.sources)`

    when { context has incident && context.incident == "x" }
    Error a.cedar: a text is never a record; compare things of one kind `context.incident == "x"`

    when { context.reason.length > 3 }
    Error a.cedar: a text has no parts that a `.` could name; compare it as a whole `context.reason.length`

    when { context.leastPort == 1.5 }
    Error a.cedar: `5` cannot stand here; write a whole number `5`

    when { context.duration > duration("2h" }
    Error a.cedar: `}` cannot stand here; a comma or the end of the bracket must stand here `}`

    when { context.direct && }
    Error a.cedar: `}` cannot stand here; a value must stand here: a text in quotes, a number, `true`, or a name such as `context.direct` `}`

    when { context.weekday == Severity::"low" }
    Warning a.cedar: the rule never holds, whatever is asked for; look for what excludes something else in it, or for a kind that never stands there `@id("a") @reason("x")
    permit (principal is Person, action == Action::"open", resource)
    when { context.weekday == Severity::"low" };`
    "#);
    let heads =
        HEADS.lines().map(|head| format!("{head}\n{}", underlined(&format!("@id(\"a\") @reason(\"x\")\npermit ({head});\n")).join("\n")));
    insta::assert_snapshot!(heads.collect::<Vec<_>>().join("\n\n"), @r#"
    principal, action == "open", resource
    Error a.cedar: `"open"` is not the name of anything; write its kind and, in quotes, its name: `Action::"open"`, `Group::"NAME"` `"open"`

    principal, Action::"open", resource
    Error a.cedar: `::` cannot stand here; `==`, `in`, `is`, a comma or the end of the head must stand here `::`

    action == Action::"open", principal, resource
    Error a.cedar: the head of the rule cannot be read; write `(principal, action, resource)`, in this order; whatever else must hold stands in `when { … }` `action == Action::"open"`

    principal, action == Action::"open"
    Error a.cedar: the head of the rule cannot be read; write `(principal, action, resource)`, in this order; whatever else must hold stands in `when { … }` ``

    principal, action == Action::open, resource
    Error a.cedar: `Action::open` is not the name of anything; write its kind and, in quotes, its name: `Action::"open"`, `Group::"NAME"` `Action::open`

    principal in [Group::"responders"], action == Action::"open", resource
    Error a.cedar: one thing must stand here, and a list does; write `action in […]`, or for others than the action `when { principal in […] }` `[Group::"responders"]`

    principal, action == Action::"open", resource == VM
    Error a.cedar: `VM` is not the name of anything; write its kind and, in quotes, its name: `Action::"open"`, `Group::"NAME"` `VM`

    principal in Groups::"responders", action == Action::"open", resource
    Error a.cedar: there is no kind `Groups`; did you mean `Group`? `Groups`

    principal in Network::"office", action == Action::"open", resource
    Warning a.cedar: the rule never holds, whatever is asked for; look for what excludes something else in it, or for a kind that never stands there `@id("a") @reason("x")
    permit (principal in Network::"office", action == Action::"open", resource);`

    principal in Group:"responders", action == Action::"open", resource
    Error a.cedar: `:` cannot stand here; write `::` `:`

    *, action == Action::"open", resource
    Error a.cedar: `*` cannot stand here; `principal`, `action` or `resource` must stand here `*`

    principal is Person, action == Action::"open", resource, context
    Error a.cedar: the head of the rule cannot be read; write `(principal, action, resource)`, in this order; whatever else must hold stands in `when { … }` `context`
    "#);
}

const CONDITIONS: &str = r#"when { context.prots.contains(22) }
when { context.incident.open }
when { resource.nmae == "x" }
when { principal.groups == "x" }
when { context.ports == 22 }
when { context.duration > 3600 }
when { context.duration > "2h" }
when { context.ports.contains("22") }
when { context.weekday == "monday" }
when { context.weekday == Weekday::"mon" }
when { context has incident && context.incident.severity > Severity::"low" }
when { resource.getTag("env") == "prod" }
when { resource.hasTag("environment") && resource.getTag("enviroment") == "prod" }
when { context.sources.isInRange(ip("10.0.0.0/8")) }
when { ip("10.0.0.0/33").isLoopback() }
when { duration("2 hours") < context.duration }
when { context.ports = 22 }
when { context.direct and context.direct }
when { context.direct & context.direct }
when { not context.direct }
when { resource.name == 'web' }
when { context.ports.includes(22) }
when { hours(3) < context.duration }
when { Group::"responders".contains(principal) }
when { [].contains(1) }
when { context.duration > duration(context.reason) }
when { context.reason }
when { if context.direct then 1 else "a" }
when { context.ports.contains(99999999999999999999) }
when { context.leastPort / 2 == 11 }
when { 1 < context.leastPort < 20 }
when { context.timeOfDay.hour > 7 }
when { principal in "responders" }
when { principal in responders }
when { contxt.direct }
when { context.direct == yes }
when { context.reason like context.reason }
when { resource is VMM }
when { ?principal }
when { }
when ( true )
when { context.ports in [22] }
when { "a" + "b" == "ab" }
when { context.ports.containsAny(22) }
when { context.reason == "раypal" }
when { context.reason.contains("x") }
when { resource.hasTag("environment") == "prod" }
when { context.direct === true }
when { principal in [Group::"responders" Group::"security-duty"] }
whn { true }
unless { true } && true
when { context.reason == "a\q" }
when { principal.getTag("x") == "y" }
when { context.direct | context.direct }
when { resource.name == “web” }
when { context.direct ~ context.direct }
when { resource.name == "abc }
when { context.sources.contains("203.0.113.4") }
when { context.ports.containsAny(context.sources) }
when { context has incident && context.incident == "x" }
when { context.reason.length > 3 }
when { context.leastPort == 1.5 }
when { context.duration > duration("2h" }
when { context.direct && }
when { context.weekday == Severity::"low" }"#;

const HEADS: &str = r#"principal, action == "open", resource
principal, Action::"open", resource
action == Action::"open", principal, resource
principal, action == Action::"open"
principal, action == Action::open, resource
principal in [Group::"responders"], action == Action::"open", resource
principal, action == Action::"open", resource == VM
principal in Groups::"responders", action == Action::"open", resource
principal in Network::"office", action == Action::"open", resource
principal in Group:"responders", action == Action::"open", resource
*, action == Action::"open", resource
principal is Person, action == Action::"open", resource, context"#;

#[test]
fn an_annotation_that_is_written_wrong_hides_no_other() {
    let told = |annotations: &str| {
        underlined(&format!("{annotations} permit (principal is Person, action == Action::\"open\", resource);")).join("\n")
    };
    let written = [
        "@id(a) @reason(\"x\") @max(PT2H)",
        "@id(\"a\" @reason(\"x\") @max(\"2h\")",
        "@id('a') @reson(\"x\")",
        "id(\"a\") @reason(\"x\")",
        "@id(“a”) @reason(\"x\")",
        "@id(\"a\") @reason(\"x\") @timezone(\"Berlin\") @max",
    ];
    insta::assert_snapshot!(written.map(|text| format!("{text}\n{}", told(text))).join("\n\n"), @r#"
    @id(a) @reason("x") @max(PT2H)
    Error a.cedar: `@id` has no value; write `@id("…")` `id`
    Error a.cedar: `a` cannot stand here; a text in quotes must stand here `a`
    Error a.cedar: `@max` has no value; write `@max("…")` `max`

    @id("a" @reason("x") @max("2h")
    Error a.cedar: `@` cannot stand here; `)` must stand here `@`
    Error a.cedar: `@max` cannot be read: `2h` is not an ISO 8601 duration such as PT3H or PT1H30M; write PT2H for two hours, PT30M for thirty minutes `"2h"`

    @id('a') @reson("x")
    Error a.cedar: `@id` has no value; write `@id("…")` `id`
    Error a.cedar: a text stands in double quotes; write `"…"` `'`
    Error a.cedar: `@reson` is no annotation of a rule; did you mean `reason`? `reson`

    id("a") @reason("x")
    Error a.cedar: `"a"` cannot stand here; an annotation begins with `@`: `@id("…")` `"a"`

    @id(“a”) @reason("x")
    Error a.cedar: `@id` has no value; write `@id("…")` `id`
    Error a.cedar: `“` is no quote of a rule; write `"` `“`

    @id("a") @reason("x") @timezone("Berlin") @max
    Error a.cedar: `Berlin` is no time zone; write one of the IANA names, such as `Europe/Berlin` `"Berlin"`
    Error a.cedar: `@max` has no value; write `@max("…")` `max`
    "#);
}

#[test]
fn what_stands_between_rules_is_told() {
    let rule = "@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource);";
    let written = [
        format!("# note\n{rule}"),
        format!("/* note */\n{rule}"),
        format!("{rule};"),
        format!("{rule}\nmore"),
        "{\"effect\": \"permit\"}".to_owned(),
    ];
    insta::assert_snapshot!(written.map(|text| underlined(&text).join("\n")).join("\n\n"), @r#"
    Error a.cedar: `#` means nothing in a rule; a comment begins with `//` `#`

    Error a.cedar: `/` cannot stand here; a comment begins with `//` `/`

    Error a.cedar: `;` cannot stand here; take it away `;`

    Error a.cedar: the rule ends here, and something is missing; `(` must stand here ``

    Error a.cedar: `{` cannot stand here; a rule must begin here: `@id("…")`, then `permit` or `forbid` `{`
    "#);
}

#[test]
fn what_is_no_yaml_is_told_in_words_of_ours_with_its_place() {
    let written = [
        "scenarios:\n\t- name: a\n",
        "scenarios:\n  - name: \"a\n    expect: {decision: open}\n",
        "scenarios:\n  - name: a\n    expect: {decision: open\n",
        "scenarios:\n  - name: a\n   expect: {decision: open}\n",
        "scenarios:\n  - name: a: b\n    expect: {decision: open}\n",
        "scenarios:\n  - name: @a\n",
        "scenarios:\n  - name a\n    expect: {decision: open}\n",
        "scenarios:\n  -name: a\n",
        "scenarios:\n  - {name: a, given: {ports: 22, alerts: \"3\", sources: office}, expect: {decision: open}}\n",
        "scenarios:\n  - {name: a, given: {ports: [.inf]}, expect: {decision: open}}\n",
        "scenarios:\n  - {null: a}\n",
        "scenarios:\n  - {name: a, given: {vm: {name: \"\", resourceGroup: a/b}, sources: [office]}, expect: {decision: open}}\n",
        "scenarios:\n  - {name: a, right: close, expect: {decision: open}}\n",
    ];
    let told = |text: &str| {
        let rules = "@id(\"a\") @reason(\"x\") permit (principal is Person, action == Action::\"open\", resource);";
        let files = files(rules).with("tests/a.yaml", text);
        let told = |mistake: &Mistake| {
            let (line, column) = mistake.place(&files);
            format!("{line}:{column} {mistake} `{}`", &text[mistake.span.clone()]).replace("tests/a.yaml: ", "")
        };
        scenario::check(&files).mistakes.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(written.map(told).join("\n\n"), @r#"
    2:2 a tab stands here where the line is indented; indent with blanks `-`

    2:11 a text in quotes does not end; look for the quote that is missing, from this line on `"`

    3:13 a `{` is never closed; look for the bracket that is missing `{`

    3:4 this line does not go on with what was begun before it; indent what belongs together by the same number of blanks, and look for a missing `-`, `,` or `:` `e`

    2:12 a `:` cannot stand here; put a text with `: ` in it into quotes, and look whether the line before lacks a `:` or is indented otherwise `:`

    2:11 a text without quotes cannot begin with `@`, or have it in it; put the text into quotes `@`

    3:11 a `:` cannot stand here; put a text with `: ` in it into quotes, and look whether the line before lacks a `:` or is indented otherwise `:`

    2:3 names with something under each stands here, and `scenarios` must be a list; put a blank behind the `-` ``

    2:30 a number stands here, and `ports` must be a list; write `[22]` `22`
    2:42 a text stands here, and `alerts` must be a whole number; write `3`, without quotes `"3"`
    2:56 a text stands here, and `sources` must be a list; write `[office]` `office`

    2:31 `.inf` is no number that could be used; write a whole number, or a text in quotes `.inf`

    2:6 nothing stands here for the name of a field; write its name, in quotes where it means something to YAML `null`

    2:34 `` cannot be a `name`; write a name alone, or the VM's resource id as `id` `""`
    2:53 `a/b` cannot be a `resourceGroup`; write a name alone, or the VM's resource id as `id` `a/b`
    2:69 `office` is a network of networks.yaml, and a source is an address or a range; write one of its addresses `office`

    2:48 `open` is no decision on a right; known are permit, refuse `open`
    "#);
}
