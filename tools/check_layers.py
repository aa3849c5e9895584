#!/usr/bin/env python3
"""Checks who includes whom: the edges that docs/architecture.md draws."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder of src/ → what its files may include: folders, or single headers.
ALLOWED = {
    "base": ["mochi/enums.h", "mochi/error.h"],
    "tensor": ["base"],
    "backend": ["base", "tensor"],
    "io": ["base", "tensor"],
    "weights": ["base", "tensor", "backend/backend.h", "io", "mochi/weight_format.h", "mochi/compute.h"],
    "text": ["base", "tensor", "backend/backend.h", "io", "weights"],
    "dit": ["base", "tensor", "backend/backend.h", "io", "weights"],
    # Fills the interface of dit.
    "sparsity": ["base", "tensor", "backend/backend.h", "dit/block_policy.h", "dit/token_grid.h",
                 "mochi/sparsity.h", "mochi/analysis.h", "mochi/message.h"],
    "vae": ["base", "tensor", "backend/backend.h", "io", "weights", "mochi/frame_sink.h"],
    "pipeline": ["base", "tensor", "backend/backend.h", "io", "weights", "sparsity", "text", "dit",
                 "vae", "mochi"],
    # Knows the networks, as the pipeline does, but nobody builds on it: the command line calls it.
    "bench": ["base", "tensor", "backend/backend.h", "io", "weights", "sparsity", "text", "dit",
              "vae", "pipeline", "mochi", "report"],
    # A video's life without a terminal: what the command line, a server and Python share.
    "job": ["base", "io", "mochi"],
    # Plots and pages, which know nothing of videos.
    "report": ["base"],
    # Analyses and searches that run many videos, without a terminal.
    "study": ["base", "io", "mochi", "job", "report"],
    # Videos for clients of HTTP.
    "server": ["base", "mochi", "job", "io/json.h", "io/frame_rate.h"],
    # Downloads of weights, without a terminal.
    "hub": ["base", "io/json.h"],
    # Command-line flags: their values, help, manual and completions. Knows nothing of videos.
    "flags": ["base"],
    "cli": ["flags", "base", "io", "mochi", "job", "study", "bench/bench.h", "hub", "server"],
}
PUBLIC = ROOT / "include" / "mochi"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# Rooms that a server or Python may use as well: they print nothing and know no terminal.
QUIET = {"job", "report", "study", "server", "hub"}
TERMINAL = re.compile(r"\bfmt::print\b|\bstd(?:out|err)\b|\bstd::c(?:out|err)\b|\bisatty\b")
# What make_backend.cpp may see of the backends, and nobody else.
BACKENDS = ROOT / "src" / "backend"
DOORS = {"backend/cpu/make_cpu_backend.h", "backend/cuda/make_cuda_backend.h"}
# Rooms of backend/cuda → the rooms that their files may include, besides their own. "" is the
# folder itself.
CUDA = BACKENDS / "cuda"
CUDA_ROOMS = {
    "device": [],
    "common": ["device"],
    "sm90": ["device", "common"],
    "kernels": ["device", "common", "sm90", ""],
    "": ["common"],
}
CUDA_HEADER = re.compile(r'^\s*#\s*include\s+<(cu(?!rl/)|nv)', re.MULTILINE)


def is_allowed(folder: str, include: str) -> bool:
    if include.startswith(folder + "/"):
        return True
    return any(include == edge or include.startswith(edge + "/") for edge in ALLOWED[folder])


def cuda_room(path: pathlib.Path) -> str:
    parts = path.relative_to(CUDA).parts
    return parts[0] if len(parts) > 1 else ""


def is_allowed_in_cuda(path: pathlib.Path, include: str) -> bool:
    room = cuda_room(path)
    included = ROOT / "src" / include
    if CUDA not in included.parents:
        return room != "device"
    return cuda_room(included) in [room, *CUDA_ROOMS.get(room, [])]


def violations() -> list[str]:
    found = []
    for path in sorted((ROOT / "src").rglob("*.[hc]*")):
        folder = path.relative_to(ROOT / "src").parts[0]
        text = path.read_text()
        name = path.relative_to(ROOT)
        if folder not in ALLOWED:
            found.append(f"{name}: folder '{folder}' is not in the plan")
            continue
        for include in INCLUDE.findall(text):
            if not is_allowed(folder, include):
                found.append(f'{name}: may not include "{include}"')
            for owner in ("cpu", "cuda"):
                is_door = include in DOORS and path.parent in (BACKENDS, BACKENDS / "no_cuda")
                if (include.startswith(f"backend/{owner}/") and not is_door
                        and BACKENDS / owner not in path.parents):
                    found.append(f'{name}: "{include}" is private to backend/{owner}')
            if CUDA in path.parents and not is_allowed_in_cuda(path, include):
                found.append(f'{name}: may not include "{include}" within backend/cuda')
        if CUDA_HEADER.search(text) and CUDA not in path.parents:
            found.append(f"{name}: CUDA headers stay under backend/cuda")
        if folder in QUIET and TERMINAL.search(text):
            found.append(f"{name}: src/{folder} does not use the terminal")
        if "getenv" in text and folder != "cli" and name.name != "subprocess.cpp":
            found.append(f"{name}: the environment is read in the mains (and PATH in subprocess.cpp)")
    for path in sorted(PUBLIC.rglob("*.h")):
        for include in INCLUDE.findall(path.read_text()):
            if not include.startswith("mochi/"):
                found.append(f'{path.relative_to(ROOT)}: may not include "{include}"')
    return found


if __name__ == "__main__":
    problems = violations()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"layers: {len(problems)} violation(s)")
    sys.exit(1 if problems else 0)
