#!/usr/bin/env python3
"""Compares the engine with PyTorch: same weights, inputs, machine and threads, in one run.

First the outputs must agree. Then every way that PyTorch has is tried; the fastest compiled and the
fastest other one alternate with the engine, and medians are compared. See README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import diffusers
import pytorch_models
import report
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

ROOT = pytorch_models.ROOT
MAX_ERROR = 1e-4
MAX_COUNT_ERROR = 0.02
PAUSE_SECONDS = 0.2  # until the other's waiting threads sleep
PROMPT = "a large green ring moves to the left on a dark background"  # run.sh's
# Predictions after first trials. The engine's matmuls run near the machine's peak rate, and its
# convolutions need 4/9 of the multiplications; PyTorch's compiled step is near that rate as well.
PREDICTION = {"step_ratio": 1.3, "decode_ratio": 2.3, "generate_seconds": 40.0}
TARGETS = {"step_ratio": 1.3, "decode_ratio": 1.3, "generate_seconds": 90.0,
           "peak_memory_bytes": 1.5e9}


def fail(message):
    sys.exit(f"compare_pytorch.py: {message}")


class Engine:
    """mochi_model_bench, waiting for commands."""

    def __init__(self, program, model_dir, threads, dump):
        command = [program, "--model-dir", model_dir, "--threads", str(threads), "--prompt", PROMPT,
                   "--dump", dump, "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.description = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            fail(f"mochi_model_bench ended with status {self.process.wait()}")
        return json.loads(line)

    def seconds(self, workload):
        print(workload, file=self.process.stdin, flush=True)
        return self.read()["seconds"]

    def names(self):
        return list(self.description["workloads"])

    def gflop(self, workload):
        return self.description["workloads"][workload]["gflop"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def relative_error(got, want):
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


def take_turns(functions, repetitions):
    """Returns seconds by name, measured A B A B, after one repetition that is not counted."""
    seconds = {name: [] for name in functions}
    for _ in range(repetitions + 1):
        for name, function in functions.items():
            time.sleep(PAUSE_SECONDS)
            seconds[name].append(function())
    return {name: found[1:] for name, found in seconds.items()}


def try_candidates(candidates, error_of, skip_compiled):
    """Returns seconds of every candidate with equal results; prints why a candidate cannot run."""
    found = {}
    for name, function in candidates.items():
        if skip_compiled and name.endswith("compiled"):
            continue
        try:
            start = time.perf_counter()
            error = error_of(function())
            warm_up = time.perf_counter() - start
        except Exception as problem:  # whatever a compiler may say
            found[name] = {"failed": f"{type(problem).__name__}: {str(problem).splitlines()[0]}"}
            print(f"  {name}: failed, {found[name]['failed']}")
            continue
        if not error <= MAX_ERROR:
            fail(f"{name}: outputs differ from the engine's by {error:.1e}, wanted {MAX_ERROR:.0e}")
        median = statistics.median(seconds_of(function) for _ in range(3))
        found[name] = {"relative_error": error, "warm_up_seconds": warm_up, "seconds": median}
        print(f"  {name}: {median:.3f} s, error {error:.1e}, first call {warm_up:.0f} s",
              flush=True)
    return found


def check_count(function, gflop, what):
    """Compares the engine's analytic count of operations with PyTorch's own counter."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    counted = counter.get_total_flops() * 1e-9
    if abs(counted / gflop - 1) > MAX_COUNT_ERROR:
        fail(f"{what}: counted {gflop:.1f} GFLOP, PyTorch's counter found {counted:.1f}")
    return counted


def compare(engine, workload, candidates, plain, error_of, options):
    """`plain` is the candidate whose operations are counted."""
    print(f"{workload}:")
    counted = check_count(candidates[plain], engine.gflop(workload), workload)
    tried = try_candidates(candidates, error_of, options.skip_compiled)
    turns = {"engine": lambda: engine.seconds(workload)}
    for is_compiled in (False, True):
        names = [name for name in tried
                 if "seconds" in tried[name] and name.endswith("compiled") == is_compiled]
        if names:
            fastest = min(names, key=lambda name: tried[name]["seconds"])
            turns[fastest] = lambda function=candidates[fastest]: seconds_of(function)
    seconds = take_turns(turns, options.repetitions)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    result = {"gflop": engine.gflop(workload), "gflop_by_pytorch_counter": counted,
              "candidates": tried, "seconds": seconds, "medians": medians,
              "ratios": {name: median / medians["engine"] for name, median in medians.items()
                         if name != "engine"}}
    for name, ratio in result["ratios"].items():
        print(f"  engine {medians['engine']:.3f} s, {name} {medians[name]:.3f} s: "
              f"ratio {ratio:.2f}", flush=True)
    return result


