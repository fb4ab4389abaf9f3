//! What sets decide: order, caps, forbids, time zones, limits, and the nearest miss.

use std::collections::BTreeSet;

use portcullis_domain::source::Sources;
use portcullis_rules::action::Action;
use portcullis_rules::decision::{Decision, Lack, Outcome, Refusal};
use portcullis_rules::explain;
use portcullis_rules::files::RuleFiles;
use portcullis_rules::replay;
use portcullis_rules::scenario::{Subject, read_request};
use portcullis_rules::set::{Rules, SCHEMA_TEXT};
use portcullis_rules::wish::{Groups, Incident, IncidentSeverity, ManagementGroups, NamedIncident, SeenIncident, Way, Who, Wish};
use proptest::prelude::*;

const PEOPLE: &str =
    "groups:\n  a: {members: [aaaaaaaa-0000-4000-8000-000000000001]}\n  b: {entra: bbbbbbbb-0000-4000-8000-00000000000b}\n";
const NETWORKS: &str = "networks:\n  office: [198.51.100.0/24]\n";

fn rules(text: &str) -> Rules {
    let files = RuleFiles::of([("a.cedar", text), ("people.yaml", PEOPLE), ("networks.yaml", NETWORKS)]);
    Rules::load(&files).unwrap_or_else(|why| panic!("{why}"))
}

fn wish(rules: &Rules, given: &str) -> Wish {
    read_request("request.yaml", given, Subject::Opening, rules).unwrap_or_else(|why| panic!("{why:?}"))
}

fn decide(text: &str, given: &str) -> Decision {
    let rules = rules(text);
    rules.decide(&wish(&rules, given))
}

fn told(decision: &Decision) -> String {
    format!("{} {}", decision.outcome.text(), decision.outcome.rule().map_or("-", |rule| rule.id.as_str()))
}

fn permit(id: &str, more: &str, action: &str) -> String {
    format!("@id(\"{id}\") @reason(\"why {id}\") {more} permit (principal, action == Action::\"{action}\", resource);\n")
}

const SOMEBODY: &str = "sources: [198.51.100.7]\n";

#[test]
fn of_several_permits_the_one_without_people_then_the_fewest_then_the_smallest_cap_then_the_id_decides() {
    let two = permit("two", "@approvers(\"2 of a\") @max(\"PT1H\")", "ask");
    let one = permit("one", "@approvers(\"1 of a\") @max(\"PT4H\")", "ask");
    let other = permit("another-one", "@approvers(\"1 of a\") @max(\"PT4H\")", "ask");
    let short = permit("short", "@max(\"PT2H\")", "open");
    let long = permit("long", "@max(\"PT3H\")", "open");
    let no_cap = permit("a-cap-of-a-day", "", "open");
    let mut all = vec![&two];
    for (next, decides, cap) in [
        (&one, "ask one", 4 * 3600),
        (&other, "ask another-one", 4 * 3600),
        (&no_cap, "open a-cap-of-a-day", 24 * 3600),
        (&long, "open long", 3 * 3600),
        (&short, "open short", 2 * 3600),
    ] {
        all.push(next);
        let text: String = all.iter().map(|rule| rule.as_str()).collect();
        let decision = decide(&text, SOMEBODY);
        assert_eq!((told(&decision).as_str(), decision.outcome.cap_seconds()), (decides, Some(cap)));
    }
}

#[test]
fn a_permit_whose_cap_is_below_what_is_asked_does_not_match() {
    let text = permit("short", "@max(\"PT1H\")", "open") + &permit("long", "@max(\"PT4H\")", "open");
    for (duration, decides) in [("PT1H", "open short"), ("PT1H1S", "open long"), ("PT4H", "open long"), ("PT4H1S", "refuse -")] {
        let decision = decide(&text, &format!("{SOMEBODY}duration: {duration}\n"));
        assert_eq!(told(&decision), decides, "{duration}");
    }
    let miss = decide(&text, &format!("{SOMEBODY}duration: PT5H\n")).nearest.unwrap();
    assert_eq!((miss.rule.id.as_str(), miss.lacks), ("long", vec![Lack::Max { seconds: 4 * 3600 }]));
}

#[test]
fn a_forbid_beats_every_permit_of_its_action_and_no_other() {
    let permits = permit("open", "", "open") + &permit("ask", "@approvers(\"1 of a\")", "ask") + &permit("glass", "", "breakGlass");
    let forbid = |actions: &str| format!("{permits}@id(\"no\") @reason(\"not today\") forbid (principal, {actions}, resource);");
    for (actions, asked, glass) in [
        ("action == Action::\"open\"", "ask ask", "breakGlass glass"),
        ("action in [Action::\"open\", Action::\"breakGlass\"]", "ask ask", "ask ask"),
        ("action", "refuse no", "refuse no"),
        ("action == Action::\"ask\"", "open open", "open open"),
    ] {
        let decision = decide(&forbid(actions), SOMEBODY);
        assert_eq!(told(&decision), asked, "{actions}");
        assert_eq!(told(&decide(&forbid(actions), &format!("{SOMEBODY}way: breaksGlass\n"))), glass, "{actions}");
        assert_eq!(told(&decide(&forbid(actions), &format!("{SOMEBODY}way: direct\n"))), glass, "{actions}");
    }
    let decision = decide(&forbid("action == Action::\"open\""), SOMEBODY);
    assert_eq!(decision.forbade.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["no"]);
    let miss = decision.nearest.unwrap();
    assert_eq!((miss.rule.id.as_str(), miss.lacks), ("open", vec![]));
}

