#!/usr/bin/env bash
# Makes a video: installs what is missing, builds build/bin/mochi, and runs `mochi generate` with the
# arguments given; without --prompt it takes the one below.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

(
  cd "$root"
  tools/install_packages.sh build
  [[ -f build/build.ninja ]] || { echo "configuring build/"; cmake --preset cpu -DMOCHI_TESTS=OFF >/dev/null; }
  if [[ -x build/bin/mochi ]]; then
    ninja -C build --quiet mochi
  else
    echo "building build/bin/mochi"
    ninja -C build mochi
  fi
)

arguments=("$@")
has_prompt=false
for argument in "$@"; do
  case "$argument" in
    --prompt|--prompt=*|--from-latents|--from-latents=*|-h|--help) has_prompt=true ;;
  esac
done
$has_prompt || arguments+=(--prompt "a large green ring moves to the left on a dark background")
exec "$root/build/bin/mochi" generate "${arguments[@]}"
