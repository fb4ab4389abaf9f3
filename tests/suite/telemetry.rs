//! What Application Insights is told of the work: one connected story, nobody's name, and no harm to the work itself.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::state::{Lock, LockLevel, State};
use portcullis_trials::story::{DELETE, Setting, Story, each_row, tag, vm};
use serde_json::{Value, json};

const HOUR: TimeDelta = TimeDelta::hours(1);
const OFFICE: &str = "198.51.100.7";

/// One span, as Application Insights has it.
#[derive(Clone, Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: String,
    path: String,
    properties: Value,
    /// The trace and the id of each span that it came of.
    links: Vec<(String, String)>,
}

impl Span {
    fn read(item: &Value) -> Option<Span> {
        let data = &item["data"]["baseData"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (item["data"]["baseType"] == "RemoteDependencyData").then(|| Span {
            trace: text(&item["tags"]["ai.operation.id"]),
            parent: text(&item["tags"]["ai.operation.parentId"]),
            id: text(&data["id"]),
            name: text(&data["name"]),
            kind: text(&data["type"]),
            path: text(&data["data"]),
            links: links(&data["properties"]["_MS.links"]),
            properties: data["properties"].clone(),
        })
    }

    fn is_invocation(&self) -> bool {
        self.kind == "InProc"
    }
}

fn links(property: &Value) -> Vec<(String, String)> {
    let links: Vec<Value> = property.as_str().map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    links.iter().map(|link| (text(&link["operation_Id"]), text(&link["id"]))).collect()
}

/// All that was told.
struct Told {
    items: Vec<Value>,
    spans: BTreeMap<(String, String), Span>,
}

impl Told {
    fn of(story: &Story) -> Told {
        let items: Vec<Value> = story.world(|state| state.telemetry.iter().map(|one| one.item.clone()).collect());
        let all: Vec<Span> = items.iter().filter_map(Span::read).collect();
        let spans: BTreeMap<_, _> = all.iter().map(|span| ((span.trace.clone(), span.id.clone()), span.clone())).collect();
        assert_eq!(all.len(), spans.len(), "each span is told once and has an id of its own");
        Told { items, spans }
    }

    fn invocations(&self) -> impl Iterator<Item = &Span> {
        self.spans.values().filter(|span| span.is_invocation())
    }

    fn calls(&self) -> impl Iterator<Item = &Span> {
        self.spans.values().filter(|span| !span.is_invocation())
    }

    /// The invocation that a call was made in.
    fn around(&self, call: &Span) -> &Span {
        &self.spans[&(call.trace.clone(), call.parent.clone())]
    }

    /// The functions that led to an invocation, the first one first.
    fn chain(&self, invocation: &Span) -> Vec<String> {
        let mut chain = match invocation.links.as_slice() {
            [] => Vec::new(),
            [sender] => self.chain(self.around(&self.spans[sender])),
            more => panic!("one message has one sender: {more:?}"),
        };
        chain.push(invocation.name.clone());
        chain
    }

