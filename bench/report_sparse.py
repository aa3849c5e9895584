#!/usr/bin/env python3
"""Writes a page and two plots from the output of `mochi bench sparse --json` and `mochi generate`.

Usage: report_sparse.py FILE.json... --out PAGE.md [--plots FOLDER] [--commit HASH]
Files with "made_by" are the descriptions next to videos. Plots want matplotlib
(bench/requirements.txt).
"""

import argparse
import json
import os
from pathlib import Path

from report_gpu import GIGA, MILLI, TERA, bytes_text, percent_text, profile_rows, rate_text
from report_gpu import seconds_text

ATTENTION = "column_sparse_attention "
SUMS = "attention_with_column_sums"
FORWARDS = ("forward, dense", "forward, full step", "forward, sparse step")
ON_HOST = ", caches on the host"
FRAMES = 163
KEPT = (3, 5, 10, 17, 30, 50, 100)
REFERENCE_VIDEO = "about 240 s"


class Reports:
    """Measurements of all files; a later one replaces an earlier one with the same name."""

    def __init__(self, paths):
        self.reports, self.videos, self.found = [], [], {}
        for path in paths:
            report = json.loads(Path(path).read_text(encoding="utf-8"))
            if "made_by" in report:
                self.videos.append((Path(path).stem, report))
                continue
            self.reports.append(report)
            for measurement in report["measurements"]:
                measurement["card"] = report["device_name"]
                key = measurement["name"], measurement.get("frames", 0)
                self.found[key] = measurement

    def get(self, name, frames=0):
        return self.found.get((name, frames))

    def seconds(self, name, frames=0):
        measurement = self.get(name, frames)
        return measurement["seconds"] if measurement else None


def target_row(what, reference, limit, measured, card, text=seconds_text, note=""):
    found = "not measured" if measured is None else text(measured)
    verdict = "" if measured is None else ("met" if measured <= limit else "**missed**")
    return f"| {what} | {reference} | ≤ {text(limit)} | {found}{note} | {card} | {verdict} |"


def with_rate(measurement):
    rate = rate_text(measurement) if measurement else ""
    return f" ({rate})" if rate else ""


def op_targets(reports):
    rows = []

    def add(what, name, reference, limit):
        measurement = reports.get(name)
        rows.append(target_row(what, reference, limit * MILLI, reports.seconds(name),
                               measurement["card"] if measurement else "",
                               note=with_rate(measurement)))

    add("column-sparse attention, 17 % kept, with delta", f"{ATTENTION}17 %", "7.7 ms", 6.4)
    add("the same, 10 %", f"{ATTENTION}10 %", "4.6 ms", 3.9)
    add("the same, 5 %", f"{ATTENTION}5 %", "2.3 ms", 2.0)
    equal, unequal = reports.get(f"{ATTENTION}17 %"), reports.get(f"{ATTENTION}10 and 24 %")
    ratio = None
    if equal and unequal:  # per operation: 10 and 24 % are not 17 % after rounding
        ratio = (unequal["seconds"] / unequal["flop"]) / (equal["seconds"] / equal["flop"])
    rows.append(target_row("unequal counts (half 10 %, half 24 %) over equal ones, per column", "–",
                           1.05, ratio, equal["card"] if equal else "", lambda x: f"{x:.3f}"))
    add("dense with column sums", SUMS, "51.9 ms", 41)
    add("the same, scoring every 4th query", f"{SUMS} of every 4th query", "–", 39)
    add("scores → plan", "select_columns", "4.0 ms", 1.2)
    add("plan → lists", "expand_columns", "1.1 ms", 0.25)
    return rows


def forward_targets(reports):
    sparse, full = reports.get(FORWARDS[2], FRAMES), reports.get(FORWARDS[1], FRAMES)
    on_host = reports.get(FORWARDS[2] + ON_HOST, FRAMES)
    card = sparse["card"] if sparse else ""
    seconds = sparse["seconds"] if sparse else None
    rows = [target_row("sparse forward, one branch", "1.55–1.64 s", 1.10, seconds, card),
            target_row("full-step forward", "–", 2.95, full["seconds"] if full else None, card)]
    launch = sparse.get("launch_seconds") if sparse else None
    rows.append(target_row("host's launches, of a sparse forward", "–", 0.01,
                           launch / seconds if launch else None, card, percent_text))
    slower = on_host["seconds"] / seconds - 1 if on_host and sparse else None
    rows.append(target_row("slower with caches on the host", "–", 0.03, slower, card, percent_text))
    waited = on_host.get("waited_seconds") if on_host else None
    rows.append(target_row("of that, waiting for copies", "–", 0.03,
                           waited / on_host["seconds"] if waited is not None else None, card,
                           percent_text))
    pinned = 2 * on_host["host_bytes"] if on_host and "host_bytes" in on_host else None
    rows.append(target_row("pinned host memory, both branches", "275 GB", 29 * GIGA, pinned, card,
                           bytes_text))
    return rows


def video_targets(reports):
    rows = []
    for name, video in reports.videos:
        sparsity = video["request"].get("sparsity")
        skips = bool(sparsity) and sparsity["step_caching"]["is_enabled"]
        if not sparsity or video["video"]["num_frames"] != FRAMES:
            continue
        loading = video["seconds"].get("loading", 0)
        what = "whole video, weights loaded" + (", step caching on" if skips else "")
        rows.append(target_row(f"{what} (`{name}`)", "–" if skips else REFERENCE_VIDEO,
                               115 if skips else 165, video["seconds"]["total"] - loading,
                               video["engine"]["device_name"]))
    return rows


