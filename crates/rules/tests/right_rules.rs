//! Rules and scenarios that are right: nothing is said of them, since a set that says too much is not used or not read.

use portcullis_rules::files::RuleFiles;
use portcullis_rules::scenario;

const PEOPLE: &str = "groups:\n  responders: {entra: aaaaaaaa-0000-4000-8000-000000000001}\n  security-duty: {members: []}\n";
const NETWORKS: &str = "networks:\n  office: [198.51.100.0/24]\n  vpn: [203.0.113.0/24]\n";

/// What is said of one file of rules and one of scenarios.
fn told(rules: &str, scenarios: &str) -> Vec<String> {
    let files = RuleFiles::of([("a.cedar", rules), ("people.yaml", PEOPLE), ("networks.yaml", NETWORKS), ("tests/a.yaml", scenarios)]);
    scenario::check(&files).mistakes.iter().map(ToString::to_string).collect()
}

/// The rule with a name and a reason.
fn named(rule: &str) -> String {
    format!("@id(\"a\")\n@reason(\"Zürich: \\\"é\\\"\")\n@timezone(\"Europe/Berlin\")\n{rule};\n")
}

#[test]
fn nothing_is_said_of_a_right_rule_whatever_its_shape() {
    let said: Vec<(&str, Vec<String>)> =
        RIGHT.lines().map(|rule| (rule, told(&named(rule), ""))).filter(|(_, told)| !told.is_empty()).collect();
    assert_eq!(said, Vec::new());
}

/// A right rule in each line.
const RIGHT: &str = r#"permit (principal in Group::"responders", action == Action::"open", resource) when { resource.name like "web-*-\*x" }
permit (principal in Group::"responders", action == Action::"open", resource) when { if context.direct then context.duration <= duration("1h") else context.duration < duration("4h") }
permit (principal in Group::"responders", action == Action::"open", resource) when { if context has incident then context.incident.open else false }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has incident.owner && context.incident.owner == principal }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has incident && context.incident has owner && context.incident.owner == principal && context.incident.age < duration("2d") }
permit (principal in Group::"responders", action == Action::"open", resource) when { [22, 3389].containsAll(context.ports) } unless { context.ports.containsAny([5985, 5986]) }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.ports == [22] }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.leastPort >= 1 && context.greatestPort <= 65535 }
permit (principal in Group::"responders", action == Action::"open", resource) when { !(context.timeOfDay < duration("7h") || context.timeOfDay >= duration("20h")) }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.timeOfDay >= duration("22h") || context.timeOfDay < duration("6h") }
permit (principal in Group::"responders", action == Action::"open", resource) unless { context.timeOfDay >= duration("22h") || context.timeOfDay < duration("6h") }
permit (principal in Group::"responders", action == Action::"open", resource) unless { context.timeOfDay >= duration("12h") && context.timeOfDay < duration("13h") } when { context.timeOfDay >= duration("8h") } when { context.timeOfDay <= duration("23h59m59s") }
permit (principal in Group::"responders", action == Action::"open", resource) when { duration("7h") <= context.timeOfDay && duration("20h") > context.timeOfDay }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.duration.toHours() < 3 && context.timeOfDay.toMinutes() >= 420 }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.approvalsToday + 1 <= 5 && context.approvalsToday * 2 < 10 }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.openToday.toMinutes() + context.duration.toMinutes() <= 480 }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.networks.contains(Network::"office") } when { context.widestPrefix >= 28 && context.widestPrefix <= 32 }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.networks.containsAny([Network::"office", Network::"vpn"]) && context.sources == [ip("198.51.100.7")] }
permit (principal in Group::"responders", action == Action::"open", resource) when { [ip("198.51.100.7"), ip("198.51.100.0/24")].containsAll(context.sources) }
permit (principal in Group::"responders", action == Action::"open", resource in ResourceGroup::"00000000-0000-4000-8000-000000000001/rg")
permit (principal in Group::"responders", action == Action::"open", resource in ManagementGroup::"corp") when { resource in Subscription::"00000000-0000-4000-8000-000000000001" || resource in ManagementGroup::"dev" }
permit (principal is Person in Group::"responders", action in [Action::"open", Action::"breakGlass"], resource is VM in ManagementGroup::"corp") when { principal in [Group::"security-duty", Group::"responders"] }
permit (principal == Person::"00000000-0000-4000-8000-00000000000a", action == Action::"open", resource == VM::"00000000-0000-4000-8000-000000000001/rg/web-1")
permit (principal, action == Action::"open", resource) when { principal is Person && principal in Group::"security-duty" }
permit (principal, action == Action::"open", resource) unless { principal is Unknown }
permit (principal, action == Action::"open", resource) unless { context.direct }
permit (principal, action == Action::"open", resource) when { context.direct == false }
permit (principal, action == Action::"open", resource) when { !context.direct }
permit (principal, action == Action::"open", resource) when { context.direct != true }
permit (principal in Group::"responders", action == Action::"open", resource) when { resource.hasTag("cost center") && resource.getTag("cost center") like "4*" && resource.getTag("cost center") != "42" }
permit (principal in Group::"responders", action == Action::"open", resource) when { resource has name && ["web-1", "web-2"].contains(resource.name) }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has change && context.change like "CHG*" && context.reason != "" && !(context.reason like "test*") }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has alerts && context.alerts > 0 }
permit (principal in Group::"responders", action == Action::"open", resource) unless { context has alerts && context.alerts >= 1 }
permit (principal in Group::"responders", action == Action::"open", resource) unless { context has alerts && context.alerts >= 0 }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.weekday != Weekday::"sunday" && !([Weekday::"saturday"].contains(context.weekday)) }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has incident && [Severity::"medium", Severity::"high"].contains(context.incident.severity) && context.incident.namesThisVm }
permit (principal in Group::"responders", action == Action::"open", resource) when { context has window && context has change || context.approvalsToday < 3 && !context.ports.isEmpty() }
permit (principal in Group::"responders", action == Action::"open", resource) when { true }
permit (principal in Group::"responders", action == Action::"approve", resource) when { context.duration <= duration("4h") && !(context.ports.contains(3389)) }
permit (principal in Group::"responders", action in [Action::"close", Action::"read"], resource) when { resource.hasTag("env") && resource.getTag("env") == "Prod" }
forbid (principal, action, resource) unless { principal is Person }
forbid (principal, action in [Action::"open", Action::"ask"], resource) when { context.duration > duration("8h") && !resource.hasTag("long") }
forbid (principal, action == Action::"open", resource) when { context.timeOfDay >= duration("0h") && context.timeOfDay < duration("5h30m") }
forbid (principal, action == Action::"open", resource) when { context.direct && context.duration >= duration("24h") }
forbid (principal, action == Action::"open", resource) unless { context.leastPort >= 22 && context.greatestPort <= 22 }
forbid (principal, action == Action::"open", resource) when { context.widestPrefix < 24 || context.widestPrefix == 32 && context.approvalsToday > 10 }
forbid (principal, action == Action::"open", resource) unless { context.timeOfDay >= duration("6h") && (context.timeOfDay < duration("10h") || context.timeOfDay >= duration("14h")) && context.timeOfDay < duration("23h") }
forbid (principal, action == Action::"open", resource) when { context.openToday >= duration("1d12h") }
forbid (principal, action == Action::"open", resource) when { context.greatestPort > 1024 && context.leastPort <= 1024 }
forbid (principal in Group::"responders", action == Action::"open", resource) when { context.timeOfDay == duration("0s") || context.timeOfDay.toSeconds() == 5 }
forbid (principal in Group::"responders", action == Action::"open", resource) unless { context.direct && context.timeOfDay >= duration("0h") }
forbid (principal in Group::"responders", action, resource) when { resource.name like "*é*" }
permit (principal in Group::"responders", action == Action::"open", resource) when { context.timeOfDay > duration("-1h") && context.duration >= duration("5m") && context.duration <= duration("86400000ms") }"#;

