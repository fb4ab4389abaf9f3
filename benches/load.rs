//! Many openings to everybody in one moment: `make bench ONLY=load`.
//!
//! First a thousand, each with its event. Then ten thousand events, of which many are the same ones again and some are missing,
//! while every service refuses a call now and then; and the same once more while Azure's clock runs with the machine's, so that locks,
//! leases and messages outlive what is done too slowly. What is missing and what is doubled is drawn from a seed, a new one each time;
//! `-- SEED` draws it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::world::World;
use portcullis_trials::story::{DELETE, Setting, Story};

use crate::draw::Draw;
use crate::shared::{a_sandbox, an_estate, is_delete, opens, resident};

#[path = "shared/draw.rs"]
mod draw;
mod shared;

const AT_ONCE: u64 = 1_000;
const EVENTS: usize = 10_000;
/// What is opened in the burst: the other events are doubles.
const OPENINGS: u64 = 6_000;
/// Of this many events one never comes.
const ONE_LOST_OF: u64 = 20;
/// So many calls in a row are refused, and then so many are not.
const REFUSED: u32 = 50;
const LET_THROUGH: u32 = 2_000;
const STORMS: u32 = 60;
/// Three sweeps, and more than the last round of an event and all that follows from it.
const WATCHED_FOR: TimeDelta = TimeDelta::minutes(16);
/// A proof, the next sweep, and what follows from it.
const PROVED_WITHIN: TimeDelta = TimeDelta::minutes(7);
/// How often it is looked how much is done.
const WATCHED_EVERY: Duration = Duration::from_micros(500);
/// The same of a burst, in seconds.
const STEP: i64 = 10;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut draw = Draw::of_command_line();
    let dir = tempfile::tempdir()?;
    runtime.block_on(async {
        let sandbox = a_sandbox(dir.path().join("at-once"), an_estate(AT_ONCE)?, Duration::ZERO).await?;
        at_once(&sandbox).await
    })?;
    runtime.block_on(burst(&mut draw, Pace::Standing))?;
    runtime.block_on(burst(&mut draw, Pace::Running))
}

/// Whether Azure's time stands still while the handler works, or passes with the machine's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Standing,
    Running,
}

/// A thousand openings, each asked for by itself, whose events all arrive in the same moment: from that moment until each one's
/// delete was accepted.
async fn at_once(sandbox: &Sandbox) -> anyhow::Result<()> {
    for n in 0..AT_ONCE {
        opens(sandbox, n).await?;
    }
    let (calls, began, over) = (sandbox.world.calls(), Instant::now(), Arc::new(AtomicBool::new(false)));
    let watcher = {
        let (world, over) = (sandbox.world.clone(), Arc::clone(&over));
        thread::spawn(move || watch(&world, began, &over))
    };
    sandbox.engine.settle().await?;
    let rest = began.elapsed();
    over.store(true, Ordering::SeqCst);
    let times = watcher.join().map_err(|_| anyhow::anyhow!("the watcher died"))?;
    anyhow::ensure!(times.len() as u64 == AT_ONCE, "{} deletes of {AT_ONCE}", times.len());
    let deleted: BTreeSet<String> =
        sandbox.world.lock().log.iter().filter(|entry| is_delete(entry)).map(|entry| entry.target.clone()).collect();
    anyhow::ensure!(deleted.len() as u64 == AT_ONCE, "the deletes are of {} rules", deleted.len());
    let at = |n: usize| times[n].as_secs_f64();
    println!(
        "{AT_ONCE} openings to everybody, by one person and at once, from their events' arrival until each one's delete was \
         accepted: median {:.2} s, 99th percentile {:.2} s, last {:.2} s; at rest after {:.2} s and {} calls",
        at(times.len() / 2),
        at(times.len() * 99 / 100),
        at(times.len() - 1),
        rest.as_secs_f64(),
        sandbox.world.calls() - calls
    );
    println!("{}", resident(sandbox)?);
    Ok(())
}

/// When each delete was accepted, by the machine's clock, in their order.
#[expect(clippy::disallowed_methods, reason = "it watches by the machine's clock, and leaves the world to others in between")]
fn watch(world: &World, began: Instant, over: &AtomicBool) -> Vec<Duration> {
    let (mut seen, mut times) = (0, Vec::new());
    loop {
        let last = over.load(Ordering::SeqCst);
        {
            let state = world.lock();
            let now = began.elapsed();
            times.extend(state.log.iter().skip(seen).filter(|entry| is_delete(entry)).map(|_| now));
            seen = state.log.len();
        }
        if last {
            return times;
        }
        thread::sleep(WATCHED_EVERY);
    }
}

