#!/usr/bin/env bash
# Has the JIT events of each governed subscription sent to the function jit_activity: events.sh [--what-if]
# After the code, since Event Grid takes a function as a destination only when it is there. Run again, it changes nothing
# that is as it should be. A subscription that fails does not stop the others; all that failed are named at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/azure.sh
source "$here/azure.sh"

verb=create
for argument in "$@"; do
  case $argument in
    --what-if) verb=what-if ;;
    *) die "takes --what-if and nothing else, not $argument" ;;
  esac
done

signed_in
for name in PORTCULLIS_APP_ID PORTCULLIS_STORE_ID PORTCULLIS_DEAD_LETTER_CONTAINER PORTCULLIS_EVENTS_IDENTITY_ID AZURE_LOCATION; do
  required "$name"
done
governed=${PORTCULLIS_EVENT_SUBSCRIPTIONS:-${PORTCULLIS_SUBSCRIPTIONS:-${AZURE_SUBSCRIPTION_ID:-}}}
[[ $governed && $governed != all ]] ||
  die "which subscriptions there are is not known here: name them in PORTCULLIS_EVENT_SUBSCRIPTIONS, with commas"
IFS=, read -ra subscriptions <<<"${governed// /}"
app=${PORTCULLIS_APP_ID##*/}
told=${PORTCULLIS_ACTION_GROUPS:-}
told=[${told:+\"${told//,/\",\"}\"}]
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The host tells of its functions a while after the package has come.
if [[ $verb == create ]]; then
  for ((n = 0; ; n++)); do
    az resource show --ids "$PORTCULLIS_APP_ID/functions/jit_activity" --api-version 2024-04-01 --output none 2>"$work/why" && break
    ((n < 30)) || die "the app $app has no function jit_activity after five minutes: has the package been deployed, and does the app start? It said: $(<"$work/why")"
    sleep 10
  done
fi

# The one topic that a subscription can have: its name, its group, and whether it has our identity.
topic_of() {
  az eventgrid system-topic list --subscription "$1" --output json --only-show-errors | python3 -c '
import json, sys
identity = sys.argv[1].lower()
for topic in json.load(sys.stdin):
    if topic["topicType"].lower() == "microsoft.resources.subscriptions":
        held = ((topic.get("identity") or {}).get("userAssignedIdentities") or {}).keys()
        print(topic["name"], topic["resourceGroup"], "yes" if identity in map(str.lower, held) else "no")
' "$PORTCULLIS_EVENTS_IDENTITY_ID"
}

# deploy SUBSCRIPTION IDENTITY [PARAMETER …]
deploy() {
  local subscription=$1 identity=$2
  shift 2
  az deployment sub "$verb" --subscription "$subscription" --location "$AZURE_LOCATION" --name "$app-events" \
    --template-file "$here/eventgrid.bicep" --only-show-errors --parameters location="$AZURE_LOCATION" \
    eventSubscriptionName="$app" appId="$PORTCULLIS_APP_ID" storeId="$PORTCULLIS_STORE_ID" \
    deadLetterContainer="$PORTCULLIS_DEAD_LETTER_CONTAINER" eventsIdentityId="$identity" actionGroupIds="$told" "$@"
}

without="events that Event Grid gives up are then gone without a word; the sweep finds in five minutes what they would have told"

one() {
  local subscription=$1 identity=$PORTCULLIS_EVENTS_IDENTITY_ID name group has parameters=()
  topic_of "$subscription" >"$work/topic" || return 1
  # A topic without our identity is somebody else's, be it another Portcullis: it is used and not changed.
  if read -r name group has <"$work/topic" && [[ $has == no || ${group,,} != portcullis-events ]]; then
    parameters=(topicName="$name" existingTopicResourceGroup="$group")
    if [[ $has == no ]]; then
      echo "$subscription: its topic $name in $group has not the identity ${identity##*/}: no dead letters, $without"
      identity=
    fi
  fi
  if deploy "$subscription" "$identity" "${parameters[@]}" >"$work/said" 2>&1; then
    [[ $verb == create ]] || cat "$work/said"
    return 0
  fi
  # Azure has refused identities on global topics (seen in 2021): events without dead letters are better than none.
  if [[ $identity ]] && grep -qi "identity is unavailable for location" "$work/said"; then
    echo "$subscription: Azure takes no identity on this topic: no dead letters, $without"
    deploy "$subscription" "" "${parameters[@]}" >"$work/said" 2>&1 && return 0
  fi
  cat "$work/said" >&2
  return 1
}

failed=()
for subscription in "${subscriptions[@]}"; do
  if one "$subscription"; then
    [[ $verb == what-if ]] || echo "$subscription: its JIT events go to $app"
  else
    failed+=("$subscription")
  fi
done
if ((${#failed[@]})); then
  die "no events of ${failed[*]}: see above. Until this is mended the sweep alone finds what happens there"
fi
