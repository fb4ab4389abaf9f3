//! What holds for every VM, whatever is open, granted and recorded, and whatever fails: the reconcile against a small
//! model of Azure.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::audit::AuditKind;
use portcullis_domain::conclude::{conclude, could_not_look};
use portcullis_domain::finding::FindingCode;
use portcullis_domain::grant::{Declined, Grant, Origin, Phase, SHORTEST, live_sources};
use portcullis_domain::initiate::{Newer, Weighs};
use portcullis_domain::jit::{JitRecord, RecordStatus};
use portcullis_domain::judge::{Facts, Limits, uncovered};
use portcullis_domain::opening::Opening;
use portcullis_domain::port::PortSet;
use portcullis_domain::reconcile::{Close, Jit, Look, Mode, Open, Plan, Remark, reconcile};
use portcullis_domain::record::{ALARM_AFTER, Cause, Outcome, Trouble, VmRecord};
use portcullis_domain::ruling::{Confirmations, Rulings};
use portcullis_domain::source::Sources;
use portcullis_domain::time;
use proptest::prelude::*;

const VM: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1";
const POLICY: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/p";
const LIMITS: Limits = Limits { longest_opening: TimeDelta::hours(8) };

fn start() -> DateTime<Utc> {
    time::parse("2026-01-15T10:00:00Z").unwrap()
}

fn seconds(n: i64) -> TimeDelta {
    TimeDelta::seconds(n)
}

fn rule(n: usize, ports: PortSet, sources: Sources) -> Opening {
    let nsg = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/g";
    Opening {
        rule: format!("{nsg}/securityRules/SecurityCenter-JITRule-{n}-{n:032X}").parse().unwrap(),
        ports,
        protocol: "*".to_owned(),
        sources,
        destinations: Sources::read(["10.0.0.4"]),
        flush_connection: false,
    }
}

/// What stands in front of a VM in the model: rules that appear and go at once and whole.
#[derive(Clone, Debug)]
struct Azure {
    rules: Vec<Opening>,
    /// Whether a newer `initiate` takes the rules of older ones away, of which nobody knows.
    newer_replaces: bool,
}

impl Azure {
    fn delete(&mut self, close: &Close) {
        self.rules.retain(|rule| *rule != close.opening);
    }

    fn open(&mut self, open: &Open) {
        if self.newer_replaces {
            self.rules.retain(|rule| rule.ports != PortSet::one(open.port));
        }
        let n = 1000 + self.rules.len();
        self.rules.push(rule(n, PortSet::one(open.port), open.sources.clone()));
    }

    fn apply(&mut self, plan: &Plan, memory: &mut VmRecord, now: DateTime<Utc>) {
        for close in &plan.closes {
            memory.intend_delete(close.port, &close.opening.rule, now);
            memory.delete_came_to(close.port, Outcome::Accepted, None);
            self.delete(close);
        }
        for open in &plan.opens {
            memory.intend_open(open, now);
            memory.open_came_to(open.port, Outcome::Accepted, Weighs::Once);
            self.open(open);
        }
    }

    fn on_port(&self, port: u16) -> Sources {
        self.rules.iter().filter(|rule| rule.ports.contains(port)).fold(Sources::default(), |all, rule| all.union(&rule.sources))
    }
}

/// What one look finds.
#[derive(Clone, Debug)]
struct Scene {
    azure: Azure,
    grants: Vec<Grant>,
    records: Vec<JitRecord>,
    remarks: Vec<Remark>,
}

impl Scene {
    fn look(&self, memory: VmRecord, now: DateTime<Utc>, mode: Mode) -> Plan {
        self.look_where(memory, now, mode, Newer::Replaces)
    }

