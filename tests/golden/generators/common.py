"""What every generator needs: seeded weights, relative errors, and the layout of a golden file."""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

GOLDEN_DIR = Path(__file__).resolve().parent.parent


class Draw:
    """Random tensors from one seeded generator, so that a file depends on its own seed only."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, std=1.0, mean=0.0):
        return torch.randn(*shape, generator=self.generator) * std + mean

    def uniform(self, *shape, low, high):
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def integers(self, *shape, high):
        return torch.randint(high, shape, generator=self.generator)

    def matrix(self, *shape, gain=1.0):
        """A weight whose outputs have about the variance of its inputs: [out, in, kernel…]."""
        fan_in = torch.Size(shape[1:]).numel()
        return self.normal(*shape, std=gain * fan_in**-0.5)

    def bias(self, size, std=0.1):
        return self.normal(size, std=std)

    def norm_weight(self, size):
        return self.normal(size, std=0.2, mean=1.0)


def relative_error(got, want):
    """The measure used everywhere: ‖got − want‖₂ / ‖want‖₂; an empty tensor has no error."""
    if want.numel() == 0:
        return 0.0
    got, want = got.double(), want.double()
    return ((got - want).norm() / want.norm()).item()


def round_to_bf16(state):
    """A bf16 checkpoint's weights, stored as fp32; rotary frequencies stay fp32, as on disk."""
    return {
        key: value if key == "pos_frequencies" else value.bfloat16().float()
        for key, value in state.items()
    }


@contextmanager
def bf16_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


class Tap:
    """Keeps what chosen modules return, under chosen names."""

    def __init__(self):
        self.values = {}
        self.handles = []

    def watch(self, module, name, pick=lambda output: output):
        def hook(_module, _args, output):
            self.values[name] = pick(output).detach().float()

        self.handles.append(module.register_forward_hook(hook))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def fnv1a(data):
    """64-bit FNV-1a, which a test can compute without a library."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def contiguous(tensors):
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def write_weights(name, weights, config):
    tensors = {f"weights.{key}": value for key, value in weights.items()}
    write_golden(name, tensors, config)


def write_case(name, inputs, outputs, bf16_outputs, config):
    tensors = {f"input.{key}": value for key, value in inputs.items()}
    errors = {}
    for key, value in outputs.items():
        tensors[f"output.{key}"] = value
        errors[key] = relative_error(bf16_outputs[key], value)
        # What the bf16 run computes in fp32 as well (rotary angles) has no bf16 error to keep to.
        if errors[key] > 1e-5:
            tensors[f"bf16_error.{key}"] = torch.tensor([errors[key]])
    write_golden(name, tensors, config)
    print(f"  {name}: {len(outputs)} outputs, worst bf16 error {max(errors.values()):.2e}")


def write_golden(name, tensors, config):
    path = GOLDEN_DIR / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # One metadata entry only: the library writes several in a random order.
    save_file(contiguous(tensors), path, metadata={"config": json.dumps(config)})
    path.chmod(0o644)  # the library makes it readable by its owner only


def write_json(name, value):
    path = GOLDEN_DIR / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    text = re.sub(r",\n +(?=[-0-9])", ", ", text)  # lists of numbers on one line
    path.write_text(text + "\n", encoding="utf-8")
