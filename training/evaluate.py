#!/usr/bin/env python3
"""Judges videos by their frames alone, whoever made them.

    evaluate.py --write-prompts prompts.json            the held-out prompts and what they ask for
    evaluate.py --videos DIR --prompts prompts.json     DIR/000.mp4, 001.mp4 ... (or PNG folders)
    evaluate.py --model models/micro                    samples with PyTorch, then judges
    evaluate.py --truth                                 the renderer's own clips: checks the judge
    evaluate.py --reconstructions models/micro          those clips through the VAE
"""

import argparse
import json
import os
from pathlib import Path

import torch

from micro import evaluation, export, measure, scenes, vae_training
from micro.config import HEIGHT, WIDTH


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--videos", type=Path)
    what.add_argument("--model", type=Path)
    what.add_argument("--truth", action="store_true")
    what.add_argument("--reconstructions", type=Path)
    what.add_argument("--write-prompts", type=Path)
    p.add_argument("--prompts", type=Path, help="what --write-prompts wrote; needed with --videos")
    p.add_argument("--num", type=int, default=200)
    p.add_argument("--seed", type=int, default=7, help="of the prompts")
    p.add_argument("--cfg", type=float, help="guidance scale (default: the model directory's)")
    p.add_argument("--num-steps", type=int)
    p.add_argument("--report", type=Path, help="JSON file to write")
    p.add_argument("--workers", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def find_video(directory, i):
    for name in (f"{i:03d}", f"{i:03d}.mp4", f"{i:03d}.y4m"):
        if (directory / name).exists():
            return directory / name
    raise SystemExit(f"{directory}: no video {i:03d} (.mp4, .y4m or a folder of PNG files)")


def judge_files(args):
    wanted = json.loads(args.prompts.read_text())[:args.num]
    results = []
    for i, want in enumerate(wanted):  # one video in memory at a time
        video = evaluation.read_video(find_video(args.videos, i), WIDTH, HEIGHT)
        results.append(measure.judge((video, want)))
    return wanted, results


def reconstruct(args, truth):
    models, _ = export.load_directory(args.reconstructions, args.device)
    for video in truth:
        x = torch.from_numpy(video).to(args.device)[None].float() / 255
        y = vae_training.reconstruct(models["encoder"], models["decoder"], x, torch.float32)
        yield (y[0] * 255 + 0.5).to(torch.uint8).cpu().numpy()


def sample(args, pairs):
    models, config = export.load_directory(args.model, args.device)
    generation = config["generation"]
    yield from evaluation.sample_videos(
        models, config, args.model / "tokenizer" / "spiece.model", [p for _, p in pairs],
        args.cfg or generation["cfg_scale"], args.num_steps or generation["num_steps"],
        torch.float32, False, 10)


def main():
    args = parse_args()
    pairs = scenes.test_prompts(args.num, args.seed)
    if args.write_prompts:
        evaluation.write_prompts(pairs, args.write_prompts)
        return
    if args.videos:
        if not args.prompts:
            raise SystemExit("--videos needs --prompts")
        wanted, results = judge_files(args)
    else:
        wanted = [measure.record(scene, prompt) for scene, prompt in pairs]
        videos = sample(args, pairs) if args.model else evaluation.render_truth(pairs)
        if args.reconstructions:
            videos = reconstruct(args, videos)
        results = [measure.judge(job) for job in zip(videos, wanted)]
    report = {"summary": measure.summary(results, wanted), "videos": results}
    print(json.dumps(report["summary"], indent=1))
    if args.report:
        args.report.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
