//! What one decision costs with the groups asked of Microsoft Graph, and with them kept:
//! `make bench ONLY=decision`.
//!
//! Graph is the sandbox's, on this machine: in Azure its answer takes far longer, which is what keeping it is for.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use portcullis::azure::Azure;
use portcullis::functions::people::PeopleKept;
use portcullis::settings::Settings;
use portcullis_rules::files::RuleFiles;
use portcullis_rules::scenario::{Subject, read_request};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::Wish;
use portcullis_sandbox::estate;
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};

const ROUNDS: usize = 1_000;

/// Says to the program that it is the one that measures: the sandbox's certificates are read from the environment.
const MEASURES: &str = "BENCH_MEASURES";

#[expect(clippy::disallowed_methods, reason = "the environment says which of the two programs this is")]
fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if std::env::var_os(MEASURES).is_some() {
        return runtime.block_on(measure());
    }
    let dir = tempfile::tempdir()?;
    let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::new(dir.path())))?;
    let measured = Command::new(std::env::current_exe()?).envs(sandbox.env.iter().cloned()).env(MEASURES, "1").status()?;
    anyhow::ensure!(measured.success(), "the measurement ended with {measured}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the settings of the sandbox come as the handler's do")]
async fn measure() -> anyhow::Result<()> {
    let settings =
        Settings::from_lookup(|name| std::env::var(name).ok(), std::iter::empty()).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let azure = Azure::new(&settings);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let people = std::fs::read_to_string(root.join("crates/tool/src/policies/people.yaml"))?;
    let rules = Rules::load(&RuleFiles::read(&root.join("policies"))?.with("people.yaml", &people))?;
    let given = "sources: [198.51.100.7]\n";
    let wish = read_request("request.yaml", given, Subject::Opening, &rules).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let begin: DateTime<Utc> = "2026-01-15T09:00:00Z".parse()?;
    for (what, apart) in [("with the groups asked of Graph", TimeDelta::minutes(6)), ("with the groups kept", TimeDelta::zero())] {
        let kept = PeopleKept::default();
        let mut times = Vec::new();
        for round in 0..=ROUNDS {
            let now = begin + apart * i32::try_from(round)?;
            let began = Instant::now();
            let who = kept.who(&azure.graph, &rules, estate::RESPONDER_OBJECT_ID, now).await;
            let decision = rules.decide(black_box(&Wish { who, ..wish.clone() }));
            times.push(began.elapsed());
            anyhow::ensure!(decision.outcome.text() == "open", "{}", decision.sentence());
        }
        // The first connects and signs in, or fills what is kept.
        times.remove(0);
        println!("one decision {what}: {}", quantiles(times).context("nothing was measured")?);
    }
    Ok(())
}

fn quantiles(mut times: Vec<Duration>) -> Option<String> {
    times.sort_unstable();
    let at = |part: usize| Some(times.get((times.len() - 1) * part / 100)?.as_nanos() as f64 / 1000.0);
    Some(format!("median {:.1} µs, 99th percentile {:.1} µs", at(50)?, at(99)?))
}
