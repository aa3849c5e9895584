"""Goldens of every kind of change that a LoRA file may hold, on layers of the model of dit.py.

The layers of the peft library and of LyCORIS are given seeded values. The libraries save them in
their own spelling and merge them into the weights. The engine must come to the same weights.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from generators.common import GOLDEN_DIR, Draw, contiguous, relative_error

FOLDER = GOLDEN_DIR / "lora_kinds"
LAYERS = ("blocks.0.attn.proj_x", "blocks.0.attn.qkv_y", "blocks.1.mlp_y.w2")
CONVOLUTION = "x_embedder.proj"
# peft's settings by the name of the case.
PEFT_CASES = {
    "peft_dora": LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=list(LAYERS)),
    "peft_dora_rs": LoraConfig(
        r=4, lora_alpha=6, use_dora=True, use_rslora=True, target_modules=[LAYERS[0]]
    ),
    "peft_bias": LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=[LAYERS[0]]),
    "peft_convolution": LoraConfig(r=2, lora_alpha=3, target_modules=[CONVOLUTION]),
    "peft_loha": LoHaConfig(
        r=2, alpha=3, alpha_pattern={"blocks.0.attn.qkv_y": 5}, target_modules=list(LAYERS)
    ),
    "peft_lokr": LoKrConfig(
        r=2, alpha=3, decompose_both=True, decompose_factor=8, target_modules=list(LAYERS)
    ),
    "peft_lokr_half": LoKrConfig(r=2, alpha=3, target_modules=list(LAYERS)),
    "peft_lokr_whole": LoKrConfig(r=64, alpha=16, target_modules=list(LAYERS)),
}


def read_weights():
    state = load_file(GOLDEN_DIR / "dit/a_weights.safetensors")
    return {key.removeprefix("weights."): value for key, value in state.items()}


def make_layer(weights, name):
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    has_bias = bias is not None
    if weight.dim() == 2:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
    else:
        sizes, kernel = weight.shape, tuple(weight.shape[2:])
        layer = torch.nn.Conv2d(sizes[1], sizes[0], kernel, stride=kernel, bias=has_bias)
    layer.weight.data.copy_(weight)
    if has_bias:
        layer.bias.data.copy_(bias)
    return layer


def make_model(weights):
    """The layers alone, as modules inside modules, so that they have their names."""
    model = torch.nn.Module()
    for name in (*LAYERS, CONVOLUTION):
        *path, last = name.split(".")
        parent = model
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, make_layer(weights, name))
    return model


def fill(parameters, draw):
    """Norms stay near those of the weights; all else is drawn anew."""
    for name, parameter in sorted(parameters):
        if "magnitude" in name or "dora_scale" in name:
            factors = draw.uniform(*parameter.shape, low=0.6, high=1.5)
            parameter.data.mul_(factors)
        else:
            parameter.data.copy_(draw.matrix(*parameter.shape, gain=0.7))


def note(merged, weights, case):
    for name, value in merged.items():
        change = relative_error(value, weights[name])
        print(f"  {case} {name}: {change:.2f} from the weight")
        assert change > 0.02, "changes too little to be a test"


def changed(model, weights):
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return {k: v for k, v in state.items() if not torch.equal(v, weights[k])}


def save(path, tensors, metadata=None):
    save_file(contiguous(tensors), path, metadata=metadata)
    path.chmod(0o644)


def save_adapter(model, case):
    """As peft saves it, in a folder: the tensors, and the settings beside them."""
    target = FOLDER / case
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        save(target / "adapter_model.safetensors",
             load_file(Path(folder) / "adapter_model.safetensors"))
        settings = json.loads((Path(folder) / "adapter_config.json").read_text())
    if isinstance(settings["target_modules"], list):
        settings["target_modules"].sort()
    text = json.dumps(settings, indent=1, sort_keys=True)
    (target / "adapter_config.json").write_text(text + "\n")


def make_peft(case, config, weights, seed):
    model = get_peft_model(make_model(weights), config)
    adapters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    fill(adapters, Draw(seed))
    save_adapter(model, case)
    return changed(model.merge_and_unload(), weights)


def flat(name):
    return "lora_unet_" + name.replace(".", "_")


def lycoris_modules(weights):
    """By case, the modules of one file: (layer, module)."""

    def make(kind, name, dim=2, alpha=3, **options):
        return name, kind(flat(name), make_layer(weights, name), 1.0, dim, alpha, **options)

    first, second, third = LAYERS
    return {
        "lycoris_lora": [make(LoConModule, name) for name in LAYERS],
        "lycoris_dora_rows": [
            make(LoConModule, name, weight_decompose=True, wd_on_out=True) for name in LAYERS
        ],
        "lycoris_dora_columns": [
            make(LoConModule, name, weight_decompose=True, wd_on_out=False) for name in LAYERS
        ],
        "lycoris_loha": [
            make(LohaModule, first),
            make(LohaModule, second, weight_decompose=True, wd_on_out=False),
        ],
        "lycoris_lokr": [
            make(LokrModule, first, factor=4),
            make(LokrModule, second, dim=64, factor=4),
            make(LokrModule, third, dim=1, factor=8, weight_decompose=True, wd_on_out=True),
        ],
    }


def weight_of(module, num_in):
    """The weight that the layer works with, by its outputs for unit vectors. LyCORIS' own merge
    multiplies some kinds by their strength twice, its forward pass and all other programs once."""
    module.eval()
    module.apply_to()
    with torch.no_grad():
        zero = module(torch.zeros(1, num_in))
        return (module(torch.eye(num_in)) - zero).T


def make_lycoris(case, modules, weights, seed):
    draw = Draw(seed)
    tensors, merged = {}, {}
    for name, module in modules:
        adapter = [(n, p) for n, p in module.named_parameters() if "org_" not in n]
        fill(adapter, draw)
        for key, value in module.custom_state_dict().items():
            tensors[f"{flat(name)}.{key}"] = value.detach().clone()
        merged[f"{name}.weight"] = weight_of(module, weights[f"{name}.weight"].shape[1])
    save(FOLDER / f"{case}.safetensors", tensors)
    return merged


def make_difference(case, parts, weights, seed):
    """Differences are added as they are: that is their formula."""
    draw = Draw(seed)
    tensors, merged = {}, {}
    for part, name in parts.items():
        tensors[part] = draw.normal(*weights[name].shape, std=0.2)
        merged[name] = weights[name] + tensors[part]
    save(FOLDER / f"{case}.safetensors", tensors)
    return merged


# The tensors of the file, and the parameters that they change.
DIFFERENCES = {
    "diffusion_model.blocks.0.attn.proj_x.diff": "blocks.0.attn.proj_x.weight",
    "diffusion_model.blocks.0.attn.proj_x.diff_b": "blocks.0.attn.proj_x.bias",
    "diffusion_model.blocks.0.attn.q_norm_x.w_norm": "blocks.0.attn.q_norm_x.weight",
    "diffusion_model.blocks.0.attn.k_norm_y.diff": "blocks.0.attn.k_norm_y.weight",
    "diffusion_model.t5_yproj.diff_b": "t5_yproj.bias",
}


def generate():
    print("lora_kinds")
    FOLDER.mkdir(exist_ok=True)
    weights = read_weights()
    merged = {}
    cases = [(case, make_peft, config) for case, config in PEFT_CASES.items()]
    cases += [(case, make_lycoris, modules) for case, modules in lycoris_modules(weights).items()]
    cases.append(("difference", make_difference, DIFFERENCES))
    for seed, (case, make, source) in enumerate(cases, start=800):
        # Not every layer of these libraries is made from the caller's seed.
        torch.manual_seed(seed)
        of_case = make(case, source, weights, seed)
        note(of_case, weights, case)
        merged.update({f"{case}/{name}": value for name, value in of_case.items()})
    save(FOLDER / "merged.safetensors", merged)
