"""Noise levels of a whole run: diffusers' schedule for Mochi, checked against the closed form."""

from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

from generators.common import write_json

SCHEDULES = [(64, 0.025, None), (8, 0.1, 6), (100, 0.025, None)]


def closed_form(num_steps, threshold_noise, linear_steps):
    """A line from 1 of slope −θ/K, then a parabola that meets it smoothly and ends at 0."""
    d = linear_steps - threshold_noise * num_steps
    q = num_steps - linear_steps
    a = d / (linear_steps * q**2)
    b = threshold_noise / linear_steps - 2 * d / q**2
    c = a * linear_steps**2
    line = [1 - i * threshold_noise / linear_steps for i in range(linear_steps)]
    return line + [1 - (a * i**2 + b * i + c) for i in range(linear_steps, num_steps)] + [0.0]


def generate():
    print("sigma")
    schedules = []
    for num_steps, threshold_noise, linear_steps in SCHEDULES:
        # diffusers leaves the final 0 to its scheduler.
        sigmas = linear_quadratic_schedule(num_steps, threshold_noise, linear_steps) + [0.0]
        want = closed_form(num_steps, threshold_noise, linear_steps or num_steps // 2)
        assert len(sigmas) == len(want) == num_steps + 1
        assert max(abs(x - y) for x, y in zip(sigmas, want)) < 1e-14
        assert all(x > y for x, y in zip(sigmas, sigmas[1:]))
        schedules.append(
            {
                "num_steps": num_steps,
                "threshold_noise": threshold_noise,
                "linear_steps": linear_steps,
                "sigmas": sigmas,
            }
        )
    write_json("sampler/sigma_schedules", schedules)
