"""The ways PyTorch can compute a step of the transformer and a decoding, on the engine's inputs.

Every candidate is a function without arguments. A step returns the velocities of both branches, a
decoding returns (frames as floats, frames as bytes); they are what the engine computes, by the
training code's modules and by diffusers', as they are and compiled.
"""

import json
import sys
from pathlib import Path

import torch
import torch._inductor.config as inductor
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "training"), str(ROOT / "tests" / "golden")]

from generators import dit as diffusers_dit  # noqa: E402
from generators import vae as diffusers_vae  # noqa: E402
from micro import dit, vae  # noqa: E402

CONV_KINDS = ("stack_in", "stack_out", "conv3d")


def load_weights(path):
    return {name: value.float() for name, value in load_file(path).items()}


def compiled(function):
    """Compiles by inductor, for these shapes and with packed weights, as for inference."""
    inductor.freezing = True
    return torch.compile(function, dynamic=False)


# ---------------------------------------------------------------- transformer

def training_dit(config, weights):
    model = dit.DiT(config)
    model.load_state_dict(weights)
    return model.eval()


def make_diffusers_dit(config, weights):
    from diffusers import MochiTransformer3DModel
    from diffusers.models.attention import FeedForward

    model = MochiTransformer3DModel(
        patch_size=config["patch_size"], num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size_x"] // config["num_heads"],
        num_layers=config["depth"], pooled_projection_dim=config["hidden_size_y"],
        in_channels=config["latent_channels"], text_embed_dim=config["text_width"],
        time_embed_dim=config["timestep_features"], max_sequence_length=config["max_text_tokens"])
    for block in model.transformer_blocks:  # whose inner widths cannot be set from outside
        block.ff = FeedForward(config["hidden_size_x"], inner_dim=config["mlp_hidden_x"],
                               activation_fn="swiglu", bias=False)
        if block.ff_context is not None:
            block.ff_context = FeedForward(config["hidden_size_y"],
                                           inner_dim=config["mlp_hidden_y"],
                                           activation_fn="swiglu", bias=False)
    model.load_state_dict(diffusers_dit.to_diffusers(weights, config["depth"]))
    return model.eval()


def branch_by_branch(forward, inputs):
    """Runs each branch with its own number of text tokens; nothing is padded or masked."""
    latents, sigma, text = inputs["dit.latents"][None], inputs["dit.sigma"], inputs["dit.text"][None]
    plan = dit.AttentionPlan()
    branches = [(text, torch.ones(text.shape[:2], dtype=torch.bool)),
                (text[:, :0], torch.ones(1, 0, dtype=torch.bool))]
    return lambda: torch.cat([forward(latents, sigma, feats, mask, plan)
                              for feats, mask in branches])


def batch_of_text(inputs):
    """Runs both branches with the prompt's tokens, which the second one's mask excludes."""
    text = inputs["dit.text"][None].expand(2, -1, -1).contiguous()
    mask = torch.ones(text.shape[:2], dtype=torch.bool)
    mask[1] = False
    latents = inputs["dit.latents"][None].expand(2, -1, -1, -1, -1).contiguous()
    return latents, inputs["dit.sigma"].expand(2), text, mask


def as_batch(forward, inputs):
    latents, sigma, text, mask = batch_of_text(inputs)
    visual = latents[0, 0].numel() // 4
    plan = dit.AttentionPlan.make(mask.sum(1), visual, text.shape[1], packed=False)
    return lambda: forward(latents, sigma, text, mask, plan)


def diffusers_step(forward, inputs):
    latents, sigma, text, mask = batch_of_text(inputs)
    timestep = 1000.0 * (1.0 - sigma)
    return lambda: forward(hidden_states=latents, encoder_hidden_states=text, timestep=timestep,
                           encoder_attention_mask=mask, return_dict=False)[0]


def step_candidates(model_dir, config, inputs):
    weights = load_weights(Path(model_dir) / "dit.safetensors")
    model = training_dit(config["dit"], weights)
    public = make_diffusers_dit(config["dit"], weights)
    return {
        "modules, branch by branch": branch_by_branch(model, inputs),
        "modules, batch of two": as_batch(model, inputs),
        "modules, branch by branch, compiled": branch_by_branch(compiled(model), inputs),
        "modules, batch of two, compiled": as_batch(compiled(model), inputs),
        "diffusers": diffusers_step(public, inputs),
        "diffusers, compiled": diffusers_step(compiled(public), inputs),
    }


# ---------------------------------------------------------------- decoder

def to_bytes(video):
    return (((video + 1) / 2).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def statistics(config, *shape):
    return [torch.tensor(config[name]).view(shape) for name in ("latent_mean", "latent_std")]


def modules_decode(model, config, inputs, kinds, wrap=lambda function: function):
    """The training code's decoder, with the `kinds` of its convolutions by number of channels."""
    mean, std = statistics(config, -1, 1, 1, 1)

    def decode():
        vae.Kernels.conv = kinds
        z = inputs["decode.latents"] * std + mean
        video = model(z.permute(1, 2, 3, 0)[None])[0]
        return video, to_bytes(video)

    return wrap(decode)


def diffusers_decode(model, config, inputs, memory_format, wrap=lambda function: function):
    mean, std = statistics(config, -1, 1, 1, 1)
    model = model.to(memory_format=memory_format)

    def decode():
        z = (inputs["decode.latents"] * std + mean)[None].contiguous(memory_format=memory_format)
        video = model(z)[0][0].permute(1, 2, 3, 0)
        return video, to_bytes(video)

    return wrap(decode)


def decode_candidates(model_dir, config, inputs):
    weights = load_weights(Path(model_dir) / "decoder.safetensors")
    config = config["vae"]
    model = vae.Decoder(config)
    model.load_state_dict(weights)
    model.eval()
    found = {}
    for kind in CONV_KINDS:
        kinds = dict.fromkeys(config["decoder_channels"], kind)
        found[f"modules, {kind}"] = modules_decode(model, config, inputs, kinds)
        found[f"modules, {kind}, compiled"] = modules_decode(model, config, inputs, kinds, compiled)
    for name, memory_format in (("", torch.contiguous_format),
                                (", channels last", torch.channels_last_3d)):
        public = diffusers_vae.make_decoder(config, weights)
        found[f"diffusers{name}"] = diffusers_decode(public, config, inputs, memory_format)
        found[f"diffusers{name}, compiled"] = diffusers_decode(public, config, inputs,
                                                               memory_format, compiled)
    return found


def load_config(model_dir):
    return json.loads((Path(model_dir) / "config.json").read_text())