    fn look_where(&self, memory: VmRecord, now: DateTime<Utc>, mode: Mode, newer: Newer) -> Plan {
        let look = Look {
            now,
            ended: now + seconds(1),
            openings: &self.azure.rules,
            groups_settled: true,
            versions: "",
            jit: Some(Jit { records: &self.records, remarks: &self.remarks }),
            gone: false,
            limits: LIMITS,
            mode,
            newer,
            rulings: &Rulings::new(),
            confirmations: &Confirmations::new(),
            unaudited: &BTreeSet::new(),
        };
        reconcile(memory, &look)
    }

    /// What is remembered after a first look at the scene, with the grants of it.
    fn remembered(&self, mode: Mode) -> VmRecord {
        let mut memory = VmRecord::new(VM.parse().unwrap());
        memory.grants = self.grants.clone();
        self.look(memory, start() - seconds(60), mode).record
    }
}

fn wide() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["*", "0.0.0.0/1", "32.0.0.0/4", "48.0.0.0/4", "64.0.0.0/4", "80.0.0.0/4", "VirtualNetwork", "??"])
}

fn narrow() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["203.0.113.4", "203.0.113.5", "203.0.113.4/31", "203.0.113.0/24", "198.51.100.0/24"])
}

fn a_port() -> impl Strategy<Value = u16> {
    proptest::sample::select(vec![22u16, 23, 3389])
}

fn some_rules() -> impl Strategy<Value = Vec<Opening>> {
    let ports = proptest::sample::select(vec![&["22"][..], &["22"], &["23"], &["3389"], &["22-23"], &["22", "3389"]]);
    let one = (ports, prop_oneof![2 => narrow(), 1 => wide()]);
    proptest::collection::vec(one, 0..6).prop_map(|list| {
        let rules = list.into_iter().enumerate();
        rules.map(|(n, (ports, source))| rule(n, PortSet::parse(ports.iter().copied()).unwrap(), Sources::read([source]))).collect()
    })
}

fn some_grants() -> impl Strategy<Value = Vec<Grant>> {
    use Phase::*;
    let phase = proptest::sample::select(vec![Open, Open, Open, Opening, Approved, Waiting, Closing, Declined(self::Declined::Refused)]);
    let one = (a_port(), narrow(), -4000i64..400, 1i64..8000, phase);
    proptest::collection::vec(one, 0..5).prop_map(|list| {
        let grants = list.into_iter().enumerate();
        grants
            .map(|(n, (port, source, from, length, phase))| Grant {
                id: format!("g{n}"),
                vm: VM.parse().unwrap(),
                port,
                sources: Sources::read([source]),
                // What was approved and not asked for in a quarter of an hour is declined.
                from: start() + seconds(if phase == Approved { from.max(-800) } else { from }),
                until: start() + seconds(if phase == Approved { from.max(-800) } else { from } + length),
                person: "p".to_owned(),
                phase,
                name: String::new(),
                rule: String::new(),
                origin: Origin::Asked,
                confirm_by: None,
                ended: None,
                first_shut_read: None,
                audit: String::new(),
            })
            .collect()
    })
}

fn some_records() -> impl Strategy<Value = Vec<JitRecord>> {
    let status = proptest::sample::select(vec!["Initiated", "Initiating", "Revoked", "Odd"]);
    let one = (a_port(), prop_oneof![narrow(), wide()], -30_000i64..0, -100i64..40_000, status);
    proptest::collection::vec(one, 0..4).prop_map(|list| {
        let records = list.into_iter();
        records
            .map(|(port, source, from, until, status)| JitRecord {
                vm: VM.parse().unwrap(),
                port,
                start: start() + seconds(from),
                end: start() + seconds(until),
                sources: Sources::read([source]),
                status: RecordStatus::from(status.to_owned()),
                status_reason: String::new(),
                requestor: None,
                justification: None,
                mapped_port: None,
                policy: POLICY.parse().unwrap(),
            })
            .collect()
    })
}