#[test]
fn a_forbid_of_one_time_zone_beats_a_permit_of_another() {
    let text = permit("open", "@timezone(\"America/New_York\")", "open")
        + "@id(\"night\") @reason(\"x\") @timezone(\"Europe/Berlin\") forbid (principal, action == Action::\"open\", resource) when { context.timeOfDay < duration(\"6h\") };";
    for (at, decides) in
        [("2026-01-15T04:59:59Z", "refuse night"), ("2026-01-15T05:00:00Z", "open open"), ("2026-07-15T04:00:00Z", "open open")]
    {
        assert_eq!(told(&decide(&text, &format!("{SOMEBODY}at: {at}\n"))), decides, "{at}");
    }
}

#[test]
fn a_day_is_that_of_the_rules_time_zone() {
    let text = "@id(\"weekend\") @reason(\"x\") @timezone(\"Pacific/Auckland\") permit (principal, action == Action::\"open\", resource) when { [Weekday::\"saturday\", Weekday::\"sunday\"].contains(context.weekday) };";
    // Noon in UTC is the next day's beginning in Auckland.
    for (at, decides) in [
        ("2026-01-16T10:59:59Z", "refuse -"),
        ("2026-01-16T11:00:00Z", "open weekend"),
        ("2026-01-18T10:59:59Z", "open weekend"),
        ("2026-01-18T11:00:00Z", "refuse -"),
    ] {
        assert_eq!(told(&decide(text, &format!("{SOMEBODY}at: {at}\n"))), decides, "{at}");
    }
}

#[test]
fn each_hard_limit_holds_against_a_rule_that_permits_everything() {
    let everything = permit("all", "", "open") + &permit("asked", "@approvers(\"1 of a\")", "ask") + &permit("glass", "", "breakGlass");
    for (given, says) in [
        ("sources: []", "name the addresses to open for"),
        ("sources: [\"*\"]", "amount to the whole internet"),
        ("sources: [\"0.0.0.0/0\"]", "amount to the whole internet"),
        ("sources: [Internet]", "amount to the whole internet"),
        ("sources: [0.0.0.0/2, 128.0.0.0/2]", "amount to the whole internet"),
        ("sources: [AzureCloud]", "are no addresses"),
        ("sources: [198.51.100.7]\nduration: PT4M59S", "is shorter than the 5 min"),
        ("sources: [198.51.100.7]\nduration: PT24H1S", "is longer than the 24 h"),
        ("sources: [198.51.100.7]\nduration: PT3H\njitLongest: PT2H", "is longer than the 2 h"),
        ("sources: [198.51.100.7]\nports: []", "no port is named"),
    ] {
        for way in ["asked", "breaksGlass", "direct"] {
            let decision = decide(&everything, &format!("{given}\nway: {way}\n"));
            let Outcome::Refuse(Refusal::Limits { broken }) = &decision.outcome else { panic!("{given} {way}: {:?}", decision.outcome) };
            assert!(broken.iter().any(|sentence| sentence.contains(says)), "{broken:?}");
        }
    }
    assert_eq!(told(&decide(&everything, SOMEBODY)), "open all");
}

#[test]
fn nobody_decides_on_their_own_request_whatever_the_rules_permit() {
    let rules = rules(&permit("all", "", "approve"));
    let asked = |given: &str| {
        let subject = Subject::Right(Action::Approve);
        let wish = read_request("request.yaml", given, subject, &rules).unwrap_or_else(|why| panic!("{why:?}"));
        rules.may(Action::Approve, &wish).sentence()
    };
    let me = "aaaaaaaa-0000-4000-8000-000000000001";
    let of = |asker: &str| format!("{SOMEBODY}person: {{id: {me}}}\nasker: {asker}\n");
    assert_eq!(asked(&of("bbbbbbbb-0000-4000-8000-000000000002")), "rule all permits it: why all");
    for own in [me.to_owned(), me.to_uppercase()] {
        assert_eq!(asked(&of(&own)), "nobody decides on their own request");
    }
    // Nor on what is nobody's, as far as anybody knows, nor somebody whom nobody knows.
    let mut wish = wish(&rules, &format!("{SOMEBODY}person: {{id: {me}}}\n"));
    assert_eq!(rules.may(Action::Approve, &wish).sentence(), "nobody knows whose request it is");
    wish.who = Who::Unknown;
    assert_eq!(rules.may(Action::Approve, &wish).sentence(), "nobody knows who wants to decide");
}

