#!/usr/bin/env python3
"""Stands in for the Azure CLI, as far as the scripts beside it call it: check_scripts.py puts it before them as `az`.

The world is the JSON file that FAKE_AZ names, read and written by each call: `signedIn`, `mayWrite`, `blobs` by container
with `{name: content}`, `gone` by container with names that are deleted but still kept, `topics` by subscription, `refuse`
(texts with which a deployment is refused, each once), `applications`, `servicePrincipals`, `late` (how many calls do not find
yet what one before made in Entra). Everything that changes Azure is
added to `changes`. A call that it does not know ends with 97, so that a script cannot lean on what it does not do.
"""

import base64
import json
import os
import re
import sys
import uuid
from pathlib import Path

FILE = Path(os.environ["FAKE_AZ"])
WORLD = json.loads(FILE.read_text())
ARGUMENTS = sys.argv[1:]
GRAPH = "https://graph.microsoft.com"
GRAPH_CLIENT = "00000003-0000-0000-c000-000000000000"
TENANT = "11111111-1111-4111-8111-111111111111"


def option(name: str, default: str = "") -> str:
    return ARGUMENTS[ARGUMENTS.index(name) + 1] if name in ARGUMENTS else default


def done(text: object = "") -> None:
    FILE.write_text(json.dumps(WORLD, indent=1))
    if text != "":
        print(text)
    sys.exit(0)


def refused(why: str) -> None:
    FILE.write_text(json.dumps(WORLD, indent=1))
    print(f"ERROR: {why}", file=sys.stderr)
    sys.exit(1)


def changed(what: str) -> None:
    WORLD.setdefault("changes", []).append(what)


def blob(verb: str) -> None:
    if not WORLD.get("mayWrite"):
        refused("You do not have the required permissions needed to perform this operation. (AuthorizationPermissionMismatch)")
    container = option("--container-name")
    blobs = WORLD["blobs"].setdefault(container, {})
    name = option("--name")
    if verb == "list":
        names = [*blobs, *(WORLD.get("gone", {}).get(container, []) if "d" in option("--include") else [])]
        done(names[0] if names else "")
    if verb == "exists":
        done(str(name in blobs).lower())
    if verb == "download":
        Path(option("--file")).write_text(blobs[name])
        done()
    if verb == "upload":
        if option("--if-none-match") != "*" or name in blobs:
            refused("The specified blob already exists. (BlobAlreadyExists)")
        blobs[name] = Path(option("--file")).read_text()
        changed(f"upload {container}/{name}")
        done()


def deployment(verb: str) -> None:
    subscription = option("--subscription")
    given = dict(part.split("=", 1) for part in ARGUMENTS if re.match(r"^[A-Za-z]+=", part))
    if verb == "what-if":
        done(f"what-if {subscription}")
    refusals = WORLD.get("refuse", {}).get(subscription, [])
    # Azure refuses the identity, and not the deployment that has none.
    if refusals and (given["eventsIdentityId"] or "identity" not in refusals[0]):
        refused(refusals.pop(0))
    changed(f"deploy {subscription} {json.dumps(given, sort_keys=True)}")
    done()


def fresh(body: dict) -> dict:
    return {"id": str(uuid.uuid4()), **body}


def rest() -> None:
    method = option("--method")
    path = option("--url").removeprefix(f"{GRAPH}/v1.0/")
    body = json.loads(Path(option("--body")[1:]).read_text()) if "--body" in ARGUMENTS else None
    applications, principals = WORLD["applications"], WORLD["servicePrincipals"]
    if WORLD.get("denied") and method != "get":
        refused("Forbidden (Authorization_RequestDenied)")
    makes_application = method == "post" and path == "applications"
    if WORLD.get("unseen") and not makes_application:
        WORLD["unseen"] -= 1
        refused("Not Found (Request_ResourceNotFound): Resource does not exist or one of its queried reference-property objects are not present")
    if makes_application or (method == "post" and path == "servicePrincipals"):
        WORLD["unseen"] = WORLD.get("late", 0)
    if method != "get":
        changed(f"{method} {path.split('/')[0] if method == 'post' and '/' not in path else path}")
    found = re.fullmatch(r"(applications|servicePrincipals)\(appId='([^']+)'\)", path)
    if found:
        kind = applications if found[1] == "applications" else principals
        entry = next((entry for entry in kind if entry["appId"] == found[2]), None)
        done(json.dumps(entry)) if entry else refused("Not Found (Request_ResourceNotFound)")
    if method == "post" and path == "applications":
        applications.append(fresh({"appId": str(uuid.uuid4()), **body}))
        done(json.dumps(applications[-1]))
    if method == "post" and path == "servicePrincipals":
        principals.append(fresh(body))
        done(json.dumps(principals[-1]))
    kind, identifier, *rest_of = path.split("/")
    # A managed identity is known to Entra without anybody making it here.
    entry = next((entry for entry in WORLD[kind] if entry["id"] == identifier), None)
    if entry is None:
        entry = {"id": identifier, "appId": "identity"}
        WORLD[kind].append(entry)
    if method == "patch":
        scopes = {scope["id"] for scope in ((entry.get("api") or {}).get("oauth2PermissionScopes") or [])}
        for client in (body.get("api") or {}).get("preAuthorizedApplications") or []:
            if not scopes.issuperset(client["delegatedPermissionIds"]):
                refused("Permission entitlement with id cannot be found on the application")
        entry.update(body)
        done()
    entries = entry.setdefault(rest_of[0], [])
    if method == "post":
        entries.append(fresh(body))
        done(json.dumps(entries[-1]))
    done(json.dumps({"value": entries}))


def main() -> None:
    if not WORLD.get("signedIn", True):
        refused("Please run 'az login' to setup account.")
    match ARGUMENTS:
        case ["account", "show", *_]:
            done({"user.type": "user", "tenantId": TENANT}.get(option("--query"), ""))
        case ["account", "get-access-token", *_]:
            claims = base64.urlsafe_b64encode(b'{"oid":"22222222-2222-4222-8222-222222222222"}').decode().rstrip("=")
            done(f"x.{claims}.x")
        case ["cloud", "show", *_]:
            done(
                {
                    "name": "AzureCloud",
                    "endpoints.microsoftGraphResourceId": f"{GRAPH}/",
                    "endpoints.activeDirectory": "https://login.microsoftonline.com",
                }[option("--query")]
            )
        case ["role", "assignment", "create", *_]:
            if WORLD.get("mayNotGive"):
                refused("does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/write'")
            WORLD["mayWrite"] = True
            changed("role given")
            done("/assignment")
        case ["role", "assignment", "delete", *_]:
            WORLD["mayWrite"] = False
            changed("role taken back")
            done()
        case ["storage", "blob", verb, *_]:
            blob(verb)
        case ["resource", "show", *_]:
            done()
        case ["eventgrid", "system-topic", "list", *_]:
            done(json.dumps(WORLD.get("topics", {}).get(option("--subscription"), [])))
        case ["deployment", "sub", verb, *_]:
            deployment(verb)
        case ["ad", "app", "list", *_]:
            done("\n".join(entry["appId"] for entry in WORLD["applications"] if entry["displayName"] == option("--display-name")))
        case ["rest", *_]:
            rest()
    print(f"fake_az.py does not know: az {' '.join(ARGUMENTS)}", file=sys.stderr)
    sys.exit(97)


main()
