#!/usr/bin/env python3
"""What sparsity costs in quality: videos of held-out prompts by the micro model, each sparse
configuration against dense attention from the same noise.

Made with micro/sparsity.py, which runs all prompts at once on a GPU; `--save-latents` writes what
`mochi compare` needs to hold the engine to it.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from micro import measure, odd_prompts, quality, scenes, sparsity
from safetensors.torch import save_file


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", type=Path, default=Path("models/micro"))
    p.add_argument("--configs", type=Path, required=True,
                   help="JSON: {name: {key: value}}, keys of sparsity.DEFAULTS; \"dense\": true "
                        "for dense attention; \"step_skipping\": keys of skipping.DEFAULTS")
    p.add_argument("--report", type=Path, required=True, help="JSON file, extended if it is there")
    p.add_argument("--num", type=int, default=50, help="prompts")
    p.add_argument("--seed", type=int, default=7, help="of the prompts")
    p.add_argument("--odd", action="store_true",
                   help="the unusually worded prompts in place of drawn ones")
    p.add_argument("--noise-seed", type=int, default=1000, help="of the first video")
    p.add_argument("--num-steps", type=int, default=64)
    p.add_argument("--reference-steps", type=int,
                   help="steps of the dense videos to compare with (default: --num-steps)")
    p.add_argument("--cfg", type=float, help="guidance (default: the model's)")
    p.add_argument("--save-latents", type=Path, help="folder for CONFIG-NNN.safetensors")
    p.add_argument("--exact", action="store_true", help="fp32 products, not TF32")
    p.add_argument("--seconds", type=float, help="begin no configuration after so many")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def save(folder, name, latents):
    folder.mkdir(parents=True, exist_ok=True)
    for i, z in enumerate(latents):
        save_file({"latents": z[None].cpu().contiguous()}, folder / f"{name}-{i:03d}.safetensors")


def describe(args, num_prompts):
    return {"device": quality.device_name(args.device), "torch": torch.__version__,
            "prompts": "odd" if args.odd else "drawn", "num_prompts": num_prompts,
            "prompt_seed": None if args.odd else args.seed, "noise_seed": args.noise_seed,
            "num_steps": args.num_steps,
            "reference_steps": args.reference_steps or args.num_steps, "cfg": args.cfg,
            "products": "fp32" if args.exact else "tf32"}


def prompts(args):
    if args.odd:
        return odd_prompts.records()
    return [measure.record(*pair) for pair in scenes.test_prompts(args.num, args.seed)]


def main():
    args = parse_args()
    begin = time.monotonic()
    torch.set_float32_matmul_precision("highest" if args.exact else "high")
    torch.backends.cudnn.allow_tf32 = False
    setup = quality.Setup(args.model, prompts(args), args.num_steps, args.noise_seed, args.device,
                          args.cfg)
    report = json.loads(args.report.read_text()) if args.report.exists() else {
        "setup": describe(args, len(setup.wanted)), "configs": {}}
    own = setup.sigmas
    setup.sigmas = setup.levels(args.reference_steps or args.num_steps)
    dense_latents, _, _ = setup.sample(None)
    setup.sigmas = own
    dense_videos = setup.decode(dense_latents)
    if args.save_latents:
        save(args.save_latents, "dense", dense_latents)
    report.setdefault("dense", quality.judge(dense_videos, setup.wanted))
    print(f"dense {report['dense']} {time.monotonic() - begin:.0f} s", flush=True)
    for name, given in json.loads(args.configs.read_text()).items():
        if name in report["configs"]:
            continue
        if args.seconds and time.monotonic() - begin > args.seconds:
            break
        given = dict(given)
        steps = given.pop("step_skipping", None)
        is_dense = given.pop("dense", False)
        unknown = given.keys() - sparsity.DEFAULTS.keys()
        if unknown:
            raise SystemExit(f"{args.configs}: {name}: unknown keys {sorted(unknown)}")
        config = None if is_dense else {**sparsity.DEFAULTS, **given}
        latents, kept, evaluated = setup.sample(config, steps)
        if args.save_latents:
            save(args.save_latents, name, latents)
        videos = setup.decode(latents)
        counts = [len(steps) for steps in evaluated]
        result = {"config": given, "step_skipping": steps, "kept": round(kept, 4),
                  "evaluations": round(sum(counts) / len(counts), 2),
                  "evaluated_steps": evaluated if steps else [],
                  **quality.means(quality.compare(latents, videos, dense_latents, dense_videos)),
                  "judged": quality.judge(videos, setup.wanted)}
        report["configs"][name] = result
        args.report.write_text(json.dumps(report, indent=1) + "\n")
        short = {key: result[key] for key in ("evaluations", "latent_error", "psnr", "judged")}
        short["worst"] = min(result["videos"]["psnr"])
        print(f"{name}: {short} {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
