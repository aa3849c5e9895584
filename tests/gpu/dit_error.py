#!/usr/bin/env python3
"""How far the engine's bf16 is from fp32 at the full model's width, beside PyTorch's autocast.

Usage: dit_error.py DIT_VELOCITY [--tokens 4000 44520] [--depth 2] [--folder DIR]

Random weights (BF16 in the file, so that both compute with the same ones), one whole block and the
last one, 128 text tokens. The reference is PyTorch in fp32 on this GPU, without TF32. Fails when the
engine's bf16 is further from it than 1.1 times autocast, or its fp32 than 1e-4.
"""

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
# In a bundle the training code's model lies beside this script.
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "training" / "micro")]
try:
    import reference_dit as dit
except ImportError:
    import dit

CONFIG = {"num_heads": 24, "hidden_size_x": 3072, "hidden_size_y": 1536, "mlp_hidden_x": 8192,
          "mlp_hidden_y": 4096, "patch_size": 2, "latent_channels": 12, "text_width": 4096,
          "timestep_features": 256, "pooler_heads": 8}
GRIDS = {4000: (10, 16, 25), 44520: (28, 30, 53)}  # visual tokens: frames, rows, columns
NUM_TEXT = 128
FACTOR = 1.1


def random_state(model):
    """As WeightStore::init_random: what norms and rotary tables need, and matrices by fan-in."""
    state = {}
    for name, value in model.state_dict().items():
        if name == "pos_frequencies":
            state[name] = value.cuda()
            continue
        values = torch.randn(value.shape, device="cuda")
        if name.endswith("bias"):
            values *= 0.02
        elif value.dim() == 1:
            values = 1 + 0.1 * values
        else:
            values *= math.prod(value.shape[1:]) ** -0.5
        state[name] = values
    return {name: value.bfloat16().float() for name, value in state.items()}


def write(path, tensors, dtype):
    name_of = {torch.float32: "F32", torch.bfloat16: "BF16"}[dtype]
    header, offset = {}, 0
    for name, value in tensors.items():
        size = value.numel() * dtype.itemsize
        header[name] = {"dtype": name_of, "shape": list(value.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.to(dtype).contiguous().view(torch.uint8).cpu().numpy().tobytes())


def read(path, shape):
    content = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    begin, end = json.loads(content[8:8 + size])["velocity"]["data_offsets"]
    values = torch.frombuffer(bytearray(content[8 + size + begin:8 + size + end]),
                              dtype=torch.float32)
    return values.view(shape).cuda()


def relative_error(got, want):
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


def measure(options, folder, model, num_tokens):
    frames, rows, columns = GRIDS[num_tokens]
    torch.manual_seed(num_tokens)
    inputs = {"latents": torch.randn(12, frames, 2 * rows, 2 * columns),
              "text": torch.randn(NUM_TEXT, CONFIG["text_width"]).bfloat16().float(),
              "sigma": torch.tensor([0.6])}
    write(folder / "input.safetensors", inputs, torch.float32)
    args = (inputs["latents"][None].cuda(), inputs["sigma"].cuda(), inputs["text"][None].cuda(),
            torch.ones(1, NUM_TEXT, dtype=torch.bool, device="cuda"), dit.AttentionPlan())
    with torch.no_grad():
        want = model(*args)[0]
        with torch.autocast("cuda", torch.bfloat16):
            autocast = relative_error(model(*args)[0].float(), want)
    torch.cuda.empty_cache()
    errors = {}
    for dtype in ("bf16", "fp32"):
        subprocess.run([options.program, folder / "dit.safetensors", folder / "input.safetensors",
                        folder / "out.safetensors", dtype], check=True)
        errors[dtype] = relative_error(read(folder / "out.safetensors", want.shape), want)
    is_good = errors["bf16"] <= FACTOR * autocast and errors["fp32"] <= 1e-4
    print(f"{num_tokens:6d} + {NUM_TEXT} tokens, {options.depth} blocks: PyTorch autocast "
          f"{autocast:.3e}, engine bf16 {errors['bf16']:.3e} ({errors['bf16'] / autocast:.2f} of it), "
          f"engine fp32 {errors['fp32']:.1e}: {'good' if is_good else 'TOO FAR'}", flush=True)
    return is_good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="dit_velocity")
    parser.add_argument("--tokens", type=int, nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--folder", help="for the files in between; about 1 GB")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(torch.__version__, torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        torch.manual_seed(1)
        model = dit.DiT({**CONFIG, "depth": options.depth})
        state = random_state(model)
        model.load_state_dict(state)
        model = model.cuda().eval()
        write(folder / "dit.safetensors", state, torch.bfloat16)
        del state
        results = [measure(options, folder, model, num_tokens) for num_tokens in options.tokens]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
