//! What `rules check` says: every mistake at once, with its place and what to write instead.

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
    error: unrecognized action `Action::"opne"`
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
    error: attribute `prots` in context for Action::"open" not found
     --> policies/a.cedar:4:55
      |
    4 | when { context.networks.contains(Network::"offce") && context.prots.contains(22) };
      |                                                       ^^^^^^^^^^^^^^^^^^^^^^^^^^
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
    error: invalid policy condition: wen
     --> policies/a.cedar:3:56
      |
    3 | permit (principal, action == Action::"open", resource) wen { true };
      |                                                        ^^^
      |
      = help: condition must be either `when` or `unless`
    error: `@reson` is no annotation of a rule
     --> policies/a.cedar:5:11
      |
    5 | @id("b") @reson("x")
      |           ^^^^^
      |
      = help: did you mean `reason`?
    error: the rule has no `@reason`
     --> policies/a.cedar:6:1
      |
    6 | permit (principal, action == Action::"open", resource) when { context.duration > duration("2hours") };
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: put `@reason("Why, for the people who are told")` before it
    error: error during extension function argument validation: failed to parse as a duration value: `"2hours"`
     --> policies/a.cedar:6:82
      |
    6 | permit (principal, action == Action::"open", resource) when { context.duration > duration("2hours") };
      |                                                                                  ^^^^^^^^^^^^^^^^^^
      |
      = help: valid duration strings are concatenated quantity-unit pairs with an optional leading `-`, for example `1d2h3m4s50ms`
    error: the rule lets people ask, and nobody is named who decides
     --> policies/a.cedar:9:1
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: put `@approvers("1 of GROUP")` before it
    error: unrecognized entity type `VMM`
     --> policies/a.cedar:9:57
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      |                                                         ^^^
    error: unable to guarantee safety of access to optional attribute `incident` in context for Action::"open"
     --> policies/a.cedar:9:69
      |
    9 | permit (principal, action == Action::"ask", resource is VMM) when { context.incident.open };
      |                                                                     ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: try testing for the attribute's presence with `context has incident && ..`
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
      = help: write `PT15M security-leads; PT30M ciso`
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
    error: policy is impossible: the policy expression evaluates to false for all valid requests
     --> policies/a.cedar:5:1
      |
    5 | / @id("b") @reason("x")
    6 | | forbid (principal, action, resource) when { context has nothing };
      | |__________________________________________________________________^
    error: `nothing` is no attribute of `context`, so this never holds
     --> policies/a.cedar:6:53
      |
    6 | forbid (principal, action, resource) when { context has nothing };
      |                                                     ^^^^^^^^^^^
      |
      = help: known are alerts, approvalsToday, change, direct, duration, greatestPort, incident, leastPort, networks, openToday, ports, reason, sources, timeOfDay, weekday, widestPrefix, window
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
    error: attribute `duration` in context for Action::"close" not found
     --> policies/a.cedar:3:45
      |
    3 | forbid (principal, action, resource) when { context.duration > duration("1h") };
      |                                             ^^^^^^^^^^^^^^^^
      |
      = help: closing and seeing have no such thing: name what the rule is about, `action in [Action::"open", Action::"ask", Action::"breakGlass"]`
    "#);
}