def compare_products(engine, repetitions):
    """Measures matmuls of both at the same sizes; the best rate is the machine's peak."""
    products = {}
    for workload in (name for name in engine.names() if name.startswith("gemm ")):
        rows, n, k = (int(size) for size in workload.split()[1].split("x"))
        x, weight = torch.randn(rows, k), torch.randn(n, k)
        seconds = take_turns({"engine": lambda: engine.seconds(workload),
                              "pytorch": lambda: seconds_of(lambda: linear(x, weight))},
                             repetitions)
        products[workload] = {
            f"{name}_gflops": engine.gflop(workload) / statistics.median(found)
            for name, found in seconds.items()}
        print(f"  {workload}: engine {products[workload]['engine_gflops']:.0f} GFLOP/s, "
              f"PyTorch {products[workload]['pytorch_gflops']:.0f} GFLOP/s", flush=True)
    return products


def error_of_step(inputs):
    want = torch.stack([inputs["dit.velocity_cond"], inputs["dit.velocity_null"]])
    return lambda got: max(relative_error(g, w) for g, w in zip(got, want))


def error_of_decode(inputs):
    return lambda got: relative_error(got[0], inputs["decode.frames"])


def generate(program, options, folder):
    """Measures the whole program, from the JSON that it writes next to its video."""
    video = Path(folder) / "video.mp4"
    command = [program, "generate", "--model-dir", options.model_dir, "--prompt", PROMPT,
               "--threads", str(options.threads), "--out", str(video), "--quiet"]
    wall = seconds_of(lambda: subprocess.run(command, check=True))
    sidecar = json.loads(Path(f"{video}.json").read_text())
    return {"seconds": sidecar["seconds"], "wall_seconds": wall, "request": sidecar["request"],
            "video": sidecar["video"], "peak_memory_bytes": sidecar["peak_memory_bytes"]}


def run(command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def describe_machine(options):
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields["flags"].split()
    system = dict(line.rstrip().replace('"', "").split("=", 1)
                  for line in open("/etc/os-release") if "=" in line)
    return {"processor": fields["model name"], "family": fields["cpu family"],
            "model": fields["model"], "cores": os.cpu_count(),
            "vectors": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile")
                        if name in flags],
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": system["PRETTY_NAME"], "threads": options.threads,
            "load_before": options.load}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=str(ROOT / "build" / "bin"), help="folder of programs")
    parser.add_argument("--model-dir", default=str(ROOT / "models" / "micro"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--skip-compiled", action="store_true",
                        help="try no torch.compile: minutes less, and PyTorch not at its best")
    parser.add_argument("--skip-generate", action="store_true", help="no whole videos")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "cpu-micro"),
                        help="where the results go: OUT.json and OUT.md")
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error(f"--repetitions: wanted 1 or more, found {options.repetitions}")
    options.load = os.getloadavg()[0]
    return options


@torch.no_grad()
def main():
    options = parse_arguments()
    if options.load > 0.5:
        print(f"the machine is busy (load {options.load:.1f}): these timings will be noise")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    results = {"date": date.today().isoformat(), "commit": run(["git", "rev-parse", "HEAD"]),
               "changed_files": run(["git", "status", "--porcelain"]).splitlines(),
               "command": " ".join(["bench/compare_pytorch.py", *sys.argv[1:]]),
               "machine": describe_machine(options),
               "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
               "prediction": PREDICTION, "targets": TARGETS}
    with tempfile.TemporaryDirectory() as folder:
        if not options.skip_generate:
            print("generate:")
            results["generate"] = generate(f"{options.build}/mochi", options, folder)
            print(f"  {results['generate']['seconds']['total']:.1f} s", flush=True)
        dump = f"{folder}/dump.safetensors"
        engine = Engine(f"{options.build}/mochi_model_bench", options.model_dir, options.threads, dump)
        inputs = load_file(dump)
        config = pytorch_models.load_config(options.model_dir)
        results["sizes"] = {"latents": engine.description["latents"],
                            "text_tokens": engine.description["num_text_tokens"]}
        print("products:")
        results["products"] = compare_products(engine, options.repetitions)
        results["step"] = compare(
            engine, "dit", pytorch_models.step_candidates(options.model_dir, config, inputs),
            "modules, branch by branch", error_of_step(inputs), options)
        results["decode"] = compare(
            engine, "decode", pytorch_models.decode_candidates(options.model_dir, config, inputs),
            "modules, conv3d", error_of_decode(inputs), options)
        engine.close()
    report.add_shares(results)
    report.write(options.out, results)


if __name__ == "__main__":
    main()
