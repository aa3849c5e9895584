#!/usr/bin/env python3
"""Writes a network of Mochi 1's sizes with random BF16 weights.

Usage: make_weight_file.py FILE [--network transformer|text-encoder|decoder] [--depth 48]
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


def transformer(depth):
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


def text_encoder(_depth):
    width, inner, hidden, layers = 4096, 4096, 10240, 24
    yield "shared.weight", [32128, width]
    for layer in range(layers):
        prefix = f"encoder.block.{layer}.layer."
        for name in "qkv":
            yield from linear(f"{prefix}0.SelfAttention.{name}", inner, width, has_bias=False)
        yield from linear(f"{prefix}0.SelfAttention.o", width, inner, has_bias=False)
        if layer == 0:
            yield f"{prefix}0.SelfAttention.relative_attention_bias.weight", [32, 64]
        yield f"{prefix}0.layer_norm.weight", [width]
        for name in ("wi_0", "wi_1"):
            yield from linear(f"{prefix}1.DenseReluDense.{name}", hidden, width, has_bias=False)
        yield from linear(f"{prefix}1.DenseReluDense.wo", width, hidden, has_bias=False)
        yield f"{prefix}1.layer_norm.weight", [width]
    yield "encoder.final_layer_norm.weight", [width]


def decoder(_depth):
    channels, num_blocks = [768, 512, 256, 128], [3, 6, 4, 3, 3]
    upsampling = [3 * 4, 2 * 4, 1 * 4]  # frames times pixels

    def res_blocks(prefix, first, count, width):
        kernel = [width, width, 3, 3, 3]
        for idx in range(first, first + count):
            for name, shape in (("0", [width]), ("2", kernel), ("3", [width]), ("5", kernel)):
                yield f"{prefix}.{idx}.stack.{name}.weight", shape
                yield f"{prefix}.{idx}.stack.{name}.bias", [width]

    yield "blocks.0.0.weight", [channels[0], 12, 1, 1, 1]
    yield "blocks.0.0.bias", [channels[0]]
    yield from res_blocks("blocks.0", 1, num_blocks[0], channels[0])
    for up, factor in enumerate(upsampling):
        yield from res_blocks(f"blocks.{up + 1}.blocks", 0, num_blocks[up + 1], channels[up])
        yield from linear(f"blocks.{up + 1}.proj", channels[up + 1] * factor, channels[up])
    yield from res_blocks(f"blocks.{len(upsampling) + 1}", 0, num_blocks[-1], channels[-1])
    yield from linear("output_proj", 3, channels[-1])


NETWORKS = {"transformer": transformer, "text-encoder": text_encoder, "decoder": decoder}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--network", choices=NETWORKS, default="transformer")
    parser.add_argument("--depth", type=int, default=48, help="blocks of the transformer")
    options = parser.parse_args()
    header, offset = {}, 0
    for name, shape in NETWORKS[options.network](options.depth):
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
