//! The command: its arguments, its confirmation, and what it prints.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use portcullis_domain::arm_id::VmId;

use super::Probe;
use super::azure::Azure;
use super::clock::WallClock;
use super::machine::{FIRST, Machine, SECOND, WHOLE};
use super::token::Token;

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
    /// Azure Resource Manager; another one for Azure Government
    #[arg(long, value_name = "URL", default_value = "https://management.azure.com")]
    arm_endpoint: String,
    /// An access token for it, better given in the environment; without one the Azure CLI is asked
    #[arg(long, value_name = "TOKEN", env = "PORTCULLIS_ARM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Asks, and prints the report. It exits with 1 where something could not be put back.
pub async fn run(arguments: Arguments, http: reqwest::Client) -> anyhow::Result<ExitCode> {
    let confirmed = arguments.yes_this_vm_may_be_opened;
    if !confirmed && !arguments.plan && !std::io::stdin().is_terminal() {
        bail!("this opens a port of {}: say --yes-this-vm-may-be-opened, or --plan to see what would be done", arguments.vm.name());
    }
    if !arguments.arm_endpoint.starts_with("https://") {
        bail!("--arm-endpoint {}: give an address that begins with https://, since an access token is sent there", arguments.arm_endpoint);
    }
    let clock = WallClock;
    let azure = Azure::new(http, &arguments.arm_endpoint, Token::of(arguments.token), &clock);
    let tell = |what: &str| anstream::eprintln!("{what}");
    let probe = Probe::prepare(azure, &arguments.vm, &tell).await?;
    if arguments.plan {
        anstream::println!("{}", plan(&probe.machine));
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprintln!("{}\n", plan(&probe.machine));
    if !confirmed {
        confirm(arguments.vm.name())?;
    }
    let report = probe.run(interrupted(), twice_interrupted()).await;
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
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    anstream::eprintln!("stopping, and putting back what was changed; press Ctrl-C again to leave it as it is");
}

/// The first interrupt ends the asking, which may be over already: only one that comes while things are put back counts here.
async fn twice_interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is going to be done, and how long it takes.
pub(super) fn plan(machine: &Machine) -> String {
    let groups: Vec<&str> = machine.groups.iter().map(|group| group.id.name()).collect();
    let (port, policy) = match &machine.policy {
        Some(policy) => (policy.port.number.to_string(), policy.path.as_str()),
        None => ("its port".to_owned(), "its policy, which cannot be read while the plan is off"),
    };
    format!(
        "What is asked of {vm}, which takes about 20 minutes where Azure is as quick as people have reported, and 5 hours at the\
         \nvery most:\n\
         \n  1. Read the VM, its interfaces, its groups ({groups}), the plan, and what lists and management groups look like.\
         \n  2. Ask JIT to open port {port} to {FIRST}, then to {SECOND}: addresses of documentation, which nobody has.\
         \n  3. Ask again, delete the rules that JIT wrote for it, and wait 2 minutes whether they come back.\
         \n  4. Ask for short openings and for one to both addresses, and wait until JIT shuts it at its end.\
         \n  5. Open once more, write the policy with {WHOLE} as the only source of that port of this VM, ask for a part of it, and put the\
         \n     policy back: {policy}\
         \n  6. Delete what rules of the probe are left, and wait until the activity log shows the first request, 65 minutes at most.\
         \n\nIt needs the actions\n  {actions}\nand asks without them what it can. Portcullis must not govern the subscription meanwhile. Ctrl-C stops it, and puts back what it changed.",
        vm = machine.vm.name(),
        groups = groups.join(", "),
        actions = ACTIONS.join("\n  ")
    )
}

/// The rights that everything together needs.
pub const ACTIONS: [&str; 11] = [
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/write",
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
