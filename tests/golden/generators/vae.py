"""VAE goldens: diffusers' Mochi encoder and decoder under genmo's key names."""

import functools
from unittest import mock

import torch
from diffusers.models.autoencoders import autoencoder_kl_mochi as public

from generators.common import (
    Draw,
    Tap,
    bf16_autocast,
    relative_error,
    round_to_bf16,
    write_case,
    write_weights,
)

CONFIG = {
    "latent_channels": 12,
    "norm_groups": 4,
    "decoder_channels": [24, 16, 12, 8],
    "decoder_res_blocks": [1, 2, 1, 1, 1],
    "encoder_channels": [8, 12, 16, 24],
    "encoder_res_blocks": [1, 1, 2, 1, 1],
    "encoder_attention": [False, True, True, True, True],
    "encoder_attention_head_dim": 4,
    "temporal_factors": [3, 2, 1],
    "spatial_factors": [2, 2, 2],
    "fourier_frequencies": [6, 7],
    # The published statistics of Mochi 1, in the fp32 precision that a latent has anyway.
    "latent_mean": [-0.06730896, -0.03801138, -0.07477821, -0.05565264, 0.01276723, -0.04703543]
    + [0.04389697, -0.09346306, -0.09918315, -0.00872979, -0.01193156, -0.03219934],
    "latent_std": [0.92637950, 0.92488945, 0.93930594, 0.95925373, 0.82445601, 0.91725998]
    + [0.92941544, 1.37209424, 0.88139367, 0.91683157, 0.91852493, 0.92747576],
}
SECTIONS = {"model_type": "mochi", "vae": CONFIG}
NUM_DOWN = 3


def draw_res_block(draw, weights, name, channels):
    for norm, conv in ((0, 2), (3, 5)):
        weights[f"{name}.stack.{norm}.weight"] = draw.norm_weight(channels)
        weights[f"{name}.stack.{norm}.bias"] = draw.bias(channels)
        weights[f"{name}.stack.{conv}.weight"] = draw.matrix(channels, channels, 3, 3, 3, gain=1.5)
        weights[f"{name}.stack.{conv}.bias"] = draw.bias(channels)


def draw_attention(draw, weights, name, channels):
    weights[f"{name}.attn_block.norm.weight"] = draw.norm_weight(channels)
    weights[f"{name}.attn_block.norm.bias"] = draw.bias(channels)
    weights[f"{name}.attn_block.attn.qkv.weight"] = draw.matrix(3 * channels, channels)
    weights[f"{name}.attn_block.attn.out.weight"] = draw.matrix(channels, channels, gain=2.0)
    weights[f"{name}.attn_block.attn.out.bias"] = draw.bias(channels)


def draw_decoder(config, seed):
    """Every tensor of genmo's decoder.safetensors at the sizes of `config`."""
    draw = Draw(seed)
    channels, num_res = config["decoder_channels"], config["decoder_res_blocks"]
    weights = {
        "blocks.0.0.weight": draw.matrix(channels[0], config["latent_channels"], 1, 1, 1),
        "blocks.0.0.bias": draw.bias(channels[0]),
    }
    for i in range(num_res[0]):
        draw_res_block(draw, weights, f"blocks.0.{i + 1}", channels[0])
    for up in range(NUM_DOWN):
        name = f"blocks.{up + 1}"
        for i in range(num_res[up + 1]):
            draw_res_block(draw, weights, f"{name}.blocks.{i}", channels[up])
        factor = config["temporal_factors"][up] * config["spatial_factors"][up] ** 2
        weights[f"{name}.proj.weight"] = draw.matrix(factor * channels[up + 1], channels[up])
        weights[f"{name}.proj.bias"] = draw.bias(factor * channels[up + 1])
    for i in range(num_res[4]):
        draw_res_block(draw, weights, f"blocks.4.{i}", channels[3])
    # A gain below one: some pixels are clamped, most are not.
    weights["output_proj.weight"] = draw.matrix(3, channels[3], gain=0.7)
    weights["output_proj.bias"] = draw.bias(3)
    return weights


