"""GGUF files as PyPI's gguf writes them: every kind of tensor and metadata, and whole networks."""

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, Keys, dequantize, quantize
from safetensors.torch import load_file

from generators import dit
from generators.blocks import F16_OFFSETS, random_blocks
from generators.common import GOLDEN_DIR, Draw, fnv1a, write_golden


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


T5_NAMES = {
    "shared.weight": "token_embd.weight",
    "encoder.final_layer_norm.weight": "enc.output_norm.weight",
}
T5_PARTS = {
    "layer.0.layer_norm": "attn_norm",
    "layer.0.SelfAttention.q": "attn_q",
    "layer.0.SelfAttention.k": "attn_k",
    "layer.0.SelfAttention.v": "attn_v",
    "layer.0.SelfAttention.o": "attn_o",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.1.layer_norm": "ffn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
}


def llama_cpp_name(name):
    """Names of T5 encoders in GGUF files."""
    if name in T5_NAMES:
        return T5_NAMES[name]
    layer, part = name.removeprefix("encoder.block.").split(".", 1)
    return f"enc.blk.{layer}.{T5_PARTS[part.removesuffix('.weight')]}.weight"


def generate_t5():
    """The micro model's text encoder with matrices in Q8_0, under llama.cpp's names."""
    weights = load_file(GOLDEN_DIR.parents[1] / "models/micro/text_encoder/model.safetensors")
    writer = GGUFWriter(GOLDEN_DIR / "gguf" / "t5_q8_0.gguf", "t5encoder")
    for name, tensor in weights.items():
        new_name = llama_cpp_name(name)
        is_table = "token_embd" in new_name or "attn_rel_b" in new_name
        if tensor.dim() == 2 and not is_table:
            kind = GGMLQuantizationType.Q8_0
            stored = quantize(tensor.float().numpy(), kind)
        elif tensor.dtype == torch.bfloat16:
            kind = GGMLQuantizationType.BF16
            stored = tensor.view(torch.uint8).numpy()
        else:
            kind = GGMLQuantizationType.F32
            stored = tensor.float().numpy()
        writer.add_tensor(new_name, stored, raw_dtype=kind)
    close(writer)


# Rows of the wide matrices are whole blocks of 256 elements, all other rows of 32 or of neither.
DIT_CONFIG = dit.make_config(depth=2, num_heads=2, head_dim=48, hidden_size_y=24, text_width=64)
# Standard deviation of the values of random blocks whose scale is 1.
SPREAD_OF_BLOCKS = {"Q4_K": 257, "Q6_K": 1369}


def dit_type(name, tensor):
    """The type of a tensor of the transformer: as programs for image models choose it, with K-quants
    where the rows allow it."""
    if name == "x_embedder.proj.weight":
        return "F16"
    if tensor.dim() != 2 or tensor.numel() <= 1024:
        return "F32"
    if tensor.shape[1] % 256 == 0:
        return "Q4_K" if name.startswith("blocks.0.") else "Q6_K"
    if tensor.shape[1] % 32 != 0:
        return "F16"
    return "BF16" if ".proj_" in name else "Q8_0"


def random_k_rows(random, kind, num_rows, num_columns):
    """Blocks whose values have the variance of the other weights: gguf does not quantise to them."""
    block_size, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = random.integers(256, size=(num_rows * num_columns // block_size, block_bytes), dtype=np.uint8)
    scale = num_columns**-0.5 / SPREAD_OF_BLOCKS[kind] * random.uniform(0.5, 1.5, len(blocks))
    numbers = [scale, 7.5 * scale] if kind == "Q4_K" else [scale]
    for offset, values in zip(F16_OFFSETS[kind], numbers):
        blocks[:, offset : offset + 2] = values.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(num_rows, -1)


def store_dit_tensor(random, tensor, kind):
    if kind in SPREAD_OF_BLOCKS:
        return random_k_rows(random, kind, *tensor.shape)
    if kind == "BF16":
        return tensor.bfloat16().view(torch.uint8).numpy()
    values = tensor.numpy()
    return quantize(values, GGMLQuantizationType[kind]) if kind != "F32" else values


def generate_dit():
    """A transformer with tensors of several types under genmo's names, as one file and, without an
    architecture, as three; and what diffusers' transformer computes with gguf's values."""
    random = np.random.default_rng(720)
    whole = GGUFWriter(GOLDEN_DIR / "gguf" / "dit_mixed.gguf", "pig")
    weights = dit.draw_weights(DIT_CONFIG, seed=721)
    split = GGUFWriter(GOLDEN_DIR / "gguf" / "dit_split.gguf", "pig", split_max_tensors=(len(weights) + 2) // 3)
    del split.kv_data[0][Keys.General.ARCHITECTURE]
    values = {}
    for name, tensor in weights.items():
        kind = dit_type(name, tensor)
        stored = store_dit_tensor(random, tensor, kind)
        for writer in (whole, split):
            writer.add_tensor(name, stored, raw_dtype=GGMLQuantizationType[kind])
        values[name] = dequantize(stored, GGMLQuantizationType[kind]).astype(np.float32)
    close(whole)
    close(split)

    model = dit.make_model(DIT_CONFIG, {name: torch.from_numpy(v.copy()) for name, v in values.items()})
    draw = Draw(722)
    latents, text = draw.normal(12, 2, 4, 4), draw.normal(5, DIT_CONFIG["text_width"])
    tensors = {"input.latents": latents, "input.text": text, "input.sigma": torch.tensor([0.5])}
    tensors["output.final"] = dit.run(model, latents, [text], 0.5, Draw(723))[0]["final"]
    hashes = {name: fnv1a(value.tobytes()) for name, value in values.items()}
    write_golden("gguf/dit_case", tensors, {"model_type": "mochi", "dit": DIT_CONFIG, "fnv1a": hashes})


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def generate_types():
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
    close(writer)
    write_golden("gguf/types", {k: torch.from_numpy(v.copy()) for k, v in outputs.items()}, {})


def generate():
    print("gguf_files")
    generate_types()
    generate_t5()
    generate_dit()
