#!/usr/bin/env bash
# Decides again, by the rules in policies/, on the decisions that a deployed Portcullis made: replay.sh URL [DAYS]
# PORTCULLISCTL_TOKEN is a token for the API, of somebody with the role Auditor.
# Exits as `portcullis rules replay` does: 1 where a decision comes out otherwise, 2 where one cannot be read. Where there is
# none yet it says so and exits with 0. Audit records name people, so they are kept in a file of this run only.
set -euo pipefail

(($# >= 1)) || { echo "replay.sh: usage: replay.sh URL [DAYS], with a token in PORTCULLISCTL_TOKEN" >&2; exit 2; }
[[ ${PORTCULLISCTL_TOKEN:-} ]] || { echo "replay.sh: PORTCULLISCTL_TOKEN is not set: az account get-access-token --scope api://CLIENT-ID/.default" >&2; exit 2; }
url=${1%/}
# A week has working days and a weekend in it.
days=${2:-7}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
from=$(date --utc --date "$days days ago" +%Y-%m-%dT%H:%M:%SZ)

# The token goes in by a file, so that it stands in no list of processes.
printf 'header = "Authorization: Bearer %s"\n' "$PORTCULLISCTL_TOKEN" >"$work/curl"
for kind in adopted granted declined; do
  after=
  while :; do
    curl --silent --show-error --fail-with-body --config "$work/curl" --get "$url/api/audit" --data-urlencode "kind=$kind" \
      --data-urlencode "from=$from" --data-urlencode limit=1000 ${after:+--data-urlencode "after=$after"} >"$work/page" || {
      echo "replay.sh: $url does not tell its audit records: $(head -c 500 "$work/page")" >&2
      exit 2
    }
    after=$(python3 - "$work/page" "$work/decisions" <<'P'
import json, sys
page = json.load(open(sys.argv[1]))
with open(sys.argv[2], "a") as out:
    for item in page["items"]:
        if item.get("decision"):
            out.write(json.dumps(item) + "\n")
print(page.get("next") or "")
P
    )
    [[ $after ]] || break
  done
done
if [[ ! -s $work/decisions ]]; then
  echo "no decision was made in the last $days days: there is nothing to replay"
  exit 0
fi
target/debug/portcullis rules replay policies --decisions "$work/decisions"
