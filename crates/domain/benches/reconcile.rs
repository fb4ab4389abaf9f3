//! What one reconcile costs: `make bench ONLY=reconcile`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use portcullis_domain::arm_id::VmId;
use portcullis_domain::conclude::conclude;
use portcullis_domain::initiate::Newer;
use portcullis_domain::judge::Limits;
use portcullis_domain::nsg::Nsg;
use portcullis_domain::opening::{Opening, openings};
use portcullis_domain::reconcile::{Jit, Look, Mode, reconcile};
use portcullis_domain::record::VmRecord;
use portcullis_domain::ruling::{Confirmations, Rulings};
use portcullis_domain::time;
use serde_json::{Value, json};

const ROUNDS: usize = 20_000;

fn seen(openings_wanted: usize) -> Vec<Opening> {
    let group = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/web";
    let rules: Vec<Value> = (0..openings_wanted)
        .map(|n| {
            json!({"id": format!("{group}/securityRules/MicrosoftDefenderForCloud-JITRule-{n}-{n:032X}"), "properties": {
                "access": "Allow", "direction": "Inbound", "protocol": "*", "destinationAddressPrefix": "10.0.0.4",
                "destinationPortRange": (22 + n).to_string(), "sourceAddressPrefix": if n == 0 { "*".to_owned() } else { format!("203.0.113.{n}") }
            }})
        })
        .collect();
    let nsg = Nsg::read(&json!({"id": group, "properties": {"provisioningState": "Succeeded", "securityRules": rules}}));
    openings(&nsg.into_iter().collect::<Vec<_>>(), &"10.0.0.4".parse().into_iter().collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vm: VmId = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1".parse()?;
    let now = time::parse("2026-01-15T09:00:00Z").ok_or("not a time")?;
    for count in [1, 10] {
        let openings = seen(count);
        let limits = Limits { longest_opening: TimeDelta::hours(8) };
        let look = Look {
            now,
            ended: now,
            openings: &openings,
            groups_settled: true,
            versions: "",
            jit: Some(Jit::default()),
            gone: false,
            limits,
            mode: Mode::Enforce,
            newer: Newer::Replaces,
            rulings: &Rulings::new(),
            confirmations: &Confirmations::new(),
            unaudited: &BTreeSet::new(),
        };
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let record = VmRecord::new(vm.clone());
                let began = Instant::now();
                let mut plan = reconcile(black_box(record), black_box(&look));
                black_box(conclude(&mut plan.record, now, Mode::Enforce));
                black_box(plan);
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        let at = |part: usize| times[ROUNDS * part / 100].as_nanos() as f64 / 1000.0;
        println!("one reconcile with {count} opening(s), first sight: median {:.1} µs, 99th percentile {:.1} µs", at(50), at(99));
    }
    Ok(())
}