def draw_encoder(config, seed):
    """Every tensor of genmo's encoder.safetensors at the sizes of `config`."""
    draw = Draw(seed)
    channels, num_res = config["encoder_channels"], config["encoder_res_blocks"]
    has_attention = config["encoder_attention"]
    num_inputs = 3 * (1 + 2 * len(config["fourier_frequencies"]))
    weights = {
        "layers.0.weight": draw.matrix(channels[0], num_inputs),
        "layers.0.bias": draw.bias(channels[0]),
    }

    def draw_block(name, stage, num_channels):
        draw_res_block(draw, weights, name, num_channels)
        if has_attention[stage]:
            draw_attention(draw, weights, name, num_channels)

    for i in range(num_res[0]):
        draw_block(f"layers.{i + 1}", 0, channels[0])
    for down in range(NUM_DOWN):
        name = f"layers.{num_res[0] + 1 + down}.layers"
        st, ss = config["temporal_factors"][-1 - down], config["spatial_factors"][-1 - down]
        weights[f"{name}.0.weight"] = draw.matrix(channels[down + 1], channels[down], st, ss, ss)
        weights[f"{name}.0.bias"] = draw.bias(channels[down + 1])
        for i in range(num_res[down + 1]):
            draw_block(f"{name}.{i + 1}", down + 1, channels[down + 1])
    for i in range(num_res[4]):
        draw_block(f"layers.{num_res[0] + 1 + NUM_DOWN + i}", 4, channels[3])
    weights["output_norm.weight"] = draw.norm_weight(channels[3])
    weights["output_norm.bias"] = draw.bias(channels[3])
    weights["output_proj.weight"] = draw.matrix(2 * config["latent_channels"], channels[3])
    return weights


STACK_KEYS = {
    "stack.0": "norm1.norm_layer",
    "stack.2": "conv1.conv",
    "stack.3": "norm2.norm_layer",
    "stack.5": "conv2.conv",
}


def to_diffusers_block(rest, value, prefix, block_idx):
    """`rest` is what follows a residual block's name: stack.… or attn_block.…"""
    name, parameter = rest.rsplit(".", 1)
    if name in STACK_KEYS:
        return {f"{prefix}.resnets.{block_idx}.{STACK_KEYS[name]}.{parameter}": value}
    if name == "attn_block.norm":
        return {f"{prefix}.norms.{block_idx}.norm_layer.{parameter}": value}
    attention = f"{prefix}.attentions.{block_idx}"
    if name == "attn_block.attn.out":
        return {f"{attention}.to_out.0.{parameter}": value}
    parts = zip(("to_q", "to_k", "to_v"), value.chunk(3, dim=0))
    return {f"{attention}.{key}.{parameter}": part for key, part in parts}


def decoder_to_diffusers(weights):
    state = {}
    for key, value in weights.items():
        parts = key.split(".")
        if parts[0] == "output_proj":
            state[f"proj_out.{parts[1]}"] = value
        elif key.startswith("blocks.0.0."):
            state[f"conv_in.{parts[3]}"] = value
        elif parts[1] == "0":
            rest = ".".join(parts[3:])
            state.update(to_diffusers_block(rest, value, "block_in", int(parts[2]) - 1))
        elif parts[1] == "4":
            state.update(to_diffusers_block(".".join(parts[3:]), value, "block_out", parts[2]))
        elif parts[2] == "proj":
            state[f"up_blocks.{int(parts[1]) - 1}.proj.{parts[3]}"] = value
        else:
            prefix = f"up_blocks.{int(parts[1]) - 1}"
            state.update(to_diffusers_block(".".join(parts[4:]), value, prefix, parts[3]))
    return state


