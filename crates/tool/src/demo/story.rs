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

/// Something that somebody does.
struct Act {
    /// Seconds after the beginning.
    after: u32,
    what: Deed,
}

enum Deed {
    Opens(Opens),
    Forges(Opens),
    Grants(Grants),
}

/// Somebody opens a port through JIT, around Portcullis.
struct Opens {
    /// Who, by object id.
    who: &'static str,
    vm: &'static str,
    port: u16,
    source: &'static str,
    time: TimeDelta,
    azure: Azure,
}

/// The operator asks Portcullis for a port for somebody.
struct Grants {
    person: (&'static str, &'static str),
    vm: &'static str,
    port: u16,
    source: &'static str,
    minutes: u32,
}

/// How Azure behaves about an opening, unless it was broken before.
#[derive(Clone, Copy)]
enum Azure {
    /// As always.
    Well,
    /// Its event is lost, and a rule of it that is deleted is written again once.
    LosesEventAndWritesRuleAgain,
    /// Its event is lost.
    LosesEvent,
}

/// An address of the office, by the shipped networks.yaml.
const OFFICE: &str = "198.51.100.7";
/// An address of the VPN.
const VPN: &str = "203.0.113.4";
const DORA: (&str, &str) = (estate::DEVELOPER_OBJECT_ID, estate::DEVELOPER_UPN);
const ROSA: (&str, &str) = (estate::RESPONDER_OBJECT_ID, estate::RESPONDER_UPN);

const STORY: [Act; 7] = [
    Act {
        after: 0,
        what: Deed::Opens(Opens {
            who: estate::RESPONDER_OBJECT_ID,
            vm: "db-1",
            port: 22,
            source: OFFICE,
            time: TimeDelta::minutes(45),
            azure: Azure::Well,
        }),
    },
    Act {
        after: 60,
        what: Deed::Opens(Opens {
            who: estate::ADMIN_OBJECT_ID,
            vm: "web-1",
            port: 3389,
            source: "*",
            time: TimeDelta::hours(1),
            azure: Azure::Well,
        }),
    },
    Act {
        after: 120,
        what: Deed::Forges(Opens {
            who: estate::ADMIN_OBJECT_ID,
            vm: "db-1",
            port: 3389,
            source: "198.51.100.66",
            time: TimeDelta::hours(2),
            azure: Azure::LosesEvent,
        }),
    },
    Act {
        after: 210,
        what: Deed::Opens(Opens {
            who: estate::RESPONDER_OBJECT_ID,
            vm: "web-2",
            port: 22,
            source: "198.51.100.20",
            time: TimeDelta::hours(24),
            azure: Azure::LosesEventAndWritesRuleAgain,
        }),
    },
    Act { after: 400, what: Deed::Grants(Grants { person: DORA, vm: "web-1", port: 22, source: VPN, minutes: 20 }) },
    Act { after: 600, what: Deed::Grants(Grants { person: DORA, vm: "web-2", port: 3389, source: VPN, minutes: 15 }) },
    Act { after: 720, what: Deed::Grants(Grants { person: ROSA, vm: "web-2", port: 3389, source: OFFICE, minutes: 40 }) },
];

/// What will be seen.
pub fn introduction(beginning: DateTime<Utc>) -> String {
    format!(
        "A simulated Azure, {} to {}. Through just-in-time access (JIT) people open four ports: a responder from the office, somebody \
         to the whole internet, somebody who sends a forged event that it was the responder, and somebody for too long, whose event is \
         lost and whose rules JIT writes again once after they were deleted. And three grants are asked of Portcullis: a developer's, and \
         two people's on one port. All lines are from the world's log and the audit records.",
        beginning.format("%H:%M"),
        end(beginning).format("%H:%M")
    )
}

/// When the story ends.
pub fn end(beginning: DateTime<Utc>) -> DateTime<Utc> {
    beginning + TimeDelta::seconds(LENGTH.into())
}

/// How many times JIT is asked at least: by people, and once for each grant.
pub const OPENINGS: usize = STORY.len();

