#!/usr/bin/env bash
# Runs all checks: format, layers, plain English, lint, the Python side, unit tests under AddressSanitizer
# and UBSan, the fuzz targets, and all tests of the optimised build. Works from a clean clone without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

stage() { printf '\n== %s (%d s so far)\n' "$*" "$SECONDS"; }

stage "packages"
tools/install_packages.sh build test
cuda=OFF
if command -v nvcc >/dev/null; then
  tools/install_cuda.sh
  cuda=ON
fi

stage "format, layers and plain English"
tools/check_format.sh
python3 tools/check_layers.py
python3 tools/check_english.py

stage "clang-tidy"
tools/run_tidy.sh

stage "Python tests of the training code"
if [[ ! -f .venv/requirements.txt ]] || ! cmp -s training/requirements.txt .venv/requirements.txt; then
  echo "installing training/requirements.txt into .venv"
  python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check -r training/requirements.txt
  cp training/requirements.txt .venv/requirements.txt
fi
.venv/bin/python -m pytest -q training/tests

stage "unit tests with AddressSanitizer and UBSan"
cmake --preset asan >/dev/null
cmake --build --preset asan
# oneDNN and OpenMP keep memory until the process ends.
ASAN_OPTIONS=detect_leaks=0 ctest --preset asan --label-exclude slow -j2 | tail -n 5

stage "fuzz targets, 60 s each"
tools/run_fuzz.sh 60

stage "all tests of the optimised build"
cmake --preset cpu -DMOCHI_TESTS=ON -DMOCHI_CUDA=$cuda >/dev/null
cmake --build --preset cpu
ctest --preset cpu

stage "run.sh: sparse by itself, dense when told so"
videos="$(mktemp -d)"
trap 'rm -r "$videos"' EXIT
./run.sh --num-frames 7 --num-steps 3 --out "$videos/sparse.mp4"
./run.sh --num-frames 7 --num-steps 3 --no-sparsity --out "$videos/dense.mp4"
python3 - "$videos" <<'PYTHON'
import json, pathlib, sys
for name, delta in ("sparse", "half_merge"), ("dense", None):
    request = json.loads(pathlib.Path(sys.argv[1], f"{name}.mp4.json").read_text())["request"]
    found = (request.get("sparsity") or {}).get("attn", {}).get("delta")
    assert found == delta, f"{name}.mp4.json: wanted delta {delta}, found {found}"
print("as wanted")
PYTHON