fn some_remarks() -> impl Strategy<Value = Vec<Remark>> {
    let code = proptest::sample::select(vec![FindingCode::FirewallPolicy, FindingCode::FirewallPort, FindingCode::UnreadableRecord]);
    let one = (code, proptest::option::of(a_port()), "[ab]", "[xyz]");
    let remark = one.prop_map(|(code, port, about, evidence)| Remark { code, port, about, evidence });
    proptest::collection::vec(remark, 0..4)
}

fn a_scene() -> impl Strategy<Value = Scene> {
    (some_rules(), any::<bool>(), some_grants(), some_records(), some_remarks()).prop_map(
        |(rules, newer_replaces, grants, records, remarks)| Scene { azure: Azure { rules, newer_replaces }, grants, records, remarks },
    )
}

/// Two scenes of one VM, a minute apart: some of what the first one had is still there.
fn two_scenes() -> impl Strategy<Value = (Scene, Scene)> {
    (a_scene(), a_scene(), 0usize..4).prop_map(|(before, mut after, kept)| {
        let again: Vec<Opening> = before.azure.rules.iter().take(kept).cloned().collect();
        after.azure.rules.retain(|rule| again.iter().all(|kept| kept.rule != rule.rule));
        after.azure.rules.extend(again);
        (before, after)
    })
}

/// The second look at two scenes, with the grants of the second.
fn second_look(before: &Scene, after: &Scene, mode: Mode) -> Plan {
    let mut memory = before.remembered(mode);
    memory.grants = after.grants.clone();
    after.look(memory, start(), mode)
}

fn is_covered(opening: &Opening, grants: &[Grant]) -> bool {
    uncovered(opening, Facts { now: start(), records: &[], grants, asked: &[], ended_early: &[], limits: LIMITS }).is_empty()
}

