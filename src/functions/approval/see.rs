//! What Azure shows of one VM now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::{NicId, NsgId, VmId};
use portcullis_domain::jit::JitPolicy;
use portcullis_domain::json::tree;
use portcullis_domain::network::{Nic, Vm, subnet_nics, subnet_nsg};
use portcullis_domain::nsg::{Nsg, versions};
use portcullis_domain::opening::{Opening, openings};
use portcullis_domain::record::VmRecord;
use portcullis_domain::ruling::starts_of;
use portcullis_domain::sweep::{VmSeen, orphans, records_of, remarks_of};
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use super::super::App;
use crate::azure::jit::Read;
use crate::azure::{CallFailed, FailureKind};

/// What one read of Azure showed.
pub(super) struct Sight {
    /// Openings, records and remarks.
    pub seen: VmSeen,
    /// Whether every security group in front of the VM is settled.
    pub groups_settled: bool,
    /// The versions of these groups.
    pub versions: String,
    /// The JIT policies of the VM's resource group, with what they list for the VM and their records of it.
    pub policies: Vec<JitPolicy>,
    /// When the records of these policies started, those of other VMs too.
    pub starts: Vec<DateTime<Utc>>,
    /// Why JIT's policies could not be read; then there are neither policies nor records nor remarks.
    pub jit_unread: Option<NotSeen>,
    /// Whether the VM is gone.
    pub gone: bool,
    /// The VM's tags, as Azure has them; none where it is gone.
    pub tags: BTreeMap<String, String>,
}

/// Why Azure could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSeen {
    /// A call failed.
    #[error("{}", .0.told())]
    Call(CallFailed),
    /// It took longer than a look has.
    #[error("{what} did not answer all that had to be read within {} s", within.as_secs())]
    Slow {
        /// Who did not.
        what: &'static str,
        /// How long a look waits for it.
        within: Duration,
    },
    /// An interface stands behind a group, and the list of interfaces does not have it.
    #[error("interface {0} stands behind the group and is not listed: the app's role must reach the whole subscription")]
    Unlisted(NicId),
    /// A body is not what it must be.
    #[error("{what} cannot be read: {why}")]
    Body {
        /// Whose body.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl From<CallFailed> for NotSeen {
    fn from(failed: CallFailed) -> Self {
        NotSeen::Call(failed)
    }
}

fn body_of<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> NotSeen {
    move |why| NotSeen::Body { what, why: why.to_string() }
}

/// What a look takes for reading Azure. A read that is not over by then is one that failed: that the VM cannot be read is
/// then remembered, and an alarm in its time.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What a look waits for JIT's policies, so that something is left of its time for what the groups alone show.
const JIT_READ_WITHIN: Duration = Duration::from_secs(8);

/// Reads everything about a VM that decides. Where JIT's policies alone cannot be read, what the groups show is there.
pub(super) async fn see(app: &App, record: &VmRecord) -> Result<Sight, NotSeen> {
    let slow = NotSeen::Slow { what: "Azure", within: READ_WITHIN };
    let seen = async {
        match record.vm.orphans_of() {
            Some(nsg) => see_orphans(app, &nsg).await,
            None => see_vm(app, record).await,
        }
    };
    timeout(READ_WITHIN, seen).await.unwrap_or(Err(slow))
}

async fn see_vm(app: &App, record: &VmRecord) -> Result<Sight, NotSeen> {
    let vm = &record.vm;
    let ground = async {
        let place = stand(app, vm).await?;
        let groups = groups(app, record, &place).await?;
        Ok::<_, NotSeen>((place, groups))
    };
    let (jit, ground) = tokio::join!(jit(app, vm), ground);
    let (place, groups) = ground?;
    let mut found = openings(&groups, &place.addresses);
    for opening in remembered(record, &groups) {
        if !found.iter().any(|known| known.rule == opening.rule) {
            found.push(opening);
        }
    }
    found.sort();
    let (jit, jit_unread) = match jit {
        Ok(jit) => (jit, None),
        Err(why) => (Jit::default(), Some(why)),
    };
    Ok(Sight {
        gone: place.gone,
        tags: place.tags,
        groups_settled: groups.iter().all(Nsg::is_settled),
        versions: versions(&groups),
        seen: VmSeen { openings: found, records: records_of(&jit.policies, vm), remarks: remarks_of(&jit.policies, vm, place.gone) },
        policies: jit.policies,
        starts: jit.starts,
        jit_unread,
    })
}

/// The policies of a VM's resource group, and of what is not about the VM only when their records started.
#[derive(Default)]
struct Jit {
    policies: Vec<JitPolicy>,
    starts: Vec<DateTime<Utc>>,
}

async fn jit(app: &App, vm: &VmId) -> Result<Jit, NotSeen> {
    let listed = timeout(JIT_READ_WITHIN, app.azure.jit.list_in_group(&vm.subscription(), &vm.resource_group())).await;
    let listed = listed.map_err(|_| NotSeen::Slow { what: "JIT", within: JIT_READ_WITHIN })?;
    let mut policies = usable(listed.or_else(none_if_gone)?);
    let starts = starts_of(policies.iter().flat_map(|policy| &policy.records));
    // A look keeps the rest until its end, and sixteen looks are under way at once.
    for policy in &mut policies {
        policy.vms.retain(|entry| entry.vm == *vm);
        policy.vms.shrink_to_fit();
        policy.records.retain(|record| record.vm == *vm);
        policy.records.shrink_to_fit();
    }
    Ok(Jit { policies, starts })
}

