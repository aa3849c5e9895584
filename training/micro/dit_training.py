"""Trains the transformer and the text encoder by flow matching on encoded clips."""

import math
import time

import torch

from micro import dit, peers, recording, text_training
from micro.config import CONFIG
from micro.schedule import Average, Clock, rate, say

PEAK_RATE = 1e-3
DROP_CAPTION = 0.1
CAPTION_WEIGHT, CAPTION_BATCH = 0.02, 256
ENCODE_SHARE = 0.12  # of the time goes to fresh clips once training runs


class LatentBuffer:
    """Latents of clips of a pool, normalised per channel; grows until full, then starts over."""

    def __init__(self, pool, encoder, renderer, dtype, capacity, chunk, frames_shape):
        self.pool, self.encoder, self.renderer, self.dtype = pool, encoder, renderer, dtype
        self.chunk = chunk
        self.capacity = capacity - capacity % chunk
        dev = pool.device
        self.data = torch.zeros(self.capacity, *frames_shape, dtype=torch.bfloat16, device=dev)
        self.scene = torch.zeros(self.capacity, dtype=torch.long, device=dev)
        self.num, self.next_scene = 0, 0
        self.mean = self.std = None

    @torch.no_grad()
    def encode_chunk(self):
        idx = torch.arange(self.next_scene, self.next_scene + self.chunk,
                           device=self.pool.device) % self.pool.size
        video, _, _ = self.pool.clips(self.renderer, idx)
        mean, _ = self.encoder(video * 2 - 1, self.dtype)
        return idx, mean.permute(0, 4, 1, 2, 3)

    def add_chunk(self):
        idx, z = self.encode_chunk()
        z = (z - self.mean[:, None, None, None]) / self.std[:, None, None, None]
        at = self.next_scene % self.capacity
        self.data[at:at + self.chunk] = z.to(torch.bfloat16)
        self.scene[at:at + self.chunk] = idx
        self.next_scene += self.chunk
        self.num = min(self.capacity, self.num + self.chunk)

    def find_statistics(self, num_clips):
        """Mean and deviation per latent channel over `num_clips` clips."""
        parts = []
        for _ in range(max(1, num_clips // self.chunk)):
            parts.append(self.encode_chunk()[1])
            self.next_scene += self.chunk
        z = torch.cat(parts).double()
        self.mean = peers.average(z.mean((0, 2, 3, 4))).float()
        self.std = peers.average(z.std((0, 2, 3, 4))).float()
        self.next_scene = 0

    def batch(self, size):
        at = torch.randint(0, self.num, (size,), device=self.data.device)
        scene = self.scene[at]
        words = torch.randint(0, self.pool.ids.shape[0], (size,), device=self.data.device)
        return (self.data[at].float(), self.pool.ids[words, scene].long(),
                self.pool.counts[words, scene])


def draw_sigma(num, device):
    """Half logit-normal; the other half near 1, where the sampler takes half of its steps.

    What the caption decides (the background, which object is where) is decided at sigma > 0.98: a
    background covers so many latents that it shows through the noise from there on. A plain
    logit-normal hardly ever draws such sigma, and the caption is then learned very slowly.
    So three tenths have 1 - sigma log-uniform in [0.0001, 0.5], two tenths uniform in [0, 0.03].
    """
    middle = torch.sigmoid(0.4 + 1.2 * torch.randn(num, device=device))
    low, high = math.log(1e-4), math.log(0.5)
    near = 1 - torch.exp(low + (high - low) * torch.rand(num, device=device))
    start = 1 - 0.03 * torch.rand(num, device=device)
    which = torch.rand(num, device=device)
    return torch.where(which < 0.5, middle, torch.where(which < 0.8, near, start))


def loss_weight(sigma):
    """Inverse root of the loss that a trained model has at this sigma (a fit to measured losses).

    Near sigma = 1 the loss is what the caption leaves open, dozens of times that of sigma = 0.5,
    and would drown the gradients of everything that is decided later.
    """
    expected = 0.01 + 1 / (2.5 + 670 * (1 - sigma))
    return 0.1 * expected.rsqrt()


def parameter_groups(transformer, text_encoder):
    """Matrices decay; the position frequencies, measured in radians per unit, move slowly."""
    decay, plain = [], []
    for name, p in [*transformer.named_parameters(), *text_encoder.named_parameters()]:
        if name != "pos_frequencies":
            (decay if p.ndim > 1 and "shared" not in name else plain).append(p)
    return [{"params": decay, "weight_decay": 0.01, "factor": 1.0},
            {"params": plain, "weight_decay": 0.0, "factor": 1.0},
            {"params": [transformer.pos_frequencies], "weight_decay": 0.0, "factor": 0.005}]


def compile_parts(transformer, text_encoder):
    for block in transformer.blocks:
        block.compile(dynamic=False)
    text_encoder.compile(dynamic=False)


def flow_loss(transformer, text_encoder, z0, ids, counts, packed):
    size, length = ids.shape
    dev = z0.device
    counts = torch.where(torch.rand(size, device=dev) < DROP_CAPTION, 0, counts)
    mask = torch.arange(length, device=dev)[None] < counts[:, None]
    _, _, t, h, w = z0.shape
    patch = transformer.patch
    plan = dit.AttentionPlan.make(counts, t * (h // patch) * (w // patch), length, packed)
    noise = torch.randn_like(z0)
    sigma = draw_sigma(size, dev)
    s = sigma[:, None, None, None, None]
    feats = text_encoder(ids, mask)
    v = transformer((1 - s) * z0 + s * noise, sigma, feats, mask, plan)
    loss = (v.float() - (z0 - noise)).pow(2).mean((1, 2, 3, 4))
    return (loss * loss_weight(sigma)).mean()


def train(transformer, text_encoder, probe, buffer, minutes, batch, dtype, packed, on_save=None,
          encode_rate=None, peak_rate=PEAK_RATE):
    """Trains in place for `minutes`; returns the averaged (transformer, text encoder)."""
    groups = parameter_groups(transformer, text_encoder)
    groups.append({"params": list(probe.parameters()), "weight_decay": 0.01, "factor": 1.0})
    params = [p for g in groups for p in g["params"]]
    opt = torch.optim.AdamW(groups, lr=peak_rate, betas=(0.9, 0.98), fused=params[0].is_cuda)
    average = Average([transformer, text_encoder], 0.999)
    device_type = params[0].device.type

    def forward_backward(z0, ids, counts, *captions):
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = flow_loss(transformer, text_encoder, z0, ids, counts, packed)
            of_captions = text_training.caption_loss(text_encoder, transformer.t5_y_embedder, probe,
                                                     *captions)
        (loss + CAPTION_WEIGHT * of_captions).backward()
        return loss.detach(), of_captions.detach()

    def draw():
        return *buffer.batch(batch), *buffer.pool.captions(CAPTION_BATCH)

    run_step = recording.record(forward_backward, draw(), opt)
    clock = Clock(minutes)
    step, shown, shown_step, running, saves = 0, time.time(), 0, None, 0
    interval = 8
    while (progress := clock.progress()) < 1.0:
        for group in opt.param_groups:
            group["lr"] = rate(peak_rate, progress, step, 400) * group["factor"]
        if step % interval == 0 and progress < 0.92:
            buffer.add_chunk()
        loss, of_captions = run_step(*draw())
        peers.average_gradients(params)
        norm = torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        average.update()
        running = loss.clone() if running is None else running.lerp_(loss, 0.01)
        step += 1
        if step % 25 == 0 and time.time() - shown > 15:
            value = float(running)
            seconds = (time.time() - shown) / (step - shown_step)
            say(f"dit step {step} ({progress:.0%}) loss {value:.4f} norm {float(norm):.2f} "
                f"captions {float(of_captions):.3f} {1 / seconds:.1f} steps/s, "
                f"{buffer.num} latents")
            if not math.isfinite(value):
                raise RuntimeError("the transformer's loss is not finite")
            if encode_rate and shown_step:
                interval = max(2, round(buffer.chunk / encode_rate / (ENCODE_SHARE * seconds)))
            shown, shown_step = time.time(), step
        if on_save and progress > 0.25 * (saves + 1):
            saves += 1
            on_save(*average.modules)
    say(f"dit done: {step} steps in {clock.seconds():.0f} s")
    return average.modules


def latent_shape():
    generation = CONFIG["generation"]
    return (CONFIG["dit"]["latent_channels"], (generation["num_frames"] - 1) // 6 + 1,
            generation["height"] // 8, generation["width"] // 8)


def packed_attention_works(device):
    """Whether the variable-length kernel is there and agrees with the masked one."""
    if device.type != "cuda" or dit.varlen_attn is None:
        return False
    torch.manual_seed(0)
    counts = torch.tensor([5, 0, 30], device=device)
    q, k, v = (torch.randn(3, 160 + 32, 2, 128, device=device, dtype=torch.bfloat16,
                           requires_grad=True) for _ in range(3))
    outs, grads = [], []
    try:
        for packed in (False, True):
            plan = dit.AttentionPlan.make(counts, 160, 32, packed)
            out = dit.attend(q, k, v, plan.segments, plan.mask)[:, :160].float()
            outs.append(out)
            grads.append(torch.autograd.grad(out.square().sum(), [q, k, v]))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        say("packed attention is not there:", str(error).splitlines()[0])
        return False
    worst = max(float((a.float() - b.float()).norm().detach() / b.float().norm().detach())
                for a, b in [(outs[1], outs[0]), *zip(grads[1], grads[0])])
    say(f"packed attention differs from the masked one by {worst:.1e}")
    return worst < 2e-2
