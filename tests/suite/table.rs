//! Every setting of every switch × every story of an opening: who was let in when, beside who must be.
//!
//! `make table` plays and prints the whole table, `make test` every third cell of it. A cell is worked out from the simulated
//! world alone: from its security groups at every instant at which anything happened, and at the end from its log, against
//! which the proof is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use portcullis_domain::source::Sources;
use portcullis_sandbox::estate;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::*;
use portcullis_trials::script::MACHINES;
use portcullis_trials::story::settings::settings;
use portcullis_trials::story::{Setting, Story, each_row, policy, said, tag, vm};
use portcullis_trials::verdict::{opens_within, shuts_within};
use portcullis_trials::watch::{Span, Watch, merged};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const PORT: u16 = 22;
/// What the JIT policy lets the port be opened to: more than any address of a story, so that it matters whether a source
/// must equal it.
const AROUND_ALL: &str = "192.0.0.0/4";
/// What somebody would be let in from that nobody asked for.
const NOBODYS: &str = "192.88.99.1";

/// What happens in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tale {
    /// A responder opens it around Portcullis, and a rule permits that.
    Adopted,
    /// An administrator opens it around Portcullis, and no rule permits that.
    Refused,
    /// An operator asks for it for a developer.
    Granted,
    /// The same, and in time for a responder, until a later end.
    Overlapping,
    /// The same developer gets more in time.
    Extended,
    /// The operator ends it in time.
    EndedEarly,
    /// The operator ends it while JIT is still about to open it.
    EndedAtOnce,
    /// A responder's own opening is adopted, and in time it is asked for for a developer, until a later end.
    AdoptedOverlapping,
    /// A responder opens it around Portcullis again in time, until a later end.
    AdoptedExtended,
    /// The operator ends a responder's own opening in time.
    AdoptedEndedEarly,
    /// What a developer was granted is open, and an administrator opens the same port around Portcullis.
    RefusedBeside,
    /// The same, and it is a responder, whom a rule permits that.
    AdoptedBeside,
}

/// Who is in a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Developer,
    Responder,
    Admin,
    /// Nobody who asked.
    Else,
}

/// What happens besides, in the rows of a switch that bears on nothing else of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    Nothing,
    /// Everybody comes from the whole source of the JIT policy.
    OneSource,
    /// An administrator writes the JIT policy at the second minute, as it is.
    PolicyWritten,
    /// Openings are of five minutes.
    Short,
    /// Defender for Servers Plan 2 is off from the second minute on, and again on when all is over.
    PlanOff,
    /// A rule names a management group, and openings are of more than half an hour.
    ManagementGroup,
    /// JIT's records name nobody, and openings are of more than half an hour.
    Nameless,
    /// The same happens to another machine behind the same subnet at the same time.
    Neighbour,
}

const PEOPLE: [Who; 4] = [Who::Developer, Who::Responder, Who::Admin, Who::Else];

impl Who {
    const fn text(self) -> &'static str {
        match self {
            Who::Developer => "developer",
            Who::Responder => "responder",
            Who::Admin => "administrator",
            Who::Else => "somebody else",
        }
    }
}

impl Must {
    fn words(&self, beside: Beside) -> String {
        let mut stays = self.stays.clone();
        stays.sort();
        let time = |(who, from, until): &(Who, i64, i64)| match from == until {
            true => format!("{} from {from} on, shut at sight", beside.name(*who)),
            false => format!("{} {from}-{until}", beside.name(*who)),
        };
        let mut words: Vec<String> = stays.iter().map(time).collect();
        words.extend(Some(self.alarms.to_owned()).filter(|alarms| !alarms.is_empty()));
        words.extend(Some(self.told).filter(|told| !told.is_empty()).map(|told| format!("\u{201c}{told}\u{201d}")));
        if words.is_empty() { "nobody".to_owned() } else { words.join(", ") }
    }
}

impl Tale {
    const ALL: [Tale; 12] = [
        Tale::Adopted,
        Tale::Refused,
        Tale::Granted,
        Tale::Overlapping,
        Tale::Extended,
        Tale::EndedEarly,
        Tale::EndedAtOnce,
        Tale::AdoptedOverlapping,
        Tale::AdoptedExtended,
        Tale::AdoptedEndedEarly,
        Tale::RefusedBeside,
        Tale::AdoptedBeside,
    ];

