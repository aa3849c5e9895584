#!/usr/bin/env python3
"""Runs clang-tidy on the sources of src/: tools/run_tidy.py [--all]

The sources of a folder are checked together, as a unity build compiles them, so that clang-tidy reads
the headers they share once. What has passed is remembered in build-tidy/passed by a hash of the
preprocessed text, of .clang-tidy and of clang-tidy's version, and is not checked again; --all checks
everything.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-tidy"
PASSED = BUILD / "passed"
CONFIG = ROOT / ".clang-tidy"
TIDY = "clang-tidy-19"
# A unity source includes .cpp files; tools/check_layers.py refuses that in ours.
UNITY_CHECKS = "-bugprone-suspicious-include"
# This check looks at the main file alone, so files with such declarations get it one by one.
USING_CHECK = "misc-unused-using-decls"
USING = re.compile(r"^\s*using (\w+::)+\w+;", re.MULTILINE)
INCLUDED = re.compile(r'^#include "(.+)"$', re.MULTILINE)


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", **options)


def configure():
    result = run(["cmake", "--preset", "tidy", "-DMOCHI_TESTS=OFF"], cwd=ROOT)
    if result.returncode != 0:
        sys.exit(result.stderr)


def translation_units():
    """(file, compile command) of each unity source and of each source compiled alone."""
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if ROOT / "src" in path.parents or "Unity" in path.parts:
            yield path, shlex.split(entry["command"]), entry["directory"]


def sources_of(path):
    """The files of src/ that a translation unit is made of."""
    if "Unity" not in path.parts:
        return [path]
    return [pathlib.Path(name) for name in INCLUDED.findall(path.read_text())]


def preprocessed_hash(command, directory, version):
    """Comments are kept: NOLINT is one."""
    end = command.index("-o")
    command = command[:end] + command[end + 2:] + ["-E", "-C"]
    command = [word for word in command if word != "-c"]
    text = run(command, cwd=directory)
    if text.returncode != 0:
        return None
    return hashlib.sha256((version + CONFIG.read_text() + text.stdout).encode()).hexdigest()


def tidy(path, command, directory, checks):
    """What clang-tidy complains of in one file, a line each."""
    at = command.index("-c")
    flags = [word for word in command[1:at] if word != "-o"]
    flags = [flag for flag in flags if not flag.endswith(".o")]
    result = run([TIDY, "-quiet", f"--config-file={CONFIG}", f"--checks={checks}", str(path), "--",
                  *flags], cwd=directory)
    found = sorted({line for line in result.stdout.splitlines() if re.search(r"(warning|error):", line)})
    if result.returncode != 0 and not found:
        found = [f"{path}: {TIDY} failed: {result.stderr.strip().splitlines()[-1:]}"]
    return found


def check(unit, version, checks_all):
    path, command, directory = unit
    key = preprocessed_hash(command, directory, version)
    if key and (PASSED / key).exists() and not checks_all:
        return [], True
    found = tidy(path, command, directory, UNITY_CHECKS if "Unity" in path.parts else "")
    if "Unity" in path.parts:
        for source in sources_of(path):
            if USING.search(source.read_text()):
                found += tidy(source, command, directory, "-*," + USING_CHECK)
    if key and not found:
        (PASSED / key).touch()
    return found, False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="check also what has passed before")
    checks_all = parser.parse_args().all
    configure()
    PASSED.mkdir(exist_ok=True)
    version = run([TIDY, "--version"]).stdout
    units = list(translation_units())
    num_files = sum(len(sources_of(path)) for path, _, _ in units)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda unit: check(unit, version, checks_all), units))
    problems = sorted({line for found, _ in results for line in found})
    for line in problems:
        print(line, file=sys.stderr)
    num_known = sum(was_known for _, was_known in results)
    print(f"clang-tidy: {len(problems)} problem(s) in {num_files} files "
          f"({len(units)} translation units, {num_known} unchanged since they passed)")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
