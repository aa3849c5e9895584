#!/usr/bin/env bash
# Fails if a C++ file does not match .clang-format.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format-19 --dry-run -Werror
echo "format: clean"
