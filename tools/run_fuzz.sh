#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some time or a number of inputs, as many at once as
# there are cores:
# tools/run_fuzz.sh SECONDS [TARGET...]
# tools/run_fuzz.sh --runs NUMBER [TARGET...]
# Each run starts from the committed corpus and does not change it. New inputs go to a temporary
# folder; an input that crashes a target, makes it hang or use too much memory goes to
# build-asan/finds/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage="usage: tools/run_fuzz.sh SECONDS|--runs NUMBER [TARGET...]"
limit=-max_total_time
if [[ "${1:-}" == --runs ]]; then
  limit=-runs
  shift
fi
amount="${1:?$usage}"
shift
if [[ ! "$amount" =~ ^[1-9][0-9]*$ ]]; then
  echo "$usage; found '$amount'" >&2
  exit 2
fi
cmake --preset asan >/dev/null
cmake --build --preset asan --target fuzz_targets
targets=("$@")
if (( ${#targets[@]} == 0 )); then
  for source in tests/fuzz/corpus/*/; do targets+=("$(basename "$source")"); done
fi

# The largest inputs in bytes: what holds a few of everything that the target reads.
declare -A max_len=([config]=1024 [create]=512 [gguf]=2048 [http]=512 [hub]=1024 [safetensors]=4096 [sparsity]=512 [sweep]=1024 [tokenizer]=1024 [values]=256)

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p build-asan/finds

fuzz() {
  local target="$1" log="$work/$1.log" status=0
  mkdir "$work/$target"
  { TIMEFORMAT='%R %U %S'
    time "build-asan/bin/fuzz_$target" "$work/$target" \
      "tests/fuzz/corpus/$target" -dict="tests/fuzz/$target.dict" \
      -artifact_prefix="build-asan/finds/$target-" "$limit=$amount" \
      -max_len="${max_len[$target]:-4096}" \
      -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; } 2>"$work/$target.time" ||
    status=$?
  if (( status != 0 )); then
    tail -n 40 "$log" >&2
    echo "fuzz $target: FAILED (exit code $status)" >&2
    touch "$work/failed"
    return
  fi
  # "#123 DONE cov: 4 ft: 5 corp: 6/78b lim: 9 exec/s: 10 rss: 11Mb"
  awk -v target="$target" -v times="$(tail -n 1 "$work/$target.time")" '$2 == "DONE" {
    split(times, seconds, " ")
    runs = substr($1, 2)
    cpu = seconds[2] + seconds[3]
    printf "fuzz %s: %d runs in %.0f s (%.0f runs/s; %.0f per second of CPU time), " \
           "coverage %s edges and %s features\n",
           target, runs, seconds[1], runs / seconds[1], runs / cpu, $4, $6 }' "$log"
}

for target in "${targets[@]}"; do
  while (( $(jobs -rp | wc -l) >= $(nproc) )); do wait -n; done
  fuzz "$target" &
done
wait
[[ ! -e "$work/failed" ]]
