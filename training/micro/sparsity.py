"""Chipmunk's column sparsity in PyTorch, written from its description and apart from the engine.

Batched over prompts and with masks instead of gathered columns: it saves no time, but many videos
run at once, and it is an oracle. A batch is [conditional branches, null branches].
"""

import copy

import torch
import torch.nn.functional as F
from micro import dit as micro_dit
from micro.skipping import Skipper

VOXEL = (4, 6, 8)  # frames, rows, columns of tokens
GROUP = 192
TILE = 128
# By how much the log-sum-exp of the columns left out moves with that of the chosen ones.
FOLLOW = {"lse_merge": 0.0, "quarter_merge": 0.25, "half_merge": 0.5, "three_quarter_merge": 0.75}
CHUNK = 20  # samples whose logits are in memory at once

DEFAULTS = {"top_keys": 0.15, "random_keys": 0.01, "local_voxels": 1, "first_n_dense_layers": 2,
            "full_steps": [0, 1, 15, 30, 45, 60], "delta": "half_merge", "score_queries": 1,
            "voxels": True, "top_p": 0.0, "min_keys": 0.02, "max_keys": 0.5}


def voxel_order(grid):
    """Raster indices of the tokens [N] in voxel order, the tails last."""
    raster = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
    t, h, w = (size // step * step for size, step in zip(grid, VOXEL))
    whole = raster[:t, :h, :w].reshape(t // 4, 4, h // 6, 6, w // 8, 8).permute(0, 2, 4, 1, 3, 5)
    parts = [whole, raster[t:], raster[:t, h:], raster[:t, :h, w:]]
    return torch.cat([part.reshape(-1) for part in parts])


def static_columns(config, grid, lengths, num_tokens):
    """[samples, groups, tokens] of the columns that groups always see."""
    num_visual = grid[0] * grid[1] * grid[2]
    num_groups = -(-num_tokens // GROUP)
    num_voxels = [size // step for size, step in zip(grid, VOXEL)] if config["voxels"] else [0] * 3
    voxel_at = torch.arange(num_voxels[0] * num_voxels[1] * num_voxels[2]).view(num_voxels)
    mask = torch.zeros(len(lengths), num_groups, num_tokens, dtype=torch.bool)
    mask[:, :, num_visual:] = True
    for group in range(num_groups):
        if (group + 1) * GROUP > num_visual and num_tokens > num_visual:
            mask[:, group] = True
        if config["local_voxels"] == 0:
            continue
        if group >= voxel_at.numel():
            mask[:, group, max(0, num_visual - GROUP * config["local_voxels"] ** 3):] = True
            continue
        size = config["local_voxels"] // 2 * 2 + 1
        place = (voxel_at == group).nonzero()[0].tolist()
        window = []
        for at, length in zip(place, num_voxels):
            begin = min(max(at - min(size, length) // 2, 0), length - min(size, length))
            window.append(slice(begin, begin + size))
        for voxel in voxel_at[tuple(window)].flatten().tolist():
            mask[:, group, voxel * GROUP:(voxel + 1) * GROUP] = True
    valid = torch.arange(num_tokens)[None] < num_visual + torch.tensor(lengths)[:, None]
    return mask & valid[:, None], valid


def choose_columns(config, scores, static, valid, generator):
    """[B, heads, groups, tokens] of the kept columns, for scores of that shape."""
    counts = valid.sum(1)  # columns of each sample
    everything = valid[:, None, None]
    kept = static[:, None] | (torch.rand(scores.shape, generator=generator, device=scores.device)
                              < config["random_keys"])
    scores = scores.masked_fill(~everything, -1)
    order = scores.argsort(-1, descending=True)
    rank = order.argsort(-1)
    if config["top_p"] > 0:
        ordered = scores.gather(-1, order).clamp(min=0)
        before = ordered.cumsum(-1) - ordered
        needed = (before < config["top_p"] * ordered.sum(-1, keepdim=True)).sum(-1, keepdim=True)
        bound = [(fraction * counts).round().long()[:, None, None, None]
                 for fraction in (config["min_keys"], config["max_keys"])]
        num_top = needed.clamp(min=bound[0], max=bound[1])
    else:
        num_top = (TILE * (config["top_keys"] * counts / TILE).round()).long()
        num_top = num_top[:, None, None, None]
    kept = (kept | (rank < num_top)) & everything
    wanted = (kept.sum(-1, keepdim=True) + TILE - 1) // TILE * TILE
    wanted = wanted.minimum(counts[:, None, None, None])
    rank = (scores + kept * 1e6).argsort(-1, descending=True).argsort(-1)
    return rank < wanted


def attend(q, k, v, allowed, score_lse=None, score_queries=1):
    """(out [B, heads, n, d], lse [B, heads, n], column sums [B, heads, groups, n] or None).

    `allowed` [B, 1 or heads, 1 or groups, n]: the columns of every query group.
    """
    b, h, n, d = q.shape
    num_groups = -(-n // GROUP)
    outs, lses, sums = [], [], []
    for i in range(0, b, CHUNK):
        part = slice(i, i + CHUNK)
        logits = (q[part] * d ** -0.5) @ k[part].transpose(-1, -2)
        if score_lse is not None:
            weights = (logits - score_lse[part][..., None]).exp_()
            weights.masked_fill_(~allowed[part][:, :, :1], 0)
            weights = F.pad(weights, (0, 0, 0, num_groups * GROUP - n))
            weights = weights.view(*weights.shape[:2], num_groups, GROUP, n)
            sums.append(weights[:, :, :, ::score_queries].sum(3))
            del weights
        mask = allowed[part]
        if mask.shape[2] > 1:
            mask = mask.repeat_interleave(GROUP, 2)[:, :, :n]
        logits.masked_fill_(~mask, float("-inf"))
        lse = logits.logsumexp(-1)
        outs.append(logits.sub_(lse[..., None]).exp_() @ v[part])
        lses.append(lse)
    return torch.cat(outs), torch.cat(lses), torch.cat(sums) if sums else None


class Site:
    """What the last full step left at one layer."""

    lse = columns = cache = None


class Sparsity:
    """State of one sampling; attention of every layer and step. `config` None: dense."""

    def __init__(self, config, grid, lengths, num_text, depth, device, seed=0):
        self.config = config
        num_tokens = grid[0] * grid[1] * grid[2] + num_text
        static, valid = static_columns(config or DEFAULTS, grid, lengths, num_tokens)
        self.static, self.valid = static.to(device), valid.to(device)
        self.sites = [Site() for _ in range(depth)]
        self.generator = torch.Generator(device).manual_seed(seed)
        self.kept = []  # fractions of all columns, of every choice
        self.order = voxel_order(grid).to(device) if config and config["voxels"] else None

    def rows(self, index):
        """The same for some samples of a batch with dense attention."""
        part = copy.copy(self)
        part.valid = self.valid[index]
        return part

    def attend(self, layer, step, q, k, v):
        everything = self.valid[:, None, None]
        if self.config is None or layer < self.config["first_n_dense_layers"]:
            return attend(q, k, v, everything)[0]
        site = self.sites[layer]
        if step in self.config["full_steps"]:
            return self.run_full(site, q, k, v, everything)
        out, lse, _ = attend(q, k, v, site.columns)
        return self.apply(site, out, lse)

    def run_full(self, site, q, k, v, everything):
        out, lse, sums = attend(q, k, v, everything, site.lse, self.config["score_queries"])
        if sums is not None:
            site.columns = choose_columns(self.config, sums, self.static, self.valid,
                                          self.generator)
            visual = site.columns.shape[2] - 1
            self.kept.append(site.columns[:, :, :visual].sum(-1).float().div(
                self.valid.sum(1)[:, None, None]).mean().item())
            part, part_lse, _ = attend(q, k, v, site.columns)
            weight = (part_lse - lse).exp().clamp(max=1)[..., None]
            site.part_lse, site.weight = part_lse, weight
            site.rest_lse = lse + torch.log1p(-weight[..., 0].double().clamp(max=1 - 1e-9)).float()
            site.full_lse = lse
            site.cache = out - (part if self.config["delta"] == "subtract" else weight * part)
        site.lse = lse
        return out

    def apply(self, site, part, part_lse):
        delta = self.config["delta"]
        if delta == "none":
            return part
        if delta == "subtract":
            return site.cache + part
        if delta == "weighted":
            return site.cache + site.weight * part
        shift = FOLLOW[delta] * (part_lse - site.part_lse)
        total = torch.logaddexp(part_lse, site.rest_lse + shift)
        return ((part_lse - total).exp()[..., None] * part
                + (site.full_lse + shift - total).exp()[..., None] * site.cache)


def run_block(block, x, y, c, rotary, attention):
    """micro.dit.Block with the attention given as a function of q, k, v [B, heads, n, d]."""
    a = block.attn
    scale_a, gate_a, scale_m, gate_m = block.mod_x(c).chunk(4, -1)
    mod_y = block.mod_y(c)
    scale_y = mod_y if block.last else mod_y.chunk(4, -1)[0]
    qkv_x = a.qkv_x(micro_dit.rms_modulate(x, scale_a)).unflatten(-1, (3, a.heads, a.dim))
    qkv_y = a.qkv_y(micro_dit.rms_modulate(y, scale_y)).unflatten(-1, (3, a.heads, a.dim))
    norms = ((a.q_norm_x, a.q_norm_y), (a.k_norm_x, a.k_norm_y))
    joint = []
    for i, (norm_x, norm_y) in enumerate(norms):
        visual = micro_dit.rotate(micro_dit.head_norm(qkv_x[:, :, i], norm_x.weight), *rotary)
        joint.append(torch.cat([visual, micro_dit.head_norm(qkv_y[:, :, i], norm_y.weight)], 1))
    joint.append(torch.cat([qkv_x[:, :, 2], qkv_y[:, :, 2]], 1))
    out = attention(*(part.transpose(1, 2) for part in joint)).transpose(1, 2).flatten(2)
    out_x, out_y = out[:, :x.shape[1]], out[:, x.shape[1]:]
    x = micro_dit.gated_residual(x, a.proj_x(out_x), gate_a)
    x = micro_dit.gated_residual(x, block.mlp_x(micro_dit.rms_modulate(x, scale_m)), gate_m)
    if not block.last:
        _, gate_ya, scale_ym, gate_ym = mod_y.chunk(4, -1)
        y = micro_dit.gated_residual(y, a.proj_y(out_y), gate_ya)
        y = micro_dit.gated_residual(y, block.mlp_y(micro_dit.rms_modulate(y, scale_ym)), gate_ym)
    return x, y


def predict(model, z, sigma, feats, mask, sparsity, step):
    """Velocity [B, C, T, H, W], as micro.dit.DiT.forward, at one step."""
    x, cos, sin = model.embed(z)
    if sparsity.order is not None:
        x, cos, sin = x[:, sparsity.order], cos[sparsity.order], sin[sparsity.order]
    c = model.condition(sigma, feats, mask)
    y = model.t5_yproj(feats)
    for layer, block in enumerate(model.blocks):
        x, y = run_block(block, x, y, c, (cos, sin),
                         lambda q, k, v, at=layer: sparsity.attend(at, step, q, k, v))
    if sparsity.order is not None:
        x = x[:, sparsity.order.argsort()]
    return model.finish(x, c, z.shape)


@torch.no_grad()
def sample(model, text_encoder, ids, counts, noise, cfg, sigmas, config, skipping=None):
    """(latents [B, C, T, H, W], mean kept fraction, evaluated steps of each video) of token ids
    [B, L] from noise. Full steps are evaluated whatever `skipping` says, a dict of skipping.DEFAULTS.
    """
    b, num_text = ids.shape
    counts = torch.cat([counts, torch.zeros_like(counts)])
    mask = torch.arange(num_text, device=ids.device)[None] < counts[:, None]
    _, _, t, h, w = noise.shape
    grid = (t, h // model.patch, w // model.patch)
    feats = text_encoder(torch.cat([ids, ids]), mask)
    sparsity = Sparsity(config, grid, counts.tolist(), num_text, len(model.blocks), noise.device)
    skipper = Skipper(skipping or {}, sigmas, config["full_steps"] if config else [])
    skipper.begin(b)
    z = noise
    for step, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        def evaluate(needed):
            # The caches of sparse attention hold all videos; without them some will do.
            rows = torch.arange(b) if config else torch.tensor(needed)
            both = torch.cat([rows, rows + b]).to(z.device)
            part = sparsity if config else sparsity.rows(both)
            sigma = torch.full((len(both),), now, device=z.device)
            v = z.new_zeros((2 * b, *z.shape[1:]))
            v[both] = predict(model, torch.cat([z, z])[both], sigma, feats[both], mask[both], part,
                              step)
            return v[:b], v[b:]
        v, shift = skipper.advance(step, cfg, evaluate)
        z = z + shift + (now - after) * v
    kept = sum(sparsity.kept) / len(sparsity.kept) if sparsity.kept else 1.0
    return z, kept, skipper.evaluated
