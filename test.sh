#!/usr/bin/env bash
# Runs all checks: format, layers, plain English, lint, the Python side, unit tests under AddressSanitizer
# and UBSan, the fuzz targets, and all tests of the optimised build. Works from a clean clone without a GPU.
#   ./test.sh          for every change
#   ./test.sh --long   checks every file anew, fuzzes for ten minutes a target, and kills a run 100 times
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fuzz_seconds=5
tidy=()
num_kills=0
case "${1:-}" in
  '') ;;
  --long) fuzz_seconds=600 tidy=(--all) num_kills=100 ;;
  *) echo "usage: ./test.sh [--long]" >&2; exit 2 ;;
esac

# Some tests wait for time-outs, so there is one more at a time than there are cores.
num_tests=$(($(nproc) + 1))
stage() { printf '\n== %s (%d s so far)\n' "$*" "$SECONDS"; }

stage "packages"
tools/install_packages.sh build test
cuda=OFF
if command -v nvcc >/dev/null; then
  tools/install_cuda.sh
  cuda=ON
fi

# The download takes half a minute, which other checks fill.
requirements=(training/requirements.txt tests/requirements.txt)
install_venv() {
  python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check "${requirements[@]/#/-r}"
  cat "${requirements[@]}" >.venv/requirements.txt
}
venv=
if ! cat "${requirements[@]}" | cmp -s - .venv/requirements.txt; then
  echo "installing ${requirements[*]} into .venv, in the background"
  install_venv & venv=$!
fi

stage "format, layers and plain English"
tools/check_format.sh
python3 tools/check_layers.py
python3 tools/check_english.py

stage "clang-tidy"
tools/run_tidy.py "${tidy[@]}"

stage "Python tests of the training code"
if [[ -n "$venv" ]]; then wait "$venv"; fi
# They depend on nothing else, so what has passed is not repeated.
content="$(find training models tests/golden -type f ! -path '*/__pycache__/*' ! -path '*/.pytest_cache/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)"
if (( ${#tidy[@]} == 0 )) && [[ "$(cat .venv/passed 2>/dev/null)" == "$content" ]]; then
  echo "unchanged since they passed"
else
  .venv/bin/python -m pytest -q training/tests
  echo "$content" > .venv/passed
fi

stage "unit tests with AddressSanitizer and UBSan"
cmake --preset asan >/dev/null
cmake --build --preset asan
# oneDNN and OpenMP keep memory until the process ends. Tests that do not choose their number of
# threads have one, because several at a time would wait for one another.
log=build-asan/ctest.log
if ! ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 ctest --preset asan -j"$num_tests" >"$log"; then
  grep -vE '(Passed|Skipped) .* sec|^ *Start ' "$log" | tail -n 300
  exit 1
fi
sed -n '/tests passed/,$p' "$log"

stage "fuzz targets, $fuzz_seconds s each"
tools/run_fuzz.sh "$fuzz_seconds"

stage "all tests of the optimised build"
# One architecture is enough to compile every kernel; builds for users have more.
cmake --preset cpu -DMOCHI_TESTS=ON -DMOCHI_CUDA=$cuda -DMOCHI_CUDA_ARCHITECTURES=80 >/dev/null
cmake --build --preset cpu
ctest --preset cpu -j"$num_tests"
if (( num_kills > 0 )); then
  stage "$num_kills kills at random moments"
  python3 tests/e2e/kill_test.py build/bin/mochi build/bin/make_tiny_model tests/golden/tokenizer/spiece.model "$num_kills"
  python3 tests/e2e/serve_kill_test.py build/bin/mochi build/bin/make_tiny_model tests/golden/tokenizer/spiece.model "$num_kills"
  python3 tests/e2e/download_faults_test.py build/bin/mochi build/bin/make_tiny_model tests/golden/tokenizer/spiece.model --long
fi

stage "run.sh: skips steps by itself, sparse or dense when told so"
videos="$(mktemp -d)"
trap 'rm -r "$videos"' EXIT
./run.sh --num-frames 7 --num-steps 16 --out "$videos/careful.mp4"
./run.sh --num-frames 7 --num-steps 16 --chipmunk-config chipmunk-config.yml --out "$videos/sparse.mp4"
./run.sh --num-frames 7 --num-steps 3 --skip off --out "$videos/dense.mp4"
python3 - "$videos" <<'PYTHON'
import json, pathlib, sys
for name, delta, rule in ("careful", None, "line"), ("sparse", "half_merge", "line"), ("dense", None, None):
    request = json.loads(pathlib.Path(sys.argv[1], f"{name}.mp4.json").read_text())["request"]
    config = request.get("sparsity") or {}
    found = config.get("attn", {}).get("delta"), config.get("step_skipping", {}).get("rule")
    assert found == (delta, rule), f"{name}.mp4.json: wanted {(delta, rule)}, found {found}"
print("as wanted")
PYTHON
