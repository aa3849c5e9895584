#!/usr/bin/env python3
"""Measures PyTorch's times for the operations of `mochi bench op`, on the same GPU.

Prints a table and writes JSON in the form of `mochi bench op --json`, with the same names and sizes,
so that report_gpu.py can show both side by side. Times are medians of batches between CUDA events,
on random values. If there are several ways, the fastest is reported and named.

Usage: peer_ops.py [--json FILE] [--repetitions N] [--micro] [--dit]

With --dit it measures a forward pass of the whole transformer instead: the training code's model with
compiled blocks and cuDNN's attention. That needs 23 GB of memory and a minute or two.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BATCH_SECONDS = 0.02
MAX_BATCH = 4096


class Sizes:
    """The sizes of src/bench/sizes.cpp."""

    def __init__(self, micro):
        self.x, self.y, self.heads = (256, 128, 2) if micro else (3072, 1536, 24)
        self.mlp_x, self.mlp_y = (512, 256) if micro else (8192, 4096)
        frames, rows, columns = (3, 12, 20) if micro else (28, 60, 106)
        self.latents = (frames, rows, columns)
        self.visual = frames * (rows // 2) * (columns // 2)
        self.text_width = 64 if micro else 4096
        self.text = 16 if micro else 128
        self.groups = 4 if micro else 32
        self.product = 512 if micro else 8192
        self.copied = 1 << (22 if micro else 29)
        channels = (96, 64, 48, 16) if micro else (768, 512, 256, 128)
        self.stages = []
        t, h, w = 1, rows, columns
        for c, (st, ss) in zip(channels, ((1, 1), (3, 2), (2, 2), (1, 2))):
            t, h, w = t * st, h * ss, w * ss
            self.stages.append((t, h, w, c))


def batch_seconds(task, size):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(size):
        task()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3


def measure(task, repetitions):
    for _ in range(3):
        task()
    torch.cuda.synchronize()
    size = 1
    taken = batch_seconds(task, 1)
    while taken < BATCH_SECONDS and size < MAX_BATCH:
        size = min(MAX_BATCH, int(size * min(16, max(2, 1.2 * BATCH_SECONDS / taken))))
        taken = batch_seconds(task, size)
    return [batch_seconds(task, size) / size for _ in range(repetitions)]


class Peer:
    def __init__(self, sizes, repetitions):
        self.sizes, self.repetitions, self.measurements = sizes, repetitions, []

    def add(self, name, size, ways, flop=0.0, moved=0.0):
        """Measures `ways`, name → task, and keeps the fastest one that works."""
        best, problems = None, []
        for way, task in ways.items():
            try:
                with torch.no_grad():
                    seconds = measure(task, self.repetitions)
            except RuntimeError as error:  # out of memory, or no such kernel
                problems.append(f"{way}: {str(error).splitlines()[0]}")
                continue
            if best is None or statistics.median(seconds) < statistics.median(best[1]):
                best = way, seconds
        entry = {"name": name, "size": size, "flop": flop, "bytes": moved}
        if best is None:
            entry |= {"seconds": 0.0, "problem": "; ".join(problems)}
        else:
            way, seconds = best
            entry |= {"way": way, "seconds": statistics.median(seconds), "fastest": min(seconds),
                      "slowest": max(seconds)}
        self.measurements.append(entry)
        self.show(entry)
        return entry["seconds"]

    @staticmethod
    def show(entry):
        seconds = entry["seconds"]
        if not seconds:
            print(f"{entry['name']:<28} {entry['size']:<34} {entry['problem']}", flush=True)
            return
        rate = (f"{entry['flop'] / seconds * 1e-12:.1f} TFLOP/s" if entry["flop"]
                else f"{entry['bytes'] / seconds * 1e-9:.0f} GB/s" if entry["bytes"] else "")
        print(f"{entry['name']:<28} {entry['size']:<34} {seconds * 1e3:>10.3f} ms {rate:>16} "
              f"{entry['way']}", flush=True)

    # ---- operations ----

    def linear(self, what, rows, k, n, has_bias=False):
        x, weight = random(rows, k), random(n, k) * k**-0.5
        bias = random(n) if has_bias else None
        return self.add(what, f"{rows}×{k}→{n}", {"F.linear": lambda: F.linear(x, weight, bias)},
                        2.0 * rows * k * n, 2.0 * (rows * k + k * n + rows * n))

    def copy(self):
        x = random(self.sizes.copied)
        out = torch.empty_like(x)
        return self.add("ceiling: copy", str(self.sizes.copied), {"copy_": lambda: out.copy_(x)},
                        0.0, 4.0 * self.sizes.copied)

    def attention(self, what, num_tokens):
        heads, head_dim = self.sizes.heads, 128
        q, k, v = (random(1, heads, num_tokens, head_dim) for _ in range(3))

        def run(backend):
            def task():
                with sdpa_kernel(backend):
                    F.scaled_dot_product_attention(q, k, v)
            return task

        ways = {"SDPA, cuDNN": run(SDPBackend.CUDNN_ATTENTION),
                "SDPA, flash": run(SDPBackend.FLASH_ATTENTION)}
        self.add(what, f"{heads}×{num_tokens}×{head_dim}, {num_tokens} keys", ways,
                 4.0 * num_tokens**2 * heads * head_dim, 8.0 * num_tokens * heads * head_dim)

    def conv3d(self, stage):
        t, h, w, c = stage
        layout = torch.channels_last_3d
        # The causal padding is part of x, as in the engine.
        x = random(1, c, t + 2, h + 2, w + 2).contiguous(memory_format=layout)
        weight = (random(c, c, 3, 3, 3) * (27 * c) ** -0.5).contiguous(memory_format=layout)
        bias = random(c)
        residual = random(1, c, t, h, w).contiguous(memory_format=layout)

        def chosen_by_trial():
            torch.backends.cudnn.benchmark = True
            return F.conv3d(x, weight, bias).add_(residual)

        self.add("conv3d", f"{t}×{h}×{w}×{c}", {"cuDNN, channels last": chosen_by_trial},
                 2.0 * 27 * c * c * t * h * w, 2.0 * c * ((t + 2) * (h + 2) * (w + 2) + 2 * t * h * w))

    def group_norm(self, stage):
        t, h, w, c = stage
        x = random(t, c, h, w).contiguous(memory_format=torch.channels_last)
        weight, bias = random(c), random(c)

        def eager():
            return F.pad(F.silu(F.group_norm(x, self.sizes.groups, weight, bias)), (1, 1, 1, 1),
                         mode="replicate")

        self.add("group_norm", f"{t}×{h}×{w}×{c}",
                 {"eager": eager, "compiled": torch.compile(eager, dynamic=False)}, 0.0, 4.0 * t * h * w * c)

    def norm_modulate(self):
        rows, width = self.sizes.visual, self.sizes.x
        x, scale = random(rows, width), random(width)

        def eager():
            y = x.float()
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
            return (y * (1 + scale.float())).to(x.dtype)

        self.add("norm_modulate", f"{rows}×{width}",
                 {"eager": eager, "compiled": torch.compile(eager, dynamic=False)}, 0.0, 4.0 * rows * width)

    def gated_residual(self):
        rows, width = self.sizes.visual, self.sizes.x
        x, r, gate = random(rows, width), random(rows, width), random(width)

        def eager():
            y = r.float()
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
            return (x.float() + y * torch.tanh(gate.float())).to(x.dtype)

        self.add("gated_residual", f"{rows}×{width}",
                 {"eager": eager, "compiled": torch.compile(eager, dynamic=False)}, 0.0, 6.0 * rows * width)

    def gated_activation(self):
        rows, width = self.sizes.visual, self.sizes.mlp_x
        x = random(rows, 2 * width)

        def eager():
            a, b = x.chunk(2, dim=-1)
            return F.silu(a) * b

        self.add("gated_activation silu", f"{rows}×2×{width}",
                 {"eager": eager, "compiled": torch.compile(eager, dynamic=False)}, 0.0, 6.0 * rows * width)

    def gated_linear(self):
        rows, k, width = self.sizes.visual, self.sizes.x, self.sizes.mlp_x
        x, weight = random(rows, k), random(2 * width, k) / k**0.5

        def eager():
            a, b = F.linear(x, weight).chunk(2, dim=-1)
            return F.silu(a) * b

        self.add("gated_linear silu", f"{rows}×{k}→2×{width}",
                 {"eager": eager, "compiled": torch.compile(eager, dynamic=False)},
                 4.0 * rows * k * width, 0.0)

    def qk_norm_rope(self):
        """Measures operations after the matmul, and together with it."""
        rows, heads, head_dim, k = self.sizes.visual, self.sizes.heads, 128, self.sizes.x
        qkv = random(rows, 3, heads, head_dim)
        x, weight = random(rows, k), random(3 * heads * head_dim, k) / k**0.5
        q_weight, k_weight = random(head_dim), random(head_dim)
        cos, sin = (torch.randn(rows, heads, head_dim // 2, device="cuda") for _ in range(2))

        def norm_rotate(x, weight):
            y = x.float()
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5) * weight.float()
            even, odd = y[..., 0::2], y[..., 1::2]
            y = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
            return y.to(x.dtype).transpose(0, 1).contiguous()

        def split(qkv):
            q, k, v = qkv.unbind(1)
            return norm_rotate(q, q_weight), norm_rotate(k, k_weight), v.transpose(0, 1).contiguous()

        def after():
            return split(qkv)

        def fused():
            return split(F.linear(x, weight).view(qkv.shape))

        self.add("qk_norm_rope", f"{rows}×3×{heads}×{head_dim}",
                 {"eager": after, "compiled": torch.compile(after, dynamic=False)}, 0.0,
                 (12.0 + 4.0) * rows * heads * head_dim)
        self.add("qkv_linear", f"{rows}×{k}→3×{heads}×{head_dim}",
                 {"eager": fused, "compiled": torch.compile(fused, dynamic=False)},
                 6.0 * rows * k * heads * head_dim, 0.0)

    def dit_forward(self):
        """Measures all blocks in one branch; weights are BF16 except those that the model keeps in fp32."""
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training" / "micro"))
        import dit

        s = self.sizes
        depth = 2 if s.heads < 24 else 48
        frames, rows, columns = s.latents
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            model = dit.DiT({"num_heads": s.heads, "hidden_size_x": s.x, "hidden_size_y": s.y,
                             "mlp_hidden_x": s.mlp_x, "mlp_hidden_y": s.mlp_y, "patch_size": 2,
                             "latent_channels": 12, "text_width": s.text_width, "depth": depth,
                             "timestep_features": 256, "pooler_heads": 8}).eval()
            torch.nn.init.normal_(model.final_layer.linear.weight, std=s.x**-0.5)
        torch.set_default_dtype(torch.float32)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        args = (torch.randn(1, 12, frames, rows, columns, device="cuda"),
                torch.tensor([0.6], device="cuda"), random(1, s.text, s.text_width),
                torch.ones(1, s.text, dtype=torch.bool, device="cuda"), dit.AttentionPlan())

        def forward():
            with torch.autocast("cuda", torch.bfloat16):
                return model(*args)

        size = f"{frames} latent frames, {s.visual + s.text} tokens, {depth} layers"
        self.add("dit forward, not compiled", size, {"eager": forward})
        model.blocks = torch.nn.ModuleList(
            [torch.compile(block, dynamic=False) for block in model.blocks])
        model.embed = torch.compile(model.embed, dynamic=False)
        model.finish = torch.compile(model.finish, dynamic=False)
        self.add("dit forward", size, {"compiled": forward})

    def run(self):
        s = self.sizes
        product = self.linear("ceiling: product", s.product, s.product, s.product)
        copy = self.copy()
        self.linear("linear qkv", s.visual, s.x, 3 * s.x)
        self.linear("linear proj", s.visual, s.x, s.x, has_bias=True)
        self.linear("linear mlp w1", s.visual, s.x, 2 * s.mlp_x)
        self.linear("linear mlp w2", s.visual, s.mlp_x, s.x)
        self.linear("linear mod", 1, s.x, 4 * s.x, has_bias=True)
        tokens = s.visual + s.text
        for what, count in (("attention", tokens), ("attention of a third", tokens // 3),
                            ("attention of a tenth", tokens // 10)):
            self.attention(what, count)
        self.norm_modulate()
        self.qk_norm_rope()
        self.gated_residual()
        self.gated_activation()
        self.gated_linear()
        for stage in s.stages:
            self.group_norm(stage)
        for stage in s.stages:
            self.conv3d(stage)
        return {"flop_per_second": 2.0 * s.product**3 / product,
                "bytes_per_second": 4.0 * s.copied / copy}


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--micro", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--dit", action="store_true", help="the whole transformer instead")
    options = parser.parse_args()
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}, bf16", flush=True)
    peer = Peer(Sizes(options.micro), options.repetitions)
    if options.dit:
        ceilings = {"flop_per_second": 0.0, "bytes_per_second": 0.0}
        peer.dit_forward()
    else:
        ceilings = peer.run()
    if options.json:
        report = {"subject": "dit" if options.dit else "op", "size": "micro" if options.micro else "full",
                  "version": f"PyTorch {torch.__version__}", "device": "cuda",
                  "device_name": torch.cuda.get_device_name(), "dtype": "bf16",
                  "ceilings": ceilings, "measurements": peer.measurements}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1, ensure_ascii=False)
            file.write("\n")


if __name__ == "__main__":
    main()
