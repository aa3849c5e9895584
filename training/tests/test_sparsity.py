"""Sparse attention in PyTorch: orders, columns and deltas."""

import pytest
import torch

from micro import sparsity

GRID = (5, 13, 9)  # whole voxels and tails in every direction
NUM_TEXT = 6
NUM_TOKENS = 5 * 13 * 9 + NUM_TEXT
CONFIG = {**sparsity.DEFAULTS, "top_keys": 0.3, "first_n_dense_layers": 0, "full_steps": [0, 1]}
DELTAS = ["subtract", "weighted", *sparsity.FOLLOW]


def draw(step):
    """q, k, v of two samples, which change a little from step to step."""
    fixed = torch.randn(3, 2, 2, NUM_TOKENS, 16, generator=torch.Generator().manual_seed(1))
    change = torch.randn(fixed.shape, generator=torch.Generator().manual_seed(2 + step))
    return (fixed + 0.1 * change).unbind(0)


def make(config):
    return sparsity.Sparsity(config, GRID, [NUM_TEXT, 0], NUM_TEXT, 1, "cpu")


def run(config, steps):
    state = make(config)
    for step, inputs in enumerate(steps):
        out = state.attend(0, step, *draw(inputs))
    return out, state


def error(got, want):
    return ((got - want).norm() / want.norm()).item()


def test_voxel_order_is_a_permutation_with_tails_last():
    order = sparsity.voxel_order(GRID)
    assert sorted(order.tolist()) == list(range(5 * 13 * 9))
    first = order[:sparsity.GROUP]
    frames, rows, columns = first // (13 * 9), first // 9 % 13, first % 9
    assert (frames.max(), rows.max(), columns.max()) == (3, 5, 7)
    assert (order[2 * sparsity.GROUP:][:13 * 9] // (13 * 9) == 4).all()


def test_kept_columns_are_tiles_and_hold_the_static_ones():
    _, state = run(CONFIG, range(2))
    kept = state.sites[0].columns
    assert not kept[1, :, :, -NUM_TEXT:].any()  # no text there
    assert (kept & state.static[:, None] == state.static[:, None]).all()
    counts = kept.sum(-1)
    everything = state.valid.sum(1)[:, None, None]
    assert ((counts % sparsity.TILE == 0) | (counts == everything)).all()


@pytest.mark.parametrize("delta", DELTAS)
def test_after_a_full_step_with_its_inputs_the_delta_gives_the_dense_output(delta):
    out, _ = run({**CONFIG, "delta": delta}, [0, 1, 1])
    dense = make(None).attend(0, 1, *draw(1))
    assert error(out, dense) < 1e-5
    out, _ = run({**CONFIG, "delta": delta}, [0, 1, 2])
    assert 1e-4 < error(out, make(None).attend(0, 2, *draw(2))) < 0.5


def test_without_a_delta_something_is_missing():
    out, _ = run({**CONFIG, "delta": "none"}, [0, 1, 1])
    assert error(out, make(None).attend(0, 1, *draw(1))) > 1e-2