#[test]
fn a_refusal_tells_what_is_forbidden_and_what_is_merely_permitted_by_nobody() {
    let forbid = |id: &str, action: &str| {
        format!("@id(\"{id}\") @reason(\"why {id}\") forbid (principal, action == Action::\"{action}\", resource);\n")
    };
    let text = permit("open", "", "open") + &forbid("shut", "open");
    let decision = decide(&text, SOMEBODY);
    assert_eq!(told(&decision), "refuse shut");
    assert_eq!(decision.outcome.sentence(), "rule shut forbids it: why shut; no rule permits asking for it");
    let direct = decide(&text, &format!("{SOMEBODY}way: direct\n"));
    assert_eq!(direct.outcome.sentence(), "rule shut forbids it: why shut; no rule permits breaking the glass or asking for it");
    let both = decide(&(forbid("shut", "open") + &forbid("still", "ask")), SOMEBODY);
    assert_eq!(both.outcome.sentence(), "rule shut forbids it: why shut; rule still forbids it: why still");
    // As it was stored before anything was said of the rest.
    let mut stored = serde_json::to_value(&decision).unwrap();
    assert_eq!(serde_json::from_value::<Decision>(stored.clone()).unwrap(), decision);
    assert_eq!(stored["outcome"].as_object_mut().unwrap().remove("unpermitted"), Some(serde_json::json!(["ask"])));
    let read: Decision = serde_json::from_value(stored).unwrap();
    assert_eq!(read.outcome.sentence(), "rule shut forbids it: why shut");
}

#[test]
fn decisions_are_read_as_the_api_answers_them() {
    let decision = decide(&permit("all", "", "open"), SOMEBODY);
    let page = serde_json::json!({"items": [{"decision": decision}, {"kind": "close"}], "next": null});
    let read = replay::read(&page.to_string());
    assert_eq!((read.decisions.len(), read.without, read.unreadable.len()), (1, 1, 0));
    let pretty = replay::read(&serde_json::to_string_pretty(&page).unwrap());
    assert_eq!((pretty.decisions.len(), pretty.unreadable.len()), (1, 0));
    let one = replay::read(&serde_json::to_string_pretty(&decision).unwrap());
    assert_eq!((one.decisions.len(), one.unreadable.len()), (1, 0));
    let other = replay::read("{\"foo\": 1}");
    assert_eq!((other.without, other.unreadable[0].why.as_str()), (0, "it is no decision: `outcome` is missing"));
    let mut past = serde_json::to_value(&decision).unwrap();
    past["wish"]["seconds"] = serde_json::json!(-1);
    assert_eq!(replay::read(&past.to_string()).unreadable[0].why, "it is no decision: `seconds` is less than no time");
}

#[test]
fn a_rule_that_cannot_be_worked_out_refuses() {
    // The sum overflows, which no check can foresee.
    let text = permit("open", "", "open")
        + "@id(\"odd\") @reason(\"x\") forbid (principal, action == Action::\"open\", resource) when { context.approvalsToday + 9223372036854775807 < 0 };";
    assert_eq!(told(&decide(&text, SOMEBODY)), "open open");
    let decision = decide(&text, &format!("{SOMEBODY}approvalsToday: 1\n"));
    let Outcome::Refuse(Refusal::Erred { rule, why }) = &decision.outcome else { panic!("{:?}", decision.outcome) };
    assert!(rule.id == "odd" && why.contains("overflow"), "{why}");
}

