"""The same small models in every layout that users have: the reader must see the same weights."""

import json
import shutil

import torch
from diffusers import AutoencoderKLMochi
from safetensors.torch import load_file, save_file

from generators import dit, t5, vae
from generators.common import GOLDEN_DIR, Draw, contiguous, write_golden

FOLDER = GOLDEN_DIR / "formats"

DIT_CONFIG = dit.make_config(depth=2, num_heads=2, head_dim=4, hidden_size_y=6, text_width=8)
VAE_CONFIG = {
    **vae.CONFIG,
    "decoder_channels": [12, 12, 8, 4],
    "decoder_res_blocks": [1, 1, 1, 1, 1],
    "encoder_channels": [4, 8, 12, 16],
    "encoder_res_blocks": [1, 1, 1, 1, 1],
}
T5_CONFIG = {
    **t5.CONFIG,
    "num_layers": 2,
    "hidden_size": 12,
    "num_heads": 2,
    "head_dim": 5,
    "feed_forward_size": 20,
    "vocab_size": 40,
}
DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2,
}


def save(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(contiguous(tensors), path, metadata={"format": "pt"})
    path.chmod(0o644)


def save_sharded(folder, tensors, num_shards, stem="model"):
    """Shards in the order of the keys, and the index that names every key's file."""
    keys = sorted(tensors)
    weight_map = {}
    for shard in range(num_shards):
        part = keys[shard * len(keys) // num_shards : (shard + 1) * len(keys) // num_shards]
        name = f"{stem}-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        save(folder / name, {key: tensors[key] for key in part})
        weight_map.update({key: name for key in part})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def generate_dit():
    weights = dit.draw_weights(DIT_CONFIG, seed=600)
    save(FOLDER / "dit_f32.safetensors", weights)
    save_sharded(FOLDER / "dit_sharded", weights, num_shards=3)
    for name, dtype in DTYPES.items():
        save(FOLDER / f"dit_{name}.safetensors", {k: v.to(dtype) for k, v in weights.items()})

    model = dit.make_model(DIT_CONFIG, weights)
    model.save_pretrained(FOLDER / "diffusers" / "transformer")
    draw = Draw(601)
    inputs = {
        "latents": draw.normal(12, 2, 4, 4),
        "text": draw.normal(5, DIT_CONFIG["text_width"]),
    }
    tensors = {f"input.{key}": value for key, value in inputs.items()}
    tensors["input.sigma"] = torch.tensor([0.5])
    outputs = dit.run(model, inputs["latents"], [inputs["text"]], 0.5, Draw(602))[0]
    tensors["output.final"] = outputs["final"]
    for name, dtype in DTYPES.items():
        rounded = {key: value.to(dtype).float() for key, value in weights.items()}
        rounded_model = dit.make_model(DIT_CONFIG, rounded)
        outputs = dit.run(rounded_model, inputs["latents"], [inputs["text"]], 0.5, Draw(602))[0]
        tensors[f"output.final.{name}"] = outputs["final"]
    write_golden("formats/dit_case", tensors, {"model_type": "mochi", "dit": DIT_CONFIG})


def generate_vae():
    decoder_weights = vae.draw_decoder(VAE_CONFIG, seed=610)
    encoder_weights = vae.draw_encoder(VAE_CONFIG, seed=611)
    save(FOLDER / "decoder.safetensors", decoder_weights)
    save(FOLDER / "encoder.safetensors", encoder_weights)

    def make():
        return AutoencoderKLMochi(
            encoder_block_out_channels=VAE_CONFIG["encoder_channels"],
            decoder_block_out_channels=VAE_CONFIG["decoder_channels"][::-1],
            layers_per_block=VAE_CONFIG["encoder_res_blocks"],
        )

    model = vae.build(make, VAE_CONFIG)
    state = {f"decoder.{k}": v for k, v in vae.decoder_to_diffusers(decoder_weights).items()}
    for key, value in vae.encoder_to_diffusers(encoder_weights, VAE_CONFIG).items():
        state[f"encoder.{key}"] = value
    model.load_state_dict(state, strict=True)
    model.save_pretrained(FOLDER / "diffusers" / "vae")

    draw = Draw(612)
    latents, video = draw.normal(12, 2, 1, 2), draw.uniform(3, 7, 8, 16, low=-1.0, high=1.0)
    decoder = vae.make_decoder(VAE_CONFIG, decoder_weights)
    encoder = vae.make_encoder(VAE_CONFIG, encoder_weights)
    tensors = {
        "input.latents": latents,
        "input.video": video,
        "output.raw": vae.run_decoder(decoder, latents, False)["raw"],
        "output.mean": vae.run_encoder(encoder, video, False)["mean"],
    }
    write_golden("formats/vae_case", tensors, {"model_type": "mochi", "vae": VAE_CONFIG})


def generate_t5():
    weights = t5.draw_weights(T5_CONFIG, seed=620)
    save_sharded(FOLDER / "t5_sharded", weights, num_shards=2)
    embedding = {"encoder.embed_tokens.weight": weights["shared.weight"]}
    both = {**weights, **embedding}
    save(FOLDER / "t5_one_file_f16.safetensors", {k: v.half() for k, v in both.items()})
    encoder_only = {k: v for k, v in both.items() if k != "shared.weight"}
    fp8 = {k: v.to(torch.float8_e4m3fn) for k, v in encoder_only.items()}
    save(FOLDER / "t5_one_file_f8_e4m3.safetensors", fp8)

    ids = Draw(621).integers(9, high=T5_CONFIG["vocab_size"])
    tensors = {"input.ids": ids.int()}
    versions = {"": torch.float32, ".f16": torch.float16, ".f8_e4m3": torch.float8_e4m3fn}
    for suffix, dtype in versions.items():
        rounded = {key: value.to(dtype).float() for key, value in weights.items()}
        features = t5.run(t5.make_model(T5_CONFIG, rounded), ids)["features"]
        tensors[f"output.features{suffix}"] = features
    write_golden("formats/t5_case", tensors, {"model_type": "mochi", "text_encoder": T5_CONFIG})


def generate_dtypes():
    """Bit patterns of the narrow types and the fp32 values that PyTorch gives them: all 256 of the
    8-bit ones; of the 16-bit ones every 37th, and both ends of the subnormal and special ranges."""
    patterns8 = torch.arange(256, dtype=torch.uint8)
    ends = [0x0000, 0x0001, 0x007F, 0x0080, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x7C01, 0x7F7F, 0x7F80]
    ends += [0x7F81, 0x7FFF]
    values16 = sorted({*range(0, 65536, 37), *ends, *(end | 0x8000 for end in ends)})
    patterns16 = torch.tensor(values16, dtype=torch.int32).to(torch.uint16)
    tensors = {}
    for name, dtype in DTYPES.items():
        patterns = patterns8 if name.startswith("f8") else patterns16
        tensors[f"input.{name}"] = patterns.view(dtype)
        tensors[f"output.{name}"] = patterns.view(dtype).float()
    write_golden("formats/dtypes", tensors, {})


def generate():
    print("formats")
    shutil.rmtree(FOLDER, ignore_errors=True)
    generate_dit()
    generate_vae()
    generate_t5()
    generate_dtypes()
    for path in (FOLDER / "diffusers").glob("*/*"):
        path.chmod(0o644)
    same = load_file(FOLDER / "dit_f32.safetensors")
    shards = {}
    for path in sorted((FOLDER / "dit_sharded").glob("*.safetensors")):
        shards.update(load_file(path))
    assert same.keys() == shards.keys() and all(torch.equal(same[k], shards[k]) for k in same)
