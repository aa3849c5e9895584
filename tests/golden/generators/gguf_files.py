"""A GGUF file with every kind of tensor and metadata that is read, as PyPI's gguf writes it."""

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize

from generators.blocks import F16_OFFSETS, random_blocks
from generators.common import GOLDEN_DIR, write_golden


def add_values(writer):
    """One key of each type; their names are the types."""
    for key, value in {"uint8": 200, "int8": -5, "uint16": 60000, "int16": -300, "uint32": 2**32 - 1,
                       "int32": -(2**31), "uint64": 2**64 - 1, "int64": -(2**63)}.items():  # fmt: skip
        getattr(writer, f"add_{key}")(f"test.{key}", value)
    writer.add_float32("test.float32", 0.5)
    writer.add_float64("test.float64", -0.25)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "a text with ä")
    writer.add_array("test.array", [3, 4, 5])
    writer.add_array("test.strings", ["a", "b"])
    writer.add_array("test.long_array", list(range(100)))
    writer.add_array("test.long_strings", [f"token {i}" for i in range(100)])


def generate():
    print("gguf_files")
    random = np.random.default_rng(710)
    path = GOLDEN_DIR / "gguf" / "types.gguf"
    path.parent.mkdir(exist_ok=True)
    writer = GGUFWriter(path, "pig")
    add_values(writer)
    outputs = {}

    def add(name, stored, kind):
        writer.add_tensor(name, stored, raw_dtype=kind)
        outputs[f"output.{name}"] = dequantize(stored, kind)

    values = random.standard_normal((3, 5, 2)).astype(np.float32)
    add("F32", values, GGMLQuantizationType.F32)
    add("F16", values.astype(np.float16), GGMLQuantizationType.F16)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    add("BF16", bf16.view(np.uint8), GGMLQuantizationType.BF16)
    for name in F16_OFFSETS:
        blocks = random_blocks(random, name)[4:8]
        add(name, blocks.reshape(2, -1), GGMLQuantizationType[name])
    reshaped = random_blocks(random, "Q4_K")[4:6]
    add("reshaped", reshaped, GGMLQuantizationType.Q4_K)
    outputs["output.reshaped"] = outputs["output.reshaped"].reshape(128, 2, 2)
    writer.add_array("comfy.gguf.orig_shape.reshaped", (128, 2, 2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_golden("gguf/types", {k: torch.from_numpy(v.copy()) for k, v in outputs.items()}, {})
