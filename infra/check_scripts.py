"""Runs the scripts that call Azure against fake_az.py, and says what they did to it and said.

No Azure is behind it: what the real CLI answers is known from its documentation alone. What is held is what the scripts do
with such answers, above all when they must write nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INFRA = Path(__file__).resolve().parent
MARKER = "portcullis-store.json"
CONTENT = '{"portcullis":"store","version":1}'
ONE, TWO = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/portcullis-events"
GROUP = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Insights/actionGroups/on-call"
PRINCIPAL = "55555555-5555-4555-8555-555555555555"
SETTINGS = {
    "PORTCULLIS_STORE_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/pcstore",
    "PORTCULLIS_APP_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/portcullis",
    "PORTCULLIS_DEAD_LETTER_CONTAINER": "event-dead-letters",
    "PORTCULLIS_EVENTS_IDENTITY_ID": IDENTITY,
    "AZURE_LOCATION": "westeurope",
    "AZURE_SUBSCRIPTION_ID": ONE,
}
GRAPH = {
    "id": "graph",
    "appId": "00000003-0000-0000-c000-000000000000",
    "appRoles": [
        {"id": f"role-{name}", "value": name, "allowedMemberTypes": ["Application"]} for name in ("User.Read.All", "GroupMember.Read.All")
    ],
}


class Ran:
    """What a script ended with, said and did."""

    def __init__(self, code: int, said: str, changes: list[str], world: dict):
        self.code, self.said, self.changes, self.world = code, said, changes, world


def run(script: str, world: dict, *arguments: str, az: bool = True, **settings: str) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder) / "bin"
        tools.mkdir()
        # Nothing but what is named here is found, so that no real az is.
        (tools / "python3").symlink_to(Path(sys.executable).resolve())
        for program in ("bash", "cat", "cmp", "dirname", "grep", "mktemp", "rm", "sed", "sleep"):
            (tools / program).symlink_to(shutil.which(program))
        if az:
            # A link: a file written here could not be run while another thread starts a process.
            (tools / "az").symlink_to(INFRA / "fake_az.py")
        file = Path(folder) / "world.json"
        file.write_text(json.dumps({"blobs": {}, "applications": [], "servicePrincipals": [], "changes": [], **world}))
        environment = {"PATH": str(tools), "TMPDIR": folder, "FAKE_AZ": str(file), "LC_ALL": "C.UTF-8", **SETTINGS, **settings}
        out = subprocess.run(
            ["bash", INFRA / script, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
        after = json.loads(file.read_text())
        return Ran(out.returncode, out.stdout, after["changes"], after)


def marker() -> list[tuple[str, bool]]:
    new = {"mayWrite": True}
    written = run("marker.sh", new)
    again = run("marker.sh", {"mayWrite": True, "blobs": written.world["blobs"]})
    emptied = run("marker.sh", {"mayWrite": True, "blobs": {"audit": {"2026/1.json": "{}"}}})
    lost = run("marker.sh", {"mayWrite": True, "blobs": {"state": {"vm/1.json": "{}"}}})
    deleted = run("marker.sh", {"mayWrite": True, "gone": {"state": [MARKER]}})
    other = run("marker.sh", {"mayWrite": True, "blobs": {"state": {MARKER: "{}"}}})
    shown = run("marker.sh", new, "--what-if")
    without = run("marker.sh", {})
    unsure = run("marker.sh", {}, "--what-if")
    refused = run("marker.sh", {"mayNotGive": True})
    half = run("marker.sh", {"blobs": {"state": {"vm/1.json": "{}"}}})
    return [
        ("a new store gets its marker", written.code == 0 and written.world["blobs"]["state"] == {MARKER: CONTENT}),
        ("a second run writes nothing", again.code == 0 and not again.changes),
        ("a store that was emptied gets none", emptied.code == 1 and not emptied.changes and "it was emptied" in emptied.said),
        ("a store that lost its marker gets none", lost.code == 1 and not lost.changes and "vm/1.json" in lost.said),
        ("nor one whose marker was deleted", deleted.code == 1 and not deleted.changes),
        ("a marker with other content is told", other.code == 1 and not other.changes),
        ("--what-if writes nothing", shown.code == 0 and not shown.changes and "would write" in shown.said),
        ("a role that was given is taken back", without.changes == ["role given", f"upload state/{MARKER}", "role taken back"]),
        ("--what-if gives no role", unsure.code == 0 and not unsure.changes and "would give" in unsure.said),
        ("who may not give the role is told", refused.code == 1 and not refused.changes and "have it given to you" in refused.said),
        ("the role is taken back after a refusal, too", half.code == 1 and half.changes == ["role given", "role taken back"]),
    ]


def events() -> list[tuple[str, bool]]:
    def topic(name: str, group: str, *identities: str) -> dict:
        held = {"userAssignedIdentities": {identity.upper(): {} for identity in identities}}
        return {"name": name, "resourceGroup": group, "topicType": "microsoft.resources.subscriptions", "identity": held}

    def given(ran: Ran, at: int = 0) -> dict:
        found = ran.changes[at].split(" ", 2)[2] if len(ran.changes) > at else "{}"
        return {"eventsIdentityId": None, "topicName": None, "existingTopicResourceGroup": None, **json.loads(found)}

    plain = run("events.sh", {})
    two = run("events.sh", {"refuse": {ONE: ["no rights"]}}, PORTCULLIS_SUBSCRIPTIONS=f"{ONE}, {TWO}")
    ours = run("events.sh", {"topics": {ONE: [topic("portcullis-events", "Portcullis-Events", IDENTITY)]}})
    theirs = run("events.sh", {"topics": {ONE: [topic("theirs", "rg", IDENTITY)]}})
    another = run("events.sh", {"topics": {ONE: [topic("portcullis-events", "portcullis-events", IDENTITY + "-of-another")]}})
    bare = run("events.sh", {"topics": {ONE: [topic("theirs", "rg")]}})
    globally = run("events.sh", {"refuse": {ONE: ["identity is unavailable for location 'global'"]}})
    every = run("events.sh", {}, PORTCULLIS_SUBSCRIPTIONS="all")
    telling = run("events.sh", {}, PORTCULLIS_ACTION_GROUPS=f"{GROUP},{GROUP}-2")
    shown = run("events.sh", {}, "--what-if")
    return [
        ("the subscription that is deployed to has its events sent", plain.code == 0 and given(plain)["eventsIdentityId"] == IDENTITY),
        ("a subscription that fails stops no other, and is named", two.code == 1 and len(two.changes) == 1 and f"no events of {ONE}:" in two.said),
        ("our own topic is brought into its form", ours.changes != [] and given(ours)["existingTopicResourceGroup"] is None),
        ("a topic of others is used", given(theirs)["topicName"] == "theirs" and given(theirs)["existingTopicResourceGroup"] == "rg"),
        ("one without our identity has no dead letters, and says so", given(bare)["eventsIdentityId"] == "" and "no dead letters" in bare.said),
        ("the topic of another Portcullis is not changed", given(another)["existingTopicResourceGroup"] == "portcullis-events"),
        ("where Azure takes no identity there are events all the same", globally.code == 0 and given(globally)["eventsIdentityId"] == ""),
        ("all subscriptions must be named", every.code == 1 and not every.changes and "PORTCULLIS_EVENT_SUBSCRIPTIONS" in every.said),
        ("nobody is told of failing events where nobody is named", given(plain)["actionGroupIds"] == "[]"),
        ("else those who are", json.loads(given(telling)["actionGroupIds"]) == [GROUP, f"{GROUP}-2"]),
        ("--what-if deploys nothing", shown.code == 0 and not shown.changes and f"what-if {ONE}" in shown.said),
    ]


def registration() -> list[tuple[str, bool]]:
    principals = [GRAPH]
    shown = run("registration.sh", {"servicePrincipals": principals}, "--what-if")
    first = run("registration.sh", {"servicePrincipals": principals})
    made = {key: first.world[key] for key in ("applications", "servicePrincipals")}
    application = made["applications"][0] if made["applications"] else {}
    again = run("registration.sh", made)
    known = {"PORTCULLIS_APP_HOST": "p.azurewebsites.net", "PORTCULLIS_PRINCIPAL_ID": PRINCIPAL}
    later = run("registration.sh", made, **known)
    whole = {key: later.world[key] for key in ("applications", "servicePrincipals")}
    thrice = run("registration.sh", whole, **known)
    lean = run("registration.sh", made, **known, PORTCULLIS_GRAPH="skip")
    twins = run("registration.sh", {"applications": [application, {**application, "appId": "other"}], "servicePrincipals": principals})
    trial = run("registration.sh", made, AZURE_ENV_NAME="trial")
    denied = run("registration.sh", {"denied": True, "servicePrincipals": principals})
    foreign = run("registration.sh", {"servicePrincipals": principals}, PORTCULLIS_API_CLIENT_ID=ONE)
    late = run("registration.sh", {"late": 3, "servicePrincipals": principals}, PORTCULLIS_PAUSE="0")
    never = run("registration.sh", {"late": 99, "servicePrincipals": principals}, PORTCULLIS_PAUSE="0")
    finished = later.world["applications"][0] if later.world["applications"] else {}
    return [
        ("--what-if makes nothing", shown.code == 0 and not shown.changes and "would make" in shown.said),
        ("and shows the form that it would have", "user_impersonation" in shown.said and "Operator" in shown.said),
        ("what Entra does not show yet is waited for", late.code == 0 and len(late.world["applications"][0].get("appRoles", [])) == 2),
        ("and not for ever", never.code == 1 and "ResourceNotFound" in never.said),
        ("a registration is made", first.code == 0 and application.get("api", {}).get("requestedAccessTokenVersion") == 2),
        ("with both roles", {role["value"] for role in application.get("appRoles", [])} == {"Auditor", "Operator"}),
        ("with the Azure CLI let in", len(application.get("api", {}).get("preAuthorizedApplications", [])) == 1),
        ("a second run changes nothing", again.code == 0 and not again.changes),
        ("the address comes later", finished.get("web", {}).get("redirectUris") == ["https://p.azurewebsites.net/.auth/login/aad/callback"]),
        ("the identity is the credential", [entry["subject"] for entry in finished.get("federatedIdentityCredentials", [])] == [PRINCIPAL]),
        ("and may read people in Graph", sum("appRoleAssignments" in change for change in later.changes) == 2),
        ("a run after that changes nothing", thrice.code == 0 and not thrice.changes),
        ("Graph can be left out", lean.code == 0 and not any("appRoleAssignments" in change for change in lean.changes)),
        ("two registrations of one name are told", twins.code == 1 and not twins.changes and "PORTCULLIS_API_CLIENT_ID" in twins.said),
        ("another environment has a registration of its own", [one["displayName"] for one in trial.world["applications"]] == ["Portcullis", "Portcullis trial"]),
        ("who may not is told who may", denied.code == 1 and "Application Administrator" in denied.said),
        ("a client id that nobody has is told", foreign.code == 1 and not foreign.changes and "no registration" in foreign.said),
    ]


def all_of_them() -> list[tuple[str, bool]]:
    told = []
    for script in ("marker.sh", "events.sh", "registration.sh"):
        missing = run(script, {}, az=False)
        signed_out = run(script, {"signedIn": False})
        odd = run(script, {}, "--whatif")
        told += [
            (f"{script} says that az is missing", missing.code == 1 and "Azure CLI is missing" in missing.said),
            (f"{script} says that nobody is signed in", signed_out.code == 1 and "az login" in signed_out.said and not signed_out.changes),
            (f"{script} takes no option that it does not know", odd.code == 1 and not odd.changes and "--whatif" in odd.said),
        ]
    for script in ("marker.sh", "events.sh"):
        unset = run(script, {"mayWrite": True}, PORTCULLIS_STORE_ID="")
        told.append((f"{script} names a setting that is missing", unset.code == 1 and "PORTCULLIS_STORE_ID is not set" in unset.said))
    return told


def settings() -> list[tuple[str, bool]]:
    def evaluated(text: str) -> tuple[int, str]:
        # As the workflow does.
        script = f'set -e; set -a; eval "$({INFRA}/settings.sh)"; set +a; echo "$PORTCULLIS_MODE|${{PORTCULLIS_DUTIES:-}}"'
        out = subprocess.run(["bash", "-c", script], env={**os.environ, "SETTINGS": text}, text=True, capture_output=True, check=False)
        return out.returncode, out.stdout.strip()

    return [
        ("a deployment that says nothing observes", evaluated("") == (0, "observe|")),
        ("one that says enforce enforces", evaluated("PORTCULLIS_MODE=enforce\nPORTCULLIS_DUTIES=observe,close") == (0, "enforce|observe,close")),
        ("a value runs nothing", evaluated("PORTCULLIS_DUTIES=$(echo x); echo y") == (0, "observe|$(echo x); echo y")),
        ("another name stops the deployment", evaluated("PATH=/x")[0] == 1),
    ]


def failures() -> tuple[int, list[str]]:
    """How many cases there are, and those that did not hold."""
    groups = (marker, events, registration, all_of_them, settings)
    # Each waits for processes nearly all of its time.
    with ThreadPoolExecutor(len(groups)) as pool:
        cases = [case for group in pool.map(lambda one: one(), groups) for case in group]
    return len(cases), [what for what, held in cases if not held]


if __name__ == "__main__":
    count, failed = failures()
    for what in failed:
        print(f"scripts: it does not hold that {what}", file=sys.stderr)
    print(f"scripts: {count - len(failed)} of {count} cases hold")
    sys.exit(1 if failed or not count else 0)