#[test]
fn nothing_is_decided_while_a_group_that_a_rule_may_ask_for_is_not_known() {
    let text = "@id(\"b\") @reason(\"x\") permit (principal in Group::\"b\", action == Action::\"open\", resource);";
    let rules = rules(text);
    let mut wish = wish(&rules, SOMEBODY);
    let mut decided = |groups: Groups| {
        wish.who = Who::Person { id: "aaaaaaaa-0000-4000-8000-000000000001".to_owned(), groups };
        told(&rules.decide(&wish))
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(decided(Groups::Known { of: set(&["b"]), not_of: set(&[]) }), "open b");
    assert_eq!(decided(Groups::Known { of: set(&[]), not_of: set(&["b"]) }), "refuse -");
    assert_eq!(decided(Groups::Known { of: set(&[]), not_of: set(&[]) }), "undecided -");
    assert_eq!(decided(Groups::Unreachable { why: "Graph is down".to_owned() }), "undecided -");
    wish.sources = Sources::internet();
    assert_eq!(told(&rules.decide(&wish)), "refuse -");
}

#[test]
fn groups_that_are_listed_need_nobody_to_answer() {
    let files = RuleFiles::of([
        ("a.cedar", "@id(\"a\") @reason(\"x\") permit (principal in Group::\"a\", action == Action::\"open\", resource);"),
        ("people.yaml", "groups:\n  a: {members: [aaaaaaaa-0000-4000-8000-000000000001]}\n"),
    ]);
    let rules = Rules::load(&files).unwrap();
    let mut wish = wish(&rules, SOMEBODY);
    let id = "AAAAAAAA-0000-4000-8000-000000000001".to_lowercase();
    wish.who = Who::Person { id, groups: Groups::Unreachable { why: "not granted".to_owned() } };
    assert_eq!(told(&rules.decide(&wish)), "open a");
    wish.who = Who::Unknown;
    assert_eq!(told(&rules.decide(&wish)), "refuse -");
}

#[test]
fn a_group_of_entra_that_no_rule_names_keeps_nothing_from_being_decided() {
    let files = RuleFiles::of([
        ("a.cedar", "@id(\"a\") @reason(\"x\") permit (principal in Group::\"a\", action == Action::\"open\", resource);"),
        (
            "people.yaml",
            "groups:\n  a: {members: [aaaaaaaa-0000-4000-8000-000000000001]}\n  b: {entra: bbbbbbbb-0000-4000-8000-000000000002}\n",
        ),
    ]);
    let rules = Rules::load(&files).unwrap();
    let mut wish = wish(&rules, SOMEBODY);
    for groups in [Groups::Unreachable { why: "Graph is down".to_owned() }, Groups::Known { of: BTreeSet::new(), not_of: BTreeSet::new() }]
    {
        wish.who = Who::Person { id: "aaaaaaaa-0000-4000-8000-000000000001".to_owned(), groups };
        assert_eq!(told(&rules.decide(&wish)), "open a");
    }
}

#[test]
fn machines_are_met_by_everything_above_them_and_by_their_tags() {
    let vm = "vm: {name: Web-1, resourceGroup: RG-Web, subscription: 5A4DB0C5-0001-4000-8000-000000000001, managementGroups: [Landing-Zones], tags: {Environment: Development}}\n";
    for (scope, condition, matches) in [
        ("resource == VM::\"5a4db0c5-0001-4000-8000-000000000001/rg-web/web-1\"", "true", true),
        ("resource in ResourceGroup::\"5a4db0c5-0001-4000-8000-000000000001/rg-web\"", "true", true),
        ("resource in Subscription::\"5a4db0c5-0001-4000-8000-000000000001\"", "true", true),
        ("resource in ManagementGroup::\"landing-zones\"", "true", true),
        ("resource in ManagementGroup::\"sandboxes\"", "true", false),
        ("resource", "resource.name like \"web-*\"", true),
        ("resource", "resource.hasTag(\"environment\") && resource.getTag(\"environment\") == \"Development\"", true),
        ("resource", "resource.hasTag(\"environment\") && resource.getTag(\"environment\") == \"development\"", false),
    ] {
        let text = format!("@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", {scope}) when {{ {condition} }};");
        let decision = decide(&text, &format!("{vm}{SOMEBODY}"));
        assert_eq!(told(&decision), if matches { "open a" } else { "refuse -" }, "{scope} {condition}");
    }
}

#[test]
fn nothing_is_decided_while_management_groups_that_a_rule_names_are_not_known() {
    let named = [
        "permit (principal, action == Action::\"open\", resource in ManagementGroup::\"prod\");",
        "permit (principal, action == Action::\"open\", resource) unless { resource in ManagementGroup::\"prod\" };",
    ];
    let unnamed = "permit (principal, action == Action::\"open\", resource);";
    for (rule, names, unknown) in [(named[0], true, "undecided -"), (named[1], true, "undecided -"), (unnamed, false, "open a")] {
        let rules = rules(&format!("@id(\"a\") @reason(\"x\") {rule}"));
        let mut wish = wish(&rules, SOMEBODY);
        wish.vm.management_groups = ManagementGroups::Unreachable { why: "Azure does not say".to_owned() };
        assert_eq!((rules.name_management_groups(), told(&rules.decide(&wish)).as_str()), (names, unknown), "{rule}");
        assert!(explain::decision(&rules, &rules.decide(&wish), "").contains("not known (Azure does not say)"));
        wish.sources = Sources::internet();
        assert_eq!(told(&rules.decide(&wish)), "refuse -");
    }
}

#[test]
fn no_ipv6_address_is_let_in_whatever_a_rule_says() {
    let all = permit("all", "", "open");
    for sources in ["2001:db8::1", "2400::/12, 2600::/12, 2800::/12, 2a00::/12", "198.51.100.7, 2001:db8::/64"] {
        let decision = decide(&all, &format!("sources: [\"{}\"]\n", sources.replace(", ", "\", \"")));
        assert!(
            decision.outcome.sentence().contains("IPv6 addresses, which JIT does not take"),
            "{sources}: {}",
            decision.outcome.sentence()
        );
    }
}

#[test]
fn every_fact_reaches_the_rules() {
    let given = "sources: [198.51.100.0/28, 203.0.113.4]\nports: [22, 3389]\nduration: PT90M\nway: direct\nreason: INC-7\nalerts: 3\nwindow: patch\nchange: CHG-1\napprovalsToday: 4\nopenToday: PT5H\nincident: {open: false, severity: low, owner: AAAAAAAA-0000-4000-8000-000000000001, namesThisVm: false, age: PT2H}\n";
    for condition in [
        "context.ports.containsAll([22, 3389]) && ![22].containsAll(context.ports)",
        "context.leastPort == 22 && context.greatestPort == 3389",
        "context.sources == [ip(\"198.51.100.0/28\"), ip(\"203.0.113.4\")]",
        "context.widestPrefix == 28 && context.networks.isEmpty()",
        "context.duration == duration(\"1h30m\")",
        "context.direct && context.reason == \"INC-7\"",
        "context.approvalsToday == 4 && context.openToday == duration(\"5h\")",
        "context has alerts && context.alerts == 3",
        "context has window && context.window == \"patch\" && context has change && context.change == \"CHG-1\"",
        "context has incident && !context.incident.open && context.incident.severity == Severity::\"low\"",
        "context has incident && !context.incident.namesThisVm && context.incident.age == duration(\"2h\")",
        "context has incident && context.incident has owner && context.incident.owner == Person::\"aaaaaaaa-0000-4000-8000-000000000001\"",
        "context.weekday == Weekday::\"thursday\" && context.timeOfDay == duration(\"12h\")",
    ] {
        let text = format!("@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) when {{ {condition} }};");
        assert_eq!(told(&decide(&text, given)), "open a", "{condition}");
    }
    let bare = "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"open\", resource) unless { context has incident || context has alerts || context has window || context has change };";
    assert_eq!(told(&decide(bare, SOMEBODY)), "open a");
}

#[test]
fn what_is_said_of_an_incident_follows_the_decision_and_one_that_cannot_be_read_is_undecided_where_a_rule_asks() {
    let asks = r#"@id("a") @reason("x") permit (principal, action == Action::"open", resource) when { context has incident && context.incident.open };"#;
    let rest = r#"@id("a") @reason("incident") permit (principal, action == Action::"open", resource);"#;
    let escaped = asks.replace("context has incident", "context has \"\\u{69}ncident\"");
    let asks_no_less = r#"@id("a") @reason("x") permit (principal, action == Action::"open", resource) unless { context has incident };"#;
    for (text, asked) in [(asks, true), (escaped.as_str(), true), (asks_no_less, true), (rest, false)] {
        assert_eq!(rules(text).ask_for_incidents(), asked, "{text}");
    }
    let seen = |text: &str, seen: SeenIncident| {
        let rules = rules(text);
        let incident = Some(NamedIncident { name: "7".to_owned(), seen });
        let decision = rules.decide(&Wish { incident, ..wish(&rules, SOMEBODY) });
        (told(&decision), decision.sentence(), explain::decision(&rules, &decision, ""))
    };
    let known =
        |open| SeenIncident::Known(Incident { open, severity: IncidentSeverity::Low, owner: None, names_this_vm: false, age_seconds: 60 });
    let absent = || SeenIncident::Absent { why: "incident 7 was not found".to_owned() };
    let unreachable = || SeenIncident::Unreachable { why: "it does not answer".to_owned() };
    for (text, incident, decided, says, fact) in [
        (asks, known(true), "open a", "; incident 7 is open, severity low, does not name this machine, 1 min old", "7: open, severity low"),
        (asks, known(false), "refuse -", "does not hold; incident 7 is closed, severity low", "7: closed"),
        (asks, absent(), "refuse -", "does not hold; incident 7 was not found", "7: not seen by rules"),
        (asks, unreachable(), "undecided", "could not be decided: incident 7 could not be read: it does not answer", "7: not known"),
        (asks_no_less, unreachable(), "undecided", "could not be decided", "7: not known"),
        (rest, unreachable(), "open a", "; incident 7 could not be read: it does not answer", "7: not known"),
        (rest, SeenIncident::NotAsked, "open a", "; incident 7 was not read, since no rule asks for one", "7: not read"),
    ] {
        let (seen, sentence, explained) = seen(text, incident);
        assert!(seen.starts_with(decided) && sentence.contains(says) && explained.contains(fact), "{seen}: {sentence}\n{explained}");
    }
    let scenario = "incident: {unreachable: true}\n";
    assert!(told(&decide(asks, &format!("{SOMEBODY}{scenario}"))).starts_with("undecided"));
}

#[test]
fn the_nearest_miss_is_told_in_the_rules_own_words() {
    let text = r#"@id("far") @reason("x") permit (principal in Group::"a", action == Action::"open", resource) when { context.ports.contains(22) };
@id("near") @reason("x") permit (principal, action == Action::"open", resource is VM)
when { context.ports.contains(22) && context.networks.contains(Network::"office") }
unless { context.approvalsToday > 3 || context.direct };"#;
    let miss = |given: &str| {
        let miss = decide(text, given).nearest.unwrap();
        (miss.rule.id, miss.lacks.iter().map(Lack::sentence).collect::<Vec<_>>().join("; "))
    };
    assert_eq!(
        miss("sources: [192.0.2.1]\nway: direct\n"),
        ("near".to_owned(), "`context.networks.contains(Network::\"office\")` does not hold; `context.direct` holds".to_owned())
    );
    assert_eq!(
        miss("sources: [198.51.100.7]\nports: [80]\n"),
        ("near".to_owned(), "`context.ports.contains(22)` does not hold".to_owned())
    );
    let foreign = r#"@id("far") @reason("x") permit (principal in Group::"a", action == Action::"open", resource);"#;
    assert_eq!(decide(foreign, SOMEBODY).nearest.unwrap().lacks[0].sentence(), "this person is not one of `principal in Group::\"a\"`");
    let elsewhere = r#"@id("far") @reason("x") permit (principal, action == Action::"open", resource in ManagementGroup::"x");"#;
    assert_eq!(
        decide(elsewhere, SOMEBODY).nearest.unwrap().lacks[0].sentence(),
        "this machine is not one of `resource in ManagementGroup::\"x\"`"
    );
    assert_eq!(decide("@id(\"a\") @reason(\"x\") forbid (principal, action, resource);", SOMEBODY).nearest, None);
}

#[test]
fn a_decision_is_stored_and_read_again_and_decides_the_same() {
    let text = permit("ask", "@approvers(\"2 of a\") @escalate(\"PT15M b\") @expire(\"PT4H\")", "ask")
        + &permit("short", "@max(\"PT30M\")", "open");
    let rules = rules(&text);
    let decision = rules.decide(&wish(&rules, "sources: [198.51.100.7]\nincident: {}\n"));
    let stored = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&stored).unwrap(), decision);
    let lines = format!("{stored}\n\n{{\"kind\": \"close\"}}\n{{\"decision\": {stored}}}\n{{\"decision\": null}}\n");
    let read = replay::read(&format!("\u{feff}{lines}"));
    let at = |line| replay::Stored { line, decision: decision.clone() };
    assert_eq!((read.decisions.as_slice(), read.without, read.unreadable.as_slice()), ([at(1), at(4)].as_slice(), 2, [].as_slice()));
    assert_eq!(replay::read(&format!("[{stored}]")).decisions, [at(1)]);
    let same = replay::replay(&rules, read.decisions);
    assert_eq!((same.decisions, same.differences.len()), (2, 0));
    let outcome = stored.replace("\"outcome\"", "\"outcom\"");
    for (text, told) in [
        (
            "{}\nx\ny\n",
            "1 it is no decision: `outcome` is missing; 2 it is not JSON: expected value, at character 1; 3 it is not JSON: expected value, at character 1",
        ),
        ("[{]", "1 it is not a JSON list: key must be a string, at character 3"),
        ("{\"decision\": {}}", "1 it is no decision: `outcome` is missing"),
        (
            "[1, {\"outcome\": 1}]",
            "1 it is no decision: `1` stands where an object with its fields must stand; 2 it is no decision: `1` stands where an object with its fields must stand",
        ),
        (outcome.as_str(), "1 it is no decision: `outcome` is missing"),
    ] {
        let unreadable = replay::read(text).unreadable;
        let said: Vec<String> = unreadable.iter().map(|one| format!("{} {}", one.line, one.why)).collect();
        assert_eq!(said.join("; "), told, "{text}");
    }
    // A number that no time can be decides as any other that is too long.
    let endless = stored.replace("\"seconds\":3600", &format!("\"seconds\":{}", i64::MAX));
    assert_ne!(endless, stored);
    let replayed = replay::replay(&rules, replay::read(&endless).decisions);
    assert!(replayed.differences[0].after.outcome.sentence().contains("longer than"), "{:?}", replayed.differences);
}

