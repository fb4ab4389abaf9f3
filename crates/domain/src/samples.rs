//! What the tests of this crate are made of: one VM on one day.

use chrono::{DateTime, Utc};

use crate::arm_id::VmId;
use crate::grant::{Grant, Origin, Phase};
use crate::jit::{JitRecord, RecordStatus};
use crate::opening::Opening;
use crate::port::PortSet;
use crate::source::Sources;
use crate::time;

pub(crate) const VM: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1";
pub(crate) const POLICY: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/p";

pub(crate) fn vm() -> VmId {
    VM.parse().unwrap()
}

/// A time of that day, such as `09:30:00`.
pub(crate) fn at(text: &str) -> DateTime<Utc> {
    time::parse(&format!("2026-01-15T{text}Z")).unwrap()
}

/// The n-th rule of JIT in group `g`, for ports such as `22,3389-3390`.
pub(crate) fn opening(n: u32, ports: &str, sources: &[&str]) -> Opening {
    opening_in("g", n, ports, sources)
}

pub(crate) fn opening_in(group: &str, n: u32, ports: &str, sources: &[&str]) -> Opening {
    let nsg = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/{group}");
    Opening {
        rule: format!("{nsg}/securityRules/MicrosoftDefenderForCloud-JITRule-{n}-{n:032X}").parse().unwrap(),
        ports: PortSet::parse(ports.split(',')).unwrap(),
        protocol: "*".to_owned(),
        sources: Sources::read(sources.iter().copied()),
        destinations: Sources::read(["10.0.0.4"]),
        flush_connection: false,
    }
}

pub(crate) fn record(port: u16, source: &str, start: &str, end: &str, status: RecordStatus) -> JitRecord {
    JitRecord {
        vm: vm(),
        port,
        start: at(start),
        end: at(end),
        sources: Sources::read([source]),
        status,
        status_reason: "UserRequested".to_owned(),
        requestor: None,
        justification: None,
        mapped_port: None,
        policy: POLICY.parse().unwrap(),
    }
}

/// A grant from nine o'clock; one that is only approved, from a minute before ten.
pub(crate) fn grant(id: &str, port: u16, source: &str, until: &str, phase: Phase) -> Grant {
    Grant {
        id: id.to_owned(),
        vm: vm(),
        port,
        sources: Sources::read([source]),
        from: at(if phase == Phase::Approved { "09:59:00" } else { "09:00:00" }),
        until: at(until),
        person: "p".to_owned(),
        phase,
        name: String::new(),
        rule: String::new(),
        origin: Origin::Asked,
        confirm_by: None,
        ended: None,
        first_shut_read: None,
        audit: String::new(),
    }
}
