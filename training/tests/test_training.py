"""The parts of training and sampling that have no golden."""

import numpy as np
import pytest
import torch

from micro import dit_training, sampler, schedule, tokenizer


def test_sigma_reaches_the_noisy_end():
    torch.manual_seed(0)
    sigma = dit_training.draw_sigma(20000, torch.device("cpu"))
    assert 0 < sigma.min() and sigma.max() < 1
    assert 0.2 < (sigma > 0.98).float().mean() < 0.35
    assert 0.3 < (sigma < 0.7).float().mean() < 0.6


def test_sampler_schedule():
    s = sampler.sigmas(64, 0.025, 32)
    assert len(s) == 65 and s[0] == 1.0 and s[-1] == 0.0
    assert np.all(np.diff(s) < 0)
    assert s[32] == pytest.approx(0.975)


def test_rate_follows_the_clock():
    assert schedule.rate(1.0, 0.0, 0, 100) == pytest.approx(0.01)
    assert schedule.rate(1.0, 0.0, 99, 100) == pytest.approx(1.0)
    assert schedule.rate(1.0, 1.0, 5000, 100) == pytest.approx(0.01)


def test_average_follows_and_stands_apart():
    layer = torch.nn.Linear(2, 2)
    average = schedule.Average([layer], 0.5)
    before = average.modules[0].weight.clone()
    with torch.no_grad():
        layer.weight += 1.0
    average.update()
    moved = average.modules[0].weight - before
    assert torch.allclose(moved, torch.full((2, 2), 9 / 11), atol=1e-6)


def test_tokenizer_encodes_as_t5(tmp_path):
    processor = tokenizer.train(tmp_path / "spiece.model", num_captions=2000)
    ids, counts = tokenizer.encode(processor, ["A Red ball", "a red ball", ""])
    assert (ids[0] == ids[1]).all() and counts[0] == counts[1] > 1
    assert ids[0, counts[0] - 1] == tokenizer.EOS_ID and (ids[0, counts[0]:] == 0).all()
    assert counts[2] == 0 and (ids[2] == tokenizer.PAD_ID).all()
    long_ids, long_counts = tokenizer.encode(processor, ["a red ball and " * 60])
    assert long_counts[0] == tokenizer.TEXT_LENGTH - 1
    assert long_ids[0, long_counts[0] - 1] == tokenizer.EOS_ID