/// Plays the hour second by second, and gives each second of it, when the world is at rest, to `watch`.
pub async fn play(sandbox: &Sandbox, mut watch: impl FnMut(&State) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let client = sandbox.client()?;
    let (returns, events) = {
        let switches = &sandbox.world.lock().switches;
        (switches.deleted_rule_returns, switches.events)
    };
    for second in 0..=LENGTH {
        let to = portcullis_sandbox::state::beginning() + TimeDelta::seconds(second.into());
        sandbox.engine.advance_to(to).await.context("the world does not come to rest")?;
        for act in STORY.iter().filter(|act| act.after == second) {
            match &act.what {
                Deed::Opens(opens) => open(sandbox, &client, opens).await?,
                Deed::Forges(opens) => {
                    open(sandbox, &client, opens).await?;
                    // Where no event is delivered, no forged one is either.
                    if events != Events::Never {
                        forge(sandbox, &client).await?;
                    }
                }
                Deed::Grants(grants) => {
                    sandbox.world.lock().switches.deleted_rule_returns = returns;
                    grant(sandbox, &client, grants).await?;
                }
            }
            sandbox.engine.settle().await.context("the world does not come to rest")?;
        }
        watch(&sandbox.world.lock())?;
    }
    Ok(())
}

async fn open(sandbox: &Sandbox, client: &reqwest::Client, opens: &Opens) -> anyhow::Result<()> {
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
        Azure::LosesEvent => sandbox.world.lock().switches.events = Events::Never,
    }
    initiate(sandbox, client, opens).await?;
    sandbox.world.lock().switches.events = before.events;
    Ok(())
}

/// Somebody who found the address of the webhook says that it was the responder.
async fn forge(sandbox: &Sandbox, client: &reqwest::Client) -> anyhow::Result<()> {
    let event = json!([{
        "id": "forged", "topic": format!("/subscriptions/{}", estate::SUBSCRIPTION), "subject": policy(),
        "eventType": "Microsoft.Resources.ResourceActionSuccess", "eventTime": sandbox.now().to_rfc3339(),
        "dataVersion": "2", "metadataVersion": "1",
        "data": {
            "operationName": "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action", "resourceUri": policy(),
            "claims": {"http://schemas.microsoft.com/identity/claims/objectidentifier": ROSA.0, "name": ROSA.1},
        },
    }]);
    let request = client.post(sandbox.env("SANDBOX_EVENTGRID_URL")).header("aeg-event-type", "Notification").json(&event);
    let answer = request.send().await.context("forging an event")?;
    if !answer.status().is_success() {
        bail!("the webhook did not take the forged event: {}", answer.status());
    }
    Ok(())
}

async fn grant(sandbox: &Sandbox, client: &reqwest::Client, grants: &Grants) -> anyhow::Result<()> {
    let token = entra::mint(&sandbox.world.lock(), estate::SECURITY_OBJECT_ID, AUDIENCE).context("the operator is not in the estate")?;
    let (id, name) = grants.person;
    let body = json!({
        "vm": vm(grants.vm), "port": grants.port, "sources": [grants.source], "duration": format!("PT{}M", grants.minutes),
        "reason": "the demo", "person": id, "name": name,
    });
    let url = format!("{}/api/grants", sandbox.env("SANDBOX_API_URL"));
    let answer = client.post(url).bearer_auth(token).json(&body).send().await.context("asking Portcullis for a port")?;
    if !answer.status().is_success() {
        bail!("Portcullis does not take the wish: {} {}", answer.status(), answer.text().await.unwrap_or_default());
    }
    Ok(())
}

/// The audience of tokens for Portcullis' own API, in the sandbox.
const AUDIENCE: &str = "api://portcullis";

fn vm(name: &str) -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", name)
}

fn policy() -> String {
    let kind = format!("Microsoft.Security/locations/{}/jitNetworkAccessPolicies", estate::LOCATION);
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, &kind, "default")
}

async fn initiate(sandbox: &Sandbox, client: &reqwest::Client, opens: &Opens) -> anyhow::Result<()> {
    let (vm, policy) = (vm(opens.vm), policy());
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