def encoder_to_diffusers(weights, config):
    first_down = config["encoder_res_blocks"][0] + 1
    first_out = first_down + NUM_DOWN
    state = {}
    for key, value in weights.items():
        parts = key.split(".")
        if parts[0] == "output_norm":
            state[f"norm_out.norm_layer.{parts[1]}"] = value
        elif parts[0] == "output_proj":
            state[f"proj_out.{parts[1]}"] = value
        elif parts[1] == "0":
            state[f"proj_in.{parts[2]}"] = value
        elif (layer := int(parts[1])) < first_down:
            state.update(to_diffusers_block(".".join(parts[2:]), value, "block_in", layer - 1))
        elif layer >= first_out:
            block_idx = layer - first_out
            state.update(to_diffusers_block(".".join(parts[2:]), value, "block_out", block_idx))
        elif parts[3] == "0":
            state[f"down_blocks.{layer - first_down}.conv_in.conv.{parts[4]}"] = value
        else:
            prefix, rest = f"down_blocks.{layer - first_down}", ".".join(parts[4:])
            state.update(to_diffusers_block(rest, value, prefix, int(parts[3]) - 1))
    return state


def attention_with_head_dim(head_dim, query_dim, **kwargs):
    kwargs.update(heads=query_dim // head_dim, dim_head=head_dim)
    return ATTENTION(query_dim=query_dim, **kwargs)


ATTENTION = public.Attention


def build(make, config):
    """Calls `make` with diffusers' fixed 32 norm groups and heads of 32 set to the config's."""
    head_dim = config["encoder_attention_head_dim"]
    defaults = (config["norm_groups"], True, 8)
    norm_init = public.MochiChunkedGroupNorm3D.__init__
    with mock.patch.object(norm_init, "__defaults__", defaults), mock.patch.object(
        public, "Attention", functools.partial(attention_with_head_dim, head_dim)
    ):
        return make().eval()


def make_decoder(config, weights):
    # diffusers lists the decoder's sizes in the encoder's direction.
    make = functools.partial(
        public.MochiDecoder3D,
        in_channels=config["latent_channels"],
        out_channels=3,
        block_out_channels=config["decoder_channels"][::-1],
        layers_per_block=config["decoder_res_blocks"][::-1],
        temporal_expansions=config["temporal_factors"][::-1],
        spatial_expansions=config["spatial_factors"][::-1],
    )
    decoder = build(make, config)
    decoder.load_state_dict(decoder_to_diffusers(weights), strict=True)
    for block in decoder.up_blocks:
        block.register_forward_hook(drop_first_frames)
    return decoder


def drop_first_frames(block, _args, output):
    """genmo's up block drops its first st − 1 frames at once; diffusers keeps them until the end,
    where they have already reached the next causal convolutions: a different first few frames."""
    frames, cache = output
    return frames[:, :, block.temporal_expansion - 1 :], cache


def make_encoder(config, weights):
    make = functools.partial(
        public.MochiEncoder3D,
        in_channels=3 * (1 + 2 * len(config["fourier_frequencies"])),
        out_channels=config["latent_channels"],
        block_out_channels=config["encoder_channels"],
        layers_per_block=config["encoder_res_blocks"],
        temporal_expansions=config["temporal_factors"][::-1],
        spatial_expansions=config["spatial_factors"][::-1],
        add_attention_block=config["encoder_attention"],
    )
    encoder = build(make, config)
    encoder.load_state_dict(encoder_to_diffusers(weights, config), strict=True)
    return encoder


@torch.no_grad()
def run_decoder(decoder, latents, with_wide_outputs):
    """[C, T, H, W] tensors by name; `video` is what a viewer gets: [frames, H, W, 3] in [0, 1]."""
    with Tap() as tap:
        tap.watch(decoder.conv_in, "conv_in", lambda out: out[0])
        tap.watch(decoder.block_in.resnets[0], "block0.res0", lambda out: out[0][0])
        for up, block in enumerate(decoder.up_blocks):
            if up < 2 or with_wide_outputs:
                tap.watch(block, f"up{up}", lambda out: out[0][0])
        if with_wide_outputs:
            tap.watch(decoder.block_out, "block4", lambda out: out[0][0])
        raw = decoder(latents[None])[0][0].float()
    tap.values["raw"] = raw
    if with_wide_outputs:
        tap.values["video"] = ((raw + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0)
    return tap.values


@torch.no_grad()
def run_encoder(encoder, video, with_wide_outputs):
    """`video` is [3, frames, H, W] in [−1, 1]; mean and logvar are [12, T, H/8, W/8]."""
    with Tap() as tap:
        if with_wide_outputs:
            tap.watch(encoder.fourier_features, "features", lambda out: out[0])
            tap.watch(encoder.proj_in, "layer0", lambda out: out[0].permute(3, 0, 1, 2))
        for down, block in enumerate(encoder.down_blocks):
            tap.watch(block, f"down{down}", lambda out: out[0][0])
        first = encoder.down_blocks[0]
        tap.watch(first.resnets[0], "down0.before_attention", lambda out: out[0][0])
        tap.watch(encoder.block_out, "block_out", lambda out: out[0][0])
        mean, logvar = encoder(video[None])[0][0].float().chunk(2, dim=0)
    return {**tap.values, "mean": mean, "logvar": logvar}


# name, latent (T, H, W), whether to keep the full-size intermediate outputs
DECODER_CASES = [
    ("t1", (1, 2, 3), True),
    ("t2", (2, 3, 5), False),
    ("t5", (5, 1, 3), False),
]
# name, (frames, height, width), the same
ENCODER_CASES = [
    ("frames1", (1, 16, 24), True),
    ("frames7", (7, 24, 40), False),
    ("frames13", (13, 8, 24), False),
]


def generate_decoder(seed):
    weights = draw_decoder(CONFIG, seed)
    write_weights("vae/decoder_weights", weights, SECTIONS)
    decoder = make_decoder(CONFIG, weights)
    bf16_decoder = make_decoder(CONFIG, round_to_bf16(weights))
    for case_idx, (name, shape, is_wide) in enumerate(DECODER_CASES):
        latents = Draw(seed + 1 + case_idx).normal(CONFIG["latent_channels"], *shape)
        outputs = run_decoder(decoder, latents, is_wide)
        assert outputs["raw"].shape[1] == 6 * (shape[0] - 1) + 1
        with bf16_autocast():
            bf16_outputs = run_decoder(bf16_decoder, latents, is_wide)
        write_case(f"vae/decoder_{name}", {"latents": latents}, outputs, bf16_outputs, SECTIONS)


def generate_encoder(seed):
    weights = draw_encoder(CONFIG, seed)
    write_weights("vae/encoder_weights", weights, SECTIONS)
    encoder = make_encoder(CONFIG, weights)
    bf16_encoder = make_encoder(CONFIG, round_to_bf16(weights))
    for case_idx, (name, shape, is_wide) in enumerate(ENCODER_CASES):
        video = Draw(seed + 1 + case_idx).uniform(3, *shape, low=-1.0, high=1.0)
        outputs = run_encoder(encoder, video, is_wide)
        with bf16_autocast():
            bf16_outputs = run_encoder(bf16_encoder, video, is_wide)
        write_case(f"vae/encoder_{name}", {"video": video}, outputs, bf16_outputs, SECTIONS)
        check_causality(encoder, video, outputs)


def check_causality(encoder, video, outputs):
    """The first latent frame must not depend on later video frames."""
    first = run_encoder(encoder, video[:, :1], False)
    assert relative_error(first["mean"], outputs["mean"][:, :1]) < 1e-5


def generate():
    print("vae")
    generate_decoder(seed=300)
    generate_encoder(seed=400)
