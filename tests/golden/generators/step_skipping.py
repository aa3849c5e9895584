"""Dense generations of the micro model that skip steps, by training/micro/skipping.py.

As sparsity.py: the project's own code in another language.
"""

import sys

import torch

from generators.common import GOLDEN_DIR, write_golden

ROOT = GOLDEN_DIR.parent.parent
sys.path.insert(0, str(ROOT / "training"))

from micro import export, sampler, sparsity, tokenizer  # noqa: E402

PROMPT = "a small yellow ball rolls to the right on a blue background"
NUM_STEPS = 24
SHAPE = (12, 2, 24, 40)  # 320×192, 7 frames
NUM_KEPT_CHANNELS = 2  # in the file
SEED = 6

CASES = {
    "easy": {"rule": "easy", "threshold": 0.2, "warm_up": 2},
    "line": {"rule": "line", "threshold": 0.02, "extrapolation": "line", "warm_up": 2},
    "corrected": {"rule": "line", "threshold": 0.05, "correct_path": True, "warm_up": 2},
    "budget": {"rule": "budget", "max_evaluations": 10, "extrapolation": "line", "null_every": 2},
    "run": {"rule": "easy", "threshold": 10, "warm_up": 3, "cool_down": 2, "longest_run": 3},
}


def generate():
    model = ROOT / "models" / "micro"
    models, config = export.load_directory(model)
    ids, counts = tokenizer.encode(
        tokenizer.load(model / "tokenizer" / "spiece.model"), [PROMPT])
    ids, counts = torch.from_numpy(ids)[:, :counts[0]], torch.from_numpy(counts)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))[None]
    generation = config["generation"]
    sigmas = sampler.sigmas(NUM_STEPS, generation["threshold_noise"], NUM_STEPS // 2)
    tensors = {}
    for name, rule in CASES.items():
        latents, _, evaluated = sparsity.sample(models["dit"], models["text_encoder"], ids, counts,
                                                noise, generation["cfg_scale"], sigmas, None, rule)
        tensors[f"output.{name}"] = latents[0, :NUM_KEPT_CHANNELS].contiguous()
        tensors[f"steps.{name}"] = torch.tensor(evaluated[0], dtype=torch.int32)
    write_golden("sampler/step_skipping", tensors,
                 {"prompt": PROMPT, "seed": SEED, "num_steps": NUM_STEPS})
    print(f"  step_skipping: {len(CASES)} latents")
