#!/usr/bin/env bash
# Fails when a C++ file is not as .clang-format wants it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format-19 --dry-run -Werror
echo "format: clean"
