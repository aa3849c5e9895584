"""Diffusion transformer goldens: diffusers' MochiTransformer3DModel under genmo's key names."""

import math

import torch
from diffusers import MochiTransformer3DModel

from generators.common import (
    Draw,
    Tap,
    bf16_autocast,
    relative_error,
    round_to_bf16,
    write_case,
    write_weights,
)

POOLER_HEADS = 8  # not configurable in diffusers


def make_config(depth, num_heads, head_dim, hidden_size_y, text_width):
    hidden_size_x = num_heads * head_dim
    return {
        "depth": depth,
        "num_heads": num_heads,
        "hidden_size_x": hidden_size_x,
        "hidden_size_y": hidden_size_y,
        # diffusers does not round these up to a multiple of 256, the real model's sizes are.
        "mlp_hidden_x": 8 * hidden_size_x // 3,
        "mlp_hidden_y": 8 * hidden_size_y // 3,
        "patch_size": 2,
        "latent_channels": 12,
        "text_width": text_width,
        "max_text_tokens": 256,
        "timestep_features": 256,
        "pooler_heads": POOLER_HEADS,
    }


def draw_linear(draw, weights, name, num_out, num_in, bias=True, gain=1.0, bias_std=0.1):
    weights[f"{name}.weight"] = draw.matrix(num_out, num_in, gain=gain)
    if bias:
        weights[f"{name}.bias"] = draw.bias(num_out, std=bias_std)


def draw_block(draw, weights, config, block_idx):
    dx, dy = config["hidden_size_x"], config["hidden_size_y"]
    fx, fy = config["mlp_hidden_x"], config["mlp_hidden_y"]
    head_dim = dx // config["num_heads"]
    is_last = block_idx == config["depth"] - 1
    name = f"blocks.{block_idx}"
    draw_linear(draw, weights, f"{name}.mod_x", 4 * dx, dx, bias_std=0.3)
    draw_linear(draw, weights, f"{name}.mod_y", dy if is_last else 4 * dy, dx, bias_std=0.3)
    draw_linear(draw, weights, f"{name}.attn.qkv_x", 3 * dx, dx, bias=False)
    draw_linear(draw, weights, f"{name}.attn.qkv_y", 3 * dx, dy, bias=False)
    for norm in ("q_norm_x", "k_norm_x", "q_norm_y", "k_norm_y"):
        weights[f"{name}.attn.{norm}.weight"] = draw.norm_weight(head_dim)
    draw_linear(draw, weights, f"{name}.attn.proj_x", dx, dx)
    draw_linear(draw, weights, f"{name}.mlp_x.w1", 2 * fx, dx, bias=False)
    draw_linear(draw, weights, f"{name}.mlp_x.w2", dx, fx, bias=False)
    if not is_last:
        draw_linear(draw, weights, f"{name}.attn.proj_y", dy, dx)
        draw_linear(draw, weights, f"{name}.mlp_y.w1", 2 * fy, dy, bias=False)
        draw_linear(draw, weights, f"{name}.mlp_y.w2", dy, fy, bias=False)