    const fn sentence(self) -> &'static str {
        match self {
            Tale::Adopted => "a responder opens it around Portcullis, and a rule permits that",
            Tale::Refused => "an administrator opens it around Portcullis, and no rule permits that",
            Tale::Granted => "it is granted to a developer",
            Tale::Overlapping => "it is granted to a developer, and then to a responder until a later end",
            Tale::Extended => "it is granted to a developer, and then for longer",
            Tale::EndedEarly => "it is granted to a developer, and the operator ends that in time",
            Tale::EndedAtOnce => "it is granted to a developer, and the operator ends that while JIT is about to open it",
            Tale::AdoptedOverlapping => "a responder opens it around Portcullis, and then it is granted to a developer until a later end",
            Tale::AdoptedExtended => "a responder opens it around Portcullis, and then again until a later end",
            Tale::AdoptedEndedEarly => "a responder opens it around Portcullis, and the operator ends that in time",
            Tale::RefusedBeside => "it is granted to a developer, and an administrator opens the same port around Portcullis",
            Tale::AdoptedBeside => "it is granted to a developer, and a responder opens the same port around Portcullis until a later end",
        }
    }

    /// Whether it begins with an opening around Portcullis.
    const fn is_direct(self) -> bool {
        match self {
            Tale::Adopted | Tale::Refused | Tale::AdoptedOverlapping | Tale::AdoptedExtended | Tale::AdoptedEndedEarly => true,
            Tale::Granted
            | Tale::Overlapping
            | Tale::Extended
            | Tale::EndedEarly
            | Tale::EndedAtOnce
            | Tale::RefusedBeside
            | Tale::AdoptedBeside => false,
        }
    }
}

impl Beside {
    const ALL: [Beside; 8] = [
        Beside::Nothing,
        Beside::OneSource,
        Beside::PolicyWritten,
        Beside::Short,
        Beside::PlanOff,
        Beside::ManagementGroup,
        Beside::Nameless,
        Beside::Neighbour,
    ];

    /// What makes the settings of this switch differ.
    fn of(switch: &str) -> &'static [Beside] {
        match switch {
            "source_must" => &[Beside::Nothing, Beside::OneSource],
            "put_closes_records" => &[Beside::PolicyWritten],
            "smallest_end_seconds" => &[Beside::Short],
            "plan_off_refuses" => &[Beside::PlanOff],
            "subscription_parents" => &[Beside::ManagementGroup],
            "activity_log_seconds" => &[Beside::Nameless],
            "busy_nsg" | "nsg_if_match" | "operation_seconds" => &[Beside::Neighbour],
            _ => &[Beside::Nothing],
        }
    }

    /// What it is, for people.
    const fn sentence(self) -> &'static str {
        match self {
            Beside::Nothing => "nothing happens besides",
            Beside::OneSource => "everybody comes from the whole source of the JIT policy",
            Beside::PolicyWritten => "an administrator writes the JIT policy at minute 2, as it is",
            Beside::Short => "openings are of five minutes",
            Beside::PlanOff => {
                "Defender for Servers Plan 2 is off from minute 2 on, or before the opening could be shut, until all is over"
            }
            Beside::ManagementGroup => "a rule names a management group",
            Beside::Nameless => "JIT's records name nobody",
            Beside::Neighbour => "the same happens to another machine behind the same subnet at the same time",
        }
    }

    /// Whom a source stands for.
    const fn name(self, who: Who) -> &'static str {
        match (self, who) {
            (Beside::OneSource, Who::Developer | Who::Responder | Who::Admin) => "everybody",
            _ => who.text(),
        }
    }

    fn machines(self) -> &'static [&'static str] {
        if self == Beside::Neighbour { &["web-1", "web-2"] } else { &["web-1"] }
    }

    fn source(self, who: Who) -> &'static str {
        match (self, who) {
            (_, Who::Else) => NOBODYS,
            (Beside::OneSource, _) => "198.51.100.0/24",
            (_, Who::Developer) => "203.0.113.4",
            (_, Who::Responder) => "198.51.100.7",
            (_, Who::Admin) => "192.0.2.9",
        }
    }

    /// In minutes: how long the first opening is for, when the second thing happens, and how long that is for. Whoever lost a
    /// rule must have five minutes left when the sweep comes, and whoever is left behind must, too.
    const fn minutes(self) -> (i64, i64, i64) {
        match self {
            Beside::Short => (5, 3, 5),
            Beside::ManagementGroup | Beside::Nameless | Beside::PlanOff => (44, 6, 44),
            Beside::Nothing | Beside::OneSource | Beside::PolicyWritten | Beside::Neighbour => (16, 6, 17),
        }
    }

    /// When all is over and was seen to be, in minutes.
    const fn over(self, tale: Tale) -> i64 {
        let (first, act, second) = self.minutes();
        let last = match tale {
            Tale::Adopted | Tale::Refused | Tale::Granted | Tale::EndedEarly | Tale::EndedAtOnce | Tale::AdoptedEndedEarly => first,
            Tale::Overlapping
            | Tale::Extended
            | Tale::AdoptedOverlapping
            | Tale::AdoptedExtended
            | Tale::RefusedBeside
            | Tale::AdoptedBeside => act + second,
        };
        last + 10
    }
}

