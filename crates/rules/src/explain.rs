//! A decision told to a person: what, by which rule, on which facts, and what came nearest.

use chrono::SecondsFormat;
use portcullis_domain::duration::spoken;

use crate::action::Action;
use crate::decision::{Decision, Miss, Named, Outcome, Permission, Refusal};
use crate::miss;
use crate::mistake::hanging;
use crate::plain::plain;
use crate::set::Rules;
use crate::wish::{self, Groups, ManagementGroups, NamedIncident, SeenIncident, VmFacts, Way, Who, Wish};

/// Tells a decision of this set, with the deciding rules' text. `shown_in` is put before the names of files.
pub fn decision(rules: &Rules, decision: &Decision, shown_in: &str) -> String {
    let said = match &decision.outcome {
        Outcome::Undecided { why } => why.clone(),
        outcome => outcome.sentence(),
    };
    let mut text = format!("{}\n", hanging(&format!("{}: {said}", told(&decision.outcome)), 2));
    let (title, deciding): (_, Vec<&Named>) = match &decision.outcome {
        Outcome::Refuse(Refusal::Forbidden { rules, .. }) => ("The rule that forbids it", rules.iter().collect()),
        other => ("The rule that decided", other.rule().into_iter().collect()),
    };
    text.push_str(&texts(rules, title, &deciding, shown_in));
    text.push_str(&texts(rules, "What forbade more", &decision.forbade.iter().collect::<Vec<_>>(), shown_in));
    if let Some(miss) = &decision.nearest {
        text.push_str(&nearest(rules, miss, shown_in));
    }
    text.push_str("\nThe facts\n");
    for (name, fact) in facts(rules, &decision.wish) {
        text.push_str(&format!("  {name:<11}{}\n", hanging(&fact, 13)));
    }
    text.push_str(&format!("\nRule set {}\n", plain(&decision.set)));
    text
}

/// Tells whether somebody has a right.
pub fn permission(rules: &Rules, action: Action, permission: &Permission, wish: &Wish, shown_in: &str) -> String {
    let told = match permission {
        Permission::Permit { .. } => "permitted",
        Permission::Refuse { .. } => "refused",
    };
    let mut text = format!("{}\n", hanging(&format!("{told}: {}", permission.sentence()), 2));
    text.push_str(&texts(rules, "The rule that decided", &permission.rules().collect::<Vec<_>>(), shown_in));
    // To close or to see, nothing decides but who it is and which machine.
    let seen = if action == Action::Approve { usize::MAX } else { 2 };
    if let Permission::Refuse { forbade, why: None } = permission
        && forbade.is_empty()
        && let Some(miss) = miss::nearest_right(rules, action, wish)
    {
        text.push_str(&nearest(rules, &miss, shown_in));
    }
    text.push_str("\nThe facts\n");
    for (name, fact) in facts(rules, wish).into_iter().take(seen) {
        text.push_str(&format!("  {name:<11}{}\n", hanging(&fact, 13)));
    }
    text.push_str(&format!("\nRule set {}\n", rules.hash()));
    text
}

fn told(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Open { .. } => "open",
        Outcome::BreakGlass { .. } => "open, by breaking the glass",
        Outcome::Ask { .. } => "people decide",
        Outcome::Refuse(_) => "refused",
        Outcome::Undecided { .. } => "not decided",
    }
}

fn texts(rules: &Rules, title: &str, named: &[&Named], shown_in: &str) -> String {
    let mut text = String::new();
    for rule in named.iter().filter_map(|named| rules.rule(&named.id)) {
        let lines: Vec<String> = rule.text.lines().map(|line| format!("    {}", plain(&line.replace('\t', "    ")))).collect();
        text.push_str(&format!("\n{title}: {} in {shown_in}{}, line {}\n{}\n", rule.terms.id, rule.file, rule.line, lines.join("\n")));
    }
    text
}

fn nearest(rules: &Rules, miss: &Miss, shown_in: &str) -> String {
    let place = rules.rule(&miss.rule.id).map(|rule| format!(" in {shown_in}{}, line {}", rule.file, rule.line)).unwrap_or_default();
    let mut text = format!("\nThe nearest miss: {}{place} permits {}", miss.rule.id, miss.action);
    if miss.lacks.is_empty() {
        text.push_str(", and what forbids it stands against it\n");
        return text;
    }
    text.push_str(", but\n");
    for lack in &miss.lacks {
        text.push_str(&format!("  - {}\n", hanging(&lack.sentence(), 4)));
    }
    text
}

