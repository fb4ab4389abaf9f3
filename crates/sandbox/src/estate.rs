//! Estates to begin a world with: subscriptions, networks, VMs, JIT policies, people and applications.
//!
//! Every id is derived from names and numbers, so that two worlds built alike are equal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::arm;
use crate::roles::{self, DUTIES};
use crate::state::{Assignment, Principal, State, Subscription, Workspace};
use crate::switches::Switches;

/// The subscription of a small estate.
pub const SUBSCRIPTION: &str = "5a4db0c5-0001-4000-8000-000000000001";
/// The resource group of a small estate.
pub const GROUP: &str = "rg-workload";
/// Where everything is.
pub const LOCATION: &str = "westeurope";
/// The resource group of Microsoft Sentinel's workspace.
pub const SENTINEL_GROUP: &str = "rg-security";
/// The name of Microsoft Sentinel's workspace.
pub const SENTINEL_WORKSPACE: &str = "sentinel";
/// The object id of the product's managed identity.
pub const PRODUCT_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000001";
/// The client id of the product's managed identity.
pub const PRODUCT_APP_ID: &str = "5a4db0c5-00b0-4000-8000-0000000000a1";
/// The object id of a person with the role Owner.
pub const ADMIN_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000002";
/// The user principal name of the person with the role Owner.
pub const ADMIN_UPN: &str = "ada.admin@sandbox.example";
/// The object id of a person who may request JIT access.
pub const RESPONDER_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000003";
/// The user principal name of the person who may request JIT access.
pub const RESPONDER_UPN: &str = "rosa.responder@sandbox.example";
/// The object id of an application with the role Owner and a secret, for official clients.
pub const CLIENT_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000004";
/// The client id of that application.
pub const CLIENT_APP_ID: &str = "5a4db0c5-00b0-4000-8000-0000000000a4";
/// The secret of that application.
pub const CLIENT_SECRET: &str = "sandbox-client-secret";
/// The object id of an application with the app role `Auditor`.
pub const AUDITOR_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000005";
/// The client id of the auditor.
pub const AUDITOR_APP_ID: &str = "5a4db0c5-00b0-4000-8000-0000000000a5";
/// The secret of the auditor.
pub const AUDITOR_SECRET: &str = "sandbox-auditor-secret";

/// The object id of a person who develops.
pub const DEVELOPER_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000006";
/// The user principal name of the person who develops.
pub const DEVELOPER_UPN: &str = "dora.developer@sandbox.example";
/// The object id of an account for when all else fails.
pub const GLASS_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000007";
/// The user principal name of the account for when all else fails.
pub const GLASS_UPN: &str = "glass@sandbox.example";
/// The object id of a person on security duty.
pub const SECURITY_OBJECT_ID: &str = "5a4db0c5-00b0-4000-8000-000000000008";
/// The user principal name of the person on security duty.
pub const SECURITY_UPN: &str = "sam.security@sandbox.example";
/// The group of those who respond to incidents.
pub const RESPONDERS: &str = "5a4db0c5-00c0-4000-8000-000000000001";
/// The group of those who develop.
pub const DEVELOPERS: &str = "5a4db0c5-00c0-4000-8000-000000000002";
/// The group of those on security duty.
pub const SECURITY: &str = "5a4db0c5-00c0-4000-8000-000000000003";
/// The group of those who may break the glass.
pub const BREAK_GLASS: &str = "5a4db0c5-00c0-4000-8000-000000000004";

/// VMs in each subscription of a large estate.
const VMS_A_SUBSCRIPTION: usize = 100;

/// What the product's identity may do in the store, the queues and the data collection rule: what it uses of the built-in roles
/// that it has there.
const PRODUCT_DATA_ACTIONS: &[&str] = &[
    "Microsoft.Storage/storageAccounts/blobServices/containers/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*",
    "Microsoft.ServiceBus/*/send/action",
    "Microsoft.ServiceBus/*/receive/action",
    "Microsoft.Insights/Telemetry/Write",
];

