#!/usr/bin/env python3
"""What fewer bits of weights cost in quality: videos of held-out prompts by the micro model, its
transformer and text encoder in each precision against the stored weights from the same noise.

`mochi convert` writes each precision and turns it back into bf16, the values that the engine
computes with on a GPU. The videos are made from these by the PyTorch counterpart in fp32, with
dense attention. Prints a Markdown table.
"""

import argparse
import collections
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from micro import export, measure, quality, scenes
from safetensors import SafetensorError
from safetensors.torch import load_file

# Precision and the ending of its files.
PRECISIONS = {"fp8": "safetensors", "q8_0": "gguf", "q6_k": "gguf", "q5_k": "gguf",
              "q4_k": "gguf", "q4_0": "gguf"}
NETWORKS = {"dit": "transformer", "text_encoder": "text-encoder"}
# Tensors that stay exact in every precision; so do vectors.
TABLES = ("pos_frequencies", "shared.weight", "relative_attention_bias.weight")
AXES = ("background", "colour", "shape", "motion")


def parse_args(arguments=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", type=Path, default=Path("models/micro"))
    p.add_argument("--mochi", type=Path, help="the program; without it, --weights-dir is read")
    p.add_argument("--weights-dir", type=Path,
                   help="folder of the converted weights, one folder for each precision; written "
                        "with --mochi (default: a temporary folder), else read")
    p.add_argument("--make-only", action="store_true", help="convert, and make no videos")
    p.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS),
                   metavar="PRECISION", help=f"default: {' '.join(PRECISIONS)}")
    p.add_argument("--report", type=Path, help="JSON file to write")
    p.add_argument("--prompts", type=int, default=50, help="number of prompts")
    p.add_argument("--seed", type=int, default=7, help="of the prompts")
    p.add_argument("--noise-seed", type=int, default=1000, help="of the first video")
    p.add_argument("--num-steps", type=int, default=64)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = p.parse_args(arguments)
    if not args.mochi and (args.make_only or not args.weights_dir):
        p.error("--mochi is required to convert weights; converted ones are read from "
                "--weights-dir without --make-only")
    if args.make_only and not args.weights_dir:
        p.error("--make-only needs --weights-dir")
    if args.mochi and not shutil.which(args.mochi):
        p.error(f"--mochi {args.mochi}: wanted a program, found none")
    if args.report and not args.report.parent.is_dir():
        p.error(f"--report {args.report}: wanted an existing folder, found none")
    return args


def convert(mochi, source, target, network, precision):
    done = subprocess.run([mochi, "convert", source, target, "--network", network, "--to",
                           precision, "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{mochi} convert {source}: {done.stderr.strip()}")


def write_weights(mochi, model, precision, folder):
    """Writes both networks into `folder` as `precision` leaves them, in bf16."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, network in NETWORKS.items():
            compact = Path(temporary) / f"{network}.{PRECISIONS[precision]}"
            target = folder / export.FILES[name]
            target.parent.mkdir(parents=True, exist_ok=True)
            convert(mochi, model, compact, network, precision)
            convert(mochi, compact, target, network, "bf16")


def read_weights(path, original):
    """Tensors of a converted file. A file that was not made from `original` is refused."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SystemExit(f"{path}: wanted converted weights (--mochi writes them): {error}")
    for name in sorted(original.keys() | state.keys()):
        if name not in state or name not in original:
            where = "missing" if name in original else "not in the model"
            raise SystemExit(f"{path}: tensor {name} is {where}")
        a, b = state[name], original[name]
        if a.shape != b.shape:
            raise SystemExit(f"{path}: tensor {name}: wanted shape {list(b.shape)}, found "
                             f"{list(a.shape)}")
        if (a.ndim == 1 or name.endswith(TABLES)) and not torch.equal(a.float(), b.float()):
            raise SystemExit(f"{path}: tensor {name} is not the model's, which every precision "
                             "keeps exactly; was it made from other weights?")
    return state


def stored_types(states):
    """Number of tensors of each dtype in each network."""
    return {name: collections.Counter(str(t.dtype).removeprefix("torch.") for t in state.values())
            for name, state in states.items()}


def markdown(report):
    types = sum(report["stored"].values(), collections.Counter())
    rows = [["weights", "PSNR, mean", "worst", *AXES, "error of T5's features"],
            ["---"] + ["---:"] * (3 + len(AXES)),
            [f"as stored ({types.most_common(1)[0][0]})", "", "",
             *(f"{report['original'][axis]:g} %" for axis in AXES), ""]]
    for precision, result in report["precisions"].items():
        rows.append([f"`{precision}`", f"{result['psnr']:.1f}", f"{result['worst_psnr']:.1f}",
                     *(f"{result['judged'][axis]:g} %" for axis in AXES),
                     f"{100 * result['features_error']:.2f} %"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def describe(args, cfg):
    return {"device": quality.device_name(args.device), "torch": torch.__version__,
            "num_prompts": args.prompts, "prompt_seed": args.seed, "noise_seed": args.noise_seed,
            "num_steps": args.num_steps, "cfg": cfg, "matmuls": "fp32"}


def run(args, folder):
    begin = time.monotonic()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    originals = {name: load_file(args.model / export.FILES[name]) for name in NETWORKS}
    converted = {precision: {name: read_weights(folder / precision / export.FILES[name], state)
                             for name, state in originals.items()}
                 for precision in args.precisions}
    wanted = [measure.record(*pair) for pair in scenes.test_prompts(args.prompts, args.seed)]
    setup = quality.Setup(args.model, wanted, args.num_steps, args.noise_seed, args.device)

    def make():
        latents, _, _ = setup.sample(None)
        return setup.features(), latents, setup.decode(latents)

    features, latents, videos = make()
    report = {"setup": describe(args, setup.cfg), "stored": stored_types(originals),
              "original": quality.judge(videos, wanted), "precisions": {}}
    print(f"as stored: {report['original']} {time.monotonic() - begin:.0f} s", flush=True)
    for precision, states in converted.items():
        for name, state in states.items():
            export.set_weights(setup.models[name], state)
        new_features, new_latents, new_videos = make()
        errors = {**quality.compare(new_latents, new_videos, latents, videos),
                  "features_error": quality.relative_error(new_features, features)}
        result = quality.means(errors, digits=6)
        report["precisions"][precision] = {
            "worst_psnr": min(result["videos"]["psnr"]),
            "worst_features_error": max(result["videos"]["features_error"]), **result,
            "judged": quality.judge(new_videos, wanted)}
        if args.report:
            args.report.write_text(json.dumps(report, indent=1) + "\n")
        print(f"{precision}: {time.monotonic() - begin:.0f} s", flush=True)
    print(markdown(report))


def main(arguments=None):
    args = parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = args.weights_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.mochi:
            for precision in args.precisions:
                write_weights(args.mochi, args.model, precision, folder / precision)
        if not args.make_only:
            run(args, folder)


if __name__ == "__main__":
    main()
