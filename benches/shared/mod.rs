//! What benchmarks of the real program have in common: a large estate, somebody who opens a port in it, and what the handler holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, Sandbox, SandboxOptions};
use portcullis_sandbox::state::{LogEntry, State};
use portcullis_sandbox::{entra, estate};
use portcullis_trials::story::DELETE;
use serde_json::json;

/// The real program.
pub const HANDLER: &str = env!("CARGO_BIN_EXE_portcullis-handler");

/// VMs of one subscription of a large estate.
pub const VMS_A_SUBSCRIPTION: u64 = 100;

/// A large estate in which Azure takes no time for itself: that is not what is measured.
pub fn an_estate(vms: u64) -> anyhow::Result<State> {
    let mut world = State::default();
    estate::large(&mut world, usize::try_from(vms)?);
    world.switches.initiating_seconds = 0;
    world.switches.operation_seconds = 0;
    Ok(world)
}

/// A sandbox with the real handler whose time stands still and whose every call takes this long.
pub async fn a_sandbox(dir: PathBuf, world: State, latency: Duration) -> anyhow::Result<Sandbox> {
    let files = HostFiles::read(Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let mut options = SandboxOptions::new(dir);
    options.world = Some(world);
    options.latency = latency;
    options.insights = true;
    options.host = Some(HostOptions::new(PathBuf::from(HANDLER), files));
    Sandbox::start(options).await
}

/// The name of the n-th VM of a large estate, counted from 0.
pub fn vm_name(n: u64) -> String {
    format!("vm-{:04}-{:03}", n / VMS_A_SUBSCRIPTION + 1, n % VMS_A_SUBSCRIPTION + 1)
}

/// An administrator opens port 22 of the n-th VM of a large estate to everybody for an hour.
pub async fn opens(sandbox: &Sandbox, n: u64) -> anyhow::Result<()> {
    let name = vm_name(n);
    let subscription = estate::numbered_subscription(usize::try_from(n / VMS_A_SUBSCRIPTION + 1)?);
    let (group, location) = (estate::GROUP, estate::LOCATION);
    let id = estate::resource_id(&subscription, group, "Microsoft.Compute/virtualMachines", &name);
    let end = (sandbox.now() + TimeDelta::hours(1)).to_rfc3339();
    let body = json!({"virtualMachines": [{"id": id, "ports": [{"number": 22, "allowedSourceAddressPrefix": "*", "endTimeUtc": end}]}]});
    let policy = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Security/locations/{location}/jitNetworkAccessPolicies/default"
    );
    let token = entra::mint(&sandbox.world.lock(), estate::ADMIN_OBJECT_ID, "https://management.azure.com").context("no token")?;
    let url = format!("{}{policy}/initiate?api-version=2020-01-01", sandbox.url("arm"));
    let answer = sandbox.client()?.post(url).bearer_auth(token).json(&body).send().await?;
    anyhow::ensure!(answer.status() == 202, "{}", answer.text().await?);
    Ok(())
}

/// Whether Portcullis deleted a rule.
pub fn is_delete(entry: &LogEntry) -> bool {
    entry.what.eq_ignore_ascii_case(DELETE) && entry.status < 300 && entry.function.is_some()
}

/// The most that the handler ever held, and what it holds now.
pub fn resident(sandbox: &Sandbox) -> anyhow::Result<String> {
    let pid = sandbox.host.as_ref().and_then(|host| host.process()).and_then(|process| process.pid()).context("the handler is down")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes: Option<f64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        kilobytes.map(|kilobytes| kilobytes / 1024.0).with_context(|| format!("no {name} in the handler's status"))
    };
    Ok(format!("resident memory of the handler: {:.1} MB at most, {:.1} MB after it", megabytes("VmHWM:")?, megabytes("VmRSS:")?))
}