proptest! {
    #[test]
    fn what_live_grants_allow_is_open_when_the_plan_is_carried_out((before, after) in two_scenes()) {
        let plan = second_look(&before, &after, Mode::Enforce);
        let mut azure = after.azure.clone();
        azure.apply(&plan, &mut plan.record.clone(), start());
        for grant in after.grants.iter().filter(|grant| grant.is_live(start())) {
            if plan.cut_short.contains(&grant.id) || plan.shut_by_another.contains(&grant.id) {
                continue;
            }
            prop_assert!(azure.on_port(grant.port).covers(&grant.sources), "{grant:?}");
        }
        for open in &plan.opens {
            prop_assert!(live_sources(&after.grants, open.port, start()).covers(&open.sources));
            prop_assert!(open.until - start() >= TimeDelta::minutes(5));
        }
    }

    #[test]
    fn where_a_newer_initiate_adds_grants_are_opened_one_after_another((before, after) in two_scenes()) {
        let mut memory = before.remembered(Mode::Enforce);
        memory.grants = after.grants.clone();
        // Nobody is granted less than Azure's shortest time.
        memory.grants.retain(|grant| grant.phase != Phase::Approved || grant.until - grant.from >= SHORTEST);
        let mut scene = after;
        scene.azure.newer_replaces = false;
        // JIT would write a record for each opening; older ones tell of other rules.
        scene.records.clear();
        let live = |memory: &VmRecord| memory.grants.iter().filter(|grant| grant.is_live(start())).cloned().collect::<Vec<Grant>>();
        let most = scene.grants.len() + 1;
        let mut shut_by_another = BTreeSet::new();
        for turn in 0..=most {
            let plan = scene.look_where(memory, start(), Mode::Enforce, Newer::Adds);
            memory = plan.record.clone();
            shut_by_another.extend(plan.shut_by_another.clone());
            for open in &plan.opens {
                prop_assert_eq!(open.grants.len(), 1);
            }
            let ports: BTreeSet<u16> = plan.opens.iter().map(|open| open.port).collect();
            prop_assert_eq!(ports.len(), plan.opens.len(), "one at a time on a port");
            if plan.opens.is_empty() && plan.closes.is_empty() {
                break;
            }
            prop_assert!(turn < most, "there is no end of it: {:?}", plan.opens);
            scene.azure.apply(&plan, &mut memory, start());
        }
        for grant in live(&memory).into_iter().filter(|grant| !shut_by_another.contains(&grant.id)) {
            prop_assert!(scene.azure.on_port(grant.port).covers(&grant.sources), "{:?}", grant);
        }
    }

    #[test]
    fn nothing_that_live_grants_cover_is_ever_closed((before, after) in two_scenes()) {
        let plan = second_look(&before, &after, Mode::Enforce);
        // A grant that cannot be opened again has ended, and what it let in goes with it.
        let live: Vec<Grant> = after.grants.iter().filter(|grant| !plan.cut_short.contains(&grant.id)).cloned().collect();
        for close in plan.closes {
            prop_assert!(!is_covered(&close.opening, &live));
            prop_assert!(after.azure.rules.contains(&close.opening));
        }
    }

    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_plan((before, after) in two_scenes(), observe in any::<bool>()) {
        let mode = if observe { Mode::Observe } else { Mode::Enforce };
        let plan = second_look(&before, &after, mode);
        let mut done = after.clone();
        // What a newer initiate takes away is news, not a second plan.
        done.azure.newer_replaces = false;
        let mut memory = plan.record.clone();
        done.azure.apply(&plan, &mut memory, start());
        let again = done.look(memory, start(), mode);
        // That the rule of a grant is seen is what the plan was for.
        let news: Vec<_> = again.audits.into_iter().filter(|audit| audit.kind != AuditKind::Opened).collect();
        prop_assert_eq!((again.closes, again.opens, news), (vec![], vec![], vec![]));
        // What was opened for one grant may cover another.
        prop_assert!(again.cut_short.is_subset(&plan.cut_short) && again.shut_by_another.is_subset(&plan.shut_by_another));
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter((before, after) in two_scenes(), observe in any::<bool>(), turn in 0usize..5) {
        let mode = if observe { Mode::Observe } else { Mode::Enforce };
        let mut turned = after.clone();
        fn rotate<T>(list: &mut [T], by: usize) {
            list.reverse();
            let by = by.min(list.len());
            list.rotate_left(by);
        }
        rotate(&mut turned.azure.rules, turn);
        rotate(&mut turned.records, turn);
        rotate(&mut turned.grants, turn);
        rotate(&mut turned.remarks, turn);
        let one = second_look(&before, &after, mode);
        let mut other = second_look(&before, &turned, mode);
        other.record.grants.clone_from(&one.record.grants);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn every_opening_to_the_internet_that_no_grant_covers_is_closed_in_enforce_and_none_in_observe((before, after) in two_scenes()) {
        let plan = second_look(&before, &after, Mode::Enforce);
        for opening in after.azure.rules.iter().filter(|opening| opening.sources.amounts_to_internet()) {
            let closed = plan.closes.iter().any(|close| close.opening == *opening);
            prop_assert_eq!(closed, !is_covered(opening, &after.grants));
        }
        let mut plan = second_look(&before, &after, Mode::Observe);
        conclude(&mut plan.record, start(), Mode::Observe);
        prop_assert!(plan.closes.is_empty() && plan.opens.is_empty() && plan.record.closings.is_empty() && plan.record.alarms.is_empty());
    }
}

/// What happens between two looks, and to what a look does.
#[derive(Clone, Copy, Debug)]
enum Chance {
    Works,
    /// The answer is lost, after the effect or before it.
    AnswerLost {
        done: bool,
    },
    Refused(Option<Cause>),
    /// It is accepted, and the rule is there again at once.
    Returns,
    /// It is accepted and takes until after the next look.
    Slow,
    CannotLook,
    /// The run is killed between the intent and its outcome.
    Killed {
        done: bool,
    },
    /// Somebody opens another port, or the same one once more.
    Opened {
        port: u16,
    },
}

fn a_chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        4 => Just(Chance::Works),
        1 => any::<bool>().prop_map(|done| Chance::AnswerLost { done }),
        1 => proptest::sample::select(vec![None, Some(Cause::Lock), Some(Cause::Denial), Some(Cause::MissingRight)]).prop_map(Chance::Refused),
        1 => Just(Chance::Returns),
        1 => Just(Chance::Slow),
        1 => Just(Chance::CannotLook),
        1 => any::<bool>().prop_map(|done| Chance::Killed { done }),
        1 => a_port().prop_map(|port| Chance::Opened { port }),
    ]
}

