"""Writes the results of compare_pytorch.py as JSON and as a page."""

import json
from pathlib import Path


def add_shares(results):
    """Rates, and their shares of the best matmul rate that either library reached."""
    products = results["products"].values()
    peak = max(max(p["engine_gflops"], p["pytorch_gflops"]) for p in products)
    results["gemm_peak_gflops"] = peak
    for name in ("step", "decode"):
        result = results[name]
        result["gflops"] = {who: result["gflop"] / median
                            for who, median in result["medians"].items()}
        result["shares_of_gemm_peak"] = {who: rate / peak
                                         for who, rate in result["gflops"].items()}


def verdict(value, target, at_most):
    return "met" if (value <= target if at_most else value >= target) else "**missed**"


def target_rows(results):
    prediction, targets = results["prediction"], results["targets"]
    rows = []
    for name, key in (("DiT step, PyTorch / engine", "step"), ("decode, PyTorch / engine",
                                                               "decode")):
        target = targets[f"{key}_ratio"]
        for who, ratio in results[key]["ratios"].items():
            rows.append(f"| {name} ({who}) | ≥ {target} × | {prediction[f'{key}_ratio']} × | "
                        f"{ratio:.2f} × | {verdict(ratio, target, at_most=False)} |")
    if "generate" in results:
        seconds, target = results["generate"]["seconds"]["total"], targets["generate_seconds"]
        rows.append(f"| whole `mochi generate` | ≤ {target:.0f} s | "
                    f"{prediction['generate_seconds']:.0f} s | {seconds:.1f} s | "
                    f"{verdict(seconds, target, at_most=True)} |")
        peak, target = results["generate"]["peak_memory_bytes"], targets["peak_memory_bytes"]
        rows.append(f"| its peak memory | ≤ {target / 1e9} GB | | {peak / 1e9:.2f} GB | "
                    f"{verdict(peak, target, at_most=True)} |")
    return rows


def rate_rows(results):
    rows = []
    for name, key in (("DiT step", "step"), ("decode", "decode")):
        result = results[key]
        for who, seconds in result["seconds"].items():
            label = who if who == "engine" else f"PyTorch: {who}"
            rows.append(f"| {name} | {label} | {result['medians'][who]:.3f} s "
                        f"({min(seconds):.3f}–{max(seconds):.3f}) | "
                        f"{result['gflops'][who]:.0f} | "
                        f"{100 * result['shares_of_gemm_peak'][who]:.0f} % |")
    return rows


def candidate_rows(results):
    rows = []
    for name, key in (("DiT step", "step"), ("decode", "decode")):
        for candidate, found in results[key]["candidates"].items():
            outcome = (f"{found['seconds']:.3f} s | {found['relative_error']:.1e}"
                       if "seconds" in found else f"failed: {found['failed']} |")
            rows.append(f"| {name} | {candidate} | {outcome} |")
    return rows


def page(results):
    machine = results["machine"]
    t, rows, columns = results["sizes"]["latents"][1:]
    products = [f"| {name} | {p['engine_gflops']:.0f} | {p['pytorch_gflops']:.0f} |"
                for name, p in results["products"].items()]
    changed = ", with changed files" if results["changed_files"] else ""
    return "\n".join([
        "# CPU: micro model compared with PyTorch",
        "",
        f"{results['date']}, commit {results['commit'][:12]}{changed}. {machine['processor']} "
        f"(family {machine['family']}, model {machine['model']}; {', '.join(machine['vectors'])}), "
        f"{machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}; {machine['threads']} threads each, load before "
        f"{machine['load_before']:.2f}. PyTorch {results['versions']['torch']}, diffusers "
        f"{results['versions']['diffusers']}; fp32 on both sides.",
        "",
        f"`{results['command']}`",
        "",
        f"Latents {t}×{rows}×{columns}, {results['sizes']['text_tokens']} text tokens. A step is "
        f"both branches, {results['step']['gflop']:.1f} GFLOP; a decoding "
        f"{results['decode']['gflop']:.1f} GFLOP. What the columns mean: "
        "[README](../README.md).",
        "",
        "| measure | target | predicted | measured | |",
        "| --- | --- | --- | --- | --- |",
        *target_rows(results),
        "",
        f"Medians of {len(results['step']['seconds']['engine'])} repetitions in turns (range). "
        f"The peak is {results['gemm_peak_gflops']:.0f} GFLOP/s, the best matrix product below.",
        "",
        "| what | who | time | GFLOP/s | share of GEMM peak |",
        "| --- | --- | --- | --- | --- |",
        *rate_rows(results),
        "",
        "| product | engine, GFLOP/s | PyTorch, GFLOP/s |",
        "| --- | --- | --- |",
        *products,
        "",
        "All ways of PyTorch, median of three, and the relative error between its outputs and the "
        "engine's:",
        "",
        "| what | way | time | error |",
        "| --- | --- | --- | --- |",
        *candidate_rows(results),
        "",
    ])


def write(path, results):
    for suffix, text in ((".json", json.dumps(results, indent=1) + "\n"), (".md", page(results))):
        target = Path(f"{path}{suffix}")
        part = target.with_name(target.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)
        print(f"wrote {target}")
