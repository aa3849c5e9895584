#!/usr/bin/env python3
"""Writes a page from the output of `mochi bench … --json` and of peer_ops.py.

Usage: report_gpu.py FILE.json... --out PAGE.md [--commit HASH] [--plot FILE.svg]
"""

import argparse
import json
from pathlib import Path

MILLI, GIGA, TERA = 1e-3, 1e9, 1e12

# Targets and predictions from before any measurement: (text, limit), prediction.
TARGETS = {
    "forward": (2.50, 2.45),
    "attention": (35.5 * MILLI, 34.5 * MILLI),
    "between": (90 * MILLI, 80 * MILLI),
    "decode": (2.2, 2.0),
    "decode_memory": (12 * GIGA, 6 * GIGA),
    "text": (40 * MILLI, 30 * MILLI),
    "launch": (0.01, 0.004),
    "load": (3.0, 1.5),
    "memory": (40 * GIGA, 30 * GIGA),
}


def seconds_text(seconds):
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds / MILLI:.1f} ms" if seconds >= MILLI else f"{seconds * 1e6:.1f} µs"


def bytes_text(count):
    return f"{count / GIGA:.1f} GB"


def percent_text(share):
    return f"{100 * share:.2f} %"


def rate_text(measurement):
    seconds = measurement["seconds"]
    if not seconds:
        return ""
    if measurement["flop"]:
        return f"{measurement['flop'] / seconds / TERA:.0f} TFLOP/s"
    return f"{measurement['bytes'] / seconds / GIGA:.0f} GB/s" if measurement["bytes"] else ""


class Reports:
    """Measurements by subject."""

    def __init__(self, paths):
        self.peer = None
        self.by_subject = {}
        self.cards = {}
        for path in paths:
            report = json.loads(Path(path).read_text(encoding="utf-8"))
            if report["version"].startswith("PyTorch"):
                self.peer = self.peer or {**report, "measurements": []}
                self.peer["measurements"] += report["measurements"]
            else:
                self.by_subject.setdefault(report["subject"], []).append(report)

    def measurements(self, subject):
        """Pairs of measurement and report, without the ceilings."""
        for report in self.by_subject.get(subject, []):
            for measurement in report["measurements"]:
                if not measurement["name"].startswith("ceiling"):
                    yield measurement, report

    def find(self, subject, **wanted):
        for measurement, report in self.measurements(subject):
            if all(measurement.get(key) == value for key, value in wanted.items()):
                return measurement, report["device_name"]
        return None, ""


EPILOGUES = {"gated_linear silu": "linear mlp w1", "qkv_linear": "linear qkv"}


def between(measurement, reports):
    """Seconds outside of matmuls and attention: separate operations, and the time that fused matmuls
    take longer than plain ones; None without a profile."""
    if "profile" not in measurement:
        return None
    seconds = {m["name"]: m["seconds"] for m, _ in reports.measurements("op")}
    epilogues = sum(seconds[fused] - seconds[bare] for fused, bare in EPILOGUES.items()
                    if fused in seconds and bare in seconds)
    layers = next(op["calls"] for op in measurement["profile"] if op["name"] == "attention")
    counted = ("linear", "gated_linear", "qkv_linear", "attention")
    return layers * epilogues + sum(op["seconds"] for op in measurement["profile"]
                                    if not op["name"].startswith(counted))


def target_rows(reports):
    rows = []

    def add(what, key, text, measured, card, note=""):
        limit, expected = TARGETS[key]
        found = "not measured" if measured is None else text(measured)
        verdict = "" if measured is None else ("met" if measured <= limit else "**missed**")
        rows.append(f"| {what} | ≤ {text(limit)} | {text(expected)} | {found} {note} | {card} | "
                    f"{verdict} |")

    def get(measurement, key):
        return measurement.get(key) if measurement else None

    forward, card = reports.find("dit", frames=163)
    add("DiT forward, one branch, dense", "forward", seconds_text, get(forward, "seconds"), card)
    attention, op_card = reports.find("op", name="attention with lse")
    add("dense attention with lse", "attention", seconds_text, get(attention, "seconds"), op_card,
        f"({rate_text(attention)})" if attention else "")
    add("all work between matmuls and attention, per forward", "between", seconds_text,
        between(forward, reports) if forward else None, card, "(waiting after each operation)")
    decode, vae_card = reports.find("vae", frames=163)
    above = decode["peak_bytes"] - decode["weight_bytes"] if decode else None
    add("VAE decode 848×480×163", "decode", seconds_text, get(decode, "seconds"), vae_card)
    add("its memory above the weights", "decode_memory", bytes_text, above, vae_card)
    text, text_card = reports.find("t5", name="t5 encode")
    add("T5-XXL, 256 tokens", "text", seconds_text, get(text, "seconds"), text_card)
    launch = forward["launch_seconds"] / forward["seconds"] if get(forward, "launch_seconds") else None
    add("host launch overhead per step", "launch", percent_text, launch, card)
    load, load_card = reports.find("load")
    add("load 20 GB DiT, file in page cache", "load", seconds_text, get(load, "seconds"), load_card)
    add("peak memory, resident, 163 frames", "memory", bytes_text, get(forward, "peak_bytes"), card)
    return rows


