#!/usr/bin/env python3
"""How much slower a video becomes where other programs want the processors, too.

Makes a short video alone, with one and with two busy processes, and two videos at once, all on the
same few processors, and prints the median wall time of each as a Markdown table. A second program
can be measured in turns with the first.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BUSY_LOOP = ["sh", "-c", "while :; do :; done"]
SITUATIONS = {  # name → busy processes, videos at once
    "alone": (0, 1),
    "with one busy process": (1, 1),
    "with two busy processes": (2, 1),
    "two videos at once": (0, 2),
}


@contextlib.contextmanager
def busy_processes(count: int):
    processes = [subprocess.Popen(BUSY_LOOP) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def make_videos(program: str, arguments: list[str], count: int) -> float:
    """Seconds until the last of `count` videos that are made at once is finished."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        runs = [subprocess.Popen([program, "generate", "--quiet", "--seed", "1", *arguments,
                                  "--out", os.path.join(folder, f"{i}.y4m")])
                for i in range(count)]
        statuses = [run.wait() for run in runs]
        seconds = time.monotonic() - start
    if any(statuses):
        sys.exit(f"contention: '{program} generate' failed with status {max(statuses)}")
    return seconds


def measure(programs: list[str], arguments: list[str], rounds: int) -> dict[str, dict[str, float]]:
    seconds = {name: {program: [] for program in programs} for name in SITUATIONS}
    for _ in range(rounds):
        for name, (num_busy, num_videos) in SITUATIONS.items():
            for program in programs:
                with busy_processes(num_busy):
                    seconds[name][program].append(make_videos(program, arguments, num_videos))
    return {name: {program: statistics.median(times) for program, times in of_program.items()}
            for name, of_program in seconds.items()}


def print_table(medians: dict[str, dict[str, float]], programs: list[str]) -> None:
    print("| situation |" + "".join(f" {program} | times alone |" for program in programs))
    print("|---|" + "---:|---:|" * len(programs))
    for name, of_program in medians.items():
        cells = "".join(f" {of_program[program]:.2f} s | {of_program[program] / alone:.2f} |"
                        for program, alone in medians["alone"].items())
        print(f"| {name} |{cells}")
    if len(programs) == 2:
        new, old = (medians["alone"][program] for program in programs)
        print(f"\nAlone, the first program takes {100 * (new / old - 1):+.1f} % more time than the second.")


def main() -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mochi", default=str(root / "build" / "bin" / "mochi"),
                        help="the program to measure")
    parser.add_argument("--compare", help="another build of the program to compare with")
    parser.add_argument("--cpus", type=int, default=2, help="processors that all share")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each situation")
    parser.add_argument("arguments", nargs="*", default=["--num-steps", "8"],
                        help="arguments of 'mochi generate', after '--'")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.cpus])
    programs = [options.mochi] + ([options.compare] if options.compare else [])
    print_table(measure(programs, options.arguments, options.rounds), programs)


if __name__ == "__main__":
    main()
