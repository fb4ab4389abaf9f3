//! What loading a set and one decision cost: `make bench ONLY=decide`.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_rules::decision::Outcome;
use portcullis_rules::files::RuleFiles;
use portcullis_rules::scenario::{Subject, read_request};
use portcullis_rules::set::Rules;

const ROUNDS: usize = 5_000;
const LOADS: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shipped = RuleFiles::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies"))?;
    let many = (0..400).fold(shipped.clone(), |files, n| files.with(&format!("more-{n:03}.cedar"), &another(n)));
    for (name, files) in [("shipped", &shipped), ("400 more", &many)] {
        let loads = (0..LOADS).map(|_| timed(|| Rules::load(black_box(files)))).collect::<Vec<_>>();
        let rules = Rules::load(files)?;
        println!("loading and checking the {name} rules ({}): {}", rules.rules().count(), quantiles(loads));
        for (what, given, expected) in [
            ("that opens", "person: {groups: [responders]}\nsources: [198.51.100.7]\n", "open"),
            ("that asks people, with its nearest miss", "person: {groups: [responders]}\nsources: [192.0.2.1]\n", "ask"),
            ("that refuses, with its nearest miss", "sources: [192.0.2.1]\n", "refuse"),
        ] {
            let wish = read_request("request.yaml", given, Subject::Opening, &rules).map_err(|mistakes| format!("{mistakes:?}"))?;
            let outcome = rules.decide(&wish).outcome;
            if outcome.text() != expected {
                return Err(format!("{what}: {}", Outcome::sentence(&outcome)).into());
            }
            let times = (0..ROUNDS / if files == &many { 20 } else { 1 }).map(|_| timed(|| rules.decide(black_box(&wish)))).collect();
            println!("one decision {what}, {name} rules: {}", quantiles(times));
        }
    }
    Ok(())
}

/// A rule for somebody else.
fn another(n: usize) -> String {
    format!(
        "@id(\"more-{n}\") @reason(\"one more\") permit (principal in Group::\"auditors\", action == Action::\"open\", resource) when {{ context.leastPort == {n} && context.networks.contains(Network::\"office\") }};"
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    black_box(work());
    began.elapsed()
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_nanos() as f64 / 1000.0;
    format!("median {:.1} µs, 99th percentile {:.1} µs", at(50), at(99))
}