/// The public role with which people request JIT access.
const RESPONDER_ACTIONS: &[&str] = &[
    "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/read",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/*/read",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/*/read",
    "Microsoft.Network/publicIPAddresses/read",
];

/// One subscription with three VMs under one JIT policy `default`, whose NICs and whose subnet each have an NSG; the
/// product's identity, two people, two applications; the product's queues and its audit container; and a workspace of Microsoft
/// Sentinel without incidents.
///
/// The container `state` is not made here: whoever deploys the product makes it together with its marker.
pub fn small(state: &mut State) {
    people(state);
    stores(state);
    add_subscription(state, SUBSCRIPTION, "Workload");
    let subnet_nsg = add_nsg(state, SUBSCRIPTION, GROUP, "nsg-servers");
    let subnet = add_subnet(state, SUBSCRIPTION, GROUP, ("vnet-workload", "servers"), Some(&subnet_nsg));
    let vms: Vec<String> = ["web-1", "web-2", "db-1"]
        .iter()
        .zip(4..)
        .map(|(name, host)| {
            let nsg = add_nsg(state, SUBSCRIPTION, GROUP, &format!("nsg-{name}"));
            let nic = Nic { nsg: Some(nsg), subnet: Some(subnet.clone()), addresses: vec![format!("10.0.0.{host}")] };
            let vm = Vm { nics: vec![nic], ..Vm::new(SUBSCRIPTION, GROUP, name) };
            add_vm(state, &vm)
        })
        .collect();
    add_policy(state, SUBSCRIPTION, GROUP, "default", &vms, &[22, 3389]);
    add_workspace(state);
}

/// `vms` VMs over as many subscriptions as it takes at 100 each, every VM with its own NSG on its NIC, and one JIT
/// policy a subscription; with the people and stores of [`small`].
pub fn large(state: &mut State, vms: usize) {
    people(state);
    stores(state);
    let mut left = vms;
    let mut number = 1;
    while left > 0 {
        let here = left.min(VMS_A_SUBSCRIPTION);
        add_full_subscription(state, number, here);
        left -= here;
        number += 1;
    }
    add_workspace(state);
}

fn add_full_subscription(state: &mut State, number: usize, vms: usize) {
    let subscription = numbered_subscription(number);
    add_subscription(state, &subscription, &format!("Workload {number}"));
    let subnet = add_subnet(state, &subscription, GROUP, ("vnet-workload", "servers"), None);
    let ids: Vec<String> = (1..=vms)
        .map(|n| {
            let name = format!("vm-{number:04}-{n:03}");
            let nsg = add_nsg(state, &subscription, GROUP, &format!("nsg-{name}"));
            let nic = Nic { nsg: Some(nsg), subnet: Some(subnet.clone()), addresses: vec![format!("10.0.{}.{}", n / 200, 4 + n % 200)] };
            let vm = Vm { nics: vec![nic], ..Vm::new(&subscription, GROUP, &name) };
            add_vm(state, &vm)
        })
        .collect();
    add_policy(state, &subscription, GROUP, "default", &ids, &[22, 3389]);
}

/// The id of the n-th subscription of a large estate; the first is [`SUBSCRIPTION`].
pub fn numbered_subscription(number: usize) -> String {
    format!("5a4db0c5-0001-4000-8000-{number:012x}")
}

/// Adds a subscription with Defender for Servers Plan 2, unless it is there.
pub fn add_subscription(state: &mut State, id: &str, display_name: &str) {
    if state.subscriptions.iter().any(|s| s.id.eq_ignore_ascii_case(id)) {
        return;
    }
    state.subscriptions.push(Subscription {
        id: id.to_owned(),
        display_name: display_name.to_owned(),
        jit_plan: true,
        events: true,
        management_groups: Vec::new(),
    });
}

/// The id of a resource in a resource group.
pub fn resource_id(subscription: &str, group: &str, kind: &str, name: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{kind}/{name}")
}

