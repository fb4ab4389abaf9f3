//! Every setting of every switch × every story of an opening: how it ended, beside how it must end.
//!
//! `make table` prints the whole table. A cell is worked out from the simulated world alone: who was let in half-way,
//! and what is open and which alarm stands after the end.

#[expect(dead_code, reason = "each test binary uses its part of the harness")]
mod story;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::*;
use serde_json::json;
use story::settings::settings;
use story::{Setting, Story, each_row, tag, vm};

const MINUTE: i64 = 60;
const PORT: u16 = 22;
const OFFICE: &str = "198.51.100.7";
const VPN: &str = "203.0.113.4";
/// What the JIT policy lets the port be opened to: more than either address, so that it matters whether a source must equal it.
const AROUND_BOTH: &str = "192.0.0.0/4";

/// What happens in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tale {
    /// A responder opens it around Portcullis for a quarter of an hour, and a rule permits that.
    Adopted,
    /// An administrator opens it around Portcullis, and no rule permits that.
    Refused,
    /// An operator asks for a quarter of an hour for a developer.
    Granted,
    /// The same, and for a responder until ten minutes and more after that.
    Overlapping,
    /// The same developer gets more in time.
    Extended,
    /// The operator ends it in time.
    EndedEarly,
}

impl Tale {
    const ALL: [Tale; 6] = [Tale::Adopted, Tale::Refused, Tale::Granted, Tale::Overlapping, Tale::Extended, Tale::EndedEarly];

    /// How it must end, unless [`exception`] knows better.
    const fn end(self) -> &'static str {
        match self {
            Tale::Adopted => "open for its time, then gone",
            Tale::Refused => "shut by Portcullis at once",
            Tale::Granted => "open for its time, then shut",
            Tale::Overlapping => "both open, then the second alone, then shut",
            Tale::Extended => "open until the later end, then shut",
            Tale::EndedEarly => "open, shut at the wish",
        }
    }
}

/// The ends that a setting makes different, and why they must be.
fn exception(tale: Tale, switches: &Switches) -> Option<&'static str> {
    // Nobody can open anything to less than the policy's source.
    if switches.source_must == SourceMust::Equal {
        return Some(match tale {
            Tale::Adopted | Tale::Refused => "JIT refuses the person",
            _ => "JIT refuses it, and the reason is told",
        });
    }
    match tale {
        Tale::Refused | Tale::EndedEarly if switches.deleted_rule_returns == Returns::Always => {
            Some("it comes back after each delete: an alarm stands until JIT's own end")
        }
        Tale::Refused if matches!(switches.events, Events::Late | Events::Never) => Some("shut by Portcullis once the sweep found it"),
        Tale::Overlapping if !switches.plural_sources && switches.newer_initiate == NewerInitiate::Replaces => {
            Some("the first stays open alone; the second is refused by JIT, and the reason is told")
        }
        _ => None,
    }
}

/// The small estate with a machine for development.
async fn begin(switches: Switches) -> Story {
    let world = |state: &mut State| {
        state.switches = switches;
        tag(state, "web-1", "development");
        let port = &mut state.resources.get_mut(&story::policy()).unwrap()["properties"]["virtualMachines"][0]["ports"][0];
        port["allowedSourceAddressPrefix"] = json!(AROUND_BOTH);
    };
    Setting::with(world).begin().await
}

/// Whether an alarm stands for the VM.
fn alarm(story: &Story) -> bool {
    story.record("web-1").is_some_and(|record| record["alarms"] != json!({}))
}

/// What is open now: nothing, somebody by name, or both.
fn open(story: &Story) -> &'static str {
    match (story.lets_in("web-1", PORT, &[VPN]), story.lets_in("web-1", PORT, &[OFFICE])) {
        _ if story.allow_rules(PORT).is_empty() => "nobody",
        (true, true) => "both",
        (true, false) => "developer",
        (false, true) => "responder",
        (false, false) => "somebody else",
    }
}

/// Who was let in at each look, with whether an alarm stood.
async fn looks(story: &Story, after: &[i64]) -> Vec<String> {
    let mut seen = Vec::new();
    let mut passed = 0;
    for minute in after {
        story.pass((minute - passed) * MINUTE).await;
        passed = *minute;
        seen.push(format!("{}{}", open(story), if alarm(story) { "!" } else { "" }));
    }
    seen
}

fn words(seen: &[String]) -> Vec<&str> {
    seen.iter().map(String::as_str).collect()
}

/// Whether JIT refused a grant of this story, and that is told as the reason.
fn refused_by_jit(story: &Story) -> bool {
    story
        .audits_of("grant-ended")
        .iter()
        .any(|audit| audit["code"] == "not-opened" && audit["why"].as_str().unwrap_or_default().contains("JIT refuses it"))
}

async fn opened_by(story: &Story, who: &str) -> bool {
    let end = (story.now() + TimeDelta::minutes(15)).to_rfc3339();
    let body = json!({"virtualMachines": [{"id": vm("web-1"), "ports": [{"number": PORT, "allowedSourceAddressPrefix": OFFICE, "endTimeUtc": end}]}]});
    let path = format!("{}/initiate", story::policy());
    story.arm(who, reqwest::Method::POST, &path, Some(body)).await.0 == 202
}

