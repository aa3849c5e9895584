#!/usr/bin/env bash
# Makes a video: installs what is missing, builds build/bin/mochi, and runs `mochi generate` with the
# arguments given. `./run.sh serve` runs `mochi serve` instead, whose page makes videos in a browser.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

(
  cd "$root"
  tools/install_packages.sh build
  # With a GPU and its compiler here, the program gets the CUDA backend.
  if command -v nvidia-smi >/dev/null && command -v nvcc >/dev/null; then tools/install_cuda.sh --libraries; fi
  [[ -f build/build.ninja ]] || { echo "configuring build/"; cmake --preset cpu -DMOCHI_TESTS=OFF >/dev/null; }
  if [[ -x build/bin/mochi ]]; then
    ninja -C build --quiet mochi
  else
    echo "building build/bin/mochi"
    ninja -C build mochi
  fi
)

if [[ "${1:-}" == serve ]]; then exec "$root/build/bin/mochi" "$@"; fi

# Careful step skipping, unless the arguments say how, or that nothing is to be sampled.
skipping=(--skip careful)
for argument in "$@"; do
  case "${argument//_/-}" in
    --skip*|--max-evaluations*|--chipmunk-config*|--from-json*|--from-latents*|--resume*|-h|--help)
      skipping=() ;;
  esac
done
exec "$root/build/bin/mochi" generate "${skipping[@]}" "$@"