/// A row of the table.
#[derive(Clone)]
struct Row {
    name: String,
    switches: Switches,
    beside: Beside,
    /// What the setting `PORTCULLIS_JIT_NEWER` says of the world.
    newer: &'static str,
}

impl Row {
    fn is_same_world(&self, other: &Row) -> bool {
        (&self.switches, self.beside, self.newer) == (&other.switches, other.beside, other.newer)
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (switch, name, switches) in settings() {
        for beside in Beside::of(switch) {
            let name = if *beside == Beside::Nothing { name.clone() } else { format!("{name}, {beside:?}") };
            let mut switches = switches.clone();
            if *beside == Beside::Nameless {
                switches.requestor = Requestor::Empty;
            }
            rows.push(Row { name, switches, beside: *beside, newer: "replaces" });
        }
    }
    let together = together().into_iter();
    rows.extend(together.map(|(name, switches, newer)| Row { name: name.to_owned(), switches, beside: Beside::Nothing, newer }));
    rows
}

/// Settings that could do together what none does alone.
fn together() -> [(&'static str, Switches, &'static str); 9] {
    let usual = Switches::default;
    [
        ("newer adds, and that is known", Switches { newer_initiate: NewerInitiate::Adds, ..usual() }, "adds"),
        ("newer adds, one source alone", Switches { plural_sources: false, newer_initiate: NewerInitiate::Adds, ..usual() }, "replaces"),
        (
            "newer adds, one source alone, and that is known",
            Switches { plural_sources: false, newer_initiate: NewerInitiate::Adds, ..usual() },
            "adds",
        ),
        (
            "newer adds, returns once, slow operations",
            Switches {
                newer_initiate: NewerInitiate::Adds,
                deleted_rule_returns: Returns::Once,
                operation_seconds: 60,
                busy_nsg: BusyNsg::Conflict,
                ..usual()
            },
            "replaces",
        ),
        (
            "records disappear and name nobody",
            Switches {
                record_of_deleted_rule: RecordOfDeletedRule::Disappears,
                requestor: Requestor::Empty,
                events: Events::Doubled,
                ..usual()
            },
            "replaces",
        ),
        (
            "records are revoked and name nobody",
            Switches {
                record_of_deleted_rule: RecordOfDeletedRule::Revoked,
                requestor: Requestor::Empty,
                events: Events::Reordered,
                ..usual()
            },
            "replaces",
        ),
        ("JIT is late and no event comes", Switches { expiry_delay_seconds: 600, events: Events::Never, ..usual() }, "replaces"),
        ("JIT is slow and events are late", Switches { initiating_seconds: 120, events: Events::Late, ..usual() }, "replaces"),
        (
            "ids in upper case on many pages",
            Switches {
                letter_case: LetterCase::Upper,
                rule_names: RuleNames::SecurityCenter,
                event_resource: EventResource::Vm,
                event_schema: EventSchema::CloudEvents,
                delete_answers: DeleteAnswers::Done,
                nsg_if_match: NsgIfMatch::Ignored,
                page_size: 1,
                ..usual()
            },
            "replaces",
        ),
    ]
}

/// How a cell must end.
#[derive(Debug)]
struct Must {
    /// Who is let in, in minutes from the beginning; until the same minute: until it was seen that nobody may.
    stays: Vec<(Who, i64, i64)>,
    /// The alarms that are raised and cleared, as [`Story::alarms`] tells them.
    alarms: &'static str,
    /// What a person is told of what is not let in, or is no longer; a part of it.
    told: &'static str,
}

const RETURNS: &str = "+rule-returns -rule-returns";
const UNDECIDED: &str = "+undecided -undecided";
const UNREADABLE: &str = "+missing-right -missing-right";

/// How it must end; what a setting makes different, and why it must be, is in [`differs`].
fn must(tale: Tale, row: &Row) -> Must {
    let (first, act, second) = row.beside.minutes();
    let later = act + second;
    let stays = match tale {
        Tale::Adopted => vec![(Who::Responder, 0, first)],
        Tale::Refused => vec![(Who::Admin, 0, 0)],
        Tale::Granted => vec![(Who::Developer, 0, first)],
        Tale::Overlapping => vec![(Who::Developer, 0, first), (Who::Responder, act, later)],
        Tale::Extended => vec![(Who::Developer, 0, later)],
        Tale::EndedEarly => vec![(Who::Developer, 0, act)],
        Tale::EndedAtOnce => vec![(Who::Developer, 0, 0)],
        Tale::AdoptedOverlapping => vec![(Who::Responder, 0, first), (Who::Developer, act, later)],
        Tale::AdoptedExtended => vec![(Who::Responder, 0, later)],
        Tale::AdoptedEndedEarly => vec![(Who::Responder, 0, act)],
        Tale::RefusedBeside => vec![(Who::Developer, 0, first), (Who::Admin, act, act)],
        Tale::AdoptedBeside => vec![(Who::Developer, 0, first), (Who::Responder, act, later)],
    };
    let plain = Must { stays, alarms: "", told: "" };
    differs(tale, row, &plain).unwrap_or(plain)
}

/// What the row's setting makes different.
fn differs(tale: Tale, row: &Row, plain: &Must) -> Option<Must> {
    let (first, act, second) = row.beside.minutes();
    let (later, switches) = (act + second, &row.switches);
    let only = |stays: Vec<(Who, i64, i64)>, alarms, told| Some(Must { stays, alarms, told });
    let by_claim = matches!(tale, Tale::Adopted | Tale::AdoptedOverlapping | Tale::AdoptedExtended | Tale::AdoptedBeside);
    match row.beside {
        // Everybody is let in by the same source: whom no rule permits it stays while a grant covers it.
        Beside::OneSource => {
            let until = plain.stays.iter().map(|(.., until)| *until).max().unwrap_or_default();
            only(vec![(plain.stays[0].0, 0, if tale == Tale::RefusedBeside { first } else { until })], "", "")
        }
        Beside::Nothing if switches.source_must == SourceMust::Equal => {
            // Nobody can open anything to less than the policy's source.
            let is_asked_for = !tale.is_direct() || tale == Tale::AdoptedOverlapping;
            only(vec![], "", if is_asked_for { "JIT refuses it" } else { "" })
        }
        Beside::PolicyWritten if switches.put_closes_records && !matches!(tale, Tale::Refused | Tale::EndedAtOnce) => {
            let who = plain.stays[0].0;
            let mut stays = vec![(who, 0, 2)];
            match tale {
                Tale::Extended | Tale::AdoptedExtended => stays.push((who, act, later)),
                Tale::Overlapping | Tale::AdoptedOverlapping | Tale::RefusedBeside | Tale::AdoptedBeside => stays.push(plain.stays[1]),
                Tale::Adopted | Tale::Refused | Tale::Granted | Tale::EndedEarly | Tale::EndedAtOnce | Tale::AdoptedEndedEarly => {}
            }
            only(stays, "", "another hand took its rule away")
        }
        // A union that is over in less than five minutes is not asked for, though JIT may open for less.
        Beside::Short if matches!(tale, Tale::RefusedBeside | Tale::AdoptedBeside) => {
            only(vec![(Who::Developer, 0, act), plain.stays[1]], "", "less than 5 min of its time are left")
        }
        Beside::Short if matches!(tale, Tale::Overlapping | Tale::AdoptedOverlapping) => {
            let (who, from, _) = plain.stays[1];
            only(vec![plain.stays[0], (who, from, first)], "", "less than 5 min of its time are left")
        }
        // Its rule might still have come when JIT could not be read any more.
        Beside::PlanOff if tale == Tale::EndedAtOnce => {
            let alarms = if switches.plan_off_refuses == PlanOffRefuses::Everything { UNREADABLE } else { "" };
            only(plain.stays.clone(), alarms, "")
        }
        Beside::PlanOff => {
            let stays = vec![(plain.stays[0].0, 0, first)];
            let asks = matches!(tale, Tale::Overlapping | Tale::Extended | Tale::AdoptedOverlapping);
            match (switches.plan_off_refuses, tale) {
                (PlanOffRefuses::Writes, Tale::AdoptedExtended | Tale::RefusedBeside | Tale::AdoptedBeside) => only(stays, "", ""),
                (PlanOffRefuses::Writes, _) if asks => only(stays, "+brake -brake", "JIT refuses it"),
                (PlanOffRefuses::Writes, _) => None,
                // Nobody can tell who opened it: it waits half an hour.
                (PlanOffRefuses::Everything, Tale::Refused) => {
                    only(vec![(Who::Admin, 0, 30)], "+missing-right +undecided -missing-right -undecided", "")
                }
                (PlanOffRefuses::Everything, Tale::EndedEarly | Tale::AdoptedEndedEarly) => {
                    only(vec![(plain.stays[0].0, 0, act)], UNREADABLE, "")
                }
                (PlanOffRefuses::Everything, _) => {
                    only(stays, UNREADABLE, if asks { "nothing opens while the machine and JIT cannot be read" } else { "" })
                }
            }
        }
        // Nothing that a rule ties to a management group is decided, and what is open waits half an hour.
        Beside::ManagementGroup if switches.subscription_parents != SubscriptionParents::Shown => {
            let stays = match tale {
                Tale::RefusedBeside => vec![(Who::Admin, act, act + 30)],
                Tale::AdoptedBeside => vec![(Who::Responder, act, act + 30)],
                _ if tale.is_direct() => vec![(plain.stays[0].0, 0, 30)],
                _ => vec![],
            };
            let is_open = !stays.is_empty();
            let asks = !tale.is_direct() || tale == Tale::AdoptedOverlapping;
            only(stays, if is_open { UNDECIDED } else { "" }, if asks { "it could not be decided" } else { "" })
        }
        // The activity log comes too late to confirm what an event alone claims.
        Beside::Nameless if switches.activity_log_seconds > 30 * MINUTE && by_claim => {
            let mut stays = plain.stays.clone();
            // Asking again gains no time.
            stays.iter_mut().filter(|(who, ..)| *who == Who::Responder).for_each(|stay| stay.2 = stay.1 + 30);
            only(stays, "", "nothing confirmed who opened it")
        }
        // JIT takes one source alone, and as far as anybody knows the next one takes the place of the first.
        Beside::Nothing
            if !switches.plural_sources && row.newer == "replaces" && matches!(tale, Tale::Overlapping | Tale::AdoptedOverlapping) =>
        {
            only(vec![plain.stays[0]], "", "JIT refuses it")
        }
        // The developer lost their rule to the responder's, and JIT takes no union of both.
        Beside::Nothing
            if !switches.plural_sources && switches.newer_initiate == NewerInitiate::Replaces && tale == Tale::AdoptedBeside =>
        {
            only(vec![(Who::Developer, 0, act), plain.stays[1]], "", "JIT refuses it")
        }
        Beside::Nothing if matches!(switches.events, Events::Late | Events::Never) => match tale {
            Tale::Refused => only(vec![(Who::Admin, 0, 5)], "", ""),
            Tale::RefusedBeside | Tale::AdoptedBeside => {
                // JIT took the developer's rule away when it wrote the other one.
                let replaced = act + switches.initiating_seconds / MINUTE;
                let other = if tale == Tale::RefusedBeside { (Who::Admin, act, 10) } else { plain.stays[1] };
                only(vec![(Who::Developer, 0, replaced), (Who::Developer, 10, first), other], "", "")
            }
            _ => None,
        },
        // What is shut before JIT's own end comes back, unless something newer took its place.
        Beside::Nothing if switches.deleted_rule_returns != Returns::Never => {
            let mut stays = plain.stays.clone();
            match tale {
                Tale::Refused | Tale::EndedEarly | Tale::EndedAtOnce | Tale::AdoptedEndedEarly => {
                    if switches.deleted_rule_returns == Returns::Always {
                        stays[0].2 = first;
                    }
                    only(stays, RETURNS, "")
                }
                Tale::Overlapping | Tale::AdoptedOverlapping | Tale::RefusedBeside if switches.newer_initiate == NewerInitiate::Adds => {
                    only(stays, RETURNS, "")
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// So long a gap in an opening may be: JIT takes a rule away for a newer one, or Portcullis deletes one that lets in too much and
/// asks for the rest again; and a rule that comes back is deleted again.
fn gap(tale: Tale, switches: &Switches) -> i64 {
    match tale {
        Tale::Overlapping | Tale::AdoptedOverlapping | Tale::RefusedBeside | Tale::AdoptedBeside => opens_within(switches),
        _ if switches.deleted_rule_returns != Returns::Never => opens_within(switches),
        _ => 0,
    }
}

/// Whether the times are those that must be.
fn fits(times: &[Span], must: &[(i64, i64)], switches: &Switches) -> bool {
    let fits = |(span, (must_from, must_until)): (&Span, &(i64, i64))| {
        let opened = (must_from * MINUTE..=must_from * MINUTE + opens_within(switches)).contains(&span.from);
        let latest = (must_until * MINUTE).max(span.from) + shuts_within(switches);
        opened && span.until.is_some_and(|until| (must_until * MINUTE..=latest).contains(&until))
    };
    // Where a delete takes no time, what is shut at sight may have been there for no time.
    let is_never_seen = switches.operation_seconds == 0 && times.is_empty() && must.iter().all(|(from, until)| from == until);
    is_never_seen || times.len() == must.len() && times.iter().zip(must).all(fits)
}

/// A rule about what is below a management group, in the way of nobody here.
const QUARANTINE: &str =
    r#"@id("quarantined") @reason("Nothing below it is opened") forbid (principal, action, resource in ManagementGroup::"quarantine");"#;

/// The small estate with machines for development.
async fn begin(row: &Row) -> Story {
    let world = |state: &mut State| {
        estate::set_switches(state, row.switches.clone());
        for (number, name) in ["web-1", "web-2"].into_iter().enumerate() {
            tag(state, name, "development");
            let port = &mut state.resources.get_mut(&policy()).unwrap()["properties"]["virtualMachines"][number]["ports"][0];
            assert_eq!(port["number"], PORT);
            port["allowedSourceAddressPrefix"] = match row.beside {
                Beside::OneSource => json!(row.beside.source(Who::Developer)),
                _ => json!(AROUND_ALL),
            };
        }
    };
    let setting = Setting::with(world).set("PORTCULLIS_JIT_NEWER", row.newer);
    match row.beside {
        Beside::ManagementGroup => setting.ruled_by("quarantine.cedar", QUARANTINE).begin().await,
        _ => setting.begin().await,
    }
}

/// A cell under way.
struct Cell<'s> {
    story: &'s Story,
    watch: Watch,
    beside: Beside,
}

impl Cell<'_> {
    /// Lets time pass until so many seconds after the beginning.
    async fn until(&mut self, seconds: i64) {
        let target = self.watch.begun + TimeDelta::seconds(seconds);
        self.story.world(|state| self.watch.look(state));
        while self.story.sandbox.engine.step_to(target).await.unwrap() {
            self.story.world(|state| self.watch.look(state));
        }
    }

    /// Somebody opens it around Portcullis. A JIT that refuses is an answer, too.
    async fn opens(&self, who: Who, minutes: i64) {
        let id = match who {
            Who::Responder => estate::RESPONDER_OBJECT_ID,
            Who::Developer => estate::DEVELOPER_OBJECT_ID,
            Who::Admin | Who::Else => estate::ADMIN_OBJECT_ID,
        };
        let end = (self.story.now() + TimeDelta::minutes(minutes)).to_rfc3339();
        let port = json!({"number": PORT, "allowedSourceAddressPrefix": self.beside.source(who), "endTimeUtc": end});
        for machine in self.beside.machines() {
            let body = json!({"virtualMachines": [{"id": vm(machine), "ports": [port]}]});
            self.story.arm(id, reqwest::Method::POST, &format!("{}/initiate", policy()), Some(body)).await;
        }
    }

    /// The operator asks for it for somebody.
    async fn asks(&self, who: Who, minutes: i64) {
        let id = if who == Who::Responder { estate::RESPONDER_OBJECT_ID } else { estate::DEVELOPER_OBJECT_ID };
        for machine in self.beside.machines() {
            self.story.asks_for(id, machine, PORT, self.beside.source(who), &format!("PT{minutes}M")).await;
        }
    }

    /// The operator ends whatever is granted.
    async fn closes(&self) {
        for machine in self.beside.machines() {
            let record = self.story.record(machine).unwrap_or_default();
            for grant in record["grants"].as_array().into_iter().flatten() {
                let path = format!("/grants/{}/close", grant["id"].as_str().unwrap());
                self.story.posts(estate::SECURITY_OBJECT_ID, &path, &json!({"vm": vm(machine)})).await;
            }
        }
    }

    /// What happens besides, once the first opening is there.
    async fn besides(&mut self, tale: Tale) {
        match self.beside {
            Beside::PlanOff => {
                // Before anybody could have shut what must be.
                self.until(if tale == Tale::Refused { 1 } else { 2 * MINUTE }).await;
                self.story.change(|state| state.subscriptions[0].jit_plan = false);
            }
            Beside::PolicyWritten => {
                self.until(2 * MINUTE).await;
                let (_, body) = self.story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::GET, &policy(), None).await;
                let kept = json!({"virtualMachines": body["properties"]["virtualMachines"], "requests": body["properties"]["requests"]});
                let body = json!({"kind": body["kind"], "properties": kept});
                let (status, answer) = self.story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::PUT, &policy(), Some(body)).await;
                assert_eq!(status, 200, "{answer}");
            }
            Beside::Nothing | Beside::OneSource | Beside::Short | Beside::ManagementGroup | Beside::Nameless | Beside::Neighbour => {}
        }
    }
}

impl Cell<'_> {
    /// What became of it in words, and whether it is what it must be.
    fn judged(&self, tale: Tale, must: &Must, row: &Row) -> Result<String, String> {
        let mut told: Vec<String> = Vec::new();
        let mut is_right = true;
        let mut sources: Vec<(&str, Vec<Who>)> = Vec::new();
        for who in PEOPLE {
            let source = self.beside.source(who);
            match sources.iter_mut().find(|(known, _)| *known == source) {
                Some((_, people)) => people.push(who),
                None => sources.push((source, vec![who])),
            }
        }
        for machine in self.beside.machines() {
            let mut last = None;
            for (source, people) in &sources {
                let times = merged(&self.watch.let_in(&((*machine).to_owned(), PORT), &Sources::read([*source])), gap(tale, &row.switches));
                let of_source = must.stays.iter().filter(|(who, ..)| people.contains(who));
                let expected: Vec<(i64, i64)> = of_source.map(|(_, from, until)| (*from, *until)).collect();
                is_right &= fits(&times, &expected, &row.switches);
                if times.is_empty() && !expected.is_empty() {
                    // What was there for no time was shut all the same.
                    let mut closes = self.story.audits_of("close").into_iter();
                    is_right &= closes.any(|close| close["vm"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&vm(machine))));
                }
                last = last.max(times.last().map(|span| span.until.unwrap_or(i64::MAX)));
                let who = self.beside.name(people[0]);
                let machine = if self.beside.machines().len() > 1 { format!("{machine}: ") } else { String::new() };
                told.extend(times.iter().map(|span| format!("{machine}{who} {span}")));
            }
            if let Some(last) = last {
                let proof = self.story.is_seen_shut(machine, PORT);
                is_right &= (proof - self.watch.begun).num_seconds() >= last + 30;
            }
        }
        self.story.holds();
        let alarms = self.story.alarms();
        is_right &= alarms == must.alarms;
        told.extend(Some(alarms).filter(|alarms| !alarms.is_empty()));
        let said = self.said();
        is_right &= match said.as_slice() {
            [] => must.told.is_empty(),
            said => !must.told.is_empty() && said.iter().all(|said| said.contains(must.told)),
        };
        told.extend(Some(must.told).filter(|part| !part.is_empty() && !said.is_empty()).map(|part| format!("\u{201c}{part}\u{201d}")));
        let told = if told.is_empty() { "nobody".to_owned() } else { told.join(", ") };
        if is_right { Ok(told) } else { Err(format!("{told}\n{said:?}\n{}", self.story.told())) }
    }