/// The product's promise, watched at every step.
struct Watch {
    scene: Scene,
    memory: VmRecord,
    now: DateTime<Utc>,
    /// Rules whose accepted delete is still under way.
    under_way: Vec<Opening>,
}

impl Watch {
    fn step(&mut self, chance: Chance) -> Result<(), TestCaseError> {
        if let Chance::Opened { port } = chance {
            let n = 500 + self.now.timestamp().unsigned_abs() as usize % 400;
            let opened = rule(n, PortSet::one(port), Sources::internet());
            self.scene.azure.rules.retain(|rule| rule.rule != opened.rule);
            self.scene.azure.rules.push(opened);
        }
        let settled = self.under_way.is_empty();
        if matches!(chance, Chance::CannotLook) {
            could_not_look(&mut self.memory, self.now, Trouble { cause: Cause::CannotLook, said: "503".to_owned() });
        } else {
            self.look(settled, chance)?;
        }
        for rule in std::mem::take(&mut self.under_way).into_iter().filter(|_| !settled) {
            self.scene.azure.rules.retain(|there| *there != rule);
        }
        if !matches!(chance, Chance::Killed { .. }) {
            conclude(&mut self.memory, self.now, Mode::Enforce);
            self.check_alarms()?;
        }
        Ok(())
    }

    fn look(&mut self, settled: bool, chance: Chance) -> Result<(), TestCaseError> {
        let look = Look {
            now: self.now,
            ended: self.now + seconds(1),
            openings: &self.scene.azure.rules,
            groups_settled: settled,
            versions: "",
            jit: Some(Jit { records: &self.scene.records, remarks: &[] }),
            gone: false,
            limits: LIMITS,
            mode: Mode::Enforce,
            newer: Newer::Replaces,
            rulings: &Rulings::new(),
            confirmations: &Confirmations::new(),
            unaudited: &BTreeSet::new(),
        };
        let before = self.memory.clone();
        let plan = reconcile(before.clone(), &look);
        for proof in plan.audits.iter().filter(|audit| audit.kind == AuditKind::ProvedShut) {
            let closing = &before.closings[&proof.port.unwrap()];
            let shows = self.scene.azure.rules.iter().any(|rule| closing.targets.iter().any(|target| target.is_same(rule)));
            prop_assert!(!shows && settled, "{proof:?}");
            let first = closing.first_shut_read.unwrap();
            prop_assert!(self.now - first >= seconds(30));
            prop_assert!(closing.last_delete.is_none_or(|sent| sent < first));
        }
        for opening in self.scene.azure.rules.iter().filter(|rule| rule.sources.amounts_to_internet()) {
            prop_assert!(plan.record.closings.values().any(|closing| closing.targets.iter().any(|target| target.is_same(opening))));
        }
        self.memory = plan.record;
        for close in &plan.closes {
            self.delete(close, chance);
        }
        Ok(())
    }

