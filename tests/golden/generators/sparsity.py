"""Sparse generations of the micro model by training/micro/sparsity.py: latents of a few steps.

That is the project's own code in another language, with masks instead of gathered columns: it is
independent of the engine, but not of the people who wrote both.
"""

import sys

import torch

from generators.common import GOLDEN_DIR, write_golden

ROOT = GOLDEN_DIR.parent.parent
sys.path.insert(0, str(ROOT / "training"))

from micro import export, sampler, sparsity, tokenizer  # noqa: E402

PROMPT = "a small yellow ball rolls to the right on a blue background"
NUM_STEPS = 6
LINEAR_STEPS = 3
SHAPE = (12, 4, 24, 40)  # 320×192, 19 frames: four voxels of 192 tokens, and a tail of as many
NUM_KEPT_CHANNELS = 2  # in the file
SEED = 5

# Random columns are left out: the two programs draw them by other generators.
COMMON = {"random_keys": 0.0, "full_steps": [0, 1, 4]}
CASES = {
    "half_merge": {"top_keys": 0.15, "delta": "half_merge"},
    "lse_merge": {"top_keys": 0.3, "delta": "lse_merge", "voxels": False, "score_queries": 4},
    "weighted": {"top_keys": 0.15, "delta": "weighted", "local_voxels": 0,
                 "first_n_dense_layers": 0},
    "subtract": {"delta": "subtract", "top_p": 0.7, "max_keys": 0.4, "first_n_dense_layers": 1},
    "none": {"top_keys": 0.3, "delta": "none", "local_voxels": 2},
}


def generate():
    model = ROOT / "models" / "micro"
    models, config = export.load_directory(model)
    ids, counts = tokenizer.encode(
        tokenizer.load(model / "tokenizer" / "spiece.model"), [PROMPT])
    ids, counts = torch.from_numpy(ids)[:, :counts[0]], torch.from_numpy(counts)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))[None]
    generation = config["generation"]
    sigmas = sampler.sigmas(NUM_STEPS, generation["threshold_noise"], LINEAR_STEPS)
    tensors = {}
    for name, given in {"dense": None, **CASES}.items():
        settings = given and {**sparsity.DEFAULTS, **COMMON, **given}
        latents, _, _ = sparsity.sample(models["dit"], models["text_encoder"], ids, counts, noise,
                                        generation["cfg_scale"], sigmas, settings)
        tensors[f"output.{name}"] = latents[0, :NUM_KEPT_CHANNELS].contiguous()
    write_golden("sampler/sparsity", tensors, {"prompt": PROMPT, "seed": SEED, "num_steps": NUM_STEPS})
    print(f"  sparsity: {len(tensors)} latents")
