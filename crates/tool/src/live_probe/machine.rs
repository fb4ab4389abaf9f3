//! The machine that is asked about: where it stands in the network, and which JIT policy has it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::{NsgId, RuleId, VmId};
use portcullis_domain::jit::{JitPolicy, JitPort};
use portcullis_domain::network::{Nic, Vm, subnet_nsg};
use portcullis_domain::nsg::Nsg;
use portcullis_domain::opening::openings;
use portcullis_domain::source::Sources;
use serde_json::Value;

use super::azure::{Azure, Trouble};

/// Versions of the providers' interfaces.
pub const COMPUTE: &str = "2024-07-01";
/// That of networks.
pub const NETWORK: &str = "2024-05-01";
/// That of JIT.
pub const JIT: &str = "2020-01-01";
/// That of Defender's plans.
pub const PRICING: &str = "2024-01-01";

/// An address of documentation (RFC 5737): nobody has it, so that an opening to it lets nobody in.
pub const FIRST: &str = "198.51.100.7";
/// Another one, of another range.
pub const SECOND: &str = "203.0.113.9";
/// The range around [`FIRST`].
pub const WHOLE: &str = "198.51.100.0/24";
const DOCUMENTATION: [&str; 2] = [WHOLE, "203.0.113.0/24"];

/// A machine that can be asked about.
#[derive(Debug)]
pub struct Machine {
    /// It.
    pub vm: VmId,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The security groups in front of it.
    pub groups: Vec<Group>,
    /// The subscription's plan of Defender for Servers.
    pub plan: Plan,
    /// Its policy; nothing where policies may not be read because the plan is off.
    pub policy: Option<Policy>,
    /// The rules of JIT that led to it before.
    pub rules_before: BTreeSet<RuleId>,
    /// When it was looked at first.
    pub began: DateTime<Utc>,
}

/// A security group in front of the machine.
#[derive(Clone, Debug)]
pub struct Group {
    /// The group.
    pub id: NsgId,
    /// Whether it is an interface's own.
    pub of_nic: bool,
    /// Whether it is a subnet's.
    pub of_subnet: bool,
}

/// What the subscription pays for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// JIT is in it.
    On,
    /// It is not.
    Off,
    /// It could not be read.
    Unknown(String),
}

/// The policy that has the machine.
#[derive(Debug)]
pub struct Policy {
    /// Its path in Resource Manager.
    pub path: String,
    /// As Azure gave it at the beginning.
    pub body: Value,
    /// The machine's id as the policy writes it.
    pub vm: String,
    /// The port that is asked for.
    pub port: JitPort,
}

impl Machine {
    /// Finds everything out that is asked for before anything is written; refuses a machine that cannot be asked about.
    pub async fn find(azure: &Azure<'_>, vm: &VmId) -> anyhow::Result<Machine> {
        let answer = azure.get(&vm.to_string(), COMPUTE).await.with_context(|| format!("{vm} cannot be read"))?;
        let read = Vm::read(&answer.body).context("Azure's answer about the VM cannot be used")?;
        let (addresses, groups) = network(azure, &read).await?;
        if groups.is_empty() {
            bail!("neither the interfaces of {} nor their subnets have a security group, without which JIT opens nothing", vm.name());
        }
        let plan = plan(azure, vm).await;
        let policy = match policy(azure, vm).await {
            Err(Sought::Refused(trouble)) if plan == Plan::Off && trouble.status() == Some(403) => None,
            found => Some(found?),
        };
        let mut machine = Machine { vm: vm.clone(), addresses, groups, plan, policy, rules_before: BTreeSet::new(), began: azure.now() };
        if let Some(policy) = &machine.policy {
            demand_shut(azure, &machine, policy).await?;
        }
        machine.rules_before = jit_rules(&read_groups(azure, &machine.groups).await?, &machine.addresses);
        Ok(machine)
    }

    /// The longest that is asked for, where so much is allowed.
    pub fn time_at_most(&self, wanted: TimeDelta) -> TimeDelta {
        self.policy.as_ref().map_or(wanted, |policy| wanted.min(policy.port.longest))
    }
}

/// Whether these are addresses of documentation alone, as nobody asks for who means it.
pub fn is_of_probe(sources: &Sources) -> bool {
    !sources.is_empty() && Sources::read(DOCUMENTATION).covers(sources)
}

/// The security groups as they are now.
pub async fn read_groups(azure: &Azure<'_>, groups: &[Group]) -> Result<Vec<Nsg>, Trouble> {
    let mut read = Vec::new();
    for group in groups {
        let answer = azure.get(&group.id.to_string(), NETWORK).await?;
        let nsg = Nsg::read(&answer.body);
        read.push(nsg.map_err(|why| Trouble::Broken(format!("Azure's answer about {} cannot be used: {why}", group.id.name())))?);
    }
    Ok(read)
}

fn jit_rules(groups: &[Nsg], addresses: &BTreeSet<IpAddr>) -> BTreeSet<RuleId> {
    openings(groups, addresses).into_iter().map(|opening| opening.rule).collect()
}

