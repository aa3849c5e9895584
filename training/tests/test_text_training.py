"""Captions and their labels; gradients of processes that train together."""

import random
import subprocess
import sys
from pathlib import Path

import torch

from micro import dit, scenes, text_encoder, text_training
from micro.config import CONFIG


def test_labels_name_what_the_scene_has():
    rng = random.Random(3)
    for two in (False, True):
        scene = scenes.sample_scene(rng, two=two)
        told = {name: values[label] if label != scenes.NO_LABEL else None for label, (name, values)
                in zip(scenes.labels(scene), scenes.ATTRIBUTES.items())}
        assert told["background"] == scene.background and told["gradient"] == scene.gradient
        assert told["objects"] == len(scene.objects)
        for obj, side in zip(scene.objects, scene.sides or ["left"]):
            assert all(told[f"{side} {key}"] == value for key, value in vars(obj).items())
        if not two:
            assert all(told[f"right {key}"] is None for key in vars(scene.objects[0]))


def test_probe_ignores_padding_and_missing_objects():
    torch.manual_seed(0)
    encoder = text_encoder.T5Encoder(CONFIG["text_encoder"])
    pooler = dit.Pooler(128, 256, 8)
    probe = text_training.CaptionProbe(128, 256)
    ids = torch.randint(3, 300, (4, 12))
    counts = torch.tensor([3, 12, 7, 5])
    picked = [scenes.sample_scene(random.Random(i), two=False) for i in range(4)]
    labels = torch.stack([torch.from_numpy(scenes.labels(scene)) for scene in picked])
    loss = text_training.caption_loss(encoder, pooler, probe, ids, counts, labels)
    padded = torch.where(torch.arange(12) < counts[:, None], ids, 0)
    assert torch.allclose(
        loss, text_training.caption_loss(encoder, pooler, probe, padded, counts, labels), atol=1e-5)
    loss.backward()
    first_of_right = sum(text_training.SIZES[:8])
    assert probe.pooled.weight.grad[:first_of_right].abs().sum() > 0
    assert probe.pooled.weight.grad[first_of_right:].abs().sum() == 0


TOGETHER = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from micro import peers
peers.join("cpu")
p = torch.nn.Parameter(torch.zeros(2, 3))
unused = torch.nn.Parameter(torch.zeros(2))
(p * (peers.RANK + 1)).sum().backward()
peers.average_gradients([p, unused])
assert torch.equal(p.grad, torch.full((2, 3), 1.5)), p.grad
assert peers.agree(float(peers.RANK)) == 0.5
peers.leave()
"""


def test_gradients_of_two_processes_are_averaged(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    run = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone",
                          "--nproc-per-node", "2", str(script),
                          str(Path(__file__).resolve().parents[1])],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_heads_start_with_neighbours_and_order():
    bias = text_encoder.initial_bias(32, 4)
    buckets = text_encoder.relative_buckets(20, 32, 128)
    for head, wanted in enumerate([lambda q, k: k == q - 1, lambda q, k: k == q + 1,
                                   lambda q, k: k <= q, lambda q, k: k > q]):
        favoured = bias[buckets, head] > 0
        assert all(bool(favoured[q, k]) == wanted(q, k) for q in range(20) for k in range(20))