#[test]
fn a_replay_names_what_differs_where_the_same_is_decided_by_the_same_rule() {
    let ask = |approvers: &str, expire: &str, max: &str| {
        format!(
            "@id(\"ask\") @reason(\"x\") @approvers(\"{approvers}\") @escalate(\"PT5M b\") @expire(\"{expire}\") @max(\"{max}\") permit (principal, action == Action::\"ask\", resource);"
        )
    };
    let before = rules(&ask("1 of a", "PT4H", "PT2H"));
    let stored = replay::Stored { line: 7, decision: before.decide(&wish(&before, SOMEBODY)) };
    let told = |text: &str| {
        replay::replay(&rules(text), vec![stored.clone()]).differences.iter().map(replay::Difference::sentence).collect::<String>()
    };
    assert_eq!(told(&ask("1 of a", "PT4H", "PT2H")), "");
    for (text, says) in [
        (ask("2 of a", "PT4H", "PT2H"), "people decide: 1 of a -> 2 of a"),
        (ask("1 of a", "PT1H", "PT2H"), "over after: 4 h -> 1 h"),
        (ask("1 of a", "PT4H", "PT3H"), "at most: 2 h -> 3 h"),
        (ask("1 of a", "PT4H", "PT2H").replace("PT5M b", "PT6M a"), "asked besides: b after 5 min -> a after 6 min"),
    ] {
        let sentence = told(&text);
        assert!(sentence.starts_with("line 7: ") && sentence.ends_with(says), "{sentence}");
    }
}