    /// The sum of a metric over what is measured where these hold, and how many values it is of.
    fn sum(&self, metric: &str, dimensions: &[(&str, &str)]) -> (f64, u64) {
        let holds = |data: &Value| dimensions.iter().all(|(name, value)| data["properties"][*name] == *value);
        let data = self.items.iter().filter(|item| item["data"]["baseType"] == "MetricData").map(|item| &item["data"]["baseData"]);
        let points: Vec<&Value> =
            data.filter(|data| holds(data)).map(|data| &data["metrics"][0]).filter(|it| it["name"] == metric).collect();
        (points.iter().filter_map(|point| point["value"].as_f64()).sum(), points.iter().filter_map(|point| point["count"].as_u64()).sum())
    }
}

/// An hour in which something was opened around Portcullis and shut by it.
async fn an_opening(setting: Setting) -> Story {
    let story = setting.begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(600).await;
    story.is_proved_shut("web-1", 3389);
    story
}

#[tokio::test]
async fn an_opening_can_be_followed_from_its_event_to_the_deletes_and_the_rows() {
    let story = an_opening(Setting::default().telling()).await;
    story.stops().await;
    let told = Told::of(&story);
    let host = story.sandbox.host.as_ref().unwrap().record().invocations();

    let of_host: BTreeSet<(String, String)> = host.iter().map(|one| (one.function.clone(), one.id.replace('-', ""))).collect();
    let of_ours: BTreeSet<(String, String)> = told.invocations().map(|span| (span.name.clone(), span.trace.clone())).collect();
    assert_eq!(of_ours, of_host, "each invocation is told once, in the host's operation");
    for span in told.invocations() {
        assert_eq!(span.parent, span.trace[16..], "below the host's own span");
        assert_eq!(span.properties["faas.invocation_id"].as_str().unwrap().replace('-', ""), span.trace);
    }
    let strays =
        told.calls().filter(|call| !call.parent.is_empty() && !told.spans.contains_key(&(call.trace.clone(), call.parent.clone())));
    assert_eq!(strays.count(), 0, "each call is below the invocation that made it");

    let deletes: Vec<&Span> = told.calls().filter(|call| call.name.starts_with("DELETE Microsoft.Network/")).collect();
    assert_eq!(deletes.len(), story.tried(DELETE).len(), "{deletes:#?} {:#?}", story.tried(DELETE));
    for delete in deletes {
        let chain = told.chain(told.around(delete));
        assert_eq!((chain[0].as_str(), chain.last().unwrap().as_str()), ("jit_activity", "approval"), "{chain:?}");
        assert!(delete.path.to_lowercase().contains("/securityrules/") && delete.properties["tries"] == "1", "{delete:?}");
    }
    let rows = told.invocations().filter(|span| span.name == "alert").map(|span| told.chain(span));
    let (of_event, others): (Vec<_>, Vec<_>) = rows.partition(|chain| chain[0] == "jit_activity");
    assert!(of_event.len() >= 2, "those of the look that shut it, and of the one that proved that: {of_event:?} {others:?}");
    let proofs = told.invocations().filter(|span| span.name == "approval").map(|span| told.chain(span)).filter(|chain| chain.len() >= 4);
    assert!(proofs.count() > 0, "a wake-up is followed, too");
}

#[tokio::test]
async fn nobody_is_named_and_no_token_is_told() {
    let development = |state: &mut _| tag(state, "web-2", "development");
    let story = an_opening(Setting::with(development).telling()).await;
    story.grants(estate::DEVELOPER_OBJECT_ID, "web-2", 22, OFFICE, "PT30M").await;
    let wish = json!({"vm": vm("web-2"), "port": 22, "sources": [OFFICE], "duration": "PT30M", "reason": "a story", "person": "nobody@sandbox.example"});
    assert_eq!(story.posts(estate::SECURITY_OBJECT_ID, "/grants", &wish).await.0, 400);
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-2"), 3389, &[OFFICE], HOUR).await;
    assert_eq!(story.reads(estate::SECURITY_OBJECT_ID, "/people/ada.admin@sandbox.example").await.0, 404);
    story.pass(3600).await;
    story.stops().await;
    let text = Value::from(Told::of(&story).items).to_string().to_lowercase();
    assert!(text.contains("{person}"), "somebody was asked for");
    let people = story.world(|state| state.principals.iter().filter(|one| !one.upn.is_empty()).cloned().collect::<Vec<_>>());
    let of_people = people.into_iter().flat_map(|person| [person.object_id, person.upn, person.name]);
    let others = ["@", "%40", OFFICE, "127.0.0.1:", "bearer", "eyj", "nobody"].map(str::to_owned);
    for word in of_people.chain(others).map(|word| word.to_lowercase()) {
        let around = text.find(&word).map(|at| text.chars().skip(at.saturating_sub(300)).take(500).collect::<String>());
        assert_eq!(around, None, "{word} is told");
    }
}

#[tokio::test]
async fn without_the_setting_nothing_is_told_and_messages_are_as_they_were() {
    let story = Setting::default().begin().await;
    story.count("insights", "*", "");
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(20).await;
    let properties = story.world(|state| state.queues["approval"].messages.iter().map(|one| one.user_properties.len()).collect::<Vec<_>>());
    assert!(!properties.is_empty() && properties.iter().all(|count| *count == 0), "{properties:?}");
    story.stops().await;
    assert_eq!((story.counted(), Told::of(&story).items.len()), (0, 0));
}

/// The deletes and what was written down of them, each with its time.
fn work(story: &Story) -> Vec<String> {
    let deletes = story.tried(DELETE).into_iter().map(|entry| format!("{} {} {}", entry.at, entry.target, entry.status));
    let audits = story.audits().into_iter().map(|audit| format!("{} {} {}", audit["at"], audit["kind"], audit["id"]));
    let mut work: Vec<String> = deletes.chain(audits).collect();
    work.sort();
    work
}

#[tokio::test]
async fn an_endpoint_that_fails_hangs_or_throttles_changes_nothing_about_the_work() {
    let expected = work(&an_opening(Setting::default()).await);
    let mut rows = vec![
        ("it is cut before".to_owned(), Effect::CutBefore),
        ("it is cut after".to_owned(), Effect::CutAfter),
        ("it hangs".to_owned(), Effect::Delay { milliseconds: 3_600_000 }),
    ];
    for (status, retry_after) in
        [(400, None), (401, None), (402, Some(60)), (403, None), (429, Some(3600)), (439, Some(60)), (500, None), (503, Some(1))]
    {
        rows.push((format!("it answers {status}"), Effect::status(status, retry_after)));
    }
    let expected = &expected;
    each_row(rows.into_iter().map(|(name, effect)| {
        let expected = expected.clone();
        (name, async move {
            let setting = Setting::with(|state| state.faults.push(Fault::new("insights", "*", "", effect)));
            let story = an_opening(setting.telling()).await;
            assert_eq!(work(&story), expected);
            story.stops().await;
            let met = story.world(|state| state.met.len());
            assert!(met > 0 && met < 30, "it was asked, and not for ever: {met} times");
            assert!(story.sandbox.host.as_ref().unwrap().record().failures().is_empty());
        })
    }))
    .await;
}

#[tokio::test]
async fn what_cannot_be_told_is_said_in_the_log_once() {
    let setting = Setting::with(|state| {
        state.faults.push(Fault::new("insights", "*", "", Effect::status(403, None)));
    });
    let story = an_opening(setting.telling()).await;
    story.stops().await;
    let lines = story.sandbox.host.as_ref().unwrap().process().unwrap().lines();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("telemetry")).collect();
    assert!(told.len() == 1 && told[0].contains("sending telemetry to Application Insights"), "{told:#?}");
}

