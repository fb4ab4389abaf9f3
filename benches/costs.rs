//! What Azure bills, counted: everything that the real program calls and is called for in an hour in which nothing happens, and
//! what an opening adds: `make bench ONLY=costs`. docs/costs.md makes a bill of it.

use std::collections::BTreeMap;
use std::ops::Sub;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_trials::play::counter;
use portcullis_trials::story::{Setting, Story, tag, vm};

const HOUR: i64 = 3600;

/// What was counted, by name.
#[derive(Clone, Default)]
struct Counted(BTreeMap<String, i64>);

impl Sub for Counted {
    type Output = Counted;

    fn sub(self, other: Counted) -> Counted {
        let mut left = self.0;
        for (name, count) in other.0 {
            *left.entry(name).or_default() -= count;
        }
        Counted(left.into_iter().filter(|(_, count)| *count != 0).collect())
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let idle = an_hour(Happens::Nothing).await;
        print("an hour in which nothing happens, of one subscription", &idle);
        print("an opening to everybody around Portcullis, found by its event and shut", &(an_hour(Happens::Opening).await - idle.clone()));
        print("a grant of half an hour, opened and ended", &(an_hour(Happens::Grant).await - idle));
    });
    Ok(())
}

enum Happens {
    Nothing,
    Opening,
    Grant,
}

async fn an_hour(happens: Happens) -> Counted {
    let story = Setting::with(|state| tag(state, "web-1", "development")).begin().await;
    story.change(|state| state.faults.push(counter()));
    match happens {
        Happens::Nothing => {}
        Happens::Opening => story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["*"], TimeDelta::hours(3)).await,
        Happens::Grant => drop(story.asks_for(estate::DEVELOPER_OBJECT_ID, "web-1", 22, "203.0.113.4", "PT30M").await),
    }
    story.pass(HOUR).await;
    counted(&story)
}

fn counted(story: &Story) -> Counted {
    let mut all = Counted::default();
    let invocations = story.sandbox.host.as_ref().map(|host| host.record().invocations()).unwrap_or_default();
    for invocation in invocations {
        *all.0.entry(format!("invocations of {}", invocation.function)).or_default() += 1;
    }
    story.world(|state| {
        for met in &state.met {
            let kind = match (met.face.as_str(), met.method.as_str()) {
                ("blob", "GET") if met.target.contains("comp=list") => "blob lists",
                ("blob", "GET" | "HEAD") => "blob reads",
                ("blob", "DELETE") => "blob deletes",
                ("blob", _) => "blob writes",
                ("servicebus", "GET") => "asking the namespace for its time",
                ("servicebus", _) => "messages sent",
                ("arm", "GET") => "Azure Resource Manager reads",
                ("arm", _) => "Azure Resource Manager writes and deletes",
                ("logs", _) => "Logs Ingestion calls",
                ("graph", _) => "Microsoft Graph calls",
                _ => "tokens and keys",
            };
            *all.0.entry(kind.to_owned()).or_default() += 1;
        }
        all.0.insert("rows".to_owned(), i64::try_from(state.rows.len()).unwrap_or_default());
        let bytes: usize = state.rows.iter().map(|row| row.row.to_string().len()).sum();
        all.0.insert("bytes of rows, as JSON".to_owned(), i64::try_from(bytes).unwrap_or_default());
    });
    all
}

fn print(what: &str, counted: &Counted) {
    println!("{what}:");
    for (name, count) in &counted.0 {
        println!("  {count:>7} {name}");
    }
}
