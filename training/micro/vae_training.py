"""Trains the VAE and measures its reconstructions."""

import math
import time

import torch
from PIL import Image

from micro import peers, scenes, vae
from micro.schedule import Average, Clock, rate, say

# (share of the time, frames, height, width, batch): crops around objects, then whole frames, whose
# statistics the normalisation layers meet in use.
PHASES = [(0.5, 13, 128, 128, 16), (0.32, 13, 192, 320, 5), (0.18, 25, 192, 320, 3)]
TINY_PHASES = [(0.5, 7, 64, 64, 2), (0.3, 7, 64, 96, 1), (0.2, 13, 64, 64, 1)]
PEAK_RATE = 2e-3
NUM_SAVES = 4
KL_WEIGHT = 2e-5
OBJECT_WEIGHT = 7.0


def reconstruction_loss(out, video, wide):
    """L1, squared error and gradients, with the objects weighing more than the background."""
    error = out.float() - video
    weight = 1 + OBJECT_WEIGHT * wide.unsqueeze(-1)
    total = weight.mean()
    loss = (weight * (error.abs() + 1.5 * error * error)).mean()
    for dim in (2, 3):
        n = error.shape[dim] - 1
        step = error.narrow(dim, 1, n) - error.narrow(dim, 0, n)
        loss = loss + 0.5 * (weight.narrow(dim, 1, n) * step.abs()).mean()
    return loss / total


def posterior_sample(mean, logvar):
    return mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)


def kl_loss(mean, logvar):
    return 0.5 * (mean * mean + logvar.exp() - 1 - logvar).mean()


def train(encoder, decoder, pool, renderer, minutes, dtype, compiled, phases, test_pool=None,
          on_save=None, peak_rate=PEAK_RATE):
    """Trains in place for `minutes`; returns the averaged (encoder, decoder)."""
    params = list(encoder.parameters()) + list(decoder.parameters())
    fused = params[0].is_cuda
    opt = torch.optim.AdamW(params, lr=peak_rate, betas=(0.9, 0.98), weight_decay=1e-3, fused=fused)
    average = Average([encoder, decoder], 0.998)
    loss_fn = torch.compile(reconstruction_loss, dynamic=False) if compiled else reconstruction_loss
    clock = Clock(minutes)
    ends = [sum(p[0] for p in phases[:i + 1]) for i in range(len(phases))]
    step, phase, shown, shown_step, running = 0, 0, time.time(), 0, None
    saves = 0
    while (progress := clock.progress()) < 1.0:
        while progress > ends[phase] and phase < len(phases) - 1:
            phase += 1
            say(f"vae phase {phase}: {phases[phase]}")
        _, frames, height, width, batch = phases[phase]
        for group in opt.param_groups:
            group["lr"] = rate(peak_rate, progress, step, 300)
        idx = torch.randint(0, pool.size, (batch,), device=pool.device)
        with torch.no_grad():
            video, _, wide = pool.windows(renderer, idx, frames, height, width)
            video = video * 2 - 1
        mean, logvar = encoder(video, dtype)
        z = posterior_sample(mean, logvar)
        loss = loss_fn(decoder(z.to(dtype)), video, wide)
        (loss + KL_WEIGHT * kl_loss(mean, logvar)).backward()
        peers.average_gradients(params)
        norm = torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        average.update()
        running = loss.detach() if running is None else running.lerp_(loss.detach(), 0.02)
        step += 1
        if step % 25 == 0 and time.time() - shown > 15:
            value = float(running)
            speed = (step - shown_step) / (time.time() - shown)
            say(f"vae step {step} ({progress:.0%}) loss {value:.5f} norm {float(norm):.2f} "
                f"latent rms {float(mean.detach().pow(2).mean().sqrt()):.2f} {speed:.1f} steps/s")
            if not math.isfinite(value):
                raise RuntimeError("the VAE's loss is not finite")
            shown, shown_step = time.time(), step
        if on_save and progress > (saves + 1) / NUM_SAVES:
            saves += 1
            on_save(*average.modules)
            if test_pool is not None:
                whole, inside = measure(*average.modules, test_pool, renderer, 16, dtype)
                say(f"vae held-out: {whole.mean():.2f} dB whole, {inside.mean():.2f} dB inside")
    say(f"vae done: {step} steps in {clock.seconds():.0f} s")
    return average.modules


