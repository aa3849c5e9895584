"""Teaches the text encoder and the caption pooler to tell a scene from its caption.

Flow matching alone teaches captions slowly: most of its gradient is about pixels. A linear probe
has to read every attribute of the scene off the pooled caption and off each text token; it is
trained first by itself, then beside flow matching, and thrown away in the end.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from micro import peers, recording, scenes
from micro.schedule import Clock, rate, say

PEAK_RATE = 1e-3
BATCH = 512
SIZES = [len(values) for values in scenes.ATTRIBUTES.values()]


class CaptionProbe(nn.Module):
    def __init__(self, text_width, pooled_width):
        super().__init__()
        self.tokens = nn.Linear(text_width, sum(SIZES))
        self.pooled = nn.Linear(pooled_width, sum(SIZES))


def by_attribute(logits):
    """[..., sum(SIZES)] to log probabilities [..., attributes, most values]; none past the last."""
    parts = [F.pad(part, (0, max(SIZES) - part.shape[-1]), value=-1e9)
             for part in logits.float().split(SIZES, -1)]
    return torch.stack(parts, -2).log_softmax(-1)


def probe_loss(logits, labels, valid=None):
    """Mean cross entropy of what is told; logits [..., sum(SIZES)], labels [..., attributes]."""
    told = labels != scenes.NO_LABEL
    if valid is not None:
        told = told & valid[..., None]
    found = by_attribute(logits).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return -(found * told).sum() / told.sum().clamp(min=1)


def caption_loss(text_encoder, pooler, probe, ids, counts, labels):
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < counts[:, None]
    feats = text_encoder(ids, mask)
    per_token = labels[:, None].expand(-1, ids.shape[1], -1)
    return (probe_loss(probe.pooled(pooler(feats, mask)), labels)
            + probe_loss(probe.tokens(feats), per_token, mask))


@torch.no_grad()
def accuracy(text_encoder, pooler, probe, ids, counts, labels):
    """Percent right by attribute, read off the pooled caption."""
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < counts[:, None]
    read = by_attribute(probe.pooled(pooler(text_encoder(ids, mask), mask))).argmax(-1)
    told = labels != scenes.NO_LABEL
    share = 100 * ((read == labels) & told).sum(0) / told.sum(0).clamp(min=1)
    return {name: round(float(x), 1) for name, x in zip(scenes.ATTRIBUTES, share)}


def train(text_encoder, pooler, probe, pool, minutes, dtype, batch=BATCH):
    """Trains in place for `minutes`."""
    params = [p for m in (text_encoder, pooler, probe) for p in m.parameters()]
    device = params[0].device.type
    opt = torch.optim.AdamW(params, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01,
                            fused=device == "cuda")

    def forward_backward(*captions):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = caption_loss(text_encoder, pooler, probe, *captions)
        loss.backward()
        return loss.detach()

    run_step = recording.record(forward_backward, pool.captions(batch), opt)
    clock, step, shown = Clock(minutes), 0, time.time()
    while (progress := clock.progress()) < 1.0:
        for group in opt.param_groups:
            group["lr"] = rate(PEAK_RATE, progress, step, 100)
        loss = run_step(*pool.captions(batch))
        peers.average_gradients(params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        if step % 25 == 0 and time.time() - shown > 15:
            say(f"text step {step} ({progress:.0%}) loss {float(loss):.4f}")
            shown = time.time()
    say(f"text done: {step} steps in {clock.seconds():.0f} s")