    fn delete(&mut self, close: &Close, chance: Chance) {
        self.memory.intend_delete(close.port, &close.opening.rule, self.now);
        let mut came = |outcome, trouble: Option<Cause>| {
            let trouble = trouble.map(|cause| Trouble { cause, said: String::new() });
            self.memory.delete_came_to(close.port, outcome, trouble);
        };
        match chance {
            Chance::Works | Chance::Opened { .. } | Chance::CannotLook => {
                came(Outcome::Accepted, None);
                self.scene.azure.delete(close);
            }
            Chance::Returns => came(Outcome::Accepted, None),
            Chance::AnswerLost { done } => {
                came(Outcome::Unknown(String::new()), None);
                if done {
                    self.scene.azure.delete(close);
                }
            }
            Chance::Refused(cause) => came(Outcome::Failed(String::new()), cause),
            Chance::Slow => {
                came(Outcome::Accepted, None);
                self.under_way.push(close.opening.clone());
            }
            Chance::Killed { done } => {
                if done {
                    self.scene.azure.delete(close);
                }
            }
        }
    }

    fn check_alarms(&self) -> Result<(), TestCaseError> {
        for (port, closing) in &self.memory.closings {
            let stands = self.memory.alarms.contains_key(&format!("close-{port}"));
            // What is not seen any more lacks its proof alone, and the first half of that is there.
            let shows = self.memory.openings.iter().any(|seen| closing.targets.iter().any(|target| target.is_same(&seen.opening)));
            let since = closing.clear_since.filter(|_| !shows).map_or(closing.since, |first| first.max(closing.since));
            let is_told = !shows && self.memory.alarms.contains_key("cannot-look");
            let late = self.now >= since + ALARM_AFTER && !is_told;
            let at_once = closing.trouble.as_ref().is_some_and(|trouble| trouble.cause.is_alarm_at_once());
            if late || at_once {
                prop_assert!(stands);
            }
            prop_assert!(self.memory.next_look.is_some_and(|next| next > self.now));
            prop_assert!(stands || is_told || self.memory.next_look <= Some(since + ALARM_AFTER));
        }
        Ok(())
    }

    fn is_shut(&self) -> bool {
        let harmless = !self.scene.azure.rules.iter().any(|rule| rule.sources.amounts_to_internet());
        harmless && self.memory.closings.is_empty() && self.memory.blind.is_none()
    }
}

proptest! {
    #[test]
    fn every_story_ends_proved_shut_or_with_an_alarm_standing(
        rules in some_rules(),
        records in some_records(),
        chances in proptest::collection::vec((a_chance(), 1i64..90), 0..25),
        last in a_chance(),
    ) {
        let scene = Scene { azure: Azure { rules, newer_replaces: false }, grants: Vec::new(), records, remarks: Vec::new() };
        let mut watch = Watch { scene, memory: VmRecord::new(VM.parse().unwrap()), now: start(), under_way: Vec::new() };
        for (chance, pause) in chances {
            watch.step(chance)?;
            watch.now += seconds(pause);
        }
        // From here on the looks come when they are asked for, and one thing goes wrong for good, or nothing.
        let given_up = watch.now + TimeDelta::minutes(20);
        let last = if matches!(last, Chance::Opened { .. } | Chance::Killed { .. }) { Chance::Works } else { last };
        watch.step(last)?;
        // What becomes wrong at the very end, since its time is over only then, has its five minutes, too.
        let is_young = |memory: &VmRecord| memory.closings.values().any(|closing| closing.since + ALARM_AFTER >= given_up);
        let goes_on = |memory: &VmRecord| if is_young(memory) { given_up + ALARM_AFTER + seconds(60) } else { given_up };
        while let Some(next) = watch.memory.next_look.filter(|next| *next < goes_on(&watch.memory)) {
            watch.now = next;
            watch.step(last)?;
        }
        let alarmed = watch.memory.alarms.keys().any(|key| key.starts_with("close-") || key == "cannot-look");
        prop_assert!(watch.is_shut() || alarmed, "{:?}", watch.memory);
        if matches!(last, Chance::Works) {
            let initiating = watch.scene.records.iter().any(|record| record.is_initiating(given_up - TimeDelta::minutes(3)));
            prop_assert!(watch.is_shut() || initiating, "{:?}", watch.memory);
        }
    }
}