/// Adds an empty NSG, unless it is there; gives its id.
pub fn add_nsg(state: &mut State, subscription: &str, group: &str, name: &str) -> String {
    let id = resource_id(subscription, group, "Microsoft.Network/networkSecurityGroups", name);
    if state.resources.get(&id).is_none() {
        let etag = etag(state);
        state.resources.put(json!({
            "name": name,
            "id": id,
            "etag": etag,
            "type": "Microsoft.Network/networkSecurityGroups",
            "location": LOCATION,
            "properties": {
                "provisioningState": "Succeeded",
                "securityRules": [],
                "networkInterfaces": [],
                "subnets": [],
            },
        }));
    }
    id
}

/// Adds a subnet to a virtual network, which is made when it is not there; gives the subnet's id.
pub fn add_subnet(state: &mut State, subscription: &str, group: &str, (network, subnet): (&str, &str), nsg: Option<&str>) -> String {
    let network_id = resource_id(subscription, group, "Microsoft.Network/virtualNetworks", network);
    let id = format!("{network_id}/subnets/{subnet}");
    let etag = etag(state);
    if state.resources.get(&network_id).is_none() {
        state.resources.put(json!({
            "name": network,
            "id": network_id,
            "etag": etag,
            "type": "Microsoft.Network/virtualNetworks",
            "location": LOCATION,
            "properties": {
                "provisioningState": "Succeeded",
                "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
                "subnets": [],
            },
        }));
    }
    let count = state.resources.get(&network_id).and_then(|n| n["properties"]["subnets"].as_array()).map_or(0, Vec::len);
    let mut body = json!({
        "name": subnet,
        "id": id,
        "etag": etag,
        "type": "Microsoft.Network/virtualNetworks/subnets",
        "properties": {
            "provisioningState": "Succeeded",
            "addressPrefix": if count == 0 { "10.0.0.0/17".to_owned() } else { format!("10.0.{}.0/24", 127 + count) },
        },
    });
    if let Some(nsg) = nsg {
        body["properties"]["networkSecurityGroup"] = json!({ "id": nsg });
        refer(state, nsg, "subnets", &id);
    }
    if let Some(network) = state.resources.get_mut(&network_id)
        && let Some(subnets) = network["properties"]["subnets"].as_array_mut()
    {
        subnets.push(body);
    }
    id
}