def decibel(mse):
    return -10 * torch.log10(mse.clamp(min=1e-10))


@torch.no_grad()
def reconstruct(encoder, decoder, video, dtype):
    mean, _ = encoder(video * 2 - 1, dtype)
    return ((decoder(mean.to(dtype)).float() + 1) / 2).clamp(0, 1)


@torch.no_grad()
def measure(encoder, decoder, pool, renderer, num, dtype, batch=16):
    """PSNR of every clip, over whole clips and inside the masks: two tensors [num]."""
    whole, inside = [], []
    for first in range(0, num, batch):
        idx = torch.arange(first, min(first + batch, num), device=pool.device)
        video, mask, _ = pool.clips(renderer, idx)
        error = (reconstruct(encoder, decoder, video, dtype) - video).pow(2).mean(-1)
        whole.append(decibel(error.mean((1, 2, 3))))
        inside.append(decibel((error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))))
    return torch.cat(whole).cpu(), torch.cat(inside).cpu()


def report(encoder, decoder, pool, renderer, num, dtype):
    """Held-out figures, also by the first object's shape and colour."""
    whole, inside = measure(encoder, decoder, pool, renderer, num, dtype)
    kinds = pool.kinds[:num, 0].cpu()
    palette = torch.tensor(list(scenes.COLOURS.values())) / 255
    nearest = (pool.colours[:num, 0].cpu()[:, None] - palette).pow(2).sum(-1).argmin(1)
    out = {"num_clips": num, "psnr": float(whole.mean()), "psnr_in_mask": float(inside.mean()),
           "psnr_min": float(whole.min()), "psnr_in_mask_min": float(inside.min())}
    out["in_mask_by_shape"] = {s: round(float(inside[kinds == i].mean()), 2)
                               for i, s in enumerate(scenes.SHAPES) if (kinds == i).any()}
    out["in_mask_by_colour"] = {c: round(float(inside[nearest == i].mean()), 2)
                                for i, c in enumerate(scenes.COLOURS) if (nearest == i).any()}
    return out


@torch.no_grad()
def strips(encoder, decoder, pool, renderer, num, dtype, path, frames=(0, 10, 21, 32, 42)):
    """A picture with the truth and its reconstruction below it, for `num` clips."""
    rows = []
    video, _, _ = pool.clips(renderer, torch.arange(num, device=pool.device))
    out = reconstruct(encoder, decoder, video, dtype)
    for pair in zip(video, out):
        rows += [torch.cat([v[f] for f in frames], 1) for v in pair]
    picture = (torch.cat(rows, 0) * 255 + 0.5).byte().cpu().numpy()
    Image.fromarray(picture).save(path)


def choose_kernels(config, device, dtype, compiled, compiled_batch):
    """Chooses how the VAE's kernels run; the function computed stays the same."""
    if compiled:
        vae.Kernels.compiled = torch.compile(vae.norm_silu_pad, dynamic=False)
        vae.Kernels.compiled_batch = compiled_batch
    if device.type != "cuda":
        return
    sizes = {config["decoder_channels"][3]: (48, 128), config["decoder_channels"][2]: (48, 64),
             config["decoder_channels"][1]: (24, 32), config["decoder_channels"][0]: (16, 16)}
    for channels, (frames, side) in sizes.items():
        x = torch.randn(4, frames + 2, side + 2, side + 2, channels, device=device, dtype=dtype,
                        requires_grad=True)
        w = torch.randn(channels, channels, 3, 3, 3, device=device, requires_grad=True)
        bias = torch.zeros(channels, device=device)
        times = {}
        for kind in ("conv3d", "stack_in", "stack_out"):
            for turn in range(8):
                if turn == 3:
                    torch.cuda.synchronize()
                    start = time.time()
                y = vae.conv_padded(x, w, bias, kind)
                torch.autograd.grad(y, [x, w], torch.ones_like(y))
            torch.cuda.synchronize()
            times[kind] = (time.time() - start) / 5
        vae.Kernels.conv[channels] = min(times, key=times.get)
        say(f"conv {channels}: " + ", ".join(f"{k} {t * 1e3:.2f} ms" for k, t in times.items()))
