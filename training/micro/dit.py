"""The diffusion transformer of Mochi (asymmetric joint attention), with the checkpoint's names."""

import math

import torch
import torch.nn.functional as F
from torch import nn

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None


def rms_modulate(x, scale):
    xf = x.float()
    xf = xf * torch.rsqrt(xf.pow(2).mean(-1, keepdim=True) + 1e-6)
    return (xf * (1 + scale.float()[:, None])).to(x.dtype)


def gated_residual(x, r, gate):
    rf = r.float()
    rf = rf * torch.rsqrt(rf.pow(2).mean(-1, keepdim=True) + 1e-6)
    return (x.float() + rf * torch.tanh(gate.float())[:, None]).to(x.dtype)


def head_norm(x, weight):
    xf = x.float()
    return xf * torch.rsqrt(xf.pow(2).mean(-1, keepdim=True) + 1e-5) * weight.float()


def rotate(x, cos, sin):
    """x [B, N, heads, d] fp32; cos, sin [N, heads, d/2]; pairs are neighbours."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class AttentionPlan:
    """How to keep padded text out of the joint attention.

    With `segments` every sample is two packed sequences, [visual, valid text] and [padding], so
    that the variable-length flash kernel needs no mask and shapes stay static. With `mask` the
    general kernel is used. With neither, all text tokens are valid.
    """

    def __init__(self, segments=None, mask=None):
        self.segments, self.mask = segments, mask

    @staticmethod
    def make(lengths, num_visual, num_text, packed):
        if num_text == 0:
            return AttentionPlan()
        if packed:
            total = num_visual + num_text
            start = torch.arange(len(lengths), device=lengths.device) * total
            ends = torch.stack([start + num_visual + lengths, start + total], 1).flatten()
            return AttentionPlan(segments=F.pad(ends, (1, 0)).to(torch.int32))
        valid = torch.arange(num_text, device=lengths.device)[None] < lengths[:, None]
        mask = F.pad(valid, (num_visual, 0), value=True)
        return AttentionPlan(mask=mask[:, None, None, :])


def attend(q, k, v, segments, mask):
    """q, k, v [B, N, heads, d] to [B, N, heads * d]."""
    b, n, h, d = q.shape
    if segments is not None:
        out = varlen_attn(q.reshape(b * n, h, d), k.reshape(b * n, h, d), v.reshape(b * n, h, d),
                          segments, segments, n, n)
        return out.reshape(b, n, h * d)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                         attn_mask=mask)
    return out.transpose(1, 2).reshape(b, n, h * d)


class HeadNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))


class JointAttention(nn.Module):
    def __init__(self, dx, dy, heads, last):
        super().__init__()
        self.heads, self.dim = heads, dx // heads
        self.qkv_x = nn.Linear(dx, 3 * dx, bias=False)
        self.qkv_y = nn.Linear(dy, 3 * dx, bias=False)
        self.q_norm_x, self.k_norm_x = HeadNorm(self.dim), HeadNorm(self.dim)
        self.q_norm_y, self.k_norm_y = HeadNorm(self.dim), HeadNorm(self.dim)
        self.proj_x = nn.Linear(dx, dx)
        if not last:
            self.proj_y = nn.Linear(dx, dy)

    def forward(self, x, y, cos, sin, segments, mask):
        b, nx, _ = x.shape
        qx, kx, vx = self.qkv_x(x).view(b, nx, 3, self.heads, self.dim).unbind(2)
        qx = rotate(head_norm(qx, self.q_norm_x.weight), cos, sin)
        kx = rotate(head_norm(kx, self.k_norm_x.weight), cos, sin)
        qy, ky, vy = self.qkv_y(y).view(b, y.shape[1], 3, self.heads, self.dim).unbind(2)
        qy = head_norm(qy, self.q_norm_y.weight)
        ky = head_norm(ky, self.k_norm_y.weight)
        q = torch.cat([qx, qy], 1).to(vx.dtype)
        k = torch.cat([kx, ky], 1).to(vx.dtype)
        v = torch.cat([vx, vy], 1)
        out = attend(q, k, v, segments, mask)
        return out[:, :nx], out[:, nx:]


class FeedForward(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.w1 = nn.Linear(dim, 2 * hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        a, b = self.w1(x).chunk(2, -1)
        return self.w2(F.silu(a) * b)


class Block(nn.Module):
    def __init__(self, cfg, last):
        super().__init__()
        dx, dy = cfg["hidden_size_x"], cfg["hidden_size_y"]
        self.last = last
        self.mod_x = nn.Linear(dx, 4 * dx)
        self.mod_y = nn.Linear(dx, dy if last else 4 * dy)
        self.attn = JointAttention(dx, dy, cfg["num_heads"], last)
        self.mlp_x = FeedForward(dx, cfg["mlp_hidden_x"])
        if not last:
            self.mlp_y = FeedForward(dy, cfg["mlp_hidden_y"])

    def forward(self, x, y, c, cos, sin, segments, mask):
        scale_a, gate_a, scale_m, gate_m = self.mod_x(c).chunk(4, -1)
        mod_y = self.mod_y(c)
        scale_y = mod_y if self.last else mod_y.chunk(4, -1)[0]
        ax, ay = self.attn(rms_modulate(x, scale_a), rms_modulate(y, scale_y), cos, sin,
                           segments, mask)
        x = gated_residual(x, self.attn.proj_x(ax), gate_a)
        x = gated_residual(x, self.mlp_x(rms_modulate(x, scale_m)), gate_m)
        if not self.last:
            _, gate_ya, scale_ym, gate_ym = mod_y.chunk(4, -1)
            y = gated_residual(y, self.attn.proj_y(ay), gate_ya)
            y = gated_residual(y, self.mlp_y(rms_modulate(y, scale_ym)), gate_ym)
        return x, y


class Pooler(nn.Module):
    """Pools the caption: the mean token asks, the mean and the valid tokens answer."""

    def __init__(self, width, dx, heads):
        super().__init__()
        self.heads = heads
        self.to_kv = nn.Linear(width, 2 * width)
        self.to_q = nn.Linear(width, width)
        self.to_out = nn.Linear(width, dx)

    def forward(self, feats, mask):
        b, n, width = feats.shape
        weight = mask.to(feats.dtype)[..., None]
        mean = (feats * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        all_feats = torch.cat([mean, feats], 1)
        k, v = self.to_kv(all_feats).view(b, n + 1, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = self.to_q(mean).view(b, 1, self.heads, -1).transpose(1, 2)
        valid = F.pad(mask, (1, 0), value=True)[:, None, None]
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        probs = scores.masked_fill(~valid, -1e9).softmax(-1).to(v.dtype)
        return self.to_out((probs @ v).transpose(1, 2).reshape(b, width))


class PatchEmbed(nn.Module):
    def __init__(self, channels, dx, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, dx, patch, stride=patch)


class TimestepEmbed(nn.Module):
    def __init__(self, num_features, dx):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(num_features, dx), nn.SiLU(), nn.Linear(dx, dx))


class FinalLayer(nn.Module):
    def __init__(self, dx, out):
        super().__init__()
        self.mod = nn.Linear(dx, 2 * dx)
        self.linear = nn.Linear(dx, out)


def token_positions(num_t, rows, cols, device):
    scale = math.sqrt(36864 / (rows * cols))
    t = torch.arange(num_t, device=device, dtype=torch.float32)
    r = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5 - rows / 2) * scale
    c = (torch.arange(cols, device=device, dtype=torch.float32) + 0.5 - cols / 2) * scale
    grid = torch.stack(torch.meshgrid(t, r, c, indexing="ij"), -1)
    return grid.view(-1, 3)


def initial_frequencies(heads, half):
    """Each pair of a head follows one axis; an eighth of the pairs follow none."""
    freqs = torch.zeros(3, heads, half)
    num_t = half // 4
    num_s = (half - num_t - half // 8) // 2
    for h in range(heads):
        stretch = 1.15 ** h
        freqs[0, h, :num_t] = torch.logspace(math.log10(0.15), math.log10(2.6), num_t) / stretch
        for axis in (1, 2):
            start = num_t + (axis - 1) * num_s
            freqs[axis, h, start:start + num_s] = (
                torch.logspace(math.log10(0.008), math.log10(0.22), num_s) / stretch)
    return freqs


class DiT(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        dx, dy, heads = cfg["hidden_size_x"], cfg["hidden_size_y"], cfg["num_heads"]
        self.patch, self.channels = cfg["patch_size"], cfg["latent_channels"]
        self.x_embedder = PatchEmbed(self.channels, dx, self.patch)
        self.t_embedder = TimestepEmbed(cfg["timestep_features"], dx)
        self.t5_y_embedder = Pooler(cfg["text_width"], dx, cfg["pooler_heads"])
        self.t5_yproj = nn.Linear(cfg["text_width"], dy)
        self.pos_frequencies = nn.Parameter(initial_frequencies(heads, dx // heads // 2))
        depth = cfg["depth"]
        self.blocks = nn.ModuleList([Block(cfg, i == depth - 1) for i in range(depth)])
        self.final_layer = FinalLayer(dx, self.patch ** 2 * self.channels)
        self.apply(self.init_weights)
        for block in self.blocks:
            for mod in (block.mod_x, block.mod_y):
                nn.init.normal_(mod.weight, std=0.02)
            block.mod_x.bias.data.view(4, dx)[1::2] = 0.3
            if not block.last:
                block.mod_y.bias.data.view(4, dy)[1::2] = 0.3
        nn.init.zeros_(self.final_layer.linear.weight)

    @staticmethod
    def init_weights(m):
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)

    def timestep_features(self, sigma):
        half = self.cfg["timestep_features"] // 2
        freqs = torch.exp(-math.log(10000.0) * torch.arange(half, device=sigma.device) / half)
        arg = 1000.0 * (1.0 - sigma.float())[:, None] * freqs[None]
        return torch.cat([arg.cos(), arg.sin()], -1)

    def forward(self, z, sigma, feats, mask, plan):
        """z [B,12,T,H,W], sigma [B], feats [B,L,width], mask [B,L]; returns z_0 - noise."""
        x, cos, sin = self.embed(z)
        c = self.condition(sigma, feats, mask)
        y = self.t5_yproj(feats)
        for block in self.blocks:
            x, y = block(x, y, c, cos, sin, plan.segments, plan.mask)
        return self.finish(x, c, z.shape)

    def embed(self, z):
        """Tokens [B,N,dx] in raster order; their rotary cos and sin [N,heads,half]."""
        b, ch, t, h, w = z.shape
        p = self.patch
        rows, cols = h // p, w // p
        tokens = z.view(b, ch, t, rows, p, cols, p).permute(0, 2, 3, 5, 1, 4, 6)
        x = F.linear(tokens.reshape(b, t * rows * cols, ch * p * p),
                     self.x_embedder.proj.weight.flatten(1), self.x_embedder.proj.bias)
        pos = token_positions(t, rows, cols, z.device)
        angles = torch.einsum("na,ahj->nhj", pos, self.pos_frequencies.float())
        return x, angles.cos(), angles.sin()

    def condition(self, sigma, feats, mask):
        """c [B,dx] of the noise level and the pooled caption."""
        return F.silu(self.t_embedder.mlp(self.timestep_features(sigma))
                      + self.t5_y_embedder(feats, mask))

    def finish(self, x, c, shape):
        """Velocity of `shape`, the latents', from tokens [B,N,dx] in raster order."""
        b, ch, t, h, w = shape
        p = self.patch
        rows, cols = h // p, w // p
        shift, scale = self.final_layer.mod(c).chunk(2, -1)
        xf = F.layer_norm(x.float(), (x.shape[-1],), eps=1e-6)
        xf = xf * (1 + scale.float()[:, None]) + shift.float()[:, None]
        out = self.final_layer.linear(xf.to(x.dtype))
        out = out.view(b, t, rows, cols, p, p, ch).permute(0, 6, 1, 2, 4, 3, 5)
        return out.reshape(b, ch, t, h, w)
