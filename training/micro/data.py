"""Pools of scenes, made by several processes before training, and batches drawn from them."""

import multiprocessing
import random

import numpy as np
import torch

from micro import render, scenes, tokenizer
from micro.config import HEIGHT, NUM_FRAMES, WIDTH


CAPTIONS = 4  # per scene: the same clip is told in different words


def _make_part(job):
    seed, num, split, spiece = job
    rng = random.Random(seed)
    processor = tokenizer.load(spiece)
    picked = [scenes.sample_scene(rng, split) for _ in range(num)]
    arrays = [np.stack(a) for a in zip(*[(*scenes.scene_arrays(s), scenes.labels(s))
                                         for s in picked])]
    ids, counts = tokenizer.encode(processor, [scenes.caption(rng, s) for s in picked * CAPTIONS])
    return arrays + [ids.reshape(CAPTIONS, num, -1).astype(np.int16),
                     counts.reshape(CAPTIONS, num)]


def make_arrays(num, split, seed, spiece, num_workers):
    """The pool as numpy arrays: paths, kinds, colours, background, labels, token ids and counts."""
    parts = max(1, num // 1000)
    sizes = [num // parts + (i < num % parts) for i in range(parts)]
    jobs = [(seed * 100003 + i, size, split, spiece) for i, size in enumerate(sizes)]
    if num_workers > 1:
        with multiprocessing.get_context("fork").Pool(num_workers) as pool:
            made = pool.map(_make_part, jobs)
    else:
        made = [_make_part(job) for job in jobs]
    columns = list(zip(*made))
    return ([np.concatenate(c) for c in columns[:5]]
            + [np.concatenate(c, 1) for c in columns[5:]])


class ScenePool:
    def __init__(self, arrays, device):
        tensors = [torch.from_numpy(a).to(device) for a in arrays]
        (self.paths, self.kinds, self.colours, self.background, self.labels, self.ids,
         self.counts) = tensors
        self.size = self.paths.shape[0]
        self.device = device

    def windows(self, renderer, idx, num_frames, height, width):
        """Video windows around an object, at a random time; whole frames when the size says so."""
        b = idx.shape[0]
        dev = self.device
        start = torch.randint(0, NUM_FRAMES - num_frames + 1, (b,), device=dev)
        frames = start[:, None] + torch.arange(num_frames, device=dev)
        paths = self.paths[idx]
        paths = paths.gather(2, frames[:, None, :, None].expand(b, 2, num_frames, 4))
        second = (torch.rand(b, device=dev) < 0.5) & (paths[:, 1, 0, 0] > 0)
        focus = paths[torch.arange(b, device=dev), second.long()].mean(1)
        corner = []
        for axis, size, full in ((0, width, WIDTH), (1, height, HEIGHT)):
            jitter = (torch.rand(b, device=dev) - 0.5) * 0.5 * size
            corner.append((focus[:, axis] - size / 2 + jitter).round().clamp(0, full - size))
        return renderer(paths, self.kinds[idx], self.colours[idx], self.background[idx],
                        corner[0], corner[1], height, width)

    def captions(self, num):
        """Token ids [num, L], token counts [num] and labels of captions drawn at random."""
        scene = torch.randint(0, self.size, (num,), device=self.device)
        words = torch.randint(0, self.ids.shape[0], (num,), device=self.device)
        return self.ids[words, scene].long(), self.counts[words, scene], self.labels[scene]

    def clips(self, renderer, idx):
        zero = torch.zeros(idx.shape[0], device=self.device)
        return renderer(self.paths[idx], self.kinds[idx], self.colours[idx], self.background[idx],
                        zero, zero, HEIGHT, WIDTH)


def get_renderer(compiled):
    return torch.compile(render.render, dynamic=False) if compiled else render.render
