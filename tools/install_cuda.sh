#!/usr/bin/env bash
# Installs cuBLASLt's header from NVIDIA's wheel on PyPI in .nvidia/, for machines that have the
# CUDA compiler without it. With the argument --libraries, also installs the library that a GPU
# needs at run time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheel="nvidia-cublas==13.0.2.14"
wanted=(nvidia/cu13/include/cublas*)
target=.nvidia/include/cublasLt.h
if [[ "${1:-}" == --libraries ]]; then
  wanted+=('nvidia/cu13/lib/libcublasLt.so.13')
  target=.nvidia/lib/libcublasLt.so.13
fi
[[ -f "$target" ]] && exit 0

echo "installing $wheel from PyPI into .nvidia (a download of about 0.4 GB)"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps -d "$work" "$wheel"
python3 - "$work" "${wanted[@]}" <<'PYTHON'
import fnmatch, pathlib, sys, zipfile
(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if any(fnmatch.fnmatch(name, pattern) for pattern in sys.argv[2:]):
            target = pathlib.Path(".nvidia", *pathlib.Path(name).parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".part")
            partial.write_bytes(archive.read(name))
            partial.rename(target)
PYTHON
