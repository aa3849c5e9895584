#!/usr/bin/env bash
# Runs clang-tidy on every source of src/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset tidy -DMOCHI_TIDY=OFF -DMOCHI_TESTS=OFF >/dev/null
run-clang-tidy-19 -quiet -j "$(nproc)" -p build-tidy "$PWD/src/.*\.cpp$" >build-tidy/tidy.log 2>&1 || {
  grep -E "(warning|error):" build-tidy/tidy.log | sort -u >&2
  exit 1
}
echo "clang-tidy: clean"
