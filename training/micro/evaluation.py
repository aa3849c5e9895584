"""Samples videos for the test prompts and has them judged."""

import json
import multiprocessing
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from micro import dit_training, measure, sampler, scenes, tokenizer

_jobs = []


def _judge(i):
    return measure.judge(_jobs[i])


def judge_all(videos, wanted, num_workers):
    """Judges uint8 videos; worker processes inherit the frames and need not copy them."""
    global _jobs
    _jobs = list(zip(videos, wanted))
    measure.templates()
    if num_workers <= 1:
        return [_judge(i) for i in range(len(_jobs))]
    with multiprocessing.get_context("fork").Pool(num_workers) as pool:
        return pool.map(_judge, range(len(_jobs)), chunksize=2)


@torch.no_grad()
def sample_videos(models, config, spiece, prompts, cfg, num_steps, dtype, packed, batch, seed=1000):
    """uint8 videos [T, H, W, 3] for the prompts, one after the other."""
    gen = config["generation"]
    device = next(models["dit"].parameters()).device
    mean, std = (torch.tensor(config["vae"][k], device=device)
                 for k in ("latent_mean", "latent_std"))
    linear = max(1, round(gen["linear_steps"] * num_steps / gen["num_steps"]))
    steps = sampler.sigmas(num_steps, gen["threshold_noise"], linear)
    ids, counts = tokenizer.encode(tokenizer.load(spiece), prompts)
    ids, counts = torch.from_numpy(ids).to(device), torch.from_numpy(counts).to(device)
    noise = torch.stack([torch.randn(dit_training.latent_shape(),
                                     generator=torch.Generator().manual_seed(seed + i))
                         for i in range(len(prompts))])
    videos = []
    for first in range(0, len(prompts), batch):
        part = slice(first, first + batch)
        z = sampler.sample(models["dit"], models["text_encoder"], ids[part], counts[part],
                           noise[part].to(device), cfg, steps, dtype, packed)
        for zs in z.split(4):
            videos += list(sampler.decode(models["decoder"], zs, mean, std, dtype).cpu().numpy())
    return videos


def evaluate(models, config, spiece, pairs, cfg, num_steps, dtype, packed, batch, num_workers):
    """(summary, per-prompt results, videos) over (scene, prompt) pairs."""
    wanted = [measure.record(scene, prompt) for scene, prompt in pairs]
    videos = sample_videos(models, config, spiece, [p for _, p in pairs], cfg, num_steps, dtype,
                           packed, batch)
    results = judge_all(videos, wanted, num_workers)
    return measure.summary(results, wanted), results, videos


def contact_sheet(videos, path, num_frames=6, scale=2):
    """One row of frames per video."""
    rows = []
    for video in videos:
        picked = np.linspace(0, len(video) - 1, num_frames).round().astype(int)
        rows.append(np.concatenate([video[i][::scale, ::scale] for i in picked], 1))
    Image.fromarray(np.concatenate(rows, 0)).save(path)


def render_truth(pairs):
    """The clips that the renderer draws for the scenes, as uint8 videos."""
    from micro.render import render_full
    for scene, _ in pairs:
        arrays = [torch.from_numpy(a)[None] for a in scenes.scene_arrays(scene)]
        video, _, _ = render_full(arrays)
        yield (video[0] * 255 + 0.5).to(torch.uint8).numpy()


def read_video(path, width, height):
    """Frames of a folder of PNG files or of anything that ffmpeg reads."""
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.png"))
        return np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    run = subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt",
                          "rgb24", "-"], check=True, capture_output=True)
    return np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3)


def write_prompts(pairs, path):
    records = [measure.record(scene, prompt) for scene, prompt in pairs]
    Path(path).write_text(json.dumps(records, indent=1) + "\n")
