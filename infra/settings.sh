#!/usr/bin/env bash
# Turns the lines NAME=VALUE in $SETTINGS into assignments that a shell can evaluate: eval "$(infra/settings.sh)"
# Only the names of our own settings are taken, and every value is quoted: what stands in a variable of the repository
# names settings and runs nothing. Without PORTCULLIS_MODE among them a deployment observes.
set -euo pipefail

mode=observe
while IFS= read -r line; do
  line=${line%$'\r'}
  [[ $line && $line != \#* ]] || continue
  if [[ ! $line =~ ^(PORTCULLIS_[A-Z_]+)=(.*)$ ]]; then
    echo "settings.sh: a line of SETTINGS is not PORTCULLIS_NAME=VALUE: ${line%%=*}" >&2
    # The caller evaluates what is printed, so that it stops there and not with half of the settings.
    echo "exit 1"
    exit 1
  fi
  name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
  if [[ $name == PORTCULLIS_MODE ]]; then
    mode=$value
    continue
  fi
  printf '%s=%q\n' "$name" "$value"
done <<<"${SETTINGS:-}"
printf 'PORTCULLIS_MODE=%q\n' "$mode"
