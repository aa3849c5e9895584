"""Quantised blocks of each format and the floats that PyPI's gguf computes from them."""

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize

from generators.common import write_golden

NUM_BLOCKS = {32: 40, 256: 12}
# Byte offsets of the F16 numbers in a block: random bits there could be NaN or infinite.
F16_OFFSETS = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
# gguf also quantises to these formats that the engine writes.
QUANTISED = ["Q8_0", "Q4_0"]


def random_blocks(random, name):
    block_size, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = random.integers(256, size=(NUM_BLOCKS[block_size], block_bytes), dtype=np.uint8)
    for offset in F16_OFFSETS[name]:
        scales = (random.standard_normal(len(blocks)) * 2.0 ** random.integers(-20, 8)).astype(np.float16)
        scales[:3] = [0, 2**-24, 65504]  # zero, the smallest subnormal, the largest
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks


def source_values(random):
    """Rows of 256: normal values of several sizes, one-sided ones, zeros, a constant, an outlier."""
    rows = random.standard_normal((24, 256)).astype(np.float32)
    rows *= np.float32(2.0) ** random.integers(-12, 6, size=(24, 1)).astype(np.float32)
    rows[2] = np.abs(rows[2])
    rows[3] = -np.abs(rows[3])
    rows[4] = 0
    rows[5] = 0.75
    rows[6, 100] = 300
    rows[7] = np.arange(256) / 2 - 64  # ties of rounding
    rows[8] *= np.float32(1e-30)
    rows[9, ::2] = 0
    rows[10] = random.uniform(-1, 1, 256)
    return rows


def generate():
    print("blocks")
    random = np.random.default_rng(700)
    tensors = {}
    for name in F16_OFFSETS:
        blocks = random_blocks(random, name)
        tensors[f"input.{name}"] = torch.from_numpy(blocks)
        values = dequantize(blocks, GGMLQuantizationType[name])
        tensors[f"output.{name}"] = torch.from_numpy(values)
    rows = source_values(random)
    tensors["source"] = torch.from_numpy(rows)
    for name in QUANTISED:
        tensors[f"quantised.{name}"] = torch.from_numpy(quantize(rows, GGMLQuantizationType[name]))
    write_golden("io/blocks", tensors, {})
