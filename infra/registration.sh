#!/usr/bin/env bash
# Makes the registration of the API, and what goes with it: registration.sh [--what-if] [--azd] [--name NAME]
#
# Before azd provision: registration, scope, app roles, enterprise application. After it, when PORTCULLIS_APP_HOST and
# PORTCULLIS_PRINCIPAL_ID are known: the redirect URI, the app's identity as the registration's credential, and the identity's
# permissions in Microsoft Graph (not with PORTCULLIS_GRAPH=skip; people.yaml then says who is who). Run again, it changes
# nothing that is as it should be. --azd keeps the client id in azd's environment. --what-if prints and changes nothing.
#
# It needs Application Administrator, and for Graph's permissions Privileged Role Administrator.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/azure.sh
source "$here/azure.sh"

what_if=false
azd=false
# Another environment is another Portcullis, with roles of its own: who operates a trial must not operate the other.
name=Portcullis
[[ ${AZURE_ENV_NAME:-portcullis} == portcullis ]] || name="Portcullis $AZURE_ENV_NAME"
while (($#)); do
  case $1 in
    --what-if) what_if=true ;;
    --azd) azd=true ;;
    --name)
      (($# > 1)) || die "--name needs a name"
      name=$2
      shift
      ;;
    *) die "takes --what-if, --azd and --name NAME, not $1" ;;
  esac
  shift
done

signed_in
host=${PORTCULLIS_APP_HOST:-}
principal=${PORTCULLIS_PRINCIPAL_ID:-}
client=${PORTCULLIS_API_CLIENT_ID:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tenant=$(az account show --query tenantId --output tsv)
graph=$(az cloud show --query endpoints.microsoftGraphResourceId --output tsv)
graph=${graph%/}/v1.0
login=$(az cloud show --query endpoints.activeDirectory --output tsv)
# Each cloud has an audience of its own for the exchange of tokens.
case $(az cloud show --query name --output tsv) in
  AzureUSGovernment) exchange=api://AzureADTokenExchangeUSGov ;;
  *) exchange=api://AzureADTokenExchange ;;
esac

# What was made a moment ago is not there yet for each of Entra's servers: then, and then alone, it is tried again for two minutes.
made=false
patiently() {
  local tries=0
  until "$@" 2>"$work/error"; do
    if ! $made || ((++tries > 24)) || ! grep -qE 'ResourceNotFound|does not reference a valid application|NoBackingApplicationObject' "$work/error"; then
      cat "$work/error" >&2
      return 1
    fi
    sleep "${PORTCULLIS_PAUSE:-5}"
  done
}

ask() {
  az rest --only-show-errors --output json --method get --url "$graph/$1"
}

# change METHOD PATH BODY-FILE WHAT
change() {
  if $what_if; then
    echo "would $4:"
    sed 's/^/  /' "$3"
    return
  fi
  echo "$4"
  patiently az rest --only-show-errors --output json --method "$1" --url "$graph/$2" --headers Content-Type=application/json --body "@$3" >"$work/answer" ||
    die "could not $4. If it says Authorization_RequestDenied: have somebody run infra/registration.sh who is Application Administrator (for permissions in Graph: Privileged Role Administrator), then azd env set PORTCULLIS_API_CLIENT_ID with the client id that it prints, and azd env set PORTCULLIS_REGISTRATION skip"
}

# member NAME: a member of the JSON on standard input; nothing where it has none.
member() {
  python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]) or "")' "$1"
}

json() {
  python3 -c 'import json, sys; print(json.dumps(dict(pair.split("=", 1) for pair in sys.argv[1:]), indent=2))' "$@"
}

