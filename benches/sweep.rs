//! The first two sweeps over an estate, each with one port in it that is open to everybody and of which no event told:
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
}

/// Which sweep it is, and how many calls of a shard wait for each other. The first one remembers up to when the records began that
/// it has seen, and beside that says that the subscription is swept, which it does once an hour.
const SWEEPS: [(&str, u32); 2] = [("first", 2), ("next", 1)];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut draw = Draw::of_command_line();
    let dir = tempfile::tempdir()?;
    let mut swept = |subscriptions: u64, latency: Duration| -> anyhow::Result<Vec<Sweep>> {
        let place = dir.path().join(format!("{subscriptions}-{}", latency.as_millis()));
        let vms = subscriptions * VMS_A_SUBSCRIPTION;
        let bad = SWEEPS.map(|_| draw.below(vms));
        let (swept, resident) = runtime.block_on(sweeps(place, subscriptions, latency, bad))?;
        println!("{subscriptions} subscriptions, {vms} VMs, {} ms a call: {resident}", latency.as_millis());
        for ((which, _), sweep) in SWEEPS.iter().zip(&swept) {
            println!("    {which} sweep: {} calls, {:.2} s", sweep.calls, sweep.took.as_secs_f64());
        }
        Ok(swept)
    };
    for subscriptions in [10, 100] {
        swept(subscriptions, Duration::ZERO)?;
    }
    let fast = swept(SUBSCRIPTIONS, Duration::ZERO)?;
    let slow = swept(SUBSCRIPTIONS, LATENCY)?;
    for (((which, waits), fast), slow) in SWEEPS.iter().zip(fast).zip(slow) {
        let waits = LATENCY * u32::try_from(SUBSCRIPTIONS.div_ceil(SHARDS_AT_ONCE))? * *waits;
        println!(
            "in the {which} sweep {SHARDS_AT_ONCE} shards at once wait {:.2} s for calls that are side by side or must follow each other; \
             with the {:.2} s of work that there is without latency that is {:.2} s: it was {:.2} times that, and {:.2} times the waits alone",
            waits.as_secs_f64(),
            fast.took.as_secs_f64(),
            (waits + fast.took).as_secs_f64(),
            slow.took.as_secs_f64() / (waits + fast.took).as_secs_f64(),
            slow.took.as_secs_f64() / waits.as_secs_f64()
        );
    }
    println!("in each of them the port that no event told of was shut within the sweep");
    Ok(())
}

/// Sweeps as often as there are bad ports, and makes sure that each was shut in its very sweep.
async fn sweeps(dir: PathBuf, subscriptions: u64, latency: Duration, bad: [u64; SWEEPS.len()]) -> anyhow::Result<(Vec<Sweep>, String)> {
    let mut world = an_estate(subscriptions * VMS_A_SUBSCRIPTION)?;
    world.switches.events = Events::Never;
    let sandbox = a_sandbox(dir, world, latency).await?;
    let mut sweeps = Vec::new();
    for bad in bad {
        sweeps.push(sweep(&sandbox, subscriptions, bad).await?);
    }
    Ok((sweeps, resident(&sandbox)?))
}

async fn sweep(sandbox: &Sandbox, subscriptions: u64, bad: u64) -> anyhow::Result<Sweep> {
    let began = sandbox.now();
    let (shards_before, deleted_before) = (shards(sandbox), deleted(sandbox).len());
    opens(sandbox, bad).await?;
    sandbox.engine.advance_to(began + PERIOD - TimeDelta::seconds(1)).await?;
    let calls = sandbox.world.calls();
    anyhow::ensure!(deleted(sandbox).len() == deleted_before, "the port was shut before the sweep");
    let since = Instant::now();
    sandbox.engine.advance_to(began + PERIOD).await?;
    let took = since.elapsed();
    let calls = sandbox.world.calls() - calls;
    let swept = shards(sandbox) - shards_before;
    anyhow::ensure!(swept as u64 == subscriptions, "{swept} of {subscriptions} subscriptions were swept");
    let failing = sandbox.world.lock().rows.iter().filter(|taken| taken.row["EventSubType"] == "service-failing").count();
    anyhow::ensure!(failing == 0, "{failing} times a part of the service was said to fail");
    let group = format!("/nsg-{}/", vm_name(bad));
    let deleted = deleted(sandbox).split_off(deleted_before);
    anyhow::ensure!(deleted.len() == 1 && deleted[0].contains(&group), "not the rule of {group} alone was deleted: {deleted:?}");
    Ok(Sweep { calls, took })
}

/// Messages that were sent to the queue of shards.
fn shards(sandbox: &Sandbox) -> usize {
    let state = sandbox.world.lock();
    state.log.iter().filter(|entry| entry.what == "send" && entry.target == "sweep").count()
}

/// The rules that were deleted.
fn deleted(sandbox: &Sandbox) -> Vec<String> {
    let state = sandbox.world.lock();
    state.log.iter().filter(|entry| is_delete(entry)).map(|entry| entry.target.clone()).collect()
}
