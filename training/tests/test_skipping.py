"""Step skipping: decisions from known velocities, and what a budget chooses."""

import pytest
import torch
from micro import sampler, skipping

SIGMAS = [1 - i / 10 for i in range(11)]


def run(config, velocity, sigmas=SIGMAS, always=()):
    """Evaluated steps of one video whose velocity at a step is `velocity(step)`."""
    skipper = skipping.Skipper(config, sigmas, always)
    skipper.begin(1)
    for step in range(len(sigmas) - 1):
        v = torch.full((1, 1, 1, 1, 2), float(velocity(step)))
        skipper.advance(step, 3.0, lambda _: (v, v.clone()))
    return skipper.evaluated[0]


def test_without_a_rule_every_step_is_evaluated():
    assert run({}, lambda step: 1) == list(range(10))


def test_still_velocities_are_skipped_between_warm_up_and_cool_down():
    assert run({"rule": "easy", "warm_up": 2, "cool_down": 1}, lambda step: 1) == [0, 1, 9]
    assert run({"rule": "easy", "warm_up": 2, "longest_run": 3}, lambda step: 1) == [0, 1, 5, 9]


def test_a_velocity_that_grows_is_evaluated_by_its_rate():
    # 10 % a step: a threshold of 0.25 is reached at the third step after an evaluation.
    steps = run({"rule": "easy", "threshold": 0.25, "warm_up": 2, "cool_down": 0},
                lambda step: 1 + 0.1 * step)
    assert steps[:3] == [0, 1, 4]


def test_a_straight_line_is_followed():
    config = {"rule": "line", "extrapolation": "line", "warm_up": 2, "cool_down": 0}
    at = skipping.places(SIGMAS)
    assert run(config, lambda step: 1 + at[step]) == [0, 1, 2]


def test_a_corrected_path_is_exact_for_velocities_on_a_line():
    config = {"rule": "schedule", "evaluated_steps": [0, 4, 9], "correct_path": True}
    skipper = skipping.Skipper(config, SIGMAS, [])
    skipper.begin(1)
    z, wanted = 0.0, 0.0
    for step in range(10):
        velocity = torch.full((1, 1, 1, 1, 2), 2.0 - SIGMAS[step])
        v, shift = skipper.advance(step, 3.0, lambda _: (velocity, velocity.clone()))
        z = z + shift + 0.1 * v
        wanted = wanted + 0.1 * velocity
    assert skipper.evaluated[0] == [0, 4, 9]
    torch.testing.assert_close(z, wanted)


def test_needed_steps_are_evaluated_and_schedules_followed():
    assert run({"rule": "schedule", "evaluated_steps": [3]}, lambda step: 1, always=[6]) == [0, 3, 6]


@pytest.mark.parametrize("count", [2, 5, 12, 20, 64])
def test_a_budget_is_kept(count):
    sigmas = sampler.sigmas(64, 0.025, 32)
    chosen = skipping.spread(sigmas, count, [])
    assert len(chosen) <= count and {0, 63} <= chosen
    assert {7, 9} <= skipping.spread(sigmas, count, [7, 9])


def test_unknown_keys_are_refused():
    with pytest.raises(ValueError, match="treshold"):
        skipping.Skipper({"treshold": 1}, SIGMAS, [])