/// Everything that the rules see of a wish, by name.
pub fn facts(rules: &Rules, wish: &Wish) -> Vec<(&'static str, String)> {
    let mut facts = vec![("who", who(rules, &wish.who)), ("machine", machine(&wish.vm))];
    facts.extend(wish.asker.iter().map(|asker| ("asked by", asker.clone())));
    let ports: Vec<String> = wish.ports.iter().map(ToString::to_string).collect();
    facts.push(("ports", ports.join(", ")));
    let networks: Vec<&str> = rules.networks().holding(&wish.sources).collect();
    let networks = if networks.is_empty() { "in no network that the rules know".to_owned() } else { format!("in {}", networks.join(", ")) };
    let sources = if wish.sources.is_empty() { "none named".to_owned() } else { format!("{}, {networks}", wish.sources) };
    facts.push(("sources", sources));
    let jit = wish.jit_longest_seconds.map(|longest| format!(", where JIT allows {}", spoken(wish::seconds(longest))));
    facts.push(("duration", format!("{}{}", spoken(wish.duration()), jit.unwrap_or_default())));
    facts.push(("at", time(rules, wish)));
    let way = match wish.way {
        Way::Asked => "asked of Portcullis",
        Way::BreaksGlass => "asked of Portcullis, breaking the glass",
        Way::Direct => "opened around Portcullis",
    };
    facts.push(("way", way.to_owned()));
    facts.push(("reason", if wish.reason.is_empty() { "none given".to_owned() } else { wish.reason.clone() }));
    facts.push(("incident", wish.incident.as_ref().map_or_else(|| "none".to_owned(), incident)));
    facts.extend(wish.alerts.map(|alerts| ("alerts", format!("{alerts} open"))));
    facts.extend(wish.window.iter().map(|window| ("window", window.clone())));
    facts.extend(wish.change.iter().map(|change| ("change", change.clone())));
    let open = spoken(wish::seconds(wish.open_today_seconds));
    facts.push(("today", format!("{} approvals without a person, machine open for {open}", wish.approvals_today)));
    facts
}

fn incident(named: &NamedIncident) -> String {
    let told = match &named.seen {
        SeenIncident::Known(incident) => incident.sentence(),
        SeenIncident::Absent { why } => format!("not seen by rules: {why}"),
        SeenIncident::NotAsked => "not read, since no rule asks for one".to_owned(),
        SeenIncident::Unreachable { why } => format!("not known: {why}"),
    };
    if named.name.is_empty() { told } else { format!("{}: {told}", named.name) }
}

fn who(rules: &Rules, who: &Who) -> String {
    match who {
        Who::Unknown => "nobody knows".to_owned(),
        Who::Person { id, groups: Groups::Unreachable { why } } => format!("{id}, whose groups are not known: {why}"),
        Who::Person { id, groups: Groups::Known { of, .. } } => {
            let mut all = rules.people().listed_groups(id);
            all.extend(of.iter().cloned());
            let all: Vec<String> = all.into_iter().collect();
            if all.is_empty() { format!("{id}, in no group that the rules name") } else { format!("{id}, of {}", all.join(", ")) }
        }
    }
}

fn machine(vm: &VmFacts) -> String {
    let mut text = format!("{} of {}, subscription {}", vm.id.name(), vm.id.resource_group(), vm.id.subscription());
    let groups: Vec<&str> = vm.management_groups.names().collect();
    if let ManagementGroups::Unreachable { why } = &vm.management_groups {
        text.push_str(&format!(", below management groups that are not known ({why})"));
    } else if groups.is_empty() {
        text.push_str(", below no management group that is known");
    } else {
        text.push_str(&format!(", below {}", groups.join(", ")));
    }
    let tags: Vec<String> = vm.tags.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    text.push_str(&if tags.is_empty() { ", no tags".to_owned() } else { format!(", tags {}", tags.join(", ")) });
    text
}

/// The time, and what it is in each time zone that the rules speak of.
fn time(rules: &Rules, wish: &Wish) -> String {
    let mut text = format!("{} ({})", wish.at.to_rfc3339_opts(SecondsFormat::Secs, true), wish.at.format("%A"));
    for zone in rules.zones().filter(|zone| *zone != chrono_tz::UTC) {
        text.push_str(&format!(", {} in {}", wish.at.with_timezone(&zone).format("%A %H:%M"), zone.name()));
    }
    text
}
