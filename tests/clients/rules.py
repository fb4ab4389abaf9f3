"""Azure's own client for networks: it writes a rule, changes it, and deletes it, each time waiting as Azure tells it to. What it
saw goes to standard output as one JSON object.

Usage: rules.py GROUP NSG
"""

import json
import sys

from azure.mgmt.network import NetworkManagementClient
from sandbox import credential, env, refusal, resource_manager

group, nsg = sys.argv[1:]
rules = NetworkManagementClient(credential, env["SANDBOX_SUBSCRIPTION_ID"], **resource_manager).security_rules

statuses = []


def awaited(poller):
    return poller.result(120)


def noted(response):
    statuses.append(response.http_response.status_code)


def rule(port):
    return {
        "protocol": "Tcp",
        "access": "Allow",
        "direction": "Inbound",
        "priority": 300,
        "sourcePortRange": "*",
        "sourceAddressPrefix": "203.0.113.0/24",
        "destinationPortRange": port,
        "destinationAddressPrefix": "*",
    }


def shown(read):
    return {"name": read.name, "port": read.destination_port_range, "state": read.provisioning_state}


def names():
    return [read.name for read in rules.list(group, nsg)]


before = names()
written = awaited(rules.begin_create_or_update(group, nsg, "ours", {"properties": rule("443")}, polling_interval=1, raw_response_hook=noted))
changed = awaited(rules.begin_create_or_update(group, nsg, "ours", {"properties": rule("8443")}, polling_interval=1))
read = rules.get(group, nsg, "ours")
between = names()
awaited(rules.begin_delete(group, nsg, "ours", polling_interval=1, raw_response_hook=noted))
after = names()
awaited(rules.begin_delete(group, nsg, "ours", polling_interval=1))
missing = refusal(lambda: rules.get(group, nsg, "ours"))

print(
    json.dumps(
        {
            "before": before,
            "written": shown(written),
            "changed": shown(changed),
            "read": shown(read),
            "between": between,
            "after": after,
            "statuses": statuses,
            "missing": missing,
        }
    )
)