#[tokio::test]
async fn metrics_add_up_to_what_the_world_saw() {
    let lock = |state: &mut State| {
        let scope = format!("/subscriptions/{}/resourceGroups/{}", estate::SUBSCRIPTION, estate::GROUP);
        state.locks.push(Lock::new(scope, LockLevel::CanNotDelete));
    };
    let story = Setting::with(lock).telling().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(600).await;
    story.change(|state| state.locks.clear());
    story.pass(600).await;
    story.is_proved_shut("web-1", 3389);
    story.stops().await;
    let told = Told::of(&story);

    for (kind, change) in [("alarm-raised", "raised"), ("alarm-cleared", "cleared")] {
        let audits = story.audits_of(kind);
        assert!(!audits.is_empty());
        assert_eq!(told.sum("portcullis.alarms", &[("change", change)]).0, audits.len() as f64, "{kind}");
    }
    let shut = told.sum("portcullis.shut", &[]);
    assert_eq!(shut.1, story.audits_of("proved-shut").len() as u64);
    assert!(shut.0 >= 600.0, "{shut:?}");
    assert_eq!(told.sum("portcullis.rows", &[]).0, story.world(|state| state.rows.len()) as f64);
    let host = story.sandbox.host.as_ref().unwrap().record().invocations();
    for function in ["jit_activity", "approval", "sweep", "sweep_shard", "schedule", "alert"] {
        let times = host.iter().filter(|one| one.function == function).count();
        assert_eq!(told.sum("portcullis.invocations", &[("function", function)]).1, times as u64, "{function}");
    }
    for service in ["Azure Resource Manager", "Blob storage", "Service Bus", "Logs Ingestion"] {
        let spans = told.calls().filter(|call| call.properties["peer.service"] == service).count();
        assert_eq!(told.sum("portcullis.calls", &[("service", service)]).1, spans as u64, "{service}");
    }
    let sweeps = host.iter().filter(|one| one.function == "sweep_shard").count();
    let vms = story.world(|state| state.resources.of_type("Microsoft.Compute/virtualMachines").count());
    assert!(told.sum("portcullis.sweep.vms", &[]).0 <= (sweeps * vms) as f64 && told.sum("portcullis.sweep.vms", &[]).0 > 0.0);
    assert_eq!(told.sum("portcullis.telemetry.lost", &[]).0, 0.0);
    let measured = told.items.iter().filter(|item| item["data"]["baseType"] == "MetricData");
    let dimensions: BTreeSet<&str> =
        measured.flat_map(|item| item["data"]["baseData"]["properties"].as_object().unwrap().keys()).map(String::as_str).collect();
    assert_eq!(
        dimensions,
        BTreeSet::from(["change", "code", "function", "outcome", "service", "service.name", "service.version", "status"])
    );
}
