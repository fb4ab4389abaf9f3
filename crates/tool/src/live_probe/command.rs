//! The command: its arguments, its confirmation, and what it prints.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use portcullis_domain::arm_id::VmId;
use tokio::signal::unix::{SignalKind, signal};

use super::azure::Azure;
use super::bus::{Bus, QueueId};
use super::clock::WallClock;
use super::ingestion::Ingestion;
use super::machine::{FIRST, SECOND, WHOLE};
use super::token::Token;
use super::{Probe, incidents};

/// Which machine, and how Azure is reached.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The resource id of a VM that you can throw away, in a JIT policy, with a port that may be asked for from *
    #[arg(long, value_name = "ID")]
    vm: VmId,
    /// Says that this VM may be opened, to addresses that nobody has; without it you are asked to type the VM's name
    #[arg(long)]
    yes_this_vm_may_be_opened: bool,
    /// Only print what would be done
    #[arg(long)]
    plan: bool,
    /// Print the report as JSON, whose `switches` a world of `portcullis sandbox` takes
    #[arg(long)]
    json: bool,
    /// The resource id of a queue of Service Bus that nothing else uses: the events of what is asked are sent there, to learn how they
    /// arrive
    #[arg(long, value_name = "ID")]
    events_queue: Option<QueueId>,
    /// The resource id of Microsoft Sentinel's workspace with an incident, to learn which right it takes to read what one names
    #[arg(long, value_name = "ID", value_parser = incidents::workspace)]
    workspace: Option<String>,
    /// The address of a data collection endpoint, to learn whether it counts what a packed body unpacks to; nothing is stored
    #[arg(long, value_name = "URL", requires_all = ["logs_rule_id", "logs_stream"])]
    logs_endpoint: Option<String>,
    /// The immutable id of a data collection rule of that endpoint
    #[arg(long, value_name = "ID", requires = "logs_endpoint")]
    logs_rule_id: Option<String>,
    /// A stream of that rule
    #[arg(long, value_name = "NAME", requires = "logs_endpoint")]
    logs_stream: Option<String>,
    /// Azure Resource Manager; another one for Azure Government
    #[arg(long, value_name = "URL", default_value = "https://management.azure.com")]
    arm_endpoint: String,
    /// An access token for it, better given in the environment; without one the Azure CLI is asked
    #[arg(long, value_name = "TOKEN", env = ARM_TOKEN, hide_env_values = true)]
    token: Option<String>,
    /// Where the queue's namespace is; another one for Azure Government
    #[arg(long, value_name = "URL", requires = "events_queue")]
    bus_endpoint: Option<String>,
    /// An access token for Service Bus, better given in the environment; without one the Azure CLI is asked
    #[arg(long, value_name = "TOKEN", env = BUS_TOKEN, hide_env_values = true)]
    bus_token: Option<String>,
    /// An access token for Azure Monitor, better given in the environment; without one the Azure CLI is asked
    #[arg(long, value_name = "TOKEN", env = LOGS_TOKEN, hide_env_values = true)]
    logs_token: Option<String>,
}

const ARM_TOKEN: &str = "PORTCULLIS_ARM_TOKEN";
const BUS_TOKEN: &str = "PORTCULLIS_BUS_TOKEN";
const LOGS_TOKEN: &str = "PORTCULLIS_LOGS_TOKEN";

impl Arguments {
    /// Every address that a token is sent to must keep it secret on the way.
    fn demand_https(&self) -> anyhow::Result<()> {
        let endpoints = [
            ("--arm-endpoint", Some(&self.arm_endpoint)),
            ("--bus-endpoint", self.bus_endpoint.as_ref()),
            ("--logs-endpoint", self.logs_endpoint.as_ref()),
        ];
        for (name, endpoint) in endpoints {
            if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.starts_with("https://")) {
                bail!("{name} {endpoint}: give an address that begins with https://, since an access token is sent there");
            }
        }
        Ok(())
    }

    fn bus(&self, http: &reqwest::Client) -> Option<Bus> {
        let queue = self.events_queue.clone()?;
        let endpoint = self.bus_endpoint.clone().unwrap_or_else(|| queue.endpoint());
        Some(Bus::new(http.clone(), queue, &endpoint, Token::of(self.bus_token.clone(), BUS_TOKEN)))
    }

    fn ingestion(&self, http: &reqwest::Client) -> Option<Ingestion> {
        let (endpoint, rule, stream) = (self.logs_endpoint.as_ref()?, self.logs_rule_id.as_ref()?, self.logs_stream.as_ref()?);
        Some(Ingestion::new(http.clone(), endpoint, rule, stream, Token::of(self.logs_token.clone(), LOGS_TOKEN)))
    }
}