/// Ten thousand events, doubled, lost, and with every service refusing calls; nothing may be lost or done twice.
async fn burst(draw: &mut Draw, pace: Pace) -> anyhow::Result<()> {
    let story = Setting { state: an_estate(OPENINGS)?, ..Setting::default() }.telling().begin().await;
    for n in 0..OPENINGS {
        opens(&story.sandbox, n).await?;
    }
    let (lost, doubled) = story.change(|state| {
        let events = &mut state.event_grid.pending;
        let told = events.len();
        events.retain(|_| draw.below(ONE_LOST_OF) > 0);
        let lost = told - events.len();
        let once = events.len();
        while events.len() < EVENTS {
            let place = usize::try_from(draw.below(once as u64)).unwrap_or_default();
            let again = events[place].clone();
            events.push(again);
        }
        let doubled = events.len() - once;
        for storm in 0..STORMS {
            // One that is over within a call's own patience, and one that is not.
            let wait = if storm % 2 == 0 { 1 } else { 20 };
            let refuses = Fault::new("*", "*", "", Effect::status(429, Some(wait))).of_handler();
            state.faults.push(refuses.skip(LET_THROUGH * (storm + 1)).times(REFUSED));
        }
        (lost, doubled)
    });
    let (from, began) = (story.now(), Instant::now());
    let ticking = (pace == Pace::Running).then(|| story.sandbox.engine.run());
    let mut shut = None;
    let is_over = |now: DateTime<Utc>, shut: Option<(TimeDelta, Duration)>| match (pace, shut) {
        (Pace::Running, Some((after, _))) => now - from >= (after + PROVED_WITHIN).min(WATCHED_FOR),
        (Pace::Running, None) | (Pace::Standing, _) => now - from >= WATCHED_FOR,
    };
    while !is_over(story.now(), shut) {
        match pace {
            Pace::Standing => story.pass(STEP).await,
            Pace::Running => tokio::time::sleep(Duration::from_secs(STEP.unsigned_abs())).await,
        }
        // What the handler says of its work is not what is measured, and there is much of it.
        story.change(|state| state.telemetry.clear());
        if shut.is_none() && story.allow_rules(22).is_empty() {
            shut = Some((story.now() - from, began.elapsed()));
        }
    }
    if let Some(ticking) = ticking {
        ticking.abort();
        story.pass(STEP).await;
    }
    let took = began.elapsed();
    let (after, wall) = shut.with_context(|| format!("{} ports are still open", story.allow_rules(22).len()))?;
    let refused = story.world(|state| state.met.len());
    let faces: BTreeSet<String> = story.world(|state| state.met.iter().map(|met| met.face.clone()).collect());
    let all = ["arm", "blob", "logs", "servicebus"];
    anyhow::ensure!(all.iter().all(|face| faces.contains(*face)), "only of these services calls were refused: {faces:?}");
    println!(
        "{EVENTS} events at once about {OPENINGS} openings to everybody{} ({doubled} doubles; the events of {lost} openings lost; {refused} \
         calls refused): all shut within {} s of Azure's time, {:.1} s of this machine's; {} s of Azure's took {:.1} s and {} calls",
        if pace == Pace::Running { ", while Azure's clock runs" } else { "" },
        after.num_seconds(),
        wall.as_secs_f64(),
        (story.now() - from).num_seconds(),
        took.as_secs_f64(),
        story.sandbox.world.calls()
    );
    println!("{}", resident(&story.sandbox)?);
    none_lost_or_doubled(&story, from)
}

fn none_lost_or_doubled(story: &Story, from: DateTime<Utc>) -> anyhow::Result<()> {
    let broken = story.broken();
    anyhow::ensure!(broken.is_empty(), "{} things do not hold, the first: {}", broken.len(), broken[0]);
    let mut deleted: BTreeMap<String, u64> = BTreeMap::new();
    for entry in story.ours(DELETE) {
        *deleted.entry(entry.target).or_default() += 1;
    }
    anyhow::ensure!(deleted.len() as u64 == OPENINGS, "{} rules were deleted", deleted.len());
    let twice = deleted.iter().find(|(_, times)| **times > 1);
    anyhow::ensure!(twice.is_none(), "deleted more than once: {twice:?}");
    for kind in ["finding-appeared", "proved-shut", "finding-gone"] {
        let about = |audit: &serde_json::Value| format!("{} {}", audit["vm"], audit["port"]);
        let told = story.audits_of(kind);
        let ports: BTreeSet<String> = told.iter().map(about).collect();
        anyhow::ensure!(
            ports.len() as u64 == OPENINGS && told.len() == ports.len(),
            "{} audit records of kind {kind} about {} ports, of {OPENINGS}",
            told.len(),
            ports.len()
        );
    }
    println!(
        "each of the {OPENINGS} was found, shut, proved shut and told of once, by {}",
        story
            .audits_of("proved-shut")
            .iter()
            .filter_map(|audit| audit["at"].as_str()?.parse::<DateTime<Utc>>().ok())
            .max()
            .map_or("nobody".to_owned(), |last| format!("{} s of Azure's time at the latest", (last - from).num_seconds()))
    );
    Ok(())
}