def op_rows(reports):
    peers = {(m["name"], m["size"]): m
             for m in (reports.peer or {"measurements": []})["measurements"]}
    # The engine's attention may also write lse; PyTorch's is compared with both.
    rows = {}  # of files that measure the same, the last counts
    for measurement, _ in reports.measurements("op"):
        name, size = measurement["name"], measurement["size"]
        peer = peers.get((name.replace(" with lse", ""), size))
        has_peer = peer and peer["seconds"]
        error = measurement.get("relative_error")
        rows[name, size] = (
            f"| {name} | {size} | {seconds_text(measurement['seconds'])} | {rate_text(measurement)} "
            f"| {100 * measurement['share']:.0f} % | {'' if error is None else f'{error:.1e}'} "
            f"| {seconds_text(peer['seconds']) if has_peer else ''} "
            f"| {peer['way'] if has_peer else ''} |")
    return list(rows.values())


def growth_rows(reports):
    return [f"| {m['frames']} | {m['tokens']} | {seconds_text(m['seconds'])} | {rate_text(m)} | "
            f"{bytes_text(m['peak_bytes'])} |" for m, _ in reports.measurements("dit")
            if "frames" in m]


def profile_rows(measurement):
    total = sum(op["seconds"] for op in measurement["profile"])
    return [f"| {op['name']} | {op['calls']} | {seconds_text(op['seconds'])} | "
            f"{100 * op['seconds'] / total:.1f} % | {rate_text(op)} |"
            for op in sorted(measurement["profile"], key=lambda op: -op["seconds"])]


def page(reports, options, plot):
    lines = ["# GPU: dense, at full size", ""]
    lines += [f"Commit {options.commit}.", ""] if options.commit else []
    for subject, of_subject in sorted(reports.by_subject.items()):
        for report in of_subject:
            ceilings = report["ceilings"]
            if not ceilings["flop_per_second"]:
                continue
            lines.append(
                f"- `{subject}`: {report['device_name']}, {report['dtype']}; ceilings of the same "
                f"run: {ceilings['flop_per_second'] / TERA:.0f} TFLOP/s of matmuls, "
                f"{ceilings['bytes_per_second'] / GIGA:.0f} GB/s of copies.")
    if reports.peer:
        whole = [f"; {m['name']} ({m['way']}): {seconds_text(m['seconds'])}"
                 for m in reports.peer["measurements"]
                 if m["name"].startswith("dit forward") and m["seconds"]]
        lines.append(f"- compared with: {reports.peer['version']}, {reports.peer['device_name']}"
                     f"{''.join(whole)}.")
    lines += ["", "Weights and inputs are random; the targets are an H200's. What the columns mean: "
              "[README](../README.md).", "",
              "| measure | target | predicted | measured | card | |",
              "| --- | --- | --- | --- | --- | --- |", *target_rows(reports)]
    growth = growth_rows(reports)
    if growth:
        lines += ["", "## Growth with the length of the video",
                  "One forward pass of the transformer for one branch.", "",
                  "| frames | tokens | time | rate | peak memory |",
                  "| --- | --- | --- | --- | --- |", *growth]
        if plot:
            lines += ["", f"![time over frames]({plot})"]
    for subject, title in (("dit", "A forward pass"), ("vae", "A decoding"), ("t5", "A prompt")):
        for measurement, _ in reports.measurements(subject):
            if "profile" not in measurement or measurement.get("frames", 163) != 163:
                continue
            lines += ["", f"## {title} by operation",
                      "Waiting for the GPU after each call, which the sum contains.", "",
                      "| operation | calls | time | share | rate |",
                      "| --- | --- | --- | --- | --- |", *profile_rows(measurement)]
    video = list(reports.measurements("video"))
    if video:
        lines += ["", "## A generation, phase by phase", "",
                  "| phase | size | time | rate | peak memory |", "| --- | --- | --- | --- | --- |",
                  *[f"| {m['name']} | {m['size']} | {seconds_text(m['seconds'])} | {rate_text(m)} "
                    f"| {bytes_text(m['peak_bytes'])} |" for m, _ in video]]
    if reports.by_subject.get("op"):
        lines += ["", "## Operations", "",
                  "| operation | size | median | rate | share of ceiling | error | PyTorch | how |",
                  "| --- | --- | --- | --- | --- | --- | --- | --- |", *op_rows(reports)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--commit", default="")
    parser.add_argument("--plot", default="", help="the plot's path, from the page")
    options = parser.parse_args()
    text = page(Reports(options.files), options, options.plot)
    Path(options.out).write_text(text, encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