    /// What people were told of grants that did not come, or ended otherwise than by their time or by somebody's wish.
    fn said(&self) -> Vec<String> {
        let is_plain = |audit: &Value| audit["kind"] == "grant-ended" && (audit["code"] == "time" || audit["code"] == "early");
        let told = self.story.audits().into_iter().filter(|audit| audit["kind"] == "grant-ended" || audit["kind"] == "declined");
        told.filter(|audit| !is_plain(audit)).map(|audit| audit["why"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Plays a cell and tells its end.
async fn play(tale: Tale, row: &Row) -> Result<String, String> {
    let story = begin(row).await;
    let beside = row.beside;
    let mut cell = Cell { story: &story, watch: Watch::begin(story.now(), MACHINES.map(|name| (name, vm(name)))), beside };
    let (first, act, second) = beside.minutes();
    match tale {
        Tale::Refused => cell.opens(Who::Admin, first).await,
        _ if tale.is_direct() => cell.opens(Who::Responder, first).await,
        _ => cell.asks(Who::Developer, first).await,
    }
    if tale == Tale::EndedAtOnce {
        cell.until(3).await;
        cell.closes().await;
    }
    cell.besides(tale).await;
    cell.until(act * MINUTE).await;
    match tale {
        Tale::Adopted | Tale::Refused | Tale::Granted | Tale::EndedAtOnce => {}
        Tale::Overlapping => cell.asks(Who::Responder, second).await,
        Tale::Extended | Tale::AdoptedOverlapping => cell.asks(Who::Developer, second).await,
        Tale::AdoptedExtended => cell.opens(Who::Responder, second).await,
        Tale::EndedEarly | Tale::AdoptedEndedEarly => cell.closes().await,
        Tale::RefusedBeside => cell.opens(Who::Admin, second).await,
        Tale::AdoptedBeside => cell.opens(Who::Responder, second).await,
    }
    cell.until((beside.over(tale) - 7) * MINUTE).await;
    story.change(|state| state.subscriptions[0].jit_plan = true);
    cell.until(beside.over(tale) * MINUTE).await;
    cell.judged(tale, &must(tale, row), row)
}

/// How each cell ended, by its row.
type Ends = BTreeMap<(usize, Tale), Result<String, String>>;

#[tokio::test(flavor = "multi_thread")]
async fn the_cells_of_the_table_end_as_they_must() {
    let ends: Arc<Mutex<Ends>> = Arc::default();
    let rows = rows();
    // The usual setting of a switch makes the usual world: it is played once for all of them.
    let worlds: Vec<usize> = rows.iter().map(|row| rows.iter().position(|first| first.is_same_world(row)).unwrap()).collect();
    let first_of_its_world = |number: &usize| worlds[*number] == *number;
    #[expect(clippy::disallowed_methods, reason = "it is read once, by this test alone")]
    let whole = std::env::var_os("PORTCULLIS_WHOLE_TABLE").is_some();
    let is_played = |(number, tale): &(usize, Tale)| whole || (number + *tale as usize).is_multiple_of(3);
    let cells = (0..rows.len()).filter(first_of_its_world).flat_map(|number| Tale::ALL.map(|tale| (number, tale))).filter(is_played);
    let played = cells.map(|(number, tale)| {
        let (ends, row) = (Arc::clone(&ends), rows[number].clone());
        let name = format!("{tale:?}, {}", row.name);
        let cell = async move {
            // A cell that does not hold is a cell of the table, too.
            let end = tokio::spawn(async move { play(tale, &row).await }).await;
            let end = end.unwrap_or_else(|why| Err(said(why)));
            ends.lock().unwrap().insert((number, tale), end);
        };
        (name, cell)
    });
    each_row(played).await;
    let ends = Arc::into_inner(ends).unwrap().into_inner().unwrap();
    print!("{HEADING}");
    for beside in Beside::ALL {
        println!("  {:<16} {}", format!("{beside:?}"), beside.sentence());
    }
    let (mut wrong, mut told) = (Vec::new(), 0);
    for tale in Tale::ALL {
        println!("\n{tale:?}: {}\n", tale.sentence());
        let ended = rows.iter().zip(&worlds).filter_map(|(row, world)| Some((row, ends.get(&(*world, tale))?)));
        let lines: Vec<[String; 3]> = ended.map(|(row, end)| line(row, tale, end)).collect();
        told += lines.len();
        wrong.extend(lines.iter().filter(|line| line[2].ends_with(WRONG)).map(|line| format!("{tale:?}, {}", line.join("  "))));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        for [setting, was, must] in &lines {
            println!("{setting:<0$}  {was:<1$}  {must}", width(0), width(1));
        }
    }
    println!("\n{told} cells, {} of them otherwise than they must be", wrong.len());
    let whys: Vec<&String> = ends.values().filter_map(|end| end.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{}\n{whys:#?}", wrong.join("\n"));
}

const HEADING: &str = "
How each story of an opening went under every setting of every switch, and what must be after it.

A line: the setting, all other switches being as usual; who was let in from when until when, in minutes and seconds,
with the alarms that were raised (+) and cleared (-) and what people were told; and what must be, in minutes. Whatever
was open was proved shut, by reads at least half a minute after it was last open. Where a name stands after the setting:

";

const WRONG: &str = "  <-- WRONG";

/// A line of the table.
fn line(row: &Row, tale: Tale, end: &Result<String, String>) -> [String; 3] {
    let must = must(tale, row).words(row.beside);
    match end {
        Ok(was) => [row.name.clone(), was.clone(), must],
        Err(was) => [row.name.clone(), was.lines().next().unwrap_or_default().to_owned(), format!("{must}{WRONG}")],
    }
}
