#!/usr/bin/env python3
"""What 8-bit products cost in quality: videos of held-out prompts by the micro model, made by the
engine with each type of `--compute`, against those in fp32 from the same noise.

The PyTorch counterpart decodes all latents in fp32, so that a video shows nothing of the decoder's
rounding. Prints a Markdown table.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from micro import measure, quality, scenes
from safetensors.torch import load_file

TYPES = ("bf16", "int8", "fp8")
AXES = ("background", "colour", "shape", "motion")


def parse_args(arguments=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", type=Path, default=Path("models/micro"))
    p.add_argument("--mochi", required=True, help="the program")
    p.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES), metavar="TYPE",
                   help=f"default: {' '.join(TYPES)}")
    p.add_argument("--dtype", default="auto",
                   help="--dtype of the videos that are compared; the reference is fp32")
    p.add_argument("--flags", nargs=argparse.REMAINDER, default=[],
                   help="last: flags of `mochi generate` for them, such as --skip careful")
    p.add_argument("--report", type=Path, help="JSON file to write")
    p.add_argument("--prompts", type=int, default=50, help="number of prompts")
    p.add_argument("--seed", type=int, default=7, help="of the prompts")
    p.add_argument("--noise-seed", type=int, default=1000, help="of the first video")
    p.add_argument("--num-steps", type=int, default=64)
    p.add_argument("--decoder-device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = p.parse_args(arguments)
    if not shutil.which(args.mochi):
        p.error(f"--mochi {args.mochi}: wanted a program, found none")
    if args.report and not args.report.parent.is_dir():
        p.error(f"--report {args.report}: wanted an existing folder, found none")
    return args


def make_latents(args, prompts, flags):
    """Latents [B, channels, frames, rows, columns] of the engine, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lines = [{"prompt": prompt, "seed": args.noise_seed + i, "out": str(folder / f"{i}.y4m"),
                  "save_latents": str(folder / f"{i}.safetensors")}
                 for i, prompt in enumerate(prompts)]
        sweep = folder / "sweep.jsonl"
        sweep.write_text("".join(json.dumps(line) + "\n" for line in lines))
        begin = time.monotonic()
        done = subprocess.run([args.mochi, "generate", "--model-dir", args.model, "--sweep-file",
                               sweep, "--num-steps", str(args.num_steps), "--noise-source",
                               "torch-cpu", "--quiet", *flags], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{args.mochi} generate: {done.stderr.strip()}")
        seconds = time.monotonic() - begin
        return torch.stack([load_file(line["save_latents"])["latents"].reshape(-1)
                            for line in lines]), seconds


def markdown(report):
    rows = [["`--compute`", "error of the latents", "PSNR, mean", "worst", *AXES],
            ["---"] + ["---:"] * (3 + len(AXES)),
            ["fp32, dense", "", "", "",
             *(f"{report['reference'][axis]:g} %" for axis in AXES)]]
    for name, result in report["types"].items():
        rows.append([f"`{name}`", f"{100 * result['latent_error']:.2f} %",
                     f"{result['psnr']:.1f}", f"{result['worst_psnr']:.1f}",
                     *(f"{result['judged'][axis]:g} %" for axis in AXES)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def run(args):
    wanted = [measure.record(*pair) for pair in scenes.test_prompts(args.prompts, args.seed)]
    prompts = [record["prompt"] for record in wanted]
    setup = quality.Setup(args.model, wanted, args.num_steps, args.noise_seed,
                          args.decoder_device)
    shape = setup.noise.shape

    def make(flags):
        latents, seconds = make_latents(args, prompts, flags)
        latents = latents.reshape(shape).to(args.decoder_device)
        return latents, setup.decode(latents), seconds

    latents, videos, seconds = make(["--dtype", "fp32", "--no-sparsity", "--skip", "off"])
    report = {"setup": {"num_prompts": args.prompts, "prompt_seed": args.seed,
                        "noise_seed": args.noise_seed, "num_steps": args.num_steps,
                        "dtype": args.dtype, "flags": args.flags},
              "reference": quality.judge(videos, wanted), "types": {}}
    print(f"fp32, dense: {seconds:.0f} s, {report['reference']}", flush=True)
    for name in args.types:
        flags = args.flags or ["--no-sparsity", "--skip", "off"]
        found, found_videos, seconds = make(["--dtype", args.dtype, "--compute", name, *flags])
        errors = quality.means(quality.compare(found, found_videos, latents, videos))
        report["types"][name] = {**errors, "worst_psnr": min(errors["videos"]["psnr"]),
                                 "judged": quality.judge(found_videos, wanted)}
        print(f"{name}: {seconds:.0f} s, PSNR {errors['psnr']:.1f} dB", flush=True)
        if args.report:
            args.report.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    run(parse_args())
