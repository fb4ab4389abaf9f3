#!/usr/bin/env bash
# Writes the marker into a new store: marker.sh [--what-if]
# Without it the store counts as unreadable. It is written only where nothing is and nothing ever was: a store that was
# emptied must not look like a new one. Run again, it finds the marker and changes nothing. azd runs it after azd provision.
#
# The account takes no keys. Whoever runs this and may not write blobs gives itself the role for the time of the run, which
# it may where it could deploy, and takes it back at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/azure.sh
source "$here/azure.sh"

what_if=false
for argument in "$@"; do
  case $argument in
    --what-if) what_if=true ;;
    *) die "takes --what-if and nothing else, not $argument" ;;
  esac
done

signed_in
required PORTCULLIS_STORE_ID
state=${PORTCULLIS_STATE_CONTAINER:-state}
audit=${PORTCULLIS_AUDIT_CONTAINER:-audit}
account=${PORTCULLIS_STORE_ID##*/}
marker=portcullis-store.json
role="Storage Blob Data Contributor"
work=$(mktemp -d)
given=

clean_up() {
  if [[ $given ]]; then
    az role assignment delete --ids "$given" --only-show-errors ||
      echo "marker.sh: the role $role on $account could not be taken back: delete the assignment $given" >&2
  fi
  rm -rf "$work"
}
trap clean_up EXIT

blob() {
  az storage blob "$@" --account-name "$account" --auth-mode login --only-show-errors
}

# The first name in a container that is there, was there or had an earlier version; nothing where there never was one.
first() {
  blob list --container-name "$1" --include dv --num-results 1 --query '[0].name' --output tsv
}

give_role() {
  local kind id
  id=$(az account get-access-token --query accessToken --output tsv | python3 -c '
import base64, json, sys
part = sys.stdin.read().split(".")[1]
print(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["oid"])')
  kind=$(az account show --query user.type --output tsv)
  [[ $kind == user ]] && kind=User || kind=ServicePrincipal
  given=$(az role assignment create --assignee-object-id "$id" --assignee-principal-type "$kind" --role "$role" \
    --scope "$PORTCULLIS_STORE_ID" --query id --output tsv --only-show-errors) ||
    die "you may not write blobs in $account, nor give yourself the role $role there: have it given to you, or have somebody run this who may"
}

# The right to look is the right to write: both are in one role.
if ! first "$state" >"$work/first" 2>"$work/why"; then
  grep -qiE 'AuthorizationPermissionMismatch|AuthorizationFailure|required permissions|not authorized' "$work/why" || die "the container $state of $account cannot be read: $(<"$work/why")"
  if $what_if; then
    echo "would give you the role $role on $account for the time of the run, and then look whether $state is empty"
    exit 0
  fi
  give_role
  # A new role takes minutes to arrive; ten are what Azure asks one to wait before one looks for another reason.
  for ((n = 0; ; n++)); do
    first "$state" >"$work/first" 2>"$work/why" && break
    ((n < 60)) || die "the role $role has not arrived after ten minutes: run it again. It said: $(<"$work/why")"
    sleep 10
  done
fi

printf '{"portcullis":"store","version":1}' >"$work/$marker"
if [[ $(blob exists --container-name "$state" --name "$marker" --query exists --output tsv) == true ]]; then
  blob download --container-name "$state" --name "$marker" --file "$work/found" --output none
  cmp --silent "$work/$marker" "$work/found" || die "$marker in $state of $account holds something else: this is not a store of Portcullis, or one of another version"
  echo "the store in $account has its marker"
  exit 0
fi

cure="Find out first what was lost and restore it: deleted blobs and earlier versions are kept for some days. If the estate is to begin anew, take new containers."
if [[ -s $work/first ]]; then
  die "$state of $account has no $marker, but it holds or held $(<"$work/first"): it was a store and has lost its marker. $cure"
fi
audited=$(first "$audit")
if [[ $audited ]]; then
  die "$state of $account is empty, but $audit holds or held $audited: there was a store, and it was emptied. $cure"
fi

if $what_if; then
  echo "would write $marker into $state of $account"
  exit 0
fi
# If-None-Match, so that two who run this at once write it once.
blob upload --container-name "$state" --name "$marker" --file "$work/$marker" --content-type application/json \
  --if-none-match '*' --no-progress --output none || die "$marker could not be written into $state of $account"
echo "the store in $account is new and has its marker now"
