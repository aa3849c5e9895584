#!/usr/bin/env bash
# copy_licences.sh BUNDLE: copies the licences of the libraries in BUNDLE/lib, as this machine's
# packages state them, to BUNDLE/licences.
set -euo pipefail
bundle="$1"
command -v dpkg-query >/dev/null || { echo "licences: dpkg is not available, none copied"; exit 0; }
mkdir -p "$bundle/licences"
for library in "$bundle"/lib/*.so*; do
  # Packages may name either path of a merged /usr.
  owner="$(dpkg-query -S "*-linux-gnu/$(basename "$library")" 2>/dev/null | head -n 1 | cut -d: -f1 || true)"
  if [[ -n "$owner" && -e "/usr/share/doc/$owner/copyright" ]]; then
    cp -L "/usr/share/doc/$owner/copyright" "$bundle/licences/$owner.txt"
  else
    echo "licences: no package found for $(basename "$library")"
  fi
done
