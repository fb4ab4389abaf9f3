"""What must change in the registration of the API: reads the registration as Microsoft Graph shows it, prints what to PATCH.

Prints nothing where it is as it should be. Ids of scope and roles are made of the client id and the name, so that whoever
runs this again, also after a lost answer, asks for the same.

Usage: registration.py CLIENT-ID [HOST] < application.json
"""

import json
import sys
import uuid

# The Azure CLI, which may ask for a token for our scope without a question to each person.
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
SCOPE = "user_impersonation"
# As docs/api.md and the program have them.
ROLES = {
    "Auditor": (["User", "Application"], "reads what Portcullis knows"),
    "Operator": (["User"], "asks for grants and for their ends, which the rules then decide"),
}


def with_value(entries: list[dict], wanted: dict) -> list[dict]:
    """The entries with the wanted one among them, under the id that it may have already."""
    for entry in entries:
        if entry["value"] == wanted["value"]:
            merged = {**entry, **{key: value for key, value in wanted.items() if key != "id"}}
            return [merged if other is entry else other for other in entries]
    return [*entries, wanted]


def wanted(application: dict, client_id: str, host: str) -> dict:
    def identifier(name: str) -> str:
        return str(uuid.uuid5(uuid.UUID(client_id), name))

    uri = f"api://{client_id}"
    api = application.get("api") or {}
    scopes = with_value(
        api.get("oauth2PermissionScopes") or [],
        {
            "id": identifier(SCOPE),
            "value": SCOPE,
            "type": "User",
            "isEnabled": True,
            "adminConsentDisplayName": "Use Portcullis",
            "adminConsentDescription": "Lets the program ask Portcullis in your name, as far as your role goes.",
            "userConsentDisplayName": "Use Portcullis",
            "userConsentDescription": "Lets the program ask Portcullis in your name, as far as your role goes.",
        },
    )
    scope_id = next(scope["id"] for scope in scopes if scope["value"] == SCOPE)
    known = [entry for entry in api.get("preAuthorizedApplications") or [] if entry["appId"] != AZURE_CLI]
    held = next((entry for entry in api.get("preAuthorizedApplications") or [] if entry["appId"] == AZURE_CLI), {})
    permitted = held.get("delegatedPermissionIds") or []
    cli = {"appId": AZURE_CLI, "delegatedPermissionIds": permitted if scope_id in permitted else [*permitted, scope_id]}
    roles = application.get("appRoles") or []
    for value, (members, description) in ROLES.items():
        roles = with_value(
            roles,
            {
                "id": identifier(value),
                "value": value,
                "displayName": value,
                "description": description,
                "allowedMemberTypes": members,
                "isEnabled": True,
            },
        )
    uris = application.get("identifierUris") or []
    web = application.get("web") or {}
    redirects = web.get("redirectUris") or []
    if host:
        redirect = f"https://{host}/.auth/login/aad/callback"
        implicit = {**(web.get("implicitGrantSettings") or {}), "enableIdTokenIssuance": True}
        web = {**web, "redirectUris": redirects if redirect in redirects else [*redirects, redirect], "implicitGrantSettings": implicit}
    return {
        "signInAudience": "AzureADMyOrg",
        "identifierUris": uris if uri in uris else [*uris, uri],
        "appRoles": roles,
        "api": {**api, "requestedAccessTokenVersion": 2, "oauth2PermissionScopes": scopes, "preAuthorizedApplications": [*known, cli]},
        "web": web,
    }


def same(one: object, other: object) -> bool:
    """Whether two values say the same: lists of entries in any order, and Graph's own members left out where we name none."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(one[key], other.get(key)) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        rest = list(other)
        for entry in one:
            match = next((candidate for candidate in rest if same(entry, candidate)), None)
            if match is None:
                return False
            rest.remove(match)
        return not rest
    return one == other


def changes(application: dict, client_id: str, host: str) -> dict:
    return {key: value for key, value in wanted(application, client_id, host).items() if not same(value, application.get(key) or {})}


def main() -> int:
    if not 2 <= len(sys.argv) <= 3:
        print(__doc__, file=sys.stderr)
        return 2
    body = changes(json.load(sys.stdin), sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "")
    if body:
        print(json.dumps(body, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
