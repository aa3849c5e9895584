#!/usr/bin/env python3
"""Trains the whole micro model: tokenizer, VAE, text encoder, transformer; then judges it.

    python training/train.py --out models/micro
    torchrun --nproc-per-node 2 training/train.py --out models/micro       (on two GPUs)

The model directory is written after every quarter of either training, so that a run which was
cut off goes on with --resume DIR (and --minutes-vae 0 once the VAE is good).
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from micro import (data, dit_training, evaluation, export, peers, scenes, text_training, tokenizer,
                   vae_training)
from micro.config import CONFIG
from micro.schedule import say


def parse_args():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("out/micro"), help="model directory to write")
    p.add_argument("--resume", type=Path, help="model directory to start from")
    p.add_argument("--minutes-vae", type=float, default=12.0)
    p.add_argument("--vae-rate", type=float, default=vae_training.PEAK_RATE)
    p.add_argument("--whole-frames", action="store_true", help="no crops, to go on with a good VAE")
    p.add_argument("--minutes-text", type=float, default=1.5, help="text encoder by itself")
    p.add_argument("--minutes-dit", type=float, default=40.0)
    p.add_argument("--batch", type=int, default=48, help="clips per step and GPU")
    p.add_argument("--dit-rate", type=float, default=dit_training.PEAK_RATE)
    p.add_argument("--num-scenes", type=int, default=60000)
    p.add_argument("--num-latents", type=int, default=24576, help="capacity of the latent buffer")
    p.add_argument("--prefill", type=int, default=9216, help="clips encoded before training starts")
    p.add_argument("--chunk", type=int, default=16, help="clips encoded at a time")
    p.add_argument("--cfg", type=float, nargs="+", default=[1.5, 2.0, 3.0, 4.5])
    p.add_argument("--num-prompts", type=int, default=200)
    p.add_argument("--num-steps", type=int, default=64)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--tiny", action="store_true", help="small crops, to try the script on a CPU")
    p.add_argument("--workers", type=int, default=max(1, os.cpu_count() // peers.SIZE))
    return p.parse_args()


class Run:
    """The state that the stages share: models, pools, where to write."""

    def __init__(self, args):
        self.args = args
        peers.join(torch.device(args.device).type)
        args.out.mkdir(parents=True, exist_ok=True)
        self.report_path = args.out.parent / f"{args.out.name}-report.json"
        self.report = {"started": time.strftime("%Y-%m-%d %H:%M:%S")}
        self.spiece = args.out / "tokenizer" / "spiece.model"
        self.prepare_tokenizer()
        start = time.time()
        test_arrays = data.make_arrays(max(96, args.num_prompts), "test", 2, self.spiece, 1)
        train_arrays = data.make_arrays(args.num_scenes, "train", 1 + 2 * peers.RANK, self.spiece,
                                        args.workers)
        say(f"{args.num_scenes} scenes in {time.time() - start:.1f} s")
        self.device = torch.device(args.device)
        on_gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if on_gpu else torch.float32
        self.compiled = on_gpu and not args.no_compile
        if on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
            torch._dynamo.config.recompile_limit = 64
            self.report["machine"] = f"{peers.SIZE} x {torch.cuda.get_device_name()}"
        self.renderer = data.get_renderer(self.compiled)
        self.train_pool = data.ScenePool(train_arrays, self.device)
        self.test_pool = data.ScenePool(test_arrays, self.device)
        torch.manual_seed(0)
        if args.resume:
            self.models, self.config = export.load_directory(args.resume, self.device, partial=True)
        else:
            self.models, self.config = export.build_models(), CONFIG
            for model in self.models.values():
                model.to(self.device)
        self.final = dict(self.models)
        dit = self.config["dit"]
        self.probe = text_training.CaptionProbe(dit["text_width"], dit["hidden_size_x"])
        self.probe.to(self.device)
        if self.compiled:
            dit_training.compile_parts(self.models["dit"], self.models["text_encoder"])
        torch.manual_seed(peers.RANK)  # from here on every process draws its own
        self.packed = dit_training.packed_attention_works(self.device)

    def prepare_tokenizer(self):
        if peers.RANK == 0 and not self.args.resume:
            tokenizer.train(self.spiece)
        elif peers.RANK == 0 and self.args.resume != self.args.out:
            export.copy_tokenizer(self.args.out, self.args.resume / "tokenizer/spiece.model")
        peers.agree(0)  # the others wait for it

    def save(self, names):
        if peers.RANK > 0:
            return
        export.write_weights(self.args.out, {n: self.final[n].state_dict() for n in names})
        vae = self.config["vae"]
        export.write_config(self.args.out, vae["latent_mean"], vae["latent_std"],
                            self.config["generation"]["cfg_scale"])
        self.report_path.write_text(json.dumps(self.report, indent=1) + "\n")


def train_vae(run):
    args = run.args

    def on_save(encoder, decoder):
        run.final["encoder"], run.final["decoder"] = encoder, decoder
        if peers.RANK > 0:
            return
        run.save(["encoder", "decoder"])
        picture = args.out.parent / "vae.png"
        vae_training.strips(encoder, decoder, run.test_pool, run.renderer, 1 if args.tiny else 16,
                            run.dtype, picture)

    phases = vae_training.TINY_PHASES if args.tiny else vae_training.PHASES
    if args.whole_frames:
        phases = [(1.0, *phases[1][1:])]
    encoder, decoder = vae_training.train(
        run.models["encoder"], run.models["decoder"], run.train_pool, run.renderer,
        args.minutes_vae, run.dtype, run.compiled,
        phases, None if args.tiny else run.test_pool,
        None if args.tiny else on_save, args.vae_rate)
    on_save(encoder, decoder)


def measure_vae(run):
    if peers.RANK > 0:
        return
    num = 1 if run.args.tiny else 96
    encoder, decoder = run.final["encoder"], run.final["decoder"]
    figures = vae_training.report(encoder, decoder, run.test_pool, run.renderer, num, run.dtype)
    run.report["vae"] = figures
    say("vae held-out:", json.dumps(figures))


def make_buffer(run):
    args = run.args
    buffer = dit_training.LatentBuffer(
        run.train_pool, run.final["encoder"], run.renderer, run.dtype, args.num_latents, args.chunk,
        dit_training.latent_shape())
    vae = run.config["vae"]
    if args.resume and args.minutes_vae == 0:  # the transformer goes on in the same units
        buffer.mean, buffer.std = (torch.tensor(vae[k], device=run.device)
                                   for k in ("latent_mean", "latent_std"))
    else:
        buffer.find_statistics(args.chunk if args.tiny else 512)
        vae["latent_mean"], vae["latent_std"] = buffer.mean.tolist(), buffer.std.tolist()
    say("latent mean", [round(x, 3) for x in vae["latent_mean"]])
    say("latent std", [round(x, 3) for x in vae["latent_std"]])
    run.save([])
    start = time.time()
    while buffer.num < min(args.prefill, buffer.capacity):
        buffer.add_chunk()
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.time() - start
    say(f"{buffer.num} clips encoded, {buffer.num / seconds:.0f} clips/s")
    return buffer, buffer.num / seconds


def judge(run, models, cfg, num_prompts, num_steps):
    pairs = scenes.test_prompts(num_prompts)
    start = time.time()
    out = evaluation.evaluate(models, run.config, run.spiece, pairs, cfg, num_steps, run.dtype,
                              run.packed, 4 if run.args.tiny else 50, run.args.workers)
    say(f"cfg {cfg}, {num_prompts} prompts, {time.time() - start:.0f} s:",
        json.dumps(out[0]["all"]))
    return out


def train_text(run):
    text_encoder, pooler = run.models["text_encoder"], run.models["dit"].t5_y_embedder
    text_training.train(text_encoder, pooler, run.probe, run.train_pool, run.args.minutes_text,
                        run.dtype, 16 if run.args.tiny else text_training.BATCH)
    pairs = scenes.test_prompts(max(32, run.args.num_prompts))
    ids, counts = tokenizer.encode(tokenizer.load(run.spiece), [prompt for _, prompt in pairs])
    labels = np.stack([scenes.labels(scene) for scene, _ in pairs])
    arrays = [torch.from_numpy(a).to(run.device) for a in (ids, counts, labels)]
    read = text_training.accuracy(text_encoder, pooler, run.probe, *arrays)
    say("read off held-out captions:", json.dumps(read))


def train_dit(run):
    args = run.args
    buffer, encode_rate = make_buffer(run)

    def on_save(transformer, text_encoder):
        run.final["dit"], run.final["text_encoder"] = transformer, text_encoder
        run.save(["dit", "text_encoder"])
        if args.num_prompts >= 48 and peers.RANK == 0:
            judge(run, run.final, 3.0, 48, 24)

    transformer, text_encoder = dit_training.train(
        run.models["dit"], run.models["text_encoder"], run.probe, buffer, args.minutes_dit,
        args.batch, run.dtype, run.packed, None if args.tiny else on_save, encode_rate,
        args.dit_rate)
    run.final["dit"], run.final["text_encoder"] = transformer, text_encoder
    run.save(["dit", "text_encoder"])


def choose_guidance(run):
    """Judges the written model (bf16 weights) at several guidance scales and keeps the best."""
    models, _ = export.load_directory(run.args.out, run.device)
    best = None
    run.report["by_cfg"] = {}
    for cfg in run.args.cfg:
        summary, results, videos = judge(run, models, cfg, run.args.num_prompts,
                                         run.args.num_steps)
        run.report["by_cfg"][str(cfg)] = summary
        total = sum(summary["all"][k] for k in ("colour", "background", "motion", "shape"))
        if best is None or total > best[0]:
            best = (total, cfg, results, videos)
    _, cfg, results, videos = best
    run.config["generation"]["cfg_scale"] = cfg
    run.report["cfg_scale"] = cfg
    run.report["wrong"] = [r for r in results if min(r["score"].values()) < 1]
    evaluation.contact_sheet(videos[:24], run.args.out.parent / "samples.png")
    run.save([])


def main():
    args = parse_args()
    run = Run(args)
    if args.minutes_vae > 0 or args.minutes_dit > 0:
        vae_training.choose_kernels(run.config["vae"], run.device, run.dtype, run.compiled,
                                    args.chunk)
    if args.minutes_vae > 0:
        train_vae(run)
        measure_vae(run)
    if args.minutes_text > 0:
        train_text(run)
    if args.minutes_dit > 0:
        train_dit(run)
    run.save(list(run.final))
    if args.num_prompts > 0 and peers.RANK == 0:
        choose_guidance(run)
    say("written:", args.out)
    peers.leave()


if __name__ == "__main__":
    main()