/// Reads a group and who stands behind it: what of its rules leads to no machine. An interface that cannot be read may be
/// the one that a rule leads to, so that nothing is seen then.
async fn see_orphans(app: &App, id: &NsgId) -> Result<Sight, NotSeen> {
    let mut read = Vec::new();
    let subscription = Uuid::parse_str(&id.subscription()).unwrap_or_default();
    let listing = app.azure.network.nics(&subscription, |page| {
        read.extend(page.into_iter().map(|body| Nic::read(&tree(body))));
        ControlFlow::Continue(())
    });
    let group = async {
        match app.azure.network.nsg(id).await {
            Ok(body) => Ok(Some(Nsg::read(&body).map_err(body_of("a network security group"))?)),
            Err(failed) if is_gone(&failed) => Ok(None),
            Err(failed) => Err(NotSeen::from(failed)),
        }
    };
    let ((), group) = tokio::try_join!(async { listing.await.map_err(NotSeen::Call) }, group)?;
    let nics = read.into_iter().collect::<Result<Vec<_>, _>>().map_err(body_of("a network interface"))?;
    let groups: Vec<Nsg> = group.into_iter().collect();
    for group in &groups {
        let mut behind = group.nics.clone();
        for subnet in &group.subnets {
            behind.extend(subnet_nics(&app.azure.network.subnet(subnet).await?));
        }
        // Azure leaves out of a list what a role does not reach.
        if let Some(unlisted) = behind.into_iter().find(|nic| nics.iter().all(|listed| listed.id != *nic)) {
            return Err(NotSeen::Unlisted(unlisted));
        }
    }
    Ok(Sight {
        gone: true,
        tags: BTreeMap::new(),
        groups_settled: groups.iter().all(Nsg::is_settled),
        versions: versions(&groups),
        seen: VmSeen { openings: orphans(&groups, &nics).into_iter().map(|(_, opening)| opening).collect(), ..VmSeen::default() },
        policies: Vec::new(),
        starts: Vec::new(),
        jit_unread: None,
    })
}

/// The policies that could be read. One whose own id cannot be names no VM for certain: the sweep tells of it.
pub(in super::super) fn usable(read: Vec<Read>) -> Vec<JitPolicy> {
    read.into_iter()
        .filter_map(|policy| policy.inspect_err(|problem| warn!(place = problem.place, "a JIT policy cannot be read")).ok())
        .collect()
}

/// A resource group that is gone holds no policies.
fn none_if_gone(failed: CallFailed) -> Result<Vec<Read>, CallFailed> {
    if failed.kind == FailureKind::NotFound && failed.code.eq_ignore_ascii_case("ResourceGroupNotFound") {
        Ok(Vec::new())
    } else {
        Err(failed)
    }
}

/// Where a VM stands in the network; nowhere when it is gone.
#[derive(Default)]
struct Place {
    gone: bool,
    tags: BTreeMap<String, String>,
    addresses: BTreeSet<IpAddr>,
    groups: BTreeSet<NsgId>,
}

async fn stand(app: &App, vm: &VmId) -> Result<Place, NotSeen> {
    let body = match app.azure.compute.get(vm).await {
        Ok(body) => body,
        Err(failed) if is_gone(&failed) => return Ok(Place { gone: true, ..Place::default() }),
        Err(failed) => return Err(failed.into()),
    };
    let vm = Vm::read(&body).map_err(body_of("the VM"))?;
    let mut place = Place { tags: vm.tags, ..Place::default() };
    let mut subnets = BTreeSet::new();
    for nic in vm.nics {
        let nic = Nic::read(&app.azure.network.nic(&nic).await?).map_err(body_of("a network interface"))?;
        place.addresses.extend(nic.addresses);
        place.groups.extend(nic.nsg);
        subnets.extend(nic.subnets);
    }
    for subnet in subnets {
        let body = app.azure.network.subnet(&subnet).await?;
        place.groups.extend(subnet_nsg(&body).map_err(body_of("a subnet"))?);
    }
    Ok(place)
}

fn is_gone(failed: &CallFailed) -> bool {
    let gone = ["ResourceNotFound", "ResourceGroupNotFound", "NotFound"];
    failed.kind == FailureKind::NotFound && gone.iter().any(|code| failed.code.eq_ignore_ascii_case(code))
}

/// The groups in front of the VM, and those of the openings that are remembered: a group that was taken off the VM
/// still holds its rule.
async fn groups(app: &App, record: &VmRecord, place: &Place) -> Result<Vec<Nsg>, NotSeen> {
    let known: BTreeSet<NsgId> = record.remembered().filter_map(Opening::nsg).collect();
    let mut groups = Vec::new();
    for id in known.union(&place.groups) {
        match app.azure.network.nsg(id).await {
            Ok(body) => groups.push(Nsg::read(&body).map_err(body_of("a network security group"))?),
            Err(failed) if is_gone(&failed) && !place.groups.contains(id) => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(groups)
}

/// Remembered openings that still stand as they were seen, although no address of the VM claims them any more.
fn remembered(record: &VmRecord, groups: &[Nsg]) -> Vec<Opening> {
    let still = |opening: &&Opening| groups.iter().flat_map(|group| &group.rules).any(|rule| opening.agrees_with(rule).is_ok());
    record.remembered().filter(still).cloned().collect()
}
