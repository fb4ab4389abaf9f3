//! The sweep's view: the lists of a whole subscription become, for each VM, what a look at it would see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::arm_id::{NicId, NsgId, SubnetId, VmId};
use crate::finding::FindingCode;
use crate::jit::{JitPolicy, JitRecord};
use crate::judge::Limits;
use crate::missed::REMEMBERED;
use crate::network::Nic;
use crate::nsg::Nsg;
use crate::opening::{Opening, fingerprint};
use crate::plain::quoted;
use crate::reconcile::{Mode, RULE_MAY_COME, Remark};

/// What the lists of a subscription say of one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmSeen {
    /// Openings that lead to it.
    pub openings: Vec<Opening>,
    /// JIT's records of it.
    pub records: Vec<JitRecord>,
    /// What is odd about its JIT policies.
    pub remarks: Vec<Remark>,
}

impl VmSeen {
    /// What changes when a look would see something else, or would do something else about it; `rules` tells one set of rules from
    /// another, and from none that can be used.
    pub fn fingerprint(&self, mode: Mode, limits: Limits, rules: &str) -> String {
        let mut remarks: Vec<String> = self.remarks.iter().map(|r| format!("{} {}", r.about, r.evidence)).collect();
        remarks.push(format!("{} {} {rules}", mode.text(), limits.longest_opening.num_seconds()));
        fingerprint(&self.openings, &self.records, &remarks)
    }

    /// When the newest of JIT's records began of which no sweep has asked yet and that had time to show an opening. Those of up to
    /// `asked` were asked about; what is older than [`REMEMBERED`] no look tells.
    pub fn newest_record(&self, asked: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let starts = self.records.iter().map(|record| record.start);
        starts.filter(|start| *start > asked && *start + REMEMBERED > now && *start + RULE_MAY_COME <= now).max()
    }

    /// Whether JIT opened something after `asked` and has taken it away: nothing of it is in the fingerprint.
    pub fn has_gone_since(&self, asked: DateTime<Utc>) -> bool {
        self.records.iter().any(|record| record.start > asked && !record.may_be_open())
    }

    /// Whether there is anything that a look could act on or report.
    pub fn is_worth_a_look(&self) -> bool {
        !self.openings.is_empty() || !self.remarks.is_empty()
    }
}

/// Joins the lists of a subscription: VMs with a JIT policy or an opening, by id.
pub fn survey(policies: Vec<JitPolicy>, groups: &[Nsg], nics: &[Nic]) -> BTreeMap<VmId, VmSeen> {
    let mut seen: BTreeMap<VmId, VmSeen> = BTreeMap::new();
    for policy in &policies {
        for vm in policy.vms.iter().map(|v| &v.vm).chain(policy.records.iter().map(|r| &r.vm)) {
            seen.entry(vm.clone()).or_default();
        }
    }
    // Every machine has an interface.
    let machines: BTreeSet<&VmId> = nics.iter().filter_map(|nic| nic.vm.as_ref()).collect();
    for (vm, one) in &mut seen {
        one.remarks = remarks_of(&policies, vm, !machines.contains(vm));
    }
    for record in policies.into_iter().flat_map(|policy| policy.records) {
        seen.entry(record.vm.clone()).or_default().records.push(record);
    }
    for (vm, opening) in openings_by_vm(groups, nics) {
        seen.entry(vm).or_default().openings.push(opening);
    }
    for (group, opening) in orphans(groups, nics) {
        seen.entry(VmId::of_orphans(&group)).or_default().openings.push(opening);
    }
    for one in seen.values_mut() {
        one.openings.sort();
        one.openings.dedup();
        one.records.sort();
        one.records.dedup();
    }
    seen
}

/// What stands in front of a VM: its addresses, and the groups of its interfaces and of their subnets.
#[derive(Default)]
struct Front<'a> {
    addresses: BTreeSet<IpAddr>,
    groups: BTreeSet<&'a NsgId>,
}