#[test]
fn what_can_never_hold_is_a_warning() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
permit (principal, action == Action::"open", resource) when { context.direct && false };
"#), @r#"
    warning: policy is impossible: the policy expression evaluates to false for all valid requests
     --> policies/a.cedar:2:1
      |
    2 | / @id("a") @reason("x")
    3 | | permit (principal, action == Action::"open", resource) when { context.direct && false };
      | |________________________________________________________________________________________^
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
        format!("@id(\"a\") @reason(\"x\") {effect} (principal, action == Action::\"open\", resource) {condition};")
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
fn whoever_asks_is_never_a_group_and_what_is_opened_never_more_than_a_machine() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x") @max("PT1H")
permit (principal == Group::"responders", action == Action::"open", resource)
unless { principal == Group::"security-duty" || ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg" != resource };
"#), @r#"
    warning: unable to find an applicable action given the policy scope constraints
     --> policies/a.cedar:2:1
      |
    2 | / @id("a") @reason("x") @max("PT1H")
    3 | | permit (principal == Group::"responders", action == Action::"open", resource)
    4 | | unless { principal == Group::"security-duty" || ResourceGroup::"5a4db0c5-0001-4000-8000-000000000001/rg" != resource };
      | |_______________________________________________________________________________________________________________________^
      |
      = help: try replacing `==` with `in` in the principal clause
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
    assert_eq!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(), [": there are no rules: no file here ends in .cedar"]);
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
    let unread = |name: &str, says: &str| {
        let why = RuleFiles::read(folder.path()).unwrap_err().to_string();
        assert!(why.contains(name) && why.contains(says), "{why}");
        let path = folder.path().join(name);
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
    };
    std::os::unix::fs::symlink("nowhere", folder.path().join("gone.cedar")).unwrap();
    unread("gone.cedar", "No such file");
    std::fs::create_dir(folder.path().join("x.cedar")).unwrap();
    unread("x.cedar", "it is no file");
    std::fs::write(folder.path().join("latin.cedar"), b"// a\n// \xe9\n").unwrap();
    unread("latin.cedar", "line 2 is not UTF-8: save the file as UTF-8");
    let none = RuleFiles::read(&folder.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("none cannot be read: "), "{none}");
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
    // Where there are no rules to test, what needs none is told all the same.
    let misspelt = |files: &RuleFiles| scenario::misspelt(files).len();
    assert_eq!(misspelt(&files), mistakes.len());
    assert_eq!(misspelt(&files.clone().with("tests/b.yaml", "scenarios: [{nme: x}]")), mistakes.len() + 2);
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
    2: 70000 is more than 65535, the most that a port can be
    2: a text stands here, and a port must be a whole number
    3: `directly` is no way; did you mean `direct`?
    5: `nme` is not known in a scenario; did you mean `name`?
    7: a text stands here, and `person` must be fields such as `id`
    8: a number stands here, and `ports` must be a list
    9: a text stands here, and `alerts` must be a whole number
    10: `hgh` is no severity; did you mean `high`?
    10: `opn` is not known in `incident`; did you mean `open`?
    10: `soon` is not an ISO 8601 duration such as PT3H or PT1H30M; write PT2H for two hours, PT30M for thirty minutes
    11: a list stands here, and `tags` must be names with something under each
    11: a list stands here, and `name` must be a text
    12: `desicion` is not known in `expect`; did you mean `decision`?
    12: a list stands here, and `rule` must be a text
    14: `name` is here twice; keep one of them
    15: `open` is no right of its own; leave `right` away: a request tries open, breakGlass and ask
    16: a text stands here, and `expect` must be fields such as `decision`
    17: a scenario needs `expect`, and this one has none
    18: a text stands here, and a scenario must be fields such as `name`
    ");
}

#[test]
fn the_names_of_machines_are_in_lower_case_in_whatever_way_a_rule_compares_them() {
    insta::assert_snapshot!(shown(r#"
@id("a") @reason("x")
forbid (principal, action, resource)
when { resource.name == "WEB-1" || "web-2" == resource.name || resource.name like "DB-*" || ["ok", "Two"].contains(resource.name) };
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
    "#);
}

#[test]
fn what_is_reached_in_an_odd_way_is_read_to_its_end() {
    let rule = |of: &str| {
        format!(
            "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) when {{ {of} has incident && 1 == context.leastPort }};"
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
        format!("@id(\"a\") @reason(\"x\") @approvers(\"1 of responders\") {more} permit (principal, action in [{actions}], resource);")
    };
    let told = underlined(&rule("Action::\"open\", Action::\"ask\"", ""));
    assert!(told.len() == 1 && told[0].starts_with("Warning") && told[0].contains("it permits `open`, too"), "{told:#?}");
    assert_eq!(underlined(&rule("Action::\"ask\"", "")), Vec::<String>::new());
    for more in ["@expire(\"PT0S\")", "@escalate(\"PT0S responders\")"] {
        assert!(underlined(&rule("Action::\"ask\"", more))[0].starts_with("Error"), "{more}");
    }
}