/// A virtual machine to be added.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its subscription.
    pub subscription: String,
    /// Its resource group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Its NICs, the first being the primary one; none is a VM that nothing can reach.
    pub nics: Vec<Nic>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Vm {
    /// A VM without a NIC.
    pub fn new(subscription: &str, group: &str, name: &str) -> Self {
        Vm {
            subscription: subscription.to_owned(),
            group: group.to_owned(),
            name: name.to_owned(),
            location: LOCATION.to_owned(),
            nics: Vec::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Its ARM id.
    pub fn id(&self) -> String {
        resource_id(&self.subscription, &self.group, "Microsoft.Compute/virtualMachines", &self.name)
    }
}

/// A network interface of a VM to be added.
#[derive(Clone, Debug, Default)]
pub struct Nic {
    /// The id of its own NSG.
    pub nsg: Option<String>,
    /// The id of its subnet.
    pub subnet: Option<String>,
    /// Its private addresses, the first being the primary one; none is a NIC without an address yet.
    pub addresses: Vec<String>,
}

/// Adds a VM with its NICs; gives the VM's id.
pub fn add_vm(state: &mut State, vm: &Vm) -> String {
    let id = vm.id();
    let mut references = Vec::new();
    for (index, nic) in vm.nics.iter().enumerate() {
        let name = if index == 0 { format!("{}-nic", vm.name) } else { format!("{}-nic-{}", vm.name, index + 1) };
        let nic_id = resource_id(&vm.subscription, &vm.group, "Microsoft.Network/networkInterfaces", &name);
        let body = nic_body(state, vm, nic, (&nic_id, &name), index == 0);
        state.resources.put(body);
        if let Some(nsg) = &nic.nsg {
            refer(state, nsg, "networkInterfaces", &nic_id);
        }
        if let Some(subnet) = &nic.subnet {
            stand_in(state, subnet, &nic_id, nic.addresses.len().max(1));
        }
        // Recorded: a VM with one NIC does not say which is the primary one.
        references.push(match vm.nics.len() {
            1 => json!({ "id": nic_id }),
            _ => json!({ "id": nic_id, "properties": {"primary": index == 0} }),
        });
    }
    let vm_id = state.take_uuid();
    let mut body = json!({
        "name": vm.name,
        "id": id,
        "type": "Microsoft.Compute/virtualMachines",
        "location": vm.location,
        "properties": {
            "vmId": vm_id,
            "hardwareProfile": {"vmSize": "Standard_B2s"},
            "storageProfile": {"osDisk": {"osType": "Linux"}},
            "networkProfile": {"networkInterfaces": references},
            "provisioningState": "Succeeded",
        },
    });
    if !vm.tags.is_empty() {
        body["tags"] = json!(vm.tags);
    }
    state.resources.put(body);
    id
}

/// Enters a NIC's configurations into its subnet.
fn stand_in(state: &mut State, subnet: &str, nic: &str, configurations: usize) {
    let Some(network) = subnet.split("/subnets/").next().and_then(|network| state.resources.get_mut(network)) else { return };
    let subnets = network["properties"]["subnets"].as_array_mut().into_iter().flatten();
    for body in subnets.filter(|body| body["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(subnet))) {
        let mut all = body["properties"]["ipConfigurations"].as_array().cloned().unwrap_or_default();
        all.extend((1..=configurations).map(|n| json!({"id": format!("{nic}/ipConfigurations/ipconfig{n}")})));
        body["properties"]["ipConfigurations"] = Value::Array(all);
    }
}

/// Deletes a VM with its NICs, as somebody does in the portal. Its entry in the JIT policy and the rules that JIT wrote for it
/// stay, as people have reported (azure-docs#11987).
pub fn delete_vm(state: &mut State, vm: &str) {
    let nics: Vec<String> = state.resources.get(vm).map_or_else(Vec::new, |body| {
        let nics = body["properties"]["networkProfile"]["networkInterfaces"].as_array().into_iter().flatten();
        nics.filter_map(|nic| Some(nic["id"].as_str()?.to_owned())).collect()
    });
    state.resources.remove(vm);
    for nic in &nics {
        state.resources.remove(nic);
    }
    let is_of_them = |one: &Value| {
        let id = one["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        nics.iter().any(|nic| id == nic.to_ascii_lowercase() || id.starts_with(&format!("{}/", nic.to_ascii_lowercase())))
    };
    let holders: Vec<String> = ["Microsoft.Network/networkSecurityGroups", "Microsoft.Network/virtualNetworks"]
        .into_iter()
        .flat_map(|kind| state.resources.of_type(kind).filter_map(|one| Some(one["id"].as_str()?.to_owned())).collect::<Vec<_>>())
        .collect();
    for holder in holders {
        let Some(body) = state.resources.get_mut(&holder) else { continue };
        if let Some(interfaces) = body["properties"]["networkInterfaces"].as_array_mut() {
            interfaces.retain(|one| !is_of_them(one));
        }
        for subnet in body["properties"]["subnets"].as_array_mut().into_iter().flatten() {
            if let Some(configurations) = subnet["properties"]["ipConfigurations"].as_array_mut() {
                configurations.retain(|one| !is_of_them(one));
            }
        }
    }
}

fn nic_body(state: &mut State, vm: &Vm, nic: &Nic, (nic_id, name): (&str, &str), primary: bool) -> Value {
    let etag = etag(state);
    let addresses: Vec<Option<&String>> = match nic.addresses.is_empty() {
        true => vec![None],
        false => nic.addresses.iter().map(Some).collect(),
    };
    let configurations: Vec<Value> = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let mut properties = json!({
                "provisioningState": "Succeeded",
                "privateIPAllocationMethod": "Dynamic",
                "primary": index == 0,
                "privateIPAddressVersion": if address.is_some_and(|a| a.contains(':')) { "IPv6" } else { "IPv4" },
            });
            if let Some(address) = address {
                properties["privateIPAddress"] = json!(address);
            }
            if let Some(subnet) = &nic.subnet {
                properties["subnet"] = json!({ "id": subnet });
            }
            json!({
                "name": format!("ipconfig{}", index + 1),
                "id": format!("{nic_id}/ipConfigurations/ipconfig{}", index + 1),
                "etag": etag,
                "type": "Microsoft.Network/networkInterfaces/ipConfigurations",
                "properties": properties,
            })
        })
        .collect();
    let mut body = json!({
        "name": name,
        "id": nic_id,
        "etag": etag,
        "type": "Microsoft.Network/networkInterfaces",
        "location": vm.location,
        "properties": {
            "provisioningState": "Succeeded",
            "ipConfigurations": configurations,
            "primary": primary,
            "virtualMachine": {"id": vm.id()},
        },
    });
    if let Some(nsg) = &nic.nsg {
        body["properties"]["networkSecurityGroup"] = json!({ "id": nsg });
    }
    body
}

/// Adds a JIT policy over VMs for these TCP ports, from any source, for at most a day; with JIT's deny rules in
/// place. Gives the policy's id.
pub fn add_policy(state: &mut State, subscription: &str, group: &str, name: &str, vms: &[String], ports: &[u16]) -> String {
    let kind = format!("Microsoft.Security/locations/{LOCATION}/jitNetworkAccessPolicies");
    let id = resource_id(subscription, group, &kind, name);
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            json!({
                "number": port,
                "protocol": "TCP",
                "allowedSourceAddressPrefix": "*",
                "maxRequestAccessDuration": "P1D",
            })
        })
        .collect();
    let machines: Vec<Value> = vms.iter().map(|vm| json!({"id": vm, "ports": ports})).collect();
    state.resources.put(json!({
        "kind": "Basic",
        "properties": {
            "virtualMachines": machines,
            "requests": [],
            "provisioningState": "Succeeded",
            "appendMode": false,
        },
        "id": id,
        "name": name,
        "type": "Microsoft.Security/locations/jitNetworkAccessPolicies",
        "location": LOCATION,
    }));
    arm::lay_deny_rules(state, &id);
    id
}