# A registration that an earlier run made is found by its name, unless the client id is known.
if [[ ! $client ]]; then
  az ad app list --display-name "$name" --query "[?displayName=='$name'].appId" --output tsv --only-show-errors >"$work/found"
  mapfile -t found <"$work/found"
  ((${#found[@]} < 2)) || die "there are ${#found[@]} registrations named $name: set PORTCULLIS_API_CLIENT_ID to the client id of the right one, or take another --name"
  client=${found[0]:-}
fi
if [[ ! $client ]]; then
  json displayName="$name" signInAudience=AzureADMyOrg >"$work/body"
  change post applications "$work/body" "make the registration $name"
  if $what_if; then
    echo '{}' | python3 "$here/registration.py" 00000000-0000-0000-0000-000000000000 "$host" >"$work/body"
    change patch applications/ID "$work/body" "bring it into its form (zeros stand for the client id, which Entra gives it)"
    echo "would then make its enterprise application, for which everybody needs an assignment"
    echo "and once the app has an address and an identity: take the identity as its credential, and give that User.Read.All and GroupMember.Read.All in Microsoft Graph"
    exit 0
  fi
  client=$(member appId <"$work/answer")
  made=true
fi

patiently ask "applications(appId='$client')" >"$work/application" || die "there is no registration with the client id $client in the tenant $tenant"
id=$(member id <"$work/application")
python3 "$here/registration.py" "$client" "$host" <"$work/application" >"$work/body"
if [[ -s $work/body ]]; then
  # Entra refuses a client that is let use a scope which is not there yet: first what may be used, then by whom.
  python3 - "$work/body" "$work/first" "$work/second" <<'P'
import json, sys
body = json.load(open(sys.argv[1]))
if "preAuthorizedApplications" in body.get("api", {}):
    json.dump(body, open(sys.argv[3], "w"), indent=2)
    del body["api"]["preAuthorizedApplications"]
json.dump(body, open(sys.argv[2], "w"), indent=2)
P
  change patch "applications/$id" "$work/first" "bring the registration $client into its form"
  [[ ! -s $work/second ]] || change patch "applications/$id" "$work/second" "let the Azure CLI ask for its scope"
fi

if ask "servicePrincipals(appId='$client')" >"$work/enterprise" 2>/dev/null; then
  enterprise=$(member id <"$work/enterprise")
  required=$(member appRoleAssignmentRequired <"$work/enterprise")
else
  json appId="$client" >"$work/body"
  change post servicePrincipals "$work/body" "make the enterprise application of $client"
  made=true
  enterprise=$($what_if || member id <"$work/answer")
  required=
fi
# Without it everybody in the tenant gets a token; it would carry no role, but whoever needs none should have none.
if [[ $required != True ]]; then
  echo '{"appRoleAssignmentRequired": true}' >"$work/body"
  change patch "servicePrincipals/$enterprise" "$work/body" "require an assignment for $client"
fi

if [[ $principal ]]; then
  ask "applications/$id/federatedIdentityCredentials" >"$work/credentials"
  if ! grep -qi "\"$principal\"" "$work/credentials"; then
    python3 -c 'import json, sys; print(json.dumps({"name": "portcullis-" + sys.argv[1][:8], "issuer": sys.argv[2], "subject": sys.argv[1], "audiences": [sys.argv[3]]}, indent=2))' \
      "$principal" "${login%/}/$tenant/v2.0" "$exchange" >"$work/body"
    change post "applications/$id/federatedIdentityCredentials" "$work/body" "take the app's identity as the registration's credential, in place of a secret"
  fi
fi

if [[ $principal && ${PORTCULLIS_GRAPH:-} != skip ]]; then
  # The client id of Microsoft Graph, the same in every tenant.
  ask "servicePrincipals(appId='00000003-0000-0000-c000-000000000000')" >"$work/graph"
  ask "servicePrincipals/$principal/appRoleAssignments" >"$work/held" || die "the identity $principal is not in Entra yet: wait a minute and run it again"
  for permission in User.Read.All GroupMember.Read.All; do
    python3 - "$permission" "$principal" "$work/graph" "$work/held" >"$work/body" <<'P'
import json, sys
permission, principal = sys.argv[1:3]
graph, held = (json.load(open(path)) for path in sys.argv[3:5])
role = next(role["id"] for role in graph["appRoles"] if role["value"] == permission and "Application" in role["allowedMemberTypes"])
if not any(entry["appRoleId"] == role and entry["resourceId"] == graph["id"] for entry in held["value"]):
    print(json.dumps({"principalId": principal, "resourceId": graph["id"], "appRoleId": role}, indent=2))
P
    if [[ -s $work/body ]]; then
      change post "servicePrincipals/$principal/appRoleAssignments" "$work/body" "give the app's identity $permission in Microsoft Graph"
    fi
  done
fi

if $azd && ! $what_if; then
  azd env set PORTCULLIS_API_CLIENT_ID "$client"
fi
echo "client id: $client"
