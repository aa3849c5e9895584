#!/usr/bin/env bash
# Runs all tests that use a GPU, in the folder that the target gpu_tests creates
# (build-portable/bundle/tests, copied to the machine with the GPU) or in the build folder given as
# argument. Prints a line for each part at the end and fails if one of them failed. If
# compute-sanitizer, which comes with CUDA, is available, it checks the operations; --quick leaves
# it out, and --sanitize runs nothing else. Full output: gpu-tests-*.log in the current folder.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
programs="$here"
is_quick=0
is_for_sanitizers=0
for argument in "$@"; do
  case "$argument" in
    --quick) is_quick=1 ;;
    --sanitize) is_for_sanitizers=1 ;;
    *) programs="$argument/bin" ;;
  esac
done
if [[ -d "$here/golden" ]]; then
  export MOCHI_TEST_DATA="$here/data"
  mkdir -p "$MOCHI_TEST_DATA"
  ln -sfn "$here/golden" "$MOCHI_TEST_DATA/golden"
  ln -sfn "$here/../models/micro" "$MOCHI_TEST_DATA/micro"
  ln -sfn "$here/../chipmunk-config.yml" "$MOCHI_TEST_DATA/chipmunk-config.yml"
fi

lines=()
status=0
# part NAME COMMAND…: runs the command and stores a line about it.
part() {
  local name="$1" log="gpu-tests-$1.log" start="$SECONDS" result
  shift
  if "$@" > "$log" 2>&1; then result=passed; else result="FAILED ($?)"; status=1; fi
  # A part that found no GPU did not pass.
  if grep -q "no CUDA here: " "$log"; then result="SKIPPED: $(grep -m1 -o 'no CUDA here: .*' "$log")"; status=1; fi
  local counts
  counts="$(grep -E '^\[  (PASSED|FAILED|SKIPPED) +\] [0-9]+ test|^ *[0-9]+ FAILED TEST|ERROR SUMMARY|RACECHECK SUMMARY' "$log" \
            | sed -E 's/^\[  ([A-Z]+) +\] ([0-9]+) tests?.*/\1 \2/; s/^=+ //' | paste -sd ' ' || true)"
  lines+=("$(printf '%-22s %-10s %4d s  %s' "$name" "$result" $((SECONDS - start)) "$counts")")
  echo "${lines[-1]}"
  [[ "$result" == passed ]] || sed -nE 's/^\[  FAILED  \] ([^ ,]+).*/  \1/p' "$log" | grep / | sort -u | head -n 20
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
if (( ! is_for_sanitizers )); then
  for folder in backend text sparsity dit vae pipeline; do
    part "$folder" "$programs/test_$folder" '--gtest_filter=*/Cuda*'
  done
  # The full width compared with PyTorch, if it is installed.
  if python3 -c 'import torch' 2>/dev/null; then
    script="$here/dit_error.py"
    [[ -e "$script" ]] || script="$here/../tests/gpu/dit_error.py"
    part dit-vs-pytorch python3 "$script" "$programs/dit_velocity"
    cat gpu-tests-dit-vs-pytorch.log
  else
    echo "dit-vs-pytorch: PyTorch is not installed, skipped"
  fi
fi
# sanitize TOOL FILTER: runs the tests of operations under the tool, in concurrent parts, because
# most of the time is spent on the processor.
sanitize() {
  local num_shards shards=() i failed=0
  num_shards="$(nproc)"
  for ((i = 0; i < num_shards; ++i)); do
    GTEST_TOTAL_SHARDS=$num_shards GTEST_SHARD_INDEX=$i "$sanitizer" --tool "$1" --error-exitcode 9 \
      "$programs/test_backend" "--gtest_filter=$2" > "gpu-tests-$1-$i.log" 2>&1 &
    shards+=($!)
  done
  for ((i = 0; i < num_shards; ++i)); do
    wait "${shards[i]}" || failed=1
    cat "gpu-tests-$1-$i.log"
    rm "gpu-tests-$1-$i.log"
  done
  return "$failed"
}
sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)"
if (( is_quick )); then
  echo "compute-sanitizer: skipped"
elif [[ -z "$sanitizer" ]]; then
  echo "compute-sanitizer: not found"
  if (( is_for_sanitizers )); then status=1; fi  # nothing was checked
else
  # Covers operations on small tensors. Sizes beyond 2^31 elements would take memory and time
  # without showing more, and memcheck counts a refused allocation as an error.
  part memcheck sanitize memcheck '*/Cuda*:-*IndicesDoNotOverflow*:*AllocationsAreRefused*'
  part racecheck sanitize racecheck '*/CudaBF16*:-*IndicesDoNotOverflow*'
  part synccheck sanitize synccheck '*/CudaBF16*:-*IndicesDoNotOverflow*'
fi

echo
printf '%s\n' "${lines[@]}"
if (( status == 0 )); then echo "gpu tests: all passed"; else echo "gpu tests: FAILED"; fi
exit "$status"