/// Sets the switches of a world: JIT's rules that keep everybody out are where they land in it.
pub fn set_switches(state: &mut State, switches: Switches) {
    if switches.rules_land == state.switches.rules_land {
        state.switches = switches;
        return;
    }
    let policies = state.resources.of_type("Microsoft.Security/locations/jitNetworkAccessPolicies");
    let policies: Vec<String> = policies.filter_map(|policy| policy["id"].as_str().map(str::to_owned)).collect();
    policies.iter().for_each(|policy| arm::lift_deny_rules(state, policy));
    state.switches = switches;
    policies.iter().for_each(|policy| arm::lay_deny_rules(state, policy));
}

/// The reference of an NSG to what it is attached to.
fn refer(state: &mut State, nsg: &str, list: &str, id: &str) {
    let Some(nsg) = state.resources.get_mut(nsg) else { return };
    let references = &mut nsg["properties"][list];
    if !references.is_array() {
        *references = json!([]);
    }
    if let Some(references) = references.as_array_mut() {
        references.push(json!({ "id": id }));
    }
}

fn etag(state: &mut State) -> String {
    format!("W/\"{}\"", state.take_uuid())
}

/// What the product's identity may do that has these duties.
pub fn product_actions<'a>(duties: &[&str]) -> Vec<&'a str> {
    let of_duties = duties.iter().flat_map(|duty| roles::actions(duty)).map(String::as_str);
    of_duties.chain(PRODUCT_DATA_ACTIONS.iter().copied()).collect()
}

