#!/usr/bin/env bash
# Fuzzes targets one after another, each for so many seconds: fuzz.sh SECONDS TARGET …
# Begins with what is kept in fuzz/corpus and fuzz/regressions, and goes on from what it finds in target/fuzz/corpus. An
# input that fails is written to fuzz/artifacts; the other targets run all the same.
set -euo pipefail

seconds=$1
shift
failed=()
for target in "$@"; do
  echo "== $target, ${seconds} s"
  begin=(fuzz/corpus/"$target")
  [[ -d fuzz/regressions/$target ]] && begin+=(fuzz/regressions/"$target")
  mkdir -p target/fuzz/corpus/"$target" fuzz/artifacts/"$target"
  # Without a sanitizer, which only a nightly compiler can build: there is no unsafe code of ours for one to watch.
  cargo fuzz run --sanitizer none --codegen-units 16 --target-dir target/fuzz "$target" target/fuzz/corpus/"$target" "${begin[@]}" -- \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -dict=fuzz/words.dict -print_final_stats=1 \
    -verbosity=0 || failed+=("$target")
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}. The inputs lie in fuzz/artifacts; docs/fuzzing.md says how one is kept." >&2
  exit 1
fi
echo "ok: every check held in ${#} targets"