def draw_weights(config, seed):
    """Every tensor of genmo's dit.safetensors at the sizes of `config`."""
    draw = Draw(seed)
    dx, dy, dt = config["hidden_size_x"], config["hidden_size_y"], config["text_width"]
    patch, channels = config["patch_size"], config["latent_channels"]
    weights = {
        "x_embedder.proj.weight": draw.matrix(dx, channels, patch, patch),
        "x_embedder.proj.bias": draw.bias(dx),
        # Positions reach ±96: frequencies of this size keep the angles small enough for fp32.
        "pos_frequencies": draw.normal(3, config["num_heads"], dx // config["num_heads"] // 2)
        * torch.tensor([0.5, 0.1, 0.1]).view(3, 1, 1),
    }
    draw_linear(draw, weights, "t_embedder.mlp.0", dx, config["timestep_features"], gain=1.5)
    draw_linear(draw, weights, "t_embedder.mlp.2", dx, dx, gain=1.5)
    draw_linear(draw, weights, "t5_y_embedder.to_kv", 2 * dt, dt)
    draw_linear(draw, weights, "t5_y_embedder.to_q", dt, dt, gain=2.0, bias_std=1.0)
    draw_linear(draw, weights, "t5_y_embedder.to_out", dx, dt, gain=2.0)
    draw_linear(draw, weights, "t5_yproj", dy, dt)
    for block_idx in range(config["depth"]):
        draw_block(draw, weights, config, block_idx)
    draw_linear(draw, weights, "final_layer.mod", 2 * dx, dx, bias_std=0.3)
    draw_linear(draw, weights, "final_layer.linear", patch * patch * channels, dx)
    return weights


def swap_halves(tensor):
    first, second = tensor.chunk(2, dim=0)
    return torch.cat([second, first], dim=0)


OUTER_KEYS = {
    "x_embedder.proj": "patch_embed.proj",
    "t_embedder.mlp.0": "time_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_embed.timestep_embedder.linear_2",
    "t5_y_embedder": "time_embed.pooler",
    "t5_yproj": "time_embed.caption_proj",
    "final_layer.mod": "norm_out.linear",
    "final_layer.linear": "proj_out",
}
BLOCK_KEYS = {
    "mod_x": "norm1.linear",
    "mod_y": "norm1_context.linear",
    "attn.q_norm_x": "attn1.norm_q",
    "attn.k_norm_x": "attn1.norm_k",
    "attn.q_norm_y": "attn1.norm_added_q",
    "attn.k_norm_y": "attn1.norm_added_k",
    "attn.proj_x": "attn1.to_out.0",
    "attn.proj_y": "attn1.to_add_out",
    "mlp_x.w1": "ff.net.0.proj",
    "mlp_x.w2": "ff.net.2",
    "mlp_y.w1": "ff_context.net.0.proj",
    "mlp_y.w2": "ff_context.net.2",
}
QKV_KEYS = {
    "attn.qkv_x": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.qkv_y": ("attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"),
}


def to_diffusers_block(name, parameter, value, prefix, is_last):
    if name in QKV_KEYS:
        return {
            f"{prefix}.{key}.{parameter}": part
            for key, part in zip(QKV_KEYS[name], value.chunk(3, dim=0))
        }
    key = BLOCK_KEYS[name]
    if name == "mod_y" and is_last:
        key = "norm1_context.linear_1"
    # genmo computes SiLU(first half)·second half, diffusers first half·SiLU(second half).
    if name.endswith(".w1"):
        value = swap_halves(value)
    return {f"{prefix}.{key}.{parameter}": value}


def to_diffusers(weights, depth):
    state = {}
    for key, value in weights.items():
        if key == "pos_frequencies":
            state[key] = value
        elif key.startswith("blocks."):
            _, block_idx, name = key.split(".", 2)
            name, parameter = name.rsplit(".", 1)
            prefix = f"transformer_blocks.{block_idx}"
            is_last = int(block_idx) == depth - 1
            state.update(to_diffusers_block(name, parameter, value, prefix, is_last))
        else:
            old = next(old for old in OUTER_KEYS if key.startswith(f"{old}."))
            # genmo's rows are (shift | scale), diffusers' (scale | shift).
            value = swap_halves(value) if old == "final_layer.mod" else value
            state[OUTER_KEYS[old] + key[len(old) :]] = value
    return state


def make_model(config, weights):
    model = MochiTransformer3DModel(
        patch_size=config["patch_size"],
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size_x"] // config["num_heads"],
        num_layers=config["depth"],
        pooled_projection_dim=config["hidden_size_y"],
        in_channels=config["latent_channels"],
        text_embed_dim=config["text_width"],
        time_embed_dim=config["timestep_features"],
        max_sequence_length=config["max_text_tokens"],
    ).eval()
    model.load_state_dict(to_diffusers(weights, config["depth"]), strict=True)
    model.time_embed.time_proj.register_forward_hook(exact_sinusoid)
    return model


def exact_sinusoid(module, args, _output):
    """diffusers forms the frequencies and angles (to 1000) in fp32, which alone costs an error of
    1e-5 in the whole model's output. These are the same features, rounded to fp32 once."""
    half = module.num_channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    angles = args[0].double()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()


def pad_text(draw, texts, num_tokens):
    """[branches, num_tokens, width] and its mask. Padding holds noise: it must not matter.

    An empty prompt is one whose mask is false everywhere: diffusers then pools a zero mean and
    drops every text token from the joint attention, which is what a branch without text does.
    """
    padded = draw.normal(len(texts), num_tokens, texts[0].shape[1])
    mask = torch.zeros(len(texts), num_tokens, dtype=torch.bool)
    for branch, text in enumerate(texts):
        padded[branch, : text.shape[0]] = text
        mask[branch, : text.shape[0]] = True
    return padded, mask


@torch.no_grad()
def run(model, latents, texts, sigma, draw):
    """Outputs of every branch, by name; text rows are cut to the valid tokens."""
    padded, mask = pad_text(draw, texts, model.config.max_sequence_length)
    num_branches = len(texts)
    first = model.transformer_blocks[0]
    with Tap() as tap:
        tap.watch(model.time_embed.timestep_embedder, "timestep")
        tap.watch(model.time_embed.pooler, "pooled")
        tap.watch(model.time_embed, "conditioning", lambda out: out[0])
        tap.watch(model.time_embed, "y_embed", lambda out: out[1])
        tap.watch(model.rope, "rope_cos", lambda out: out[0].expand(num_branches, -1, -1, -1))
        tap.watch(model.rope, "rope_sin", lambda out: out[1].expand(num_branches, -1, -1, -1))
        frames = (num_branches, latents.shape[1])  # diffusers embeds frame by frame
        tap.watch(model.patch_embed, "x_embed", lambda out: out.unflatten(0, frames).flatten(1, 2))
        tap.watch(first.attn1, "block0.attn_x", lambda out: out[0])
        tap.watch(first.attn1, "block0.attn_y", lambda out: out[1])
        tap.watch(first, "block0.x", lambda out: out[0])
        tap.watch(first, "block0.y", lambda out: out[1])
        tap.watch(model.transformer_blocks[-1], "last_block.x", lambda out: out[0])
        final = model(
            hidden_states=latents[None].expand(num_branches, *latents.shape),
            encoder_hidden_states=padded,
            # The sampler's convention: the model sees 1000·(1 − σ).
            timestep=torch.full((num_branches,), 1000.0 * (1.0 - sigma)),
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]
    tap.values["final"] = final.float()
    branches = []
    for branch, text in enumerate(texts):
        values = {name: value[branch] for name, value in tap.values.items()}
        for name in ("y_embed", "block0.attn_y", "block0.y"):
            values[name] = values[name][: text.shape[0]]
        branches.append(values)
    return branches


def make_case(name, config, weights, seed, shape, text_lengths, sigma):
    """`shape` is (T, H, W) of the latents; one expected output per text length."""
    draw = Draw(seed)
    latents = draw.normal(config["latent_channels"], *shape)
    texts = [draw.normal(length, config["text_width"]) for length in text_lengths]
    model = make_model(config, weights)
    bf16_model = make_model(config, round_to_bf16(weights))
    outputs = run(model, latents, texts, sigma, Draw(seed + 1))
    with bf16_autocast():
        bf16_outputs = run(bf16_model, latents, texts, sigma, Draw(seed + 1))
    # Other padding, same result: what is written does not depend on it.
    again = run(model, latents, texts, sigma, Draw(seed + 2))
    assert relative_error(again[0]["final"], outputs[0]["final"]) < 1e-6

    inputs = {"latents": latents, "sigma": torch.tensor([sigma])}
    is_batch = len(texts) > 1
    for branch, text in enumerate(texts):
        inputs[f"text.{branch}" if is_batch else "text"] = text

    sections = {"model_type": "mochi", "dit": config}
    write_case(name, inputs, merge_branches(outputs), merge_branches(bf16_outputs), sections)


def merge_branches(branches):
    """The outputs of a single branch as they are; of several the main ones, numbered."""
    if len(branches) == 1:
        return branches[0]
    keys = ("conditioning", "block0.x", "final")
    return {f"{key}.{b}": values[key] for b, values in enumerate(branches) for key in keys}

# Name of the case, latent (T, H, W), text tokens of every branch, σ. Every σ is exact in fp32, so
# that 1 − σ is the same in any precision.
CASES_A = [
    ("text0", (1, 4, 6), [0], 1.0),
    ("text1", (2, 6, 10), [1], 0.96875),
    ("text7", (5, 6, 10), [7], 0.5),
    ("text77", (2, 4, 6), [77], 0.8125),
    ("text256", (1, 10, 6), [256], 0.03125),
    ("batch", (2, 6, 10), [77, 0], 0.703125),
]
CASES_B = [
    ("text0", (5, 6, 10), [0], 0.90625),
    ("text77", (2, 4, 14), [77], 0.34375),
    ("batch", (1, 2, 2), [7, 256, 1], 1.0),
]


def generate():
    print("transformer")
    config_a = make_config(depth=3, num_heads=2, head_dim=24, hidden_size_y=40, text_width=32)
    # No width of this one is a multiple of 8, nor of 4 (text_width must hold 8 pooling heads).
    config_b = make_config(depth=2, num_heads=3, head_dim=18, hidden_size_y=22, text_width=24)
    models = (("dit/a", config_a, CASES_A, 100), ("dit/b", config_b, CASES_B, 200))
    for prefix, config, cases, seed in models:
        weights = draw_weights(config, seed)
        write_weights(f"{prefix}_weights", weights, {"model_type": "mochi", "dit": config})
        for case_idx, (name, shape, text_lengths, sigma) in enumerate(cases):
            case_seed = seed + 10 * (case_idx + 1)
            case_name = f"{prefix}_{name}"
            make_case(case_name, config, weights, case_seed, shape, text_lengths, sigma)