async fn network(azure: &Azure<'_>, vm: &Vm) -> anyhow::Result<(BTreeSet<IpAddr>, Vec<Group>)> {
    let mut addresses = BTreeSet::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |id: NsgId, of_nic: bool| match groups.iter_mut().find(|group| group.id == id) {
        Some(group) if of_nic => group.of_nic = true,
        Some(group) => group.of_subnet = true,
        None => groups.push(Group { id, of_nic, of_subnet: !of_nic }),
    };
    for id in &vm.nics {
        let answer = azure.get(&id.to_string(), NETWORK).await.with_context(|| format!("interface {} cannot be read", id.name()))?;
        let nic = Nic::read(&answer.body).context("Azure's answer about an interface cannot be used")?;
        addresses.extend(nic.addresses);
        if let Some(group) = nic.nsg {
            add(group, true);
        }
        for subnet in nic.subnets {
            let answer =
                azure.get(&subnet.to_string(), NETWORK).await.with_context(|| format!("subnet {} cannot be read", subnet.name()))?;
            if let Some(group) = subnet_nsg(&answer.body).context("Azure's answer about a subnet cannot be used")? {
                add(group, false);
            }
        }
    }
    Ok((addresses, groups))
}

async fn plan(azure: &Azure<'_>, vm: &VmId) -> Plan {
    let path = format!("/subscriptions/{}/providers/Microsoft.Security/pricings/VirtualMachines", vm.subscription());
    match azure.get(&path, PRICING).await {
        Err(why) => Plan::Unknown(why.to_string()),
        Ok(answer) => {
            let properties = &answer.body["properties"];
            let is = |field: &str, value: &str| properties[field].as_str().is_some_and(|text| text.eq_ignore_ascii_case(value));
            if is("pricingTier", "Standard") && !is("subPlan", "P1") { Plan::On } else { Plan::Off }
        }
    }
}

/// Why no policy was found.
#[derive(Debug)]
enum Sought {
    Refused(Trouble),
    Unfit(String),
}

impl std::error::Error for Sought {}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sought::Refused(trouble) => write!(f, "JIT policies cannot be read: {trouble}"),
            Sought::Unfit(why) => f.write_str(why),
        }
    }
}

async fn policy(azure: &Azure<'_>, vm: &VmId) -> Result<Policy, Sought> {
    let path = format!("/subscriptions/{}/providers/Microsoft.Security/jitNetworkAccessPolicies", vm.subscription());
    let bodies = azure.list("JIT policies", &path, JIT).await.map_err(Sought::Refused)?;
    let mut has_it = false;
    for body in bodies {
        let Ok(read) = JitPolicy::read(&body) else { continue };
        let Some(entry) = read.vms.iter().find(|entry| entry.vm == *vm) else { continue };
        has_it = true;
        let documentation = Sources::read(DOCUMENTATION);
        if let Some(port) = entry.ports.iter().find(|port| port.sources.covers(&documentation)) {
            let own = body["properties"]["virtualMachines"].as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_str());
            let written = own.into_iter().find(|id| VmId::parse(id).is_ok_and(|id| id == *vm)).unwrap_or_default().to_owned();
            return Ok(Policy { path: path_of(&read, &body), vm: written, port: port.clone(), body });
        }
    }
    Err(Sought::Unfit(match has_it {
        true => format!(
            "no port of {} in its JIT policy may be asked for from {}: let one be asked for from *, and run the probe again",
            vm.name(),
            DOCUMENTATION.join(" and ")
        ),
        false => {
            format!("{} is in no JIT policy of its subscription: put it into one in Defender for Cloud, and run the probe again", vm.name())
        }
    }))
}

/// The path by the names that the body gives, which keep their letters where Azure answers ids in another case.
fn path_of(policy: &JitPolicy, body: &Value) -> String {
    let id = &policy.id;
    let location = body["location"].as_str().unwrap_or_default();
    let name = body["name"].as_str().filter(|name| name.eq_ignore_ascii_case(id.name())).unwrap_or(id.name());
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Security/locations/{location}/jitNetworkAccessPolicies/{name}",
        id.subscription(),
        id.resource_group()
    )
}

/// Refuses a machine that somebody has open: the probe would take it away from them, and could not tell its own from theirs.
async fn demand_shut(azure: &Azure<'_>, machine: &Machine, policy: &Policy) -> anyhow::Result<()> {
    let read = JitPolicy::read(&policy.body).map_err(|problem| anyhow::anyhow!("the JIT policy cannot be used: {}", problem.why))?;
    let live = read.records.iter().filter(|record| record.vm == machine.vm && record.may_be_open() && record.end > machine.began);
    if let Some(until) = live.map(|record| record.end).max() {
        bail!(
            "somebody has asked JIT to open {} until {}: run the probe when that is over",
            machine.vm.name(),
            until.format("%Y-%m-%d %H:%M:%S UTC")
        );
    }
    let groups = read_groups(azure, &machine.groups).await.context("the security groups cannot be read")?;
    match openings(&groups, &machine.addresses).first() {
        None => Ok(()),
        Some(opening) => bail!("{}: run the probe when nothing is open", opening.sentence(&machine.vm)),
    }
}
