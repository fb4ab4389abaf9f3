//! One sweep over an estate, with one port in it that is open to everybody and of which no event told:
//! `make bench ONLY=sweep`. Which of the VMs that is is drawn from a seed, a new one each time;
//! `-- SEED` draws it again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::switches::Events;

use crate::draw::Draw;
use crate::shared::{VMS_A_SUBSCRIPTION, a_sandbox, an_estate, is_delete, opens, resident, vm_name};

#[path = "shared/draw.rs"]
mod draw;
mod shared;

const SUBSCRIPTIONS: u64 = 1_000;
/// What every call takes in the slow estate.
const LATENCY: Duration = Duration::from_millis(50);
/// Shards that the host has under way at once (`maxConcurrentCalls` of host.json).
const SHARDS_AT_ONCE: u64 = 16;
/// The sweep's period.
const PERIOD: TimeDelta = TimeDelta::minutes(5);

/// What a sweep took.
struct Sweep {
    calls: u64,
    took: Duration,
    resident: String,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut draw = Draw::of_command_line();
    let dir = tempfile::tempdir()?;
    let mut swept = |subscriptions: u64, latency: Duration| -> anyhow::Result<Sweep> {
        let place = dir.path().join(format!("{subscriptions}-{}", latency.as_millis()));
        let bad = draw.below(subscriptions * VMS_A_SUBSCRIPTION);
        let swept = runtime.block_on(sweep(place, subscriptions, latency, bad))?;
        println!(
            "{subscriptions} subscriptions, {} VMs, {} ms a call: {} calls, {:.2} s; {}",
            subscriptions * VMS_A_SUBSCRIPTION,
            latency.as_millis(),
            swept.calls,
            swept.took.as_secs_f64(),
            swept.resident
        );
        Ok(swept)
    };
    for subscriptions in [10, 100] {
        swept(subscriptions, Duration::ZERO)?;
    }
    let fast = swept(SUBSCRIPTIONS, Duration::ZERO)?;
    let slow = swept(SUBSCRIPTIONS, LATENCY)?;
    let waits = LATENCY * u32::try_from(SUBSCRIPTIONS.div_ceil(SHARDS_AT_ONCE))?;
    println!(
        "{SHARDS_AT_ONCE} shards at once, whose calls are all side by side, wait {:.2} s; with the {:.2} s of work that there is without \
         latency that is {:.2} s: it was {:.2} times that",
        waits.as_secs_f64(),
        fast.took.as_secs_f64(),
        (waits + fast.took).as_secs_f64(),
        slow.took.as_secs_f64() / (waits + fast.took).as_secs_f64()
    );
    println!("in each of them the port that no event told of was shut within the sweep");
    Ok(())
}

/// Sweeps once, and makes sure that the one bad port was shut in that very sweep.
async fn sweep(dir: PathBuf, subscriptions: u64, latency: Duration, bad: u64) -> anyhow::Result<Sweep> {
    let mut world = an_estate(subscriptions * VMS_A_SUBSCRIPTION)?;
    world.switches.events = Events::Never;
    let sandbox = a_sandbox(dir, world, latency).await?;
    let began = sandbox.now();
    opens(&sandbox, bad).await?;
    sandbox.engine.advance_to(began + PERIOD - TimeDelta::seconds(1)).await?;
    let calls = sandbox.world.calls();
    anyhow::ensure!(deleted(&sandbox).is_empty(), "the port was shut before the sweep");
    let since = Instant::now();
    sandbox.engine.advance_to(began + PERIOD).await?;
    let took = since.elapsed();
    let calls = sandbox.world.calls() - calls;
    let swept = {
        let state = sandbox.world.lock();
        state.log.iter().filter(|entry| entry.what == "send" && entry.target == "sweep").count()
    };
    anyhow::ensure!(swept as u64 == subscriptions, "{swept} of {subscriptions} subscriptions were swept");
    let failing = sandbox.world.lock().rows.iter().filter(|taken| taken.row["EventSubType"] == "service-failing").count();
    anyhow::ensure!(failing == 0, "{failing} times a part of the service was said to fail");
    let group = format!("/nsg-{}/", vm_name(bad));
    let deleted = deleted(&sandbox);
    anyhow::ensure!(deleted.len() == 1 && deleted[0].contains(&group), "not the rule of {group} alone was deleted: {deleted:?}");
    Ok(Sweep { calls, took, resident: resident(&sandbox)? })
}

/// The rules that were deleted.
fn deleted(sandbox: &Sandbox) -> Vec<String> {
    let state = sandbox.world.lock();
    state.log.iter().filter(|entry| is_delete(entry)).map(|entry| entry.target.clone()).collect()
}
