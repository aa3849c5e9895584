"""The PyTorch modules against goldens made with public implementations."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from micro import dit, text_encoder, vae

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"


def weights_of(name):
    return {k.removeprefix("weights."): v for k, v in golden(name).items()}


def golden(name):
    return load_file(GOLDEN / f"{name}.safetensors")


def config_of(name):
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as f:
        return json.loads(f.metadata()["config"])


def relative(out, ref):
    return float((out - ref).norm() / ref.norm())


@pytest.fixture(scope="module")
def small_dit():
    model = dit.DiT(config_of("dit/a_weights")["dit"])
    model.load_state_dict(weights_of("dit/a_weights"))
    return model.eval()


@pytest.mark.parametrize("num_text,padding", [(0, 0), (1, 0), (7, 0), (7, 5), (77, 3)])
@torch.no_grad()
def test_dit(small_dit, num_text, padding):
    case = golden(f"dit/a_text{num_text}")
    z = case["input.latents"][None]
    text = case.get("input.text", torch.zeros(0, 32)).reshape(1, num_text, 32)
    text = torch.cat([text, torch.randn(1, padding, 32)], 1)
    mask = (torch.arange(num_text + padding) < num_text)[None]
    num_visual = case["output.x_embed"].shape[0]
    plan = dit.AttentionPlan.make(torch.tensor([num_text]), num_visual, num_text + padding, False)
    out = small_dit(z, case["input.sigma"], text, mask, plan)[0]
    assert relative(out, case["output.final"]) < 1e-5


def test_packed_plan_separates_padding():
    plan = dit.AttentionPlan.make(torch.tensor([3, 0, 5]), 10, 6, True)
    assert plan.segments.tolist() == [0, 13, 16, 26, 32, 47, 48]


@torch.no_grad()
def test_text_encoder():
    model = text_encoder.T5Encoder(config_of("t5/weights")["text_encoder"])
    weights = weights_of("t5/weights")
    model.load_state_dict(weights)
    case = golden("t5/tokens77")
    ids = case["input.ids"].long()[None]
    padded = torch.cat([ids, torch.zeros(1, 9, dtype=torch.long)], 1)
    mask = (torch.arange(padded.shape[1]) < ids.shape[1])[None]
    out = model(padded, mask)[0, :ids.shape[1]]
    assert relative(out, case["output.features"]) < 1e-5


@pytest.mark.parametrize("kind", ["conv3d", "stack_in", "stack_out"])
@pytest.mark.parametrize("num_latents", [1, 2, 5])
@torch.no_grad()
def test_decoder(monkeypatch, kind, num_latents):
    monkeypatch.setattr(vae.Kernels, "conv", dict.fromkeys((8, 12, 16, 24), kind))
    model = vae.Decoder(config_of("vae/decoder_weights")["vae"])
    model.load_state_dict(weights_of("vae/decoder_weights"))
    case = golden(f"vae/decoder_t{num_latents}")
    out = model(case["input.latents"].permute(1, 2, 3, 0)[None])[0].permute(3, 0, 1, 2)
    assert relative(out, case["output.raw"]) < 1e-5


@torch.no_grad()
def test_first_stages_of_encoder():
    """Up to the first attention, which the micro model does not have."""
    model = vae.Encoder(config_of("vae/encoder_weights")["vae"])
    weights = weights_of("vae/encoder_weights")
    model.load_state_dict({k: weights[k] for k in model.state_dict()})
    case = golden("vae/encoder_frames7")
    x = vae.fourier_features(case["input.video"].permute(1, 2, 3, 0)[None], [6, 7])
    x = vae.linear(model.layers[0], x)
    for layer in list(model.layers)[1:3]:
        x = layer(x)
    out = x[0].permute(3, 0, 1, 2)
    assert relative(out, case["output.down0.before_attention"]) < 1e-5


def test_replicate_pad_gradient():
    x = torch.randn(1, 3, 4, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(vae.ReplicatePad.apply, (x,))