#[test]
fn what_is_not_there_is_lacking_once() {
    let text = r#"@id("incident") @reason("x") permit (principal, action == Action::"open", resource)
when { context has incident && context.incident.open && context.incident.namesThisVm && context.ports.contains(22) };
@id("two") @reason("x") permit (principal, action == Action::"open", resource) when { context.direct && context.leastPort == 1 };"#;
    let miss = decide(text, SOMEBODY).nearest.unwrap();
    assert_eq!((miss.rule.id.as_str(), miss.lacks.len()), ("incident", 1));
    assert_eq!(miss.lacks[0].sentence(), "`context has incident` does not hold");
}

#[test]
fn a_replay_tells_what_another_set_decides_and_why() {
    let before = rules(&permit("all", "@max(\"PT4H\")", "open"));
    let office = "@id(\"all\") @reason(\"why all\") @max(\"PT4H\") permit (principal, action == Action::\"open\", resource) when { context.networks.contains(Network::\"office\") };";
    let after = rules(office);
    let decided = |source: &str| before.decide(&wish(&before, &format!("sources: [{source}]\n")));
    let sources = ["198.51.100.7", "192.0.2.1"].into_iter().zip(1..);
    let decisions: Vec<replay::Stored> = sources.map(|(source, line)| replay::Stored { line, decision: decided(source) }).collect();
    let replayed = replay::replay(&after, decisions.clone());
    assert_eq!((replayed.decisions, replayed.differences.len()), (2, 1));
    insta::assert_snapshot!(replayed.differences[0].sentence(), @r#"
    line 2: 2026-01-15T12:00:00Z, 00000000-0000-4000-8000-00000000000a wants port 22 of vm from 192.0.2.1 for 1 h
      was  open: rule all permits it, for 4 h at most: why all
      now  refuse: no rule permits it
           all permits open, but `context.networks.contains(Network::"office")` does not hold
    "#);
    // Another reason is no difference, another cap is.
    let reworded = rules(&permit("all", "@max(\"PT4H\")", "open").replace("why all", "because"));
    assert_eq!(replay::replay(&reworded, decisions.clone()).differences, []);
    let shorter = rules(&permit("all", "@max(\"PT3H\")", "open"));
    assert_eq!(replay::replay(&shorter, decisions).differences.len(), 2);
}

#[test]
fn a_decision_is_explained_to_a_person() {
    let text = r#"@id("office-hours")
@reason("Everybody works in the office")
@timezone("Europe/Berlin")
permit (principal, action == Action::"open", resource)
when { context.networks.contains(Network::"office") };

@id("not-at-night")
@reason("At night nobody works")
@timezone("Europe/Berlin")
forbid (principal, action == Action::"open", resource)
when { context.timeOfDay < duration("6h") };

@id("ask")
@reason("Ask a")
@approvers("2 of a")
permit (principal, action == Action::"ask", resource);
"#;
    let rules = rules(text);
    let explained = |given: &str| explain::decision(&rules, &rules.decide(&wish(&rules, given)), "policies/");
    let all = [
        explained("sources: [198.51.100.7]\nvm: {name: web-1, tags: {environment: development}}\nreason: deploy\n"),
        explained("sources: [198.51.100.7, 192.0.2.1]\nat: 2026-01-15T02:00:00Z\nincident: {}\nway: direct\njitLongest: PT3H\n"),
        explained("sources: [\"*\"]\nperson: {unknown: true}\n"),
    ];
    insta::assert_snapshot!(all.join("----\n"), @r#"
    open: rule office-hours permits it, for 24 h at most: Everybody works in the office

    The rule that decided: office-hours in policies/a.cedar, line 1
        @id("office-hours")
        @reason("Everybody works in the office")
        @timezone("Europe/Berlin")
        permit (principal, action == Action::"open", resource)
        when { context.networks.contains(Network::"office") };

    The facts
      who        00000000-0000-4000-8000-00000000000a, in no group that the rules name
      machine    web-1 of rg, subscription 00000000-0000-4000-8000-000000000001, below no management
                 group that is known, tags environment = development
      ports      22
      sources    198.51.100.7, in office
      duration   1 h
      at         2026-01-15T12:00:00Z (Thursday), Thursday 13:00 in Europe/Berlin
      way        asked of Portcullis
      reason     deploy
      incident   none
      today      0 approvals without a person, machine open for 0 s

    Rule set caee095c110ab368
    ----
    people decide: rule ask leaves it to 2 people of a: Ask a

    The rule that decided: ask in policies/a.cedar, line 13
        @id("ask")
        @reason("Ask a")
        @approvers("2 of a")
        permit (principal, action == Action::"ask", resource);

    What forbade more: not-at-night in policies/a.cedar, line 7
        @id("not-at-night")
        @reason("At night nobody works")
        @timezone("Europe/Berlin")
        forbid (principal, action == Action::"open", resource)
        when { context.timeOfDay < duration("6h") };

    The nearest miss: office-hours in policies/a.cedar, line 1 permits open, but
      - `context.networks.contains(Network::"office")` does not hold

    The facts
      who        00000000-0000-4000-8000-00000000000a, in no group that the rules name
      machine    vm of rg, subscription 00000000-0000-4000-8000-000000000001, below no management group
                 that is known, no tags
      ports      22
      sources    192.0.2.1, 198.51.100.7, in no network that the rules know
      duration   1 h, where JIT allows 3 h
      at         2026-01-15T02:00:00Z (Thursday), Thursday 03:00 in Europe/Berlin
      way        opened around Portcullis
      reason     none given
      incident   open, severity high, names this machine, 10 min old
      today      0 approvals without a person, machine open for 0 s

    Rule set caee095c110ab368
    ----
    refused: no rule can permit it: the sources * amount to the whole internet: name the addresses
      that need access

    The facts
      who        nobody knows
      machine    vm of rg, subscription 00000000-0000-4000-8000-000000000001, below no management group
                 that is known, no tags
      ports      22
      sources    *, in no network that the rules know
      duration   1 h
      at         2026-01-15T12:00:00Z (Thursday), Thursday 13:00 in Europe/Berlin
      way        asked of Portcullis
      reason     none given
      incident   none
      today      0 approvals without a person, machine open for 0 s

    Rule set caee095c110ab368
    "#);
}

proptest! {
    /// A rule matches if and only if it lacks nothing: what the parts say together is what Cedar says of the whole.
    #[test]
    fn a_permit_matches_exactly_when_it_lacks_nothing(
        conditions in proptest::collection::vec((any::<bool>(), condition()), 0..4),
        principal in principal(),
        resource in resource(),
        timezone in prop_oneof![Just(""), Just("@timezone(\"Asia/Tokyo\") ")],
        port in 20u16..24,
        direct in any::<bool>(),
        office in any::<bool>(),
        approvals in 0u32..4,
    ) {
        let conditions: Vec<String> =
            conditions.iter().map(|(when, text)| format!("{} {{ {text} }}", if *when { "when" } else { "unless" })).collect();
        let head = format!("permit ({principal}, action == Action::\"open\", {resource})");
        let text = format!("@id(\"a\") @reason(\"x\") {timezone}{head} {};", conditions.join(" "));
        let rules = rules(&text);
        let source = if office { "198.51.100.7" } else { "192.0.2.1" };
        let way = if direct { Way::Direct } else { Way::Asked };
        let person = "person: {id: 00000000-0000-4000-8000-00000000000a, groups: [a]}";
        let mut wish = wish(&rules, &format!("{person}\nsources: [{source}]\nports: [{port}]\napprovalsToday: {approvals}\n"));
        wish.way = way;
        let decision = rules.decide(&wish);
        let lacks = &rules.lacks(&wish, None)[0].1;
        prop_assert_eq!(lacks.is_empty(), told(&decision) == "open a", "{} {:?}", text, lacks);
    }
}

/// What fits the schema for one of them is not checked again for the others.
#[test]
fn the_schema_asks_the_same_of_the_three_ways_to_open() {
    let asks = |action: &str| SCHEMA_TEXT.lines().find_map(|line| line.strip_prefix(&format!("action \"{action}\" appliesTo ")));
    let open = asks("open").expect("the schema has the action open");
    assert_eq!((asks("ask"), asks("breakGlass")), (Some(open), Some(open)));
}

/// Who a rule may be for, in every way to say so: this person or another.
fn principal() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "principal",
        "principal is Person",
        "principal is Unknown",
        "principal in Group::\"a\"",
        "principal in Group::\"b\"",
        "principal is Person in Group::\"a\"",
        "principal is Person in Group::\"b\"",
        "principal == Person::\"00000000-0000-4000-8000-00000000000a\"",
        "principal == Person::\"00000000-0000-4000-8000-00000000000b\"",
    ])
}

/// What a rule may be for.
fn resource() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "resource",
        "resource is VM",
        "resource == VM::\"00000000-0000-4000-8000-000000000001/rg/vm\"",
        "resource == VM::\"00000000-0000-4000-8000-000000000001/rg/other\"",
        "resource in ResourceGroup::\"00000000-0000-4000-8000-000000000001/rg\"",
        "resource is VM in Subscription::\"00000000-0000-4000-8000-000000000002\"",
    ])
}

/// Conditions of every shape that the splitting has to see through.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("context.direct".to_owned()),
        Just("context.networks.contains(Network::\"office\")".to_owned()),
        (20u16..24).prop_map(|port| format!("context.leastPort == {port}")),
        (0u32..4).prop_map(|most| format!("context.approvalsToday < {most}")),
        Just("context.reason != \"a && b || c\"".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} // && that\n&& {b} // || this\n")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b}) && ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else ({c}))")),
        ]
    })
}
