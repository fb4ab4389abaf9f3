//! What happens in the hour: who opens what, when, and how Azure behaves meanwhile. Nothing of it is printed: that is
//! read from the world.

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::{Events, Returns};
use portcullis_sandbox::{entra, estate};
use serde_json::json;

/// How long the demo lasts, in seconds of the world.
const LENGTH: u32 = 3600;

/// Somebody opens a port through JIT, around Portcullis.
struct Opens {
    /// Seconds after the beginning.
    after: u32,
    /// Who, by object id.
    who: &'static str,
    vm: &'static str,
    port: u16,
    source: &'static str,
    time: TimeDelta,
    azure: Azure,
}

/// How Azure behaves about an opening, unless it was broken before.
#[derive(Clone, Copy)]
enum Azure {
    /// As always.
    Well,
    /// Its event is lost, and a rule of it that is deleted is written again once.
    LosesEventAndWritesRuleAgain,
}

const STORY: [Opens; 3] = [
    Opens {
        after: 0,
        who: estate::RESPONDER_OBJECT_ID,
        vm: "db-1",
        port: 22,
        source: "203.0.113.7",
        time: TimeDelta::minutes(45),
        azure: Azure::Well,
    },
    Opens { after: 60, who: estate::ADMIN_OBJECT_ID, vm: "web-1", port: 3389, source: "*", time: TimeDelta::hours(1), azure: Azure::Well },
    Opens {
        after: 210,
        who: estate::RESPONDER_OBJECT_ID,
        vm: "web-2",
        port: 22,
        source: "198.51.100.20",
        time: TimeDelta::hours(24),
        azure: Azure::LosesEventAndWritesRuleAgain,
    },
];

/// What will be seen.
pub fn introduction(beginning: DateTime<Utc>) -> String {
    format!(
        "A simulated Azure, {} to {}. Through just-in-time access (JIT) people open three ports: a harmless one, one to the \
         whole internet, and one for too long, whose event is lost and whose rules JIT writes again once after they were \
         deleted. All lines are from the world's log and the audit records.",
        beginning.format("%H:%M"),
        end(beginning).format("%H:%M")
    )
}

/// When the story ends.
pub fn end(beginning: DateTime<Utc>) -> DateTime<Utc> {
    beginning + TimeDelta::seconds(LENGTH.into())
}

/// How many openings the story has.
pub const OPENINGS: usize = STORY.len();

/// Plays the hour second by second, and gives each second of it, when the world is at rest, to `watch`.
pub async fn play(sandbox: &Sandbox, mut watch: impl FnMut(&State) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let client = sandbox.client()?;
    for second in 0..=LENGTH {
        let to = portcullis_sandbox::state::beginning() + TimeDelta::seconds(second.into());
        sandbox.engine.advance_to(to).await.context("the world does not come to rest")?;
        for opens in STORY.iter().filter(|opens| opens.after == second) {
            act(sandbox, &client, opens).await?;
            sandbox.engine.settle().await.context("the world does not come to rest")?;
        }
        watch(&sandbox.world.lock())?;
    }
    Ok(())
}

async fn act(sandbox: &Sandbox, client: &reqwest::Client, opens: &Opens) -> anyhow::Result<()> {
    let before = sandbox.world.lock().switches.clone();
    match opens.azure {
        Azure::Well => {}
        Azure::LosesEventAndWritesRuleAgain => {
            let switches = &mut sandbox.world.lock().switches;
            switches.events = Events::Never;
            if before.deleted_rule_returns == Returns::Never {
                switches.deleted_rule_returns = Returns::Once;
            }
        }
    }
    initiate(sandbox, client, opens).await?;
    sandbox.world.lock().switches.events = before.events;
    Ok(())
}

async fn initiate(sandbox: &Sandbox, client: &reqwest::Client, opens: &Opens) -> anyhow::Result<()> {
    let (subscription, group, location) = (estate::SUBSCRIPTION, estate::GROUP, estate::LOCATION);
    let vm = estate::resource_id(subscription, group, "Microsoft.Compute/virtualMachines", opens.vm);
    let kind = format!("Microsoft.Security/locations/{location}/jitNetworkAccessPolicies");
    let policy = estate::resource_id(subscription, group, &kind, "default");
    let token = entra::mint(&sandbox.world.lock(), opens.who, "https://management.azure.com")
        .context("a person of the story is not in the estate")?;
    let end = (sandbox.now() + opens.time).to_rfc3339();
    let port = json!({"number": opens.port, "allowedSourceAddressPrefix": opens.source, "endTimeUtc": end});
    let body = json!({"virtualMachines": [{"id": vm, "ports": [port]}]});
    let url = format!("{}{policy}/initiate?api-version=2020-01-01", sandbox.url("arm"));
    let answer = client.post(url).bearer_auth(token).json(&body).send().await.context("asking JIT to open a port")?;
    if !answer.status().is_success() {
        bail!("JIT refused to open {} of {}: {} {}", opens.port, opens.vm, answer.status(), answer.text().await.unwrap_or_default());
    }
    Ok(())
}
