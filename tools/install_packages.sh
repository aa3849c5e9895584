#!/usr/bin/env bash
# Installs the Debian packages that are missing: tools/install_packages.sh build [test]
set -euo pipefail

build_packages=(build-essential cmake ninja-build pkg-config ccache ffmpeg libboost1.81-dev libcli11-dev
  libcurl4-openssl-dev libdnnl-dev libfmt-dev libsentencepiece-dev libsqlite3-dev libssl-dev libstb-dev
  libyaml-cpp-dev nlohmann-json3-dev prometheus-cpp-dev)
test_packages=(libgtest-dev python3 python3-venv clang-19 clang-format-19 clang-tidy-19 libclang-rt-19-dev
  libomp-19-dev groff-base zsh)

# Programs of the page's test, as COMMAND:PACKAGE. They are often installed from elsewhere.
test_commands=(chromium:chromium node:nodejs npm:npm)

wanted=()
commands=()
for group in "$@"; do
  case "$group" in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}"); commands+=("${test_commands[@]}") ;;
    *) echo "install_packages.sh: unknown group '$group', wanted build or test" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${wanted[@]}"; do
  [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" == "install ok installed" ]] ||
    missing+=("$package")
done
for pair in "${commands[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
(( ${#missing[@]} == 0 )) && exit 0

echo "installing Debian packages: ${missing[*]}"
as_root=()
if (( EUID != 0 )); then
  command -v sudo >/dev/null || { echo "run as root, or install them yourself: apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
# Ubuntu has no package of Chromium. The page's test is skipped there, unless Chromium comes from elsewhere.
for i in "${!missing[@]}"; do
  if [[ "${missing[i]}" == chromium ]] && ! apt-cache show chromium >/dev/null 2>&1; then unset "missing[$i]"; fi
done
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" >/dev/null