/// Asks, and prints the report. It exits with 1 where something could not be put back.
pub async fn run(arguments: Arguments, http: reqwest::Client) -> anyhow::Result<ExitCode> {
    let confirmed = arguments.yes_this_vm_may_be_opened;
    if !confirmed && !arguments.plan && !std::io::stdin().is_terminal() {
        bail!("this opens a port of {}: say --yes-this-vm-may-be-opened, or --plan to see what would be done", arguments.vm.name());
    }
    arguments.demand_https()?;
    let clock = WallClock;
    let (bus, ingestion) = (arguments.bus(&http), arguments.ingestion(&http));
    let azure = Azure::new(http, &arguments.arm_endpoint, Token::of(arguments.token, ARM_TOKEN), &clock);
    let tell = |what: &str| anstream::eprintln!("{what}");
    let probe = Probe::prepare(azure, &arguments.vm, &tell).await?;
    let probe = probe.with_queue(bus).with_ingestion(ingestion).with_workspace(arguments.workspace);
    if arguments.plan {
        anstream::println!("{}", plan(&probe));
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprintln!("{}\n", plan(&probe));
    if !confirmed {
        confirm(arguments.vm.name())?;
    }
    // The first Ctrl-C ends the asking, which may be over already: only one that comes while things are put back counts here.
    let hurry = told(SignalKind::interrupt());
    let report = probe.run(interrupted(), hurry).await;
    match arguments.json {
        true => anstream::println!("{:#}", report.to_json()),
        false => anstream::println!("{}", report.to_text()),
    }
    Ok(if report.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn confirm(name: &str) -> anyhow::Result<()> {
    anstream::eprint!("Type the VM's name if it may be opened: ");
    std::io::stderr().flush().context("standard error cannot be written")?;
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed).context("standard input cannot be read")?;
    match typed.trim().eq_ignore_ascii_case(name) {
        true => Ok(()),
        false => bail!("that is not the name of the VM, {name}: nothing was done"),
    }
}

async fn interrupted() {
    tokio::select! {
        () = told(SignalKind::interrupt()) => {}
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
    }
    anstream::eprintln!("stopping, and putting back what was changed; press Ctrl-C again to leave it as it is");
}

async fn told(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending::<()>().await,
    }
}

/// What is going to be done, and how long it takes.
fn plan(probe: &Probe<'_>) -> String {
    let machine = &probe.machine;
    let mut besides = Vec::new();
    if let Some(bus) = &probe.bus {
        besides.push(format!(
            "Meanwhile send the events of the VM's resource group to the queue {}, by an event subscription that is taken away again; ask twice\
             \n     in a row, so that it is seen whether one event passes another; and wait for them 20 minutes at most. Azure also wants\
             \n     Microsoft.ServiceBus/namespaces/queues/write at the queue.",
            bus.queue.name()
        ));
    }
    if probe.workspace.is_some() {
        besides.push("Read what the workspace's first incident names.".to_owned());
    }
    if probe.ingestion.is_some() {
        besides.push("Send the data collection endpoint an empty list of rows, packed, that unpacks to 2 MB.".to_owned());
    }
    let besides: String = besides.iter().zip(7..).map(|(what, number)| format!("\n  {number}. {what}")).collect();
    let groups: Vec<&str> = machine.groups.iter().map(|group| group.id.name()).collect();
    let (port, policy) = match &machine.policy {
        Some(policy) => (policy.port.number.to_string(), policy.path.as_str()),
        None => ("its port".to_owned(), "its policy, which cannot be read while the plan is off"),
    };
    format!(
        "What is asked of {vm}, which takes about 20 minutes where Azure is as quick as people have reported, and 6 hours at the\
         \nvery most:\n\
         \n  1. Read the VM, its interfaces, its groups ({groups}), the plan, and what lists and management groups look like.\
         \n  2. Ask JIT to open port {port} to {FIRST}, then to {SECOND}: addresses of documentation, which nobody has.\
         \n  3. Ask again, delete the rules that JIT wrote for it, and wait 2 minutes whether they come back.\
         \n  4. Ask for short openings and for one to both addresses, and wait until JIT shuts it at its end.\
         \n  5. Open once more, write the policy as it is and then with {WHOLE} as the only source of that port of this VM, ask for a part of\
         \n     it, and put the policy back: {policy}\
         \n  6. Delete what rules of the probe are left, and wait until the activity log shows the first request, 65 minutes at most.{besides}\
         \n\nIt needs the actions\n  {actions}\nand asks without them what it can. Portcullis must not govern the subscription meanwhile. Ctrl-C stops it, and puts back what it changed.",
        vm = machine.vm.name(),
        groups = groups.join(", "),
        actions = actions(probe).join("\n  ")
    )
}

fn actions(probe: &Probe<'_>) -> Vec<&'static str> {
    let for_events: &[&str] = if probe.bus.is_some() { &ACTIONS_FOR_EVENTS } else { &[] };
    let for_incidents: &[&str] = if probe.workspace.is_some() { &ACTIONS_FOR_INCIDENTS } else { &[] };
    let for_logs: &[&str] = if probe.ingestion.is_some() { &ACTIONS_FOR_LOGS } else { &[] };
    ACTIONS.iter().chain(for_events).chain(for_incidents).chain(for_logs).copied().collect()
}

/// What it needs besides to learn how events arrive; Azure also wants the right to write the queue that is subscribed.
pub const ACTIONS_FOR_EVENTS: [&str; 4] = [
    "Microsoft.EventGrid/eventSubscriptions/delete",
    "Microsoft.EventGrid/eventSubscriptions/read",
    "Microsoft.EventGrid/eventSubscriptions/write",
    "Microsoft.ServiceBus/namespaces/messages/receive/action",
];

/// What it needs besides in the workspace, to learn which right incidents take.
pub const ACTIONS_FOR_INCIDENTS: [&str; 2] = ["Microsoft.Authorization/permissions/read", "Microsoft.SecurityInsights/incidents/read"];

/// What it needs besides at the data collection rule.
pub const ACTIONS_FOR_LOGS: [&str; 1] = ["Microsoft.Insights/Telemetry/Write"];

/// The rights that everything else together needs.
pub const ACTIONS: [&str; 13] = [
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions/read",
    "Microsoft.EventGrid/systemTopics/read",
    "Microsoft.Insights/eventtypes/values/read",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/networkSecurityGroups/securityRules/delete",
    "Microsoft.Network/virtualNetworks/subnets/read",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/read",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/write",
    "Microsoft.Security/pricings/read",
];
