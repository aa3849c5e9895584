"""LoRA goldens: low-rank changes of the model of dit.py, by diffusers' adapters (the peft library).

The adapters are not merged here: the network adds B·A·x in every layer. The engine, which merges,
must come to the same output.
"""

import json
import tempfile
from pathlib import Path

import torch
from diffusers import MochiPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generators import dit
from generators.common import GOLDEN_DIR, Draw, contiguous, relative_error, write_golden

FOLDER = GOLDEN_DIR / "lora"
QKV_RANK, QKV_ALPHA = 4, 6
OUT_RANK, OUT_ALPHA = 2, 3
DIFFUSERS_RANK, DIFFUSERS_ALPHA = 3, 7.5
# Next to those that Mochi LoRAs usually change, two whose halves diffusers swaps.
DIFFUSERS_LAYERS = (
    *("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"),
    *("ff.net.0.proj", "ff.net.2", "norm1.linear", "norm_out.linear"),
)
# What both change by in the case with both.
SCALES = {"genmo": 0.75, "diffusers": -0.5}


def draw_genmo(config, seed):
    """What genmo's fine-tuner saves: one pair of matrices for all of q, k and v."""
    draw = Draw(seed)
    dx, dy = config["hidden_size_x"], config["hidden_size_y"]
    tensors = {}
    for block_idx in range(config["depth"]):
        layers = [("qkv_x", dx, 3 * dx), ("qkv_y", dy, 3 * dx), ("proj_x", dx, dx)]
        if block_idx < config["depth"] - 1:
            layers.append(("proj_y", dx, dy))
        for name, num_in, num_out in layers:
            rank = QKV_RANK if name.startswith("qkv") else OUT_RANK
            key = f"blocks.{block_idx}.attn.{name}"
            tensors[f"{key}.lora_A"] = draw.matrix(rank, num_in)
            tensors[f"{key}.lora_B"] = draw.matrix(num_out, rank, gain=0.5)
    return tensors


def to_adapter(tensors):
    """genmo's pairs as those of diffusers' separate layers: q, k and v share A."""
    state, alphas = {}, {}
    for key, down in tensors.items():
        if not key.endswith(".lora_A"):
            continue
        block, layer = key.removesuffix(".lora_A").split(".attn.")
        block_idx, layer = block.removeprefix("blocks."), f"attn.{layer}"
        up = tensors[key.removesuffix("A") + "B"]
        is_qkv = layer in dit.QKV_KEYS
        names = dit.QKV_KEYS[layer] if is_qkv else (dit.BLOCK_KEYS[layer],)
        for name, part in zip(names, up.chunk(len(names), dim=0)):
            module = f"transformer_blocks.{block_idx}.{name}"
            state[f"{module}.lora_A.weight"] = down
            state[f"{module}.lora_B.weight"] = part
            alphas[module] = QKV_ALPHA if is_qkv else OUT_ALPHA
    return state, alphas


def add_genmo(model, tensors):
    state, alphas = to_adapter(tensors)
    ranks = {m: state[f"{m}.lora_A.weight"].shape[0] for m in alphas}
    config = LoraConfig(
        r=QKV_RANK, target_modules=list(alphas), rank_pattern=ranks, alpha_pattern=alphas
    )
    model.add_adapter(config, adapter_name="genmo")
    set_adapter(model, "genmo", state)


def add_diffusers(model, seed):
    """An adapter as training scripts make it, with values for B, too."""
    config = LoraConfig(
        r=DIFFUSERS_RANK, lora_alpha=DIFFUSERS_ALPHA, target_modules=list(DIFFUSERS_LAYERS)
    )
    model.add_adapter(config, adapter_name="diffusers")
    draw = Draw(seed)
    state = {}
    for key, value in sorted(get_peft_model_state_dict(model, adapter_name="diffusers").items()):
        gain = 0.5 if ".lora_B." in key else 1.0
        state[key] = draw.matrix(*value.shape, gain=gain)
    set_adapter(model, "diffusers", state)
    return state


def set_adapter(model, adapter, state):
    parameters = dict(model.named_parameters())
    own = {key for key in parameters if f".{adapter}." in key}
    for key, value in state.items():
        name = key.replace(".weight", f".{adapter}.weight")
        parameters[name].data.copy_(value)
        own.remove(name)
    assert not own, f"{sorted(own)[0]} was given no values"


def read_metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def save(name, tensors, metadata):
    path = FOLDER / f"{name}.safetensors"
    save_file(contiguous(tensors), path, metadata=metadata)
    path.chmod(0o644)


def save_genmo(tensors):
    ranks = {
        "qkv_proj_lora_rank": QKV_RANK,
        "qkv_proj_lora_alpha": QKV_ALPHA,
        "qkv_proj_lora_dropout": 0.0,
        "out_proj_lora_rank": OUT_RANK,
        "out_proj_lora_alpha": OUT_ALPHA,
        "out_proj_lora_dropout": 0.0,
    }
    save("genmo", tensors, {"kwargs": json.dumps(ranks)})


def save_diffusers(model, state):
    """By the library, then again with one metadata entry: it writes several in a random order."""
    metadata = model.peft_config["diffusers"].to_dict()
    metadata["target_modules"] = sorted(metadata["target_modules"])
    with tempfile.TemporaryDirectory() as folder:
        MochiPipeline.save_lora_weights(
            folder, transformer_lora_layers=state, transformer_lora_adapter_metadata=metadata
        )
        (written,) = Path(folder).glob("*.safetensors")
        tensors, all_metadata = load_file(written), read_metadata(written)
    key = "lora_adapter_metadata"
    save("diffusers", tensors, {key: all_metadata[key]})


def generate():
    print("lora")
    FOLDER.mkdir(exist_ok=True)
    weights_path = GOLDEN_DIR / "dit/a_weights.safetensors"
    weights = {k.removeprefix("weights."): v for k, v in load_file(weights_path).items()}
    config = json.loads(read_metadata(weights_path)["config"])["dit"]
    model = dit.make_model(config, weights)

    draw = Draw(700)
    inputs = {"latents": draw.normal(12, 2, 4, 6), "text": draw.normal(7, config["text_width"])}

    def run():
        return dit.run(model, inputs["latents"], [inputs["text"]], 0.5, Draw(701))[0]["final"]

    outputs = {"final": run()}
    genmo = draw_genmo(config, 710)
    add_genmo(model, genmo)
    save_genmo(genmo)
    save_diffusers(model, add_diffusers(model, 720))
    for name in SCALES:
        model.set_adapters(name)
        outputs[f"final.{name}"] = run()
    model.set_adapters(list(SCALES), weights=list(SCALES.values()))
    outputs["final.both"] = run()

    for name, value in outputs.items():
        change = relative_error(value, outputs["final"])
        print(f"  lora {name}: {change:.2f} from the plain model's output")
    tensors = {f"input.{key}": value for key, value in inputs.items()}
    tensors["input.sigma"] = torch.tensor([0.5])
    tensors.update({f"output.{key}": value for key, value in outputs.items()})
    write_golden("lora/case", tensors, {"model_type": "mochi", "dit": config})
