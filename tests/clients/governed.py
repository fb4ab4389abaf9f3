"""Azure's own clients before Portcullis: one opens a port through JIT, as a script of somebody's would, and sees what becomes
of it. What they saw goes to standard output as one JSON object.

Usage: governed.py GROUP LOCATION VM-NAME SOURCE
"""

import json
import sys
from datetime import datetime, timedelta

from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.security import SecurityCenter
from sandbox import credential, env, passes, resource_manager

group, location, vm_name, source = sys.argv[1:]
subscription = env["SANDBOX_SUBSCRIPTION_ID"]
compute = ComputeManagementClient(credential, subscription, **resource_manager)
network = NetworkManagementClient(credential, subscription, **resource_manager)
policies = SecurityCenter(credential, subscription, **resource_manager).jit_network_access_policies


def name(resource_id):
    return resource_id.rsplit("/", 1)[-1]


def groups_before(vm):
    """The security groups before a VM: of its first NIC, and of that NIC's subnet."""
    nic = network.network_interfaces.get(group, name(vm.network_profile.network_interfaces[0].id))
    subnet_id = nic.ip_configurations[0].subnet.id
    subnet = network.subnets.get(group, subnet_id.split("/")[-3], name(subnet_id))
    return [name(nic.network_security_group.id), name(subnet.network_security_group.id)]


def openings():
    """JIT's allow rules before the VM, each with its source and port."""
    rules = [rule for nsg in groups for rule in network.security_rules.list(group, nsg)]
    return [
        {"source": rule.source_address_prefix, "port": rule.destination_port_range}
        for rule in rules
        if rule.access == "Allow" and rule.direction == "Inbound"
    ]


def records():
    policy = policies.get(group, location, "default")
    return [
        {"port": port.number, "status": port.status, "reason": port.status_reason, "ends": port.end_time_utc.isoformat()}
        for record in policy.requests or []
        for machine in record.virtual_machines
        for port in machine.ports
    ]


vm = compute.virtual_machines.get(group, vm_name)
groups = groups_before(vm)
listed = {
    "subscription": [policy.name for policy in policies.list()],
    "region": [policy.name for policy in policies.list_by_region(location)],
    "group": [policy.name for policy in policies.list_by_resource_group(group)],
    "groupAndRegion": [policy.name for policy in policies.list_by_resource_group_and_region(group, location)],
}
before = openings()
end = datetime.fromisoformat(env["NOW"]) + timedelta(hours=1)
asked = policies.initiate(
    group,
    location,
    "default",
    {
        "virtualMachines": [
            {"id": vm.id, "ports": [{"number": 22, "allowedSourceAddressPrefix": source, "endTimeUtc": end.isoformat()}]}
        ],
        "justification": "a script",
    },
)
answered = asked.virtual_machines[0].ports[0]
# JIT takes twelve seconds to open it.
seen = []
while len(seen) < 20 and not (any(seen) and seen[-1] == []):
    passes(13)
    seen.append(openings())

print(
    json.dumps(
        {
            "vms": [machine.name for machine in compute.virtual_machines.list(group)],
            "groups": groups,
            "listed": listed,
            "before": before,
            "answered": {"port": answered.number, "status": answered.status, "source": answered.allowed_source_address_prefix},
            "seen": seen,
            "records": records(),
        }
    )
)