fn openings_by_vm(groups: &[Nsg], nics: &[Nic]) -> Vec<(VmId, Opening)> {
    // A group may be on two pages of a list that changed meanwhile, and not the same on both.
    let mut openings: BTreeMap<&NsgId, Vec<Opening>> = BTreeMap::new();
    for group in groups {
        openings.entry(&group.id).or_default().extend(group.rules.iter().filter_map(|rule| Opening::of(rule, group)));
    }
    let mut found = Vec::new();
    for (vm, front) in fronts(groups, nics) {
        let all = front.groups.iter().filter_map(|group| openings.get(group)).flatten();
        found.extend(all.filter(|opening| opening.leads_to(&front.addresses)).map(|opening| (vm.clone(), opening.clone())));
    }
    found
}

/// The openings of these groups that lead to no machine of their subscription, by their group. An address that a machine has
/// anywhere counts as led to, so that an answer that leaves out what a group is attached to makes no orphan of a rule that is in
/// use. Where the address of a machine behind a group is not known, or an interface that a group names is not among these, none of
/// that group's openings are.
pub fn orphans(groups: &[Nsg], nics: &[Nic]) -> Vec<(NsgId, Opening)> {
    let of_machines: Vec<&Nic> = nics.iter().filter(|nic| nic.vm.is_some()).collect();
    let held: BTreeSet<IpAddr> = of_machines.iter().flat_map(|nic| nic.addresses.iter().copied()).collect();
    let listed: BTreeSet<&NicId> = nics.iter().map(|nic| &nic.id).collect();
    let mut found = Vec::new();
    for group in groups {
        let is_behind =
            |nic: &&&Nic| nic.nsg.as_ref() == Some(&group.id) || nic.subnets.iter().any(|subnet| group.subnets.contains(subnet));
        let is_sure = of_machines.iter().filter(is_behind).all(|nic| !nic.addresses.is_empty());
        if !is_sure || group.nics.iter().any(|nic| !listed.contains(nic)) {
            continue;
        }
        let openings = group.rules.iter().filter_map(|rule| Opening::of(rule, group));
        found.extend(openings.filter(|opening| !opening.leads_to(&held)).map(|opening| (group.id.clone(), opening)));
    }
    found
}

fn fronts<'a>(groups: &'a [Nsg], nics: &'a [Nic]) -> BTreeMap<&'a VmId, Front<'a>> {
    let mut groups_of_subnet: BTreeMap<&SubnetId, BTreeSet<&NsgId>> = BTreeMap::new();
    for (subnet, group) in groups.iter().flat_map(|group| group.subnets.iter().map(move |subnet| (subnet, &group.id))) {
        groups_of_subnet.entry(subnet).or_default().insert(group);
    }
    let mut fronts: BTreeMap<&VmId, Front<'_>> = BTreeMap::new();
    for nic in nics {
        let Some(vm) = &nic.vm else { continue };
        let front = fronts.entry(vm).or_default();
        front.addresses.extend(&nic.addresses);
        front.groups.extend(&nic.nsg);
        front.groups.extend(nic.subnets.iter().filter_map(|subnet| groups_of_subnet.get(subnet)).flatten());
    }
    fronts
}

/// JIT's records of a VM in these policies, each once, sorted.
pub fn records_of(policies: &[JitPolicy], vm: &VmId) -> Vec<JitRecord> {
    let mut records: Vec<JitRecord> = policies.iter().flat_map(|p| p.records.iter()).filter(|r| r.vm == *vm).cloned().collect();
    records.sort();
    records.dedup();
    records
}

