"""A T5 v1.1 encoder with transformers' parameter names."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        xf = x.float()
        xf = xf * torch.rsqrt(xf.pow(2).mean(-1, keepdim=True) + self.eps)
        return (xf * self.weight.float()).to(x.dtype)


def relative_buckets(length, num_buckets, max_distance):
    """T5's bidirectional buckets of (key - query), computed on the CPU once per length."""
    pos = torch.arange(length)
    rel = pos[None, :] - pos[:, None]
    half = num_buckets // 2
    bucket = (rel > 0).long() * half
    dist = rel.abs()
    exact = half // 2
    large = exact + (torch.log(dist.clamp(min=1).float() / exact)
                     / math.log(max_distance / exact) * (half - exact)).long()
    return bucket + torch.where(dist < exact, dist, large.clamp(max=half - 1))


def initial_bias(num_buckets, num_heads):
    """[num_buckets, num_heads]: heads that look one token back, one ahead, at all before, after.

    From which word a colour belongs to, to which object was named first, captions are about
    neighbours and order; from zero, such biases take thousands of steps to grow.
    """
    ahead = num_buckets // 2
    bias = torch.zeros(num_buckets, num_heads)
    for head in range(num_heads):
        kind = head % 4
        if kind < 2:
            bias[1 + kind * ahead, head] = 4.0
        else:
            bias[(kind - 2) * ahead:(kind - 1) * ahead, head] = 3.0
    return bias


class Attention(nn.Module):
    def __init__(self, cfg, has_bias):
        super().__init__()
        inner = cfg["num_heads"] * cfg["head_dim"]
        self.num_heads = cfg["num_heads"]
        self.q = nn.Linear(cfg["hidden_size"], inner, bias=False)
        self.k = nn.Linear(cfg["hidden_size"], inner, bias=False)
        self.v = nn.Linear(cfg["hidden_size"], inner, bias=False)
        self.o = nn.Linear(inner, cfg["hidden_size"], bias=False)
        nn.init.normal_(self.q.weight, std=(cfg["hidden_size"] * cfg["head_dim"]) ** -0.5)
        for layer in (self.k, self.v, self.o):
            nn.init.normal_(layer.weight, std=cfg["hidden_size"] ** -0.5)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(cfg["num_buckets"], cfg["num_heads"])
            self.relative_attention_bias.weight.data = initial_bias(
                cfg["num_buckets"], cfg["num_heads"])

    def forward(self, x, bias):
        b, n, _ = x.shape
        q, k, v = (m(x).view(b, n, self.num_heads, -1).transpose(1, 2)
                   for m in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-1, -2)).float() + bias
        out = scores.softmax(-1).to(v.dtype) @ v
        return self.o(out.transpose(1, 2).reshape(b, n, -1))


class FeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, f = cfg["hidden_size"], cfg["feed_forward_size"]
        self.wi_0 = nn.Linear(d, f, bias=False)
        self.wi_1 = nn.Linear(d, f, bias=False)
        self.wo = nn.Linear(f, d, bias=False)
        for layer in (self.wi_0, self.wi_1):
            nn.init.normal_(layer.weight, std=d ** -0.5)
        nn.init.normal_(self.wo.weight, std=f ** -0.5)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Layer(nn.Module):
    def __init__(self, name, module, dim):
        super().__init__()
        self.add_module(name, module)
        self.layer_norm = RMSNorm(dim)


class Block(nn.Module):
    def __init__(self, cfg, has_bias):
        super().__init__()
        self.layer = nn.ModuleList([
            Layer("SelfAttention", Attention(cfg, has_bias), cfg["hidden_size"]),
            Layer("DenseReluDense", FeedForward(cfg), cfg["hidden_size"])])

    def forward(self, x, bias):
        attn, ff = self.layer
        x = x + attn.SelfAttention(attn.layer_norm(x), bias)
        return x + ff.DenseReluDense(ff.layer_norm(x))


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.block = nn.ModuleList([Block(cfg, i == 0) for i in range(cfg["num_layers"])])
        self.final_layer_norm = RMSNorm(cfg["hidden_size"])


class T5Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.shared = nn.Embedding(cfg["vocab_size"], cfg["hidden_size"])
        self.encoder = Encoder(cfg)
        self.buckets = {}

    def forward(self, ids, mask):
        """ids [B, L], mask [B, L] bool (True = a real token); returns [B, L, hidden_size]."""
        key = (ids.shape[1], ids.device)
        if key not in self.buckets:
            self.buckets[key] = relative_buckets(
                ids.shape[1], self.cfg["num_buckets"], self.cfg["max_distance"]).to(ids.device)
        first = self.encoder.block[0].layer[0].SelfAttention
        bias = first.relative_attention_bias(self.buckets[key]).permute(2, 0, 1)[None].float()
        bias = bias + torch.where(mask, 0.0, -1e9)[:, None, None, :]
        x = self.shared(ids)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)