/// Plays a cell and tells its end in the words of the table.
async fn play(tale: Tale, switches: Switches) -> String {
    let story = begin(switches.clone()).await;
    let told = match tale {
        Tale::Adopted | Tale::Refused => {
            let who = if tale == Tale::Adopted { estate::RESPONDER_OBJECT_ID } else { estate::ADMIN_OBJECT_ID };
            if opened_by(&story, who).await { around(tale, &story).await } else { "JIT refuses the person".to_owned() }
        }
        _ => asked(tale, &story).await,
    };
    story.holds();
    told
}

async fn around(tale: Tale, story: &Story) -> String {
    let seen = looks(story, &[4, 8, 13, 30]).await;
    let adopted = story.audits_of("adopted").len();
    match (tale, words(&seen).as_slice()) {
        (Tale::Adopted, ["responder", "responder", "responder", "nobody"]) if adopted == 1 => Tale::Adopted.end().to_owned(),
        (Tale::Refused, ["nobody", "nobody", "nobody", "nobody"]) if adopted == 0 => {
            story.is_proved_shut("web-1", PORT);
            Tale::Refused.end().to_owned()
        }
        (Tale::Refused, ["responder", "nobody", "nobody", "nobody"]) if adopted == 0 => {
            story.is_proved_shut("web-1", PORT);
            "shut by Portcullis once the sweep found it".to_owned()
        }
        (Tale::Refused, [_, alarmed, again, "nobody"]) if alarmed.ends_with('!') && again.ends_with('!') => {
            "it comes back after each delete: an alarm stands until JIT's own end".to_owned()
        }
        _ => format!("{seen:?}, {adopted} adopted\n{}", story.told()),
    }
}

async fn asked(tale: Tale, story: &Story) -> String {
    let granted = story.grants(estate::DEVELOPER_OBJECT_ID, "web-1", PORT, VPN, "PT15M").await;
    let mut seen = looks(story, &[6]).await;
    match tale {
        Tale::Overlapping => drop(story.grants(estate::RESPONDER_OBJECT_ID, "web-1", PORT, OFFICE, "PT25M").await),
        Tale::Extended => drop(story.grants(estate::DEVELOPER_OBJECT_ID, "web-1", PORT, VPN, "PT25M").await),
        Tale::EndedEarly => drop(story.closes(estate::SECURITY_OBJECT_ID, "web-1", granted["grantId"].as_str().unwrap_or_default()).await),
        _ => {}
    }
    // Counted from the sixth minute: before the first grant's end, after its proof, after everything.
    seen.extend(looks(story, &[8, 15, 40]).await);
    let closed = story.audits_of("grant-closed").len();
    let told = match (tale, words(&seen).as_slice(), closed) {
        (Tale::Granted, ["developer", "developer", "nobody", "nobody"], 1)
        | (Tale::Overlapping, ["developer", "both", "responder", "nobody"], 2)
        | (Tale::Extended, ["developer", "developer", "developer", "nobody"], 2)
        | (Tale::EndedEarly, ["developer", "nobody", "nobody", "nobody"], 1) => tale.end(),
        (Tale::EndedEarly, ["developer", alarmed, _, "nobody"], _) if alarmed.ends_with('!') => {
            "it comes back after each delete: an alarm stands until JIT's own end"
        }
        (Tale::Overlapping, ["developer", first, "nobody", "nobody"], 2) if first.starts_with("developer") && refused_by_jit(story) => {
            "the first stays open alone; the second is refused by JIT, and the reason is told"
        }
        (_, [a, b, c, "nobody"], _) if [a, b, c].iter().all(|open| open.starts_with("nobody")) && refused_by_jit(story) => {
            "JIT refuses it, and the reason is told"
        }
        _ => return format!("{seen:?}, {closed} closed\n{}", story.told()),
    };
    told.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_ends_as_it_must() {
    let ends: Arc<Mutex<BTreeMap<(usize, Tale), String>>> = Arc::default();
    let settings = settings();
    let cells = settings.iter().enumerate().flat_map(|(row, (name, switches))| Tale::ALL.map(|tale| (row, name, switches, tale)));
    let rows = cells.map(|(row, name, switches, tale)| {
        let (ends, switches) = (Arc::clone(&ends), switches.clone());
        let cell = async move {
            let end = play(tale, switches).await;
            ends.lock().unwrap().insert((row, tale), end);
        };
        (format!("{tale:?}, {name}"), cell)
    });
    each_row(rows).await;
    let ends = Arc::into_inner(ends).unwrap().into_inner().unwrap();
    let mut wrong = Vec::new();
    for tale in Tale::ALL {
        println!("\n{tale:?}\n{:<46} {:<78} must end", "setting", "ends");
        for (row, (name, switches)) in settings.iter().enumerate() {
            let must = exception(tale, switches).unwrap_or(tale.end());
            let ended = &ends[&(row, tale)];
            println!("{name:<46} {:<78} {must}", ended.lines().next().unwrap_or_default());
            if ended != must {
                wrong.push(format!("{tale:?}, {name}: must end `{must}`, and ended {ended}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells end otherwise:\n{}", wrong.len(), wrong.join("\n"));
}
