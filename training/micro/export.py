"""Writes a model directory and reads it back."""

import copy
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from micro import dit, scenes, text_encoder, vae
from micro.config import CONFIG, HEIGHT, NUM_FRAMES, WIDTH

FILES = {"dit": "dit.safetensors", "decoder": "decoder.safetensors",
         "encoder": "encoder.safetensors", "text_encoder": "text_encoder/model.safetensors"}


def build_models(config=CONFIG):
    return {"dit": dit.DiT(config["dit"]), "decoder": vae.Decoder(config["vae"]),
            "encoder": vae.Encoder(config["vae"]),
            "text_encoder": text_encoder.T5Encoder(config["text_encoder"])}


def to_bf16(state):
    """bf16 everywhere but for the position frequencies, which stay fp32."""
    return {k: v.detach().to("cpu", torch.float32 if k == "pos_frequencies" else torch.bfloat16)
            .contiguous() for k, v in state.items()}


def write_config(directory, latent_mean=None, latent_std=None, cfg_scale=None):
    config = copy.deepcopy(CONFIG)
    if latent_mean is not None:
        config["vae"]["latent_mean"] = [round(float(x), 6) for x in latent_mean]
        config["vae"]["latent_std"] = [round(float(x), 6) for x in latent_std]
    if cfg_scale is not None:
        config["generation"]["cfg_scale"] = cfg_scale
    config["trained_on"] = {"width": [WIDTH, WIDTH], "height": [HEIGHT, HEIGHT],
                            "num_frames": [NUM_FRAMES, NUM_FRAMES], "words": scenes.vocabulary()}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    sections = []
    for key, value in config.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            sections.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}")
        else:
            sections.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    (directory / "config.json").write_text("{\n" + ",\n".join(sections) + "\n}\n")


def write_weights(directory, states):
    for name, state in states.items():
        path = Path(directory) / FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(to_bf16(state), path, metadata={"format": "pt"})


def copy_tokenizer(directory, spiece):
    target = Path(directory) / "tokenizer" / "spiece.model"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(spiece, target)


def set_weights(model, state):
    """Puts stored tensors, of whatever precision, into a model in fp32."""
    model.load_state_dict({k: v.float() for k, v in state.items()})


def load_directory(directory, device="cpu", partial=False):
    """(models in fp32, config) of a model directory; `partial`: missing files stay untrained."""
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text())
    models = build_models(config)
    for name, model in models.items():
        if not partial or (directory / FILES[name]).exists():
            set_weights(model, load_file(directory / FILES[name]))
        model.to(device).eval()
    return models, config
