#!/usr/bin/env python3
"""What sparsity costs in quality: videos of held-out prompts by the micro model, each sparse
configuration against dense attention from the same noise.

Made with micro/sparsity.py, which runs all prompts at once on a GPU; `--save-latents` writes what
`mochi compare` needs to hold the engine to it.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from micro import (dit_training, evaluation, export, measure, odd_prompts, sampler, scenes,
                   sparsity, tokenizer)
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


class Setup:
    """Model, prompts and noise."""

    def __init__(self, args):
        self.models, self.config = export.load_directory(args.model, args.device)
        generation = self.config["generation"]
        self.cfg = args.cfg or generation["cfg_scale"]
        self.sigmas = self.levels(args.num_steps)
        self.wanted = odd_prompts.records() if args.odd else [
            measure.record(*pair) for pair in scenes.test_prompts(args.num, args.seed)]
        ids, counts = tokenizer.encode(tokenizer.load(args.model / "tokenizer" / "spiece.model"),
                                       [wanted["prompt"] for wanted in self.wanted])
        longest = int(counts.max())
        self.ids = torch.from_numpy(ids[:, :longest]).to(args.device)
        self.counts = torch.from_numpy(counts).to(args.device)
        self.noise = torch.stack([
            torch.randn(dit_training.latent_shape(),
                        generator=torch.Generator().manual_seed(args.noise_seed + i))
            for i in range(len(self.wanted))]).to(args.device)

    def levels(self, num_steps):
        generation = self.config["generation"]
        linear = max(1, round(generation["linear_steps"] * num_steps / generation["num_steps"]))
        return sampler.sigmas(num_steps, generation["threshold_noise"], linear)

    def sample(self, config, skipping=None):
        return sparsity.sample(self.models["dit"], self.models["text_encoder"], self.ids,
                               self.counts, self.noise, self.cfg, self.sigmas, config, skipping)

    def decode(self, latents):
        mean, std = (torch.tensor(self.config["vae"][key], device=latents.device)
                     for key in ("latent_mean", "latent_std"))
        return torch.cat([sampler.decode(self.models["decoder"], z, mean, std, torch.float32)
                          for z in latents.split(4)])


def psnr(a, b):
    """Of all bytes of each video [B]."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255 ** 2 / error.clamp(min=1e-3))


def ssim(a, b):
    """Mean over frames and windows [B]: luma, 11 × 11 Gaussian of 1.5, as `mochi compare`."""
    x = torch.arange(11, dtype=torch.float64, device=a.device) - 5
    kernel = torch.exp(-x * x / 4.5)
    kernel = kernel / kernel.sum()
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=a.device)

    def blur(plane):
        return F.conv2d(F.conv2d(plane, kernel.view(1, 1, 1, 11)), kernel.view(1, 1, 11, 1))

    result = []
    for first, second in zip(a, b):
        p, q = ((video.double() @ weights)[:, None] for video in (first, second))
        mp, mq = blur(p), blur(q)
        vp, vq, cov = blur(p * p) - mp * mp, blur(q * q) - mq * mq, blur(p * q) - mp * mq
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        value = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp * mp + mq * mq + c1) * (vp + vq + c2))
        result.append(value.mean())
    return torch.stack(result)


def judge(videos, wanted):
    results = evaluation.judge_all(list(videos.cpu().numpy()), wanted, os.cpu_count())
    summary = measure.summary(results, wanted)["all"]
    return {key: value for key, value in summary.items() if key != "num_prompts"}


def save(folder, name, latents):
    folder.mkdir(parents=True, exist_ok=True)
    for i, z in enumerate(latents):
        save_file({"latents": z[None].cpu().contiguous()}, folder / f"{name}-{i:03d}.safetensors")


def describe(args, num_prompts):
    device = (torch.cuda.get_device_name() if args.device == "cuda" else args.device)
    return {"device": device, "torch": torch.__version__, "prompts": "odd" if args.odd else "drawn",
            "num_prompts": num_prompts, "prompt_seed": None if args.odd else args.seed,
            "noise_seed": args.noise_seed, "num_steps": args.num_steps,
            "reference_steps": args.reference_steps or args.num_steps, "cfg": args.cfg,
            "products": "fp32" if args.exact else "tf32"}


def compare(latents, videos, dense_latents, dense_videos):
    error = (latents - dense_latents).flatten(1).norm(dim=1) / dense_latents.flatten(1).norm(dim=1)
    quality = {"latent_error": error, "psnr": psnr(videos, dense_videos),
               "ssim": ssim(videos, dense_videos)}
    rounded = {key: [round(x, 4) for x in value.tolist()] for key, value in quality.items()}
    return {**{key: round(sum(v) / len(v), 4) for key, v in rounded.items()}, "videos": rounded}


def main():
    args = parse_args()
    begin = time.monotonic()
    torch.set_float32_matmul_precision("highest" if args.exact else "high")
    torch.backends.cudnn.allow_tf32 = False
    setup = Setup(args)
    report = json.loads(args.report.read_text()) if args.report.exists() else {
        "setup": describe(args, len(setup.wanted)), "configs": {}}
    own = setup.sigmas
    setup.sigmas = setup.levels(args.reference_steps or args.num_steps)
    dense_latents, _, _ = setup.sample(None)
    setup.sigmas = own
    dense_videos = setup.decode(dense_latents)
    if args.save_latents:
        save(args.save_latents, "dense", dense_latents)
    report.setdefault("dense", judge(dense_videos, setup.wanted))
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
                  **compare(latents, videos, dense_latents, dense_videos),
                  "judged": judge(videos, setup.wanted)}
        report["configs"][name] = result
        args.report.write_text(json.dumps(report, indent=1) + "\n")
        short = {key: result[key] for key in ("evaluations", "latent_error", "psnr", "judged")}
        short["worst"] = min(result["videos"]["psnr"])
        print(f"{name}: {short} {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
