#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some time, as many at once as there are cores:
# tools/run_fuzz.sh SECONDS [TARGET...]
# Each run starts from the committed corpus and does not change it. New inputs go to a temporary
# folder; an input that crashes a target, makes it hang or use too much memory goes to
# build-asan/finds/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds="${1:?usage: tools/run_fuzz.sh SECONDS [TARGET...]}"
shift
cmake --preset asan >/dev/null
cmake --build --preset asan --target fuzz_targets
targets=("$@")
if (( ${#targets[@]} == 0 )); then
  for program in build-asan/bin/fuzz_*; do targets+=("${program##*/fuzz_}"); done
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p build-asan/finds

fuzz() {
  local target="$1" log="$work/$1.log" status=0
  mkdir "$work/$target"
  "build-asan/bin/fuzz_$target" "$work/$target" \
    "tests/fuzz/corpus/$target" -dict="tests/fuzz/$target.dict" \
    -artifact_prefix="build-asan/finds/$target-" -max_total_time="$seconds" -max_len=4096 \
    -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1 || status=$?
  if (( status != 0 )); then
    tail -n 40 "$log" >&2
    echo "fuzz $target: FAILED (exit code $status)" >&2
    touch "$work/failed"
    return
  fi
  # "#123 DONE cov: 4 ft: 5 corp: 6/78b lim: 9 exec/s: 10 rss: 11Mb"
  awk -v target="$target" -v seconds="$seconds" '$2 == "DONE" {
    printf "fuzz %s: %s runs in %s s, coverage %s edges and %s features\n",
           target, substr($1, 2), seconds, $4, $6 }' "$log"
}

for target in "${targets[@]}"; do
  while (( $(jobs -rp | wc -l) >= $(nproc) )); do wait -n; done
  fuzz "$target" &
done
wait
[[ ! -e "$work/failed" ]]
