"""The sampler: linear-quadratic schedule, Euler steps, classifier-free guidance."""

import torch

from micro import dit


def sigmas(num_steps, threshold, linear_steps):
    k, s = linear_steps, num_steps
    out = [1 - i * threshold / k for i in range(k)]
    d, q = k - threshold * s, s - k
    a = d / (k * q * q)
    b = threshold / k - 2 * d / (q * q)
    c = a * k * k
    out += [1 - (a * i * i + b * i + c) for i in range(k, s)]
    return out + [0.0]


@torch.no_grad()
def sample(transformer, text_encoder, ids, counts, noise, cfg, steps, dtype, packed):
    """Normalised latents [B,12,T,H,W] for token ids [B,L]; fp32 outside of the network."""
    b, length = ids.shape
    dev = noise.device
    counts = torch.cat([counts, torch.zeros_like(counts)])
    mask = torch.arange(length, device=dev)[None] < counts[:, None]
    _, _, t, h, w = noise.shape
    patch = transformer.patch
    plan = dit.AttentionPlan.make(counts, t * (h // patch) * (w // patch), length, packed)
    z = noise.float()
    with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        feats = text_encoder(torch.cat([ids, ids]), mask)
        for now, after in zip(steps[:-1], steps[1:]):
            sigma = torch.full((2 * b,), now, device=dev)
            v = transformer(torch.cat([z, z]), sigma, feats, mask, plan).float()
            v = v[b:] + cfg * (v[:b] - v[b:])
            z = z + (now - after) * v
    return z


@torch.no_grad()
def decode(decoder, z, mean, std, dtype):
    """Latents [B,12,T,H,W] to uint8 video [B,T,H,W,3]."""
    z = z * std[:, None, None, None] + mean[:, None, None, None]
    out = decoder(z.permute(0, 2, 3, 4, 1).to(dtype)).float()
    return (((out + 1) / 2).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
