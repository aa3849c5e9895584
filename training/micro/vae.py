"""The VAE of Mochi: causal 3-D convolutions, GroupNorm per frame.

Activations are laid out (batch, time, height, width, channel), which is what cuDNN's channels-last
kernels want and which makes every 1x1 convolution a plain linear layer. Parameters carry the
checkpoint's own names and shapes.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

LOGVAR_MIN, LOGVAR_MAX = -5.0, 2.0


class ReplicatePad(torch.autograd.Function):
    """Two copies of the first frame in front; one copy of every edge in space."""

    @staticmethod
    def forward(ctx, x):
        dev = x.device
        t, h, w = x.shape[1:4]
        x = x[:, (torch.arange(t + 2, device=dev) - 2).clamp(min=0)]
        x = x[:, :, (torch.arange(h + 2, device=dev) - 1).clamp(0, h - 1)]
        return x[:, :, :, (torch.arange(w + 2, device=dev) - 1).clamp(0, w - 1)]

    @staticmethod
    def backward(ctx, g):
        g = torch.cat([g[:, :3].sum(1, keepdim=True), g[:, 3:]], 1)
        g = torch.cat([g[:, :, :2].sum(2, keepdim=True), g[:, :, 2:-2],
                       g[:, :, -2:].sum(2, keepdim=True)], 2)
        return torch.cat([g[:, :, :, :2].sum(3, keepdim=True), g[:, :, :, 2:-2],
                          g[:, :, :, -2:].sum(3, keepdim=True)], 3)


def norm_silu(x, weight, bias, groups):
    """GroupNorm with statistics per frame, then SiLU; fp32 inside, the dtype of x outside."""
    b, t, h, w, c = x.shape
    xf = x.float()
    mean = xf.mean((2, 3)).view(b, t, groups, c // groups).mean(-1, keepdim=True)
    square = (xf * xf).mean((2, 3)).view(b, t, groups, c // groups).mean(-1, keepdim=True)
    inv = torch.rsqrt((square - mean * mean).clamp(min=0) + 1e-5)
    scale = inv * weight.float().view(groups, c // groups)
    shift = bias.float().view(groups, c // groups) - mean * scale
    y = xf * scale.view(b, t, 1, 1, c) + shift.view(b, t, 1, 1, c)
    return F.silu(y).to(x.dtype)


def norm_silu_pad(x, weight, bias, groups):
    return ReplicatePad.apply(norm_silu(x, weight, bias, groups))


class Kernels:
    """The choices that training makes for speed; the function computed is always the same."""
    compiled = None  # norm_silu_pad, compiled
    compiled_batch = 0  # batch for which it is also used without gradients
    conv = {}  # kind of convolution by number of channels

    @classmethod
    def norm_silu_pad(cls, x, weight, bias, groups):
        """Every new shape costs a compilation: only shapes that occur all the time get one."""
        often = torch.is_grad_enabled() or x.shape[0] == cls.compiled_batch
        chosen = cls.compiled if cls.compiled and often else norm_silu_pad
        return chosen(x, weight, bias, groups)


def conv_padded(p, weight, bias, kind):
    """A 3x3x3 convolution without padding over (B, T+2, H+2, W+2, C)."""
    weight = weight.to(p.dtype)
    bias = bias.to(p.dtype)
    b, t, h, w, c = p.shape
    if kind == "conv3d":
        y = F.conv3d(p.permute(0, 4, 1, 2, 3), weight, bias)
        return y.permute(0, 2, 3, 4, 1)
    co = weight.shape[0]
    if kind == "stack_in":  # the three time taps side by side in the input channels
        q = torch.cat([p[:, :-2], p[:, 1:-1], p[:, 2:]], -1).view(b * (t - 2), h, w, 3 * c)
        w2 = weight.permute(0, 2, 1, 3, 4).reshape(co, 3 * c, 3, 3)
        y = F.conv2d(q.permute(0, 3, 1, 2), w2.contiguous(memory_format=torch.channels_last), bias)
        return y.permute(0, 2, 3, 1).reshape(b, t - 2, h - 2, w - 2, co)
    w2 = weight.permute(2, 0, 1, 3, 4).reshape(3 * co, c, 3, 3)  # taps in the output channels
    y = F.conv2d(p.reshape(b * t, h, w, c).permute(0, 3, 1, 2),
                 w2.contiguous(memory_format=torch.channels_last))
    y = y.permute(0, 2, 3, 1).reshape(b, t, h - 2, w - 2, 3, co)
    return y[:, :-2, :, :, 0] + y[:, 1:-1, :, :, 1] + y[:, 2:, :, :, 2] + bias


class ResBlock(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.groups = groups
        self.stack = nn.ModuleDict({
            "0": nn.GroupNorm(groups, channels), "2": nn.Conv3d(channels, channels, 3),
            "3": nn.GroupNorm(groups, channels), "5": nn.Conv3d(channels, channels, 3)})
        nn.init.normal_(self.stack["5"].weight, std=0.2 / math.sqrt(27 * channels))
        nn.init.zeros_(self.stack["5"].bias)

    def forward(self, x):
        h = x
        for norm, conv in (("0", "2"), ("3", "5")):
            n, c = self.stack[norm], self.stack[conv]
            h = Kernels.norm_silu_pad(h, n.weight, n.bias, self.groups)
            h = conv_padded(h, c.weight, c.bias, Kernels.conv.get(h.shape[-1], "stack_in"))
        return x + h


def linear(layer, x):
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.flatten(1).to(x.dtype), bias)


class UpBlock(nn.Module):
    def __init__(self, num_res, c_in, c_out, st, ss, groups):
        super().__init__()
        self.st, self.ss, self.c_out = st, ss, c_out
        self.blocks = nn.ModuleList([ResBlock(c_in, groups) for _ in range(num_res)])
        self.proj = nn.Linear(c_in, c_out * st * ss * ss)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        y = linear(self.proj, x)
        b, t, h, w, _ = y.shape
        st, ss = self.st, self.ss
        y = y.view(b, t, h, w, self.c_out, st, ss, ss).permute(0, 1, 5, 2, 6, 3, 7, 4)
        y = y.reshape(b, t * st, h * ss, w * ss, self.c_out)
        return y[:, st - 1:].contiguous() if st > 1 else y


class Decoder(nn.Module):
    """Latents (B, T, H, W, 12), not normalised, to video in [-1, 1]."""

    def __init__(self, cfg):
        super().__init__()
        ch, num_res, groups = cfg["decoder_channels"], cfg["decoder_res_blocks"], cfg["norm_groups"]
        first = [nn.Conv3d(cfg["latent_channels"], ch[0], 1)]
        first += [ResBlock(ch[0], groups) for _ in range(num_res[0])]
        blocks = [nn.ModuleList(first)]
        for i in range(3):
            blocks.append(UpBlock(num_res[i + 1], ch[i], ch[i + 1], cfg["temporal_factors"][i],
                                  cfg["spatial_factors"][i], groups))
        blocks.append(nn.ModuleList([ResBlock(ch[3], groups) for _ in range(num_res[4])]))
        self.blocks = nn.ModuleList(blocks)
        self.output_proj = nn.Linear(ch[3], 3)

    def forward(self, z):
        x = linear(self.blocks[0][0], z)
        for block in list(self.blocks[0])[1:]:
            x = block(x)
        for up in list(self.blocks)[1:4]:
            x = up(x)
        for block in self.blocks[4]:
            x = block(x)
        return linear(self.output_proj, F.silu(x))


class DownBlock(nn.Module):
    def __init__(self, num_res, c_in, c_out, st, ss, groups):
        super().__init__()
        self.st, self.ss = st, ss
        conv = nn.Conv3d(c_in, c_out, (st, ss, ss), stride=(st, ss, ss))
        self.layers = nn.ModuleList([conv] + [ResBlock(c_out, groups) for _ in range(num_res)])

    def forward(self, x):
        st, ss = self.st, self.ss
        if st > 1:
            x = torch.cat([x[:, :1]] * (st - 1) + [x], 1)
        b, t, h, w, c = x.shape
        x = x.view(b, t // st, st, h // ss, ss, w // ss, ss, c).permute(0, 1, 3, 5, 7, 2, 4, 6)
        x = linear(self.layers[0], x.reshape(b, t // st, h // ss, w // ss, c * st * ss * ss))
        for block in list(self.layers)[1:]:
            x = block(x)
        return x


def fourier_features(x, exponents):
    """x (…, 3) in [-1, 1] to (…, 15): x, sines, cosines; frequencies adjacent per channel."""
    freqs = torch.tensor([2.0 ** e * 2 * math.pi for e in exponents], device=x.device)
    arg = (x.float().unsqueeze(-1) * freqs).flatten(-2)
    return torch.cat([x.float(), arg.sin(), arg.cos()], -1)


class Encoder(nn.Module):
    """Video (B, T, H, W, 3) in [-1, 1] to (mean, logvar) of the latents."""

    def __init__(self, cfg):
        super().__init__()
        ch, num_res, groups = cfg["encoder_channels"], cfg["encoder_res_blocks"], cfg["norm_groups"]
        self.groups, self.exponents = groups, cfg["fourier_frequencies"]
        num_features = 3 + 6 * len(self.exponents)
        layers = [nn.Linear(num_features, ch[0])]
        layers += [ResBlock(ch[0], groups) for _ in range(num_res[0])]
        st, ss = cfg["temporal_factors"][::-1], cfg["spatial_factors"][::-1]
        for i in range(3):
            layers.append(DownBlock(num_res[i + 1], ch[i], ch[i + 1], st[i], ss[i], groups))
        layers += [ResBlock(ch[3], groups) for _ in range(num_res[4])]
        self.layers = nn.ModuleList(layers)
        self.output_norm = nn.GroupNorm(groups, ch[3])
        self.output_proj = nn.Linear(ch[3], 2 * cfg["latent_channels"], bias=False)

    def forward(self, video, dtype=None):
        x = fourier_features(video, self.exponents).to(dtype or video.dtype)
        x = linear(self.layers[0], x)
        for layer in list(self.layers)[1:]:
            x = layer(x)
        x = norm_silu(x, self.output_norm.weight, self.output_norm.bias, self.groups)
        mean, logvar = linear(self.output_proj, x).float().chunk(2, -1)
        return mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)