def growth_rows(reports):
    rows = []
    for frames in sorted({frames for name, frames in reports.found if name in FORWARDS}):
        times = [reports.seconds(name, frames) for name in FORWARDS]
        if None in times:
            continue
        sparse = reports.get(FORWARDS[2], frames)
        rows.append(f"| {frames} | {sparse['tokens']} | "
                    + " | ".join(seconds_text(time) for time in times)
                    + f" | {times[0] / times[2]:.2f} | {100 * sparse['kept_fraction']:.1f} % | "
                    f"{bytes_text(sparse['peak_bytes'])} |")
    return rows


def op_rows(reports):
    rows = []
    for (name, frames), m in reports.found.items():
        if frames or name.startswith("ceiling") or not m["seconds"]:
            continue
        error = m.get("relative_error")
        rows.append(f"| {name} | {m['size']} | {seconds_text(m['seconds'])} | {rate_text(m)} | "
                    f"{100 * m['share']:.0f} % | {'' if error is None else f'{error:.1e}'} |")
    return rows


def draw_plot(path, title, x_label, y_label, series):
    """Plots lines through points, {name: [(x, y), …]}, to an SVG file."""
    from matplotlib import pyplot, rcParams  # only this wants it

    rcParams["svg.hashsalt"] = "mochi"  # the same file each time
    rcParams["svg.fonttype"] = "none"
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for name, points in series.items():
        axes.plot(*zip(*points), marker="o", markersize=4, label=name)
    axes.set(title=title, xlabel=x_label, ylabel=y_label, xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def draw_plots(reports, folder):
    """Writes the plots that have points; returns pairs of path and caption."""
    written = []

    def write(name, what, *args):
        path = Path(folder) / name
        draw_plot(path, *args)
        written.append((path, what))

    kept = [(percent, reports.seconds(f"{ATTENTION}{percent} %")) for percent in KEPT]
    kept = [(percent, seconds / MILLI) for percent, seconds in kept if seconds]
    if len(kept) > 1:
        # The ideal: the same time per column as with all columns kept.
        percent, most = kept[-1]
        write("kept-fraction.svg", "time over kept fraction",
              f"column-sparse attention, {reports.reports[-1]['device_name']}", "% of columns kept",
              "ms", {"measured": kept, "ideal": [(0, 0), (percent, most)]})
    series = {}
    for name in FORWARDS[1:]:
        points = [(frames, dense / seconds) for frames in
                  sorted({frames for _, frames in reports.found if frames})
                  if (dense := reports.seconds(FORWARDS[0], frames))
                  and (seconds := reports.seconds(name, frames))]
        if len(points) > 1:
            series[name.removeprefix("forward, ")] = points
    if series:
        write("speed-up.svg", "speed-up over frames",
              f"a forward, dense over sparse, {reports.reports[-1]['device_name']}", "frames",
              "times as fast", series)
    return written


def video_rows(reports):
    rows = []
    for name, video in reports.videos:
        seconds, size = video["seconds"], video["video"]
        phases = ", ".join(f"{phase} {value:.1f}" for phase, value in seconds.items()
                           if phase != "total")
        rows.append(f"| `{name}` | {size['width']}×{size['height']}×{size['num_frames']}, "
                    f"{video['request']['num_steps']} steps | {phases} | {seconds['total']:.1f} | "
                    f"{bytes_text(video.get('peak_device_bytes', 0))} | "
                    f"{video['engine']['device_name']} |")
    return rows


def table(heads, rows):
    return ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *rows]


def page(reports, options, plots):
    lines = ["# GPU: sparse, at full size", ""]
    lines += [f"Commit {options.commit}.", ""] if options.commit else []
    for report in reports.reports:
        ceilings = report["ceilings"]
        lines.append(f"- {report['device_name']}, {report['dtype']}; ceilings of the same run: "
                     f"{ceilings['flop_per_second'] / TERA:.0f} TFLOP/s of matmuls, "
                     f"{ceilings['bytes_per_second'] / GIGA:.0f} GB/s of copies.")
    lines += ["", "Weights, inputs and lists of columns are random; values are those of "
              "`chipmunk-config.yml`. The reference's times and the targets are an H200's."]
    lines += table(["measure", "reference", "target", "measured", "card", ""],
                   op_targets(reports) + forward_targets(reports) + video_targets(reports))
    for path, what in plots:
        lines += ["", f"![{what}]({os.path.relpath(path, Path(options.out).parent)})"]
    growth = growth_rows(reports)
    if growth:
        lines += ["", "## Forward passes of one branch"]
        lines += table(["frames", "tokens", "dense", "full step", "sparse step", "dense/sparse",
                        "columns kept", "peak memory, sparse"], growth)
    for name in FORWARDS[1:]:
        measurement = reports.get(name, FRAMES)
        if measurement and "profile" in measurement:
            lines += ["", f"## By operation: {name.removeprefix('forward, ')}",
                      "Waiting for the GPU after each call, which the sum contains."]
            lines += table(["operation", "calls", "time", "share", "rate"],
                           profile_rows(measurement))
    if reports.videos:
        lines += ["", "## Whole videos"]
        lines += table(["file", "size", "seconds of each phase", "all", "peak memory", "card"],
                       video_rows(reports))
    ops = op_rows(reports)
    if ops:
        lines += ["", "## Operations"]
        lines += table(["operation", "size", "median", "rate", "share of ceiling", "error"], ops)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--plots", default="", help="folder of the plots (default: none)")
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    reports = Reports(options.files)
    plots = draw_plots(reports, options.plots) if options.plots else []
    Path(options.out).write_text(page(reports, options, plots), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