#[test]
fn nothing_is_said_of_right_scenarios() {
    let rules = named(r#"permit (principal in Group::"responders", action == Action::"open", resource)"#);
    assert_eq!(told(&rules, SCENARIOS), Vec::<String>::new());
}

const SCENARIOS: &str = r"# A comment of its own.
defaults: &all
  person: {groups: [responders]}
  ports: [22, 65535]
  sources:
    - 198.51.100.7
    - 203.0.113.0/24
scenarios:
  - name: 'a text in quotes: with a colon'
    given: {vm: {name: WEB-1, tags: {Version: 1.10, on: yes, empty: ''}}, duration: PT1H30M, at: 2026-01-15T09:00:00+01:00}
    expect: {decision: refuse, because: limits}
  - name: >-
      a text
      over two lines
    given:
      <<: *all
      openToday: PT0S
      approvalsToday: 0
      incident: {open: false, severity: low, age: PT0S}
      reason: |
        Two
        lines
    expect: {decision: open, rule: a}
  - {name: 42, right: approve, given: {ports: [1], asker: 00000000-0000-4000-8000-00000000000C}, expect: {decision: refuse}}
  - name: someone unknown
    given: {person: {unknown: true}, way: direct}
    expect: {decision: refuse, because: nothingPermits, nearest: a}
  - name: nobody knows
    given: {person: {groupsUnreachable: true}, vm: {id: /subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/Rg/providers/microsoft.compute/virtualmachines/A}}
    expect: {decision: undecided}
";