/// What is odd about these policies for a VM: a classic firewall that JIT opens too, parts that cannot be read, and that they
/// name it although it is gone.
pub fn remarks_of(policies: &[JitPolicy], vm: &VmId, is_gone: bool) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for policy in policies {
        // Ids are compared last, since a sweep asks this of each machine about all the others of a policy.
        let is_named = || policy.vms.iter().any(|v| v.vm == *vm) || policy.records.iter().any(|r| r.vm == *vm);
        let problems = if policy.problems.is_empty() || !is_named() { &[][..] } else { &policy.problems };
        let about = policy.id.to_string();
        if is_gone && policy.vms.iter().any(|v| v.vm == *vm) {
            let evidence = format!(
                "JIT policy {} names {}, and there is no such machine: take it out, or the next one of that name has its ports opened by it",
                policy.id.name(),
                vm.name()
            );
            remarks.push(Remark { code: FindingCode::NoMachine, port: None, about: about.clone(), evidence });
        }
        let fronted = policy.vms.iter().filter_map(|v| Some((&v.vm, v.public_ip_address.as_ref()?)));
        for (_, address) in fronted.filter(|(of, _)| *of == vm) {
            let (policy, address) = (policy.id.name(), quoted(address));
            let evidence = format!("JIT policy {policy} also opens the Azure Firewall at {address} for this VM");
            remarks.push(Remark { code: FindingCode::FirewallPolicy, port: None, about: about.clone(), evidence });
        }
        let mapped = policy.records.iter().filter_map(|record| Some((record, record.mapped_port?)));
        for (record, mapped) in mapped.filter(|(record, _)| record.may_be_open() && record.vm == *vm) {
            let evidence = format!("JIT opened port {mapped} of an Azure Firewall for port {} of this VM", record.port);
            remarks.push(Remark { code: FindingCode::FirewallPort, port: Some(record.port), about: about.clone(), evidence });
        }
        for problem in problems {
            // Azure lists in no order: a place by its number would be another one at the next look.
            let place = without_numbers(&problem.place);
            let evidence = format!("{place} of JIT policy {} cannot be read: {}", policy.id.name(), problem.why);
            remarks.push(Remark { code: FindingCode::UnreadableRecord, port: None, about: format!("{about}#{place}"), evidence });
        }
    }
    remarks.sort();
    remarks.dedup();
    remarks
}

