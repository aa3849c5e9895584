#!/usr/bin/env python3
"""Writes a transformer of Mochi 1's sizes with random BF16 weights, for `mochi bench load`.

Usage: make_dit_file.py FILE [--depth 48]
"""

import argparse
import json
import math
import struct

import torch

X, Y, MLP_X, MLP_Y, TEXT, HEADS, HEAD_DIM = 3072, 1536, 8192, 4096, 4096, 24, 128


def linear(name, rows, columns, has_bias=True):
    yield f"{name}.weight", [rows, columns]
    if has_bias:
        yield f"{name}.bias", [rows]


def block(prefix, is_last):
    yield from linear(f"{prefix}mod_x", 4 * X, X)
    yield from linear(f"{prefix}mod_y", Y if is_last else 4 * Y, X)
    for stream, width, hidden in (("x", X, MLP_X), ("y", Y, MLP_Y)):
        yield from linear(f"{prefix}attn.qkv_{stream}", 3 * X, width, has_bias=False)
        yield f"{prefix}attn.q_norm_{stream}.weight", [HEAD_DIM]
        yield f"{prefix}attn.k_norm_{stream}.weight", [HEAD_DIM]
        if stream == "y" and is_last:
            continue
        yield from linear(f"{prefix}attn.proj_{stream}", width, X)
        yield from linear(f"{prefix}mlp_{stream}.w1", 2 * hidden, width, has_bias=False)
        yield from linear(f"{prefix}mlp_{stream}.w2", width, hidden, has_bias=False)


def tensors(depth):
    yield "x_embedder.proj.weight", [X, 12, 2, 2]
    yield "x_embedder.proj.bias", [X]
    yield from linear("t_embedder.mlp.0", X, 256)
    yield from linear("t_embedder.mlp.2", X, X)
    yield from linear("t5_y_embedder.to_kv", 2 * TEXT, TEXT)
    yield from linear("t5_y_embedder.to_q", TEXT, TEXT)
    yield from linear("t5_y_embedder.to_out", X, TEXT)
    yield from linear("t5_yproj", Y, TEXT)
    yield "pos_frequencies", [3, HEADS, HEAD_DIM // 2]
    for layer in range(depth):
        yield from block(f"blocks.{layer}.", layer + 1 == depth)
    yield from linear("final_layer.mod", 2 * X, X)
    yield from linear("final_layer.linear", 48, X)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--depth", type=int, default=48)
    options = parser.parse_args()
    header, offset = {}, 0
    for name, shape in tensors(options.depth):
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with open(options.file, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            shape = entry["shape"]
            values = torch.randn(math.prod(shape), device=device) * (shape[-1] ** -0.5)
            file.write(values.bfloat16().view(torch.int16).cpu().numpy().data)
    print(f"wrote {options.file}: {offset / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
