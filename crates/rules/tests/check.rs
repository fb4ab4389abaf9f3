//! What `rules check` says: every mistake at once, with its place and what to write instead.

use portcullis_rules::files::RuleFiles;
use portcullis_rules::mistake::{Colours, Weight};
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
      |
      = help: did you mean `VM`?
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
    warning: policy is impossible: the policy expression evaluates to false for all valid requests
     --> policies/a.cedar:5:1
      |
    5 | / @id("b") @reason("x")
    6 | | forbid (principal, action, resource) when { context has nothing };
      | |__________________________________________________________________^
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

#[test]
fn a_folder_without_rules_is_no_set() {
    let (set, mistakes) = Rules::check(&RuleFiles::of([("people.yaml", PEOPLE)]));
    assert!(set.is_none());
    assert_eq!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(), [": there are no rules: no file here ends in .cedar"]);
    assert!(Rules::load(&RuleFiles::default()).unwrap_err().to_string().contains("there are no rules"));
}

#[test]
fn a_file_that_was_meant_to_be_read_does_not_go_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    write("a.cedar", "@id(\"a\") @reason(\"x\") forbid (principal, action, resource);");
    for name in ["README.md", ".gitignore", "notes.txt", "a.cedar~", "tests/a.yaml", "tests/b.cedar"] {
        write(name, "");
    }
    assert_eq!(Rules::check(&RuleFiles::read(folder.path()).unwrap()).1, []);
    write("b.ceder", "");
    write("peopel.yaml", "");
    let (set, mistakes) = Rules::check(&RuleFiles::read(folder.path()).unwrap());
    assert!(set.is_none());
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "b.ceder: this file is not read, so what it says does not hold; rules are in files that end in .cedar, scenarios in tests/; move other files away",
            "peopel.yaml: this file is not read, so what it says does not hold; did you mean `people.yaml`?",
        ]
    );
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