/// `requests[2].ports[0]` as `requests[…].ports[…]`.
fn without_numbers(place: &str) -> String {
    let parts = place.split('[').enumerate().map(|(n, part)| match (n, part.split_once(']')) {
        (1.., Some((_, rest))) => format!("[…]{rest}"),
        _ => part.to_owned(),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::{Value, json};

    use super::*;
    use crate::jit::RecordStatus;
    use crate::samples::{POLICY, VM, record, vm};

    const NETWORK: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network";

    fn rule_name(n: u32) -> String {
        format!("MicrosoftDefenderForCloud-JITRule-{n}-{n:032X}")
    }

    /// A group whose n-th rule opens port 22 to the n-th of these addresses.
    fn group(name: &str, destinations: &[&str], subnets: &[&str]) -> Nsg {
        let id = format!("{NETWORK}/networkSecurityGroups/{name}");
        let rule = |(n, destination): (usize, &&str)| {
            json!({"id": format!("{id}/securityRules/{}", rule_name(n as u32)), "properties": {"access": "Allow", "direction": "Inbound",
                "sourceAddressPrefix": "203.0.113.4", "destinationPortRange": "22", "destinationAddressPrefix": destination}})
        };
        let rules: Vec<Value> = destinations.iter().enumerate().map(rule).collect();
        let subnets: Vec<Value> = subnets.iter().map(|subnet| json!({"id": subnet_id(subnet)})).collect();
        Nsg::read(&json!({"id": id, "properties": {"securityRules": rules, "subnets": subnets}})).unwrap()
    }

    fn subnet_id(name: &str) -> String {
        format!("{NETWORK}/virtualNetworks/v/subnets/{name}")
    }

    fn nic(name: &str, vm: Option<&str>, address: &str, subnet: &str, group: Option<&str>) -> Nic {
        let mut body = json!({"id": format!("{NETWORK}/networkInterfaces/{name}"), "properties": {"ipConfigurations": [
            {"properties": {"privateIPAddress": address, "subnet": {"id": subnet_id(subnet)}}}]}});
        if let Some(vm) = vm {
            body["properties"]["virtualMachine"] = json!({"id": vm});
        }
        if let Some(group) = group {
            body["properties"]["networkSecurityGroup"] = json!({"id": format!("{NETWORK}/networkSecurityGroups/{group}").to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions")});
        }
        Nic::read(&body).unwrap()
    }

    fn policy(vms: Vec<Value>, records: Vec<JitRecord>) -> JitPolicy {
        let mut policy = JitPolicy::read(&json!({"id": POLICY, "properties": {"virtualMachines": vms}})).unwrap();
        policy.records = records;
        policy
    }

    fn other_vm(name: &str) -> String {
        VM.replace("vm1", name)
    }

    fn rules_of(seen: &BTreeMap<VmId, VmSeen>, vm: &str) -> Vec<String> {
        let openings = &seen[&vm.parse::<VmId>().unwrap()].openings;
        openings.iter().map(|opening| format!("{} {}", opening.nsg().unwrap().name(), opening.destinations)).collect()
    }

    #[test]
    fn what_leads_to_no_machine_is_a_groups_own_and_only_where_that_is_sure() {
        let groups = || [group("a", &["10.0.0.4", "10.0.0.9"], &[]), group("b", &["10.0.0.9", "*"], &["two"])];
        let found = |groups: &[Nsg], nics: &[Nic]| {
            let seen = survey(Vec::new(), groups, nics);
            let of = |(vm, one): (&VmId, &VmSeen)| Some(format!("{} {}", vm.orphans_of()?.name(), one.openings.len()));
            seen.iter().filter_map(of).collect::<Vec<_>>()
        };
        let here = || nic("n1", Some(VM), "10.0.0.4", "one", Some("a"));
        assert_eq!(found(&groups(), &[here()]), ["a 1", "b 1"]);
        // An interface without a machine holds no address for anybody.
        assert_eq!(found(&groups(), &[here(), nic("n2", None, "10.0.0.9", "one", Some("a"))]), ["a 1", "b 1"]);
        // Another machine has that address, or has one that is not known and stands behind the group.
        assert!(found(&groups(), &[here(), nic("n2", Some(&other_vm("vm2")), "10.0.0.9", "three", None)]).is_empty());
        assert_eq!(found(&groups(), &[here(), nic("n2", Some(&other_vm("vm2")), "", "one", Some("a"))]), ["b 1"]);
        assert_eq!(found(&groups(), &[here(), nic("n2", Some(&other_vm("vm2")), "", "two", None)]), ["a 1"]);
        let mut named = groups();
        named[0].nics.push(nic("n3", None, "", "one", None).id);
        assert_eq!(found(&named, &[here()]), ["b 1"]);
        // With no machine at all, a rule to everything leads to none either.
        assert_eq!(found(&groups(), &[]), ["a 2", "b 2"]);
    }

    #[test]
    fn openings_are_found_in_the_groups_of_interface_and_subnet() {
        let groups = [
            group("a", &["10.0.0.4", "10.0.0.5"], &[]),
            group("b", &["10.0.0.4", "10.0.0.9"], &["one"]),
            group("c", &["10.0.0.4"], &["two"]),
        ];
        let nics = [
            nic("n1", Some(VM), "10.0.0.4", "one", Some("a")),
            nic("n2", Some(&other_vm("vm2")), "10.0.0.9", "one", None),
            nic("n3", None, "10.0.0.5", "one", Some("a")),
        ];
        let seen = survey(Vec::new(), &groups, &nics);
        // No machine has 10.0.0.5: that rule is its group's.
        assert_eq!(seen.keys().map(VmId::name).collect::<Vec<_>>(), ["vm1", "vm2", "a"]);
        assert_eq!(rules_of(&seen, VM), ["a 10.0.0.4", "b 10.0.0.4"]);
        assert_eq!(rules_of(&seen, &other_vm("vm2")), ["b 10.0.0.9"]);
        assert!(survey(Vec::new(), &[], &nics).is_empty());
    }

    #[test]
    fn a_vm_with_several_interfaces_is_one_vm() {
        let groups = [group("a", &["10.0.0.4", "10.0.1.4"], &[]), group("b", &["10.0.1.4"], &["two"])];
        let shouted = VM.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions");
        let nics = [nic("n1", Some(VM), "10.0.0.4", "one", Some("a")), nic("n2", Some(&shouted), "10.0.1.4", "two", Some("gone"))];
        let seen = survey(Vec::new(), &groups, &nics);
        assert_eq!(rules_of(&seen, VM), ["a 10.0.0.4", "a 10.0.1.4", "b 10.0.1.4"]);
        // What a look finds is the same: it asks with all addresses and all groups of the VM.
        let addresses: BTreeSet<IpAddr> = nics.iter().flat_map(|nic| nic.addresses.iter().copied()).collect();
        assert_eq!(seen[&vm()].openings, crate::opening::openings(&groups, &addresses));
    }

    #[test]
    fn each_record_is_asked_about_once_it_had_time_to_show() {
        let at = crate::samples::at;
        let of = |start: &str| record(22, "*", start, "23:00:00", RecordStatus::Revoked);
        let one = VmSeen { records: vec![of("09:00:00"), of("09:10:00"), of("09:20:00")], ..VmSeen::default() };
        let long_ago = at("09:00:00") - TimeDelta::days(7);
        for (asked, now, newest) in [
            (long_ago, "09:02:29", None),
            (long_ago, "09:02:30", Some("09:00:00")),
            (long_ago, "09:30:00", Some("09:20:00")),
            (at("09:10:00"), "09:22:29", None),
            (at("09:10:00"), "09:22:30", Some("09:20:00")),
            (at("09:20:00"), "10:00:00", None),
        ] {
            assert_eq!(one.newest_record(asked, at(now)), newest.map(at), "{now}");
        }
        assert_eq!(one.newest_record(long_ago, at("09:20:00") + REMEMBERED), None);
    }

    #[test]
    fn a_group_that_is_listed_twice_gives_each_opening_once() {
        let groups = [group("a", &["10.0.0.4"], &["one"]), group("a", &["10.0.0.4"], &["one"])];
        let seen = survey(Vec::new(), &groups, &[nic("n1", Some(VM), "10.0.0.4", "one", Some("a"))]);
        assert_eq!(seen[&vm()].openings.len(), 1);
    }

    #[test]
    fn a_vm_of_a_policy_or_a_record_is_seen_though_nothing_is_open() {
        let initiated =
            |vm: &str| JitRecord { vm: vm.parse().unwrap(), ..record(22, "203.0.113.4", "09:00:00", "10:00:00", RecordStatus::Initiated) };
        let policies = [policy(vec![json!({"id": VM})], vec![initiated(&other_vm("vm2")), initiated(VM), initiated(VM)])];
        let seen = survey(policies.to_vec(), &[], &[nic("n1", Some(VM), "10.0.0.4", "one", None)]);
        assert_eq!(seen.keys().map(VmId::name).collect::<Vec<_>>(), ["vm1", "vm2"]);
        assert_eq!(seen[&vm()].records, [initiated(VM)]);
        assert!(!seen[&vm()].is_worth_a_look());
    }

    #[test]
    fn records_come_sorted_from_all_policies() {
        let early = record(22, "203.0.113.4", "08:00:00", "10:00:00", RecordStatus::Initiated);
        let late = record(22, "203.0.113.4", "09:00:00", "10:00:00", RecordStatus::Initiated);
        let other = JitRecord { vm: other_vm("vm2").parse().unwrap(), ..early.clone() };
        let policies = [policy(Vec::new(), vec![late.clone(), other]), policy(Vec::new(), vec![late.clone(), early.clone()])];
        assert_eq!(records_of(&policies, &vm()), [early, late]);
    }

    #[test]
    fn what_is_odd_about_a_policy_is_told_of_its_vms() {
        let mapped = |status| JitRecord { mapped_port: Some(13_389), ..record(3389, "*", "09:00:00", "10:00:00", status) };
        let mut odd = policy(
            vec![
                json!({"id": VM, "publicIpAddress": "20.1.2.3"}),
                json!({"id": other_vm("vm2"), "publicIpAddress": "20.9.9.9"}),
                json!({"id": other_vm("vm3")}),
            ],
            vec![
                mapped(RecordStatus::Initiated),
                mapped(RecordStatus::Initiated),
                mapped(RecordStatus::Revoked),
                record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated),
            ],
        );
        odd.problems.push(crate::jit::Problem { place: "properties.requests[0]".to_owned(), why: "it is not a time".to_owned() });
        let policies = [odd.clone(), odd];
        let told = |vm: &str| -> Vec<String> {
            remarks_of(&policies, &vm.parse().unwrap(), false)
                .iter()
                .map(|r| format!("{} {:?} {}: {}", r.code.text(), r.port, r.about.replace(POLICY, "p"), r.evidence))
                .collect()
        };
        let unreadable =
            "unreadable-record None p#properties.requests[…]: properties.requests[…] of JIT policy p cannot be read: it is not a time";
        assert_eq!(
            told(VM),
            [
                "firewall-policy None p: JIT policy p also opens the Azure Firewall at 20.1.2.3 for this VM",
                "firewall-port Some(3389) p: JIT opened port 13389 of an Azure Firewall for port 3389 of this VM",
                unreadable,
            ]
        );
        let gone = remarks_of(&policies, &VM.parse().unwrap(), true);
        assert_eq!(gone.iter().filter(|remark| remark.code == FindingCode::NoMachine).count(), 1, "{gone:?}");
        assert!(gone[3].evidence.starts_with("JIT policy p names vm1, and there is no such machine"), "{gone:?}");
        let surveyed =
            |nics: &[Nic]| survey(policies.to_vec(), &[], nics)[&vm()].remarks.iter().any(|one| one.code == FindingCode::NoMachine);
        assert!(surveyed(&[]) && !surveyed(&[nic("n1", Some(VM), "10.0.0.4", "one", None)]));
        assert_eq!(
            told(&other_vm("vm2")),
            ["firewall-policy None p: JIT policy p also opens the Azure Firewall at 20.9.9.9 for this VM", unreadable]
        );
        assert_eq!(told(&other_vm("vm3")), [unreadable]);
        assert_eq!(told(&other_vm("vm4")), Vec::<String>::new());
        let seen = survey(policies.to_vec(), &[], &[]);
        assert!(seen[&vm()].is_worth_a_look() && seen[&vm()].remarks.len() == 4);
    }

    #[test]
    fn a_policy_that_names_a_vm_in_a_record_only_tells_its_problems_too() {
        let mut odd = policy(Vec::new(), vec![record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated)]);
        odd.problems.push(crate::jit::Problem { place: "x".to_owned(), why: "y".to_owned() });
        assert_eq!(remarks_of(&[odd], &vm(), false).len(), 1);
    }

    #[test]
    fn a_place_is_told_without_its_number_in_a_list_without_order() {
        for (place, told) in [
            ("properties.requests[12].virtualMachines[0].id", "properties.requests[…].virtualMachines[…].id"),
            ("id", "id"),
            ("a[0]", "a[…]"),
            ("a[0", "a0"),
        ] {
            assert_eq!(without_numbers(place), told);
        }
    }

    #[test]
    fn the_fingerprint_changes_with_what_is_seen_with_the_mode_with_the_limits_and_with_the_rules() {
        let seen = survey(Vec::new(), &[group("a", &["10.0.0.4"], &[])], &[nic("n1", Some(VM), "10.0.0.4", "one", Some("a"))]);
        let one = &seen[&vm()];
        assert!(one.is_worth_a_look());
        let told = VmSeen {
            remarks: vec![Remark { code: FindingCode::FirewallPolicy, port: None, about: "a".to_owned(), evidence: "b".to_owned() }],
            ..one.clone()
        };
        let recorded = VmSeen { records: vec![record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated)], ..one.clone() };
        let (limits, tighter) = (Limits { longest_opening: TimeDelta::hours(8) }, Limits { longest_opening: TimeDelta::hours(1) });
        let all = [
            one.fingerprint(Mode::Enforce, limits, "a"),
            one.fingerprint(Mode::Enforce, limits, "b"),
            one.fingerprint(Mode::Enforce, tighter, "a"),
            one.fingerprint(Mode::Observe, limits, "a"),
            told.fingerprint(Mode::Enforce, limits, "a"),
            recorded.fingerprint(Mode::Enforce, limits, "a"),
            VmSeen::default().fingerprint(Mode::Enforce, limits, "a"),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(one.fingerprint(Mode::Enforce, limits, "a"), one.clone().fingerprint(Mode::Enforce, limits, "a"));
    }
}