/// The product's identity, an owner, a responder, a client for official tools, and an auditor.
fn people(state: &mut State) {
    let over_all =
        |actions: &[&str]| vec![Assignment { scope: "/".to_owned(), actions: actions.iter().map(|action| (*action).to_owned()).collect() }];
    let all = [
        Principal {
            object_id: PRODUCT_OBJECT_ID.to_owned(),
            app_id: PRODUCT_APP_ID.to_owned(),
            name: "portcullis".to_owned(),
            managed_identity: true,
            assignments: over_all(&product_actions(&DUTIES)),
            ..Principal::default()
        },
        Principal {
            object_id: ADMIN_OBJECT_ID.to_owned(),
            upn: ADMIN_UPN.to_owned(),
            name: "Ada Admin".to_owned(),
            assignments: over_all(&["*"]),
            ..Principal::default()
        },
        Principal {
            object_id: RESPONDER_OBJECT_ID.to_owned(),
            upn: RESPONDER_UPN.to_owned(),
            name: "Rosa Responder".to_owned(),
            assignments: over_all(RESPONDER_ACTIONS),
            groups: vec![RESPONDERS.to_owned()],
            ..Principal::default()
        },
        Principal {
            object_id: DEVELOPER_OBJECT_ID.to_owned(),
            upn: DEVELOPER_UPN.to_owned(),
            name: "Dora Developer".to_owned(),
            assignments: over_all(RESPONDER_ACTIONS),
            groups: vec![DEVELOPERS.to_owned()],
            ..Principal::default()
        },
        Principal {
            object_id: GLASS_OBJECT_ID.to_owned(),
            upn: GLASS_UPN.to_owned(),
            name: "Glass Account".to_owned(),
            assignments: over_all(RESPONDER_ACTIONS),
            groups: vec![BREAK_GLASS.to_owned()],
            ..Principal::default()
        },
        Principal {
            object_id: SECURITY_OBJECT_ID.to_owned(),
            upn: SECURITY_UPN.to_owned(),
            name: "Sam Security".to_owned(),
            groups: vec![SECURITY.to_owned()],
            app_roles: vec!["Operator".to_owned(), "Auditor".to_owned()],
            ..Principal::default()
        },
        Principal {
            object_id: CLIENT_OBJECT_ID.to_owned(),
            app_id: CLIENT_APP_ID.to_owned(),
            name: "sandbox client".to_owned(),
            secret: CLIENT_SECRET.to_owned(),
            assignments: over_all(&["*"]),
            ..Principal::default()
        },
        Principal {
            object_id: AUDITOR_OBJECT_ID.to_owned(),
            app_id: AUDITOR_APP_ID.to_owned(),
            name: "auditor".to_owned(),
            secret: AUDITOR_SECRET.to_owned(),
            app_roles: vec!["Auditor".to_owned()],
            ..Principal::default()
        },
    ];
    for principal in all {
        if !state.principals.iter().any(|known| known.object_id == principal.object_id) {
            state.principals.push(principal);
        }
    }
}

/// The id of Microsoft Sentinel's workspace.
pub fn workspace_id() -> String {
    resource_id(SUBSCRIPTION, SENTINEL_GROUP, "Microsoft.OperationalInsights/workspaces", SENTINEL_WORKSPACE)
}

/// The workspace of Microsoft Sentinel, which has no incidents.
fn add_workspace(state: &mut State) {
    let id = workspace_id();
    if !state.workspaces.iter().any(|known| known.id.eq_ignore_ascii_case(&id)) {
        state.workspaces.push(Workspace { id, incidents: Vec::new() });
    }
}

fn stores(state: &mut State) {
    for queue in ["approval", "sweep", "alerts"] {
        state.queues.entry(queue.to_owned()).or_default();
    }
    state.containers.entry("audit".to_owned()).or_default();
}
