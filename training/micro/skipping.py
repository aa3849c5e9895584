"""Step skipping in PyTorch, written from its description and apart from the engine.

All videos of a batch run together, but each decides for itself which steps it evaluates. Norms are
over the latents of one video, in fp64.
"""

import math

import torch

DEFAULTS = {"rule": "off", "threshold": None, "extrapolation": "hold",
            "correct_path": False, "warm_up": 4, "cool_down": 1, "longest_run": 0, "null_every": 1, "evaluated_steps": [],
            "max_evaluations": 0}
LARGEST_WEIGHT = 3.0


def places(sigmas):
    """Where each step lies: the logarithm of its signal-to-noise ratio, bounded at both ends."""
    signal = [1 - sigma for sigma in sigmas]
    return [math.log((own + signal[1]) / (sigma + sigmas[-2])) for own, sigma in
            zip(signal, sigmas)]


def jump(at, needed, width):
    """Steps from the first to the last, each as far as `width` allows; a step at least."""
    num_steps, chosen = len(at) - 1, [0]
    while chosen[-1] < num_steps - 1:
        here = chosen[-1]
        reached = max([s for s in range(here + 1, num_steps) if at[s] - at[here] <= width],
                      default=here + 1)
        chosen.append(min([s for s in needed if here < s <= reached], default=reached))
    return set(chosen)


def spread(sigmas, count, always):
    """The steps of a budget: the smallest width that needs no more than `count` of them."""
    at = places(sigmas)
    needed = [s for s in always if s < len(sigmas) - 1]
    low, high = 0.0, at[-2] - at[0]
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if len(jump(at, needed, middle)) <= count else (middle, high)
    return jump(at, needed, high)


def norm(x):
    return x.double().flatten(1).norm(dim=1)


def guide(cfg, pair):
    cond, null = pair
    return cfg * cond + (1 - cfg) * null


class Skipper:
    """The decisions of one batch. `always` are steps that every video evaluates."""

    def __init__(self, config, sigmas, always):
        self.config = {**DEFAULTS, **config}
        unknown = config.keys() - DEFAULTS.keys()
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}")
        if self.config["correct_path"] and self.config["extrapolation"] != "hold":
            raise ValueError("correct_path: the extrapolation must be hold")
        self.sigmas, self.always, self.places = sigmas, set(always), places(sigmas)
        rule = self.config["rule"]
        if self.config["threshold"] is None:
            self.config["threshold"] = 0.02 if rule == "line" else 0.1
        if rule == "budget":
            self.steps = spread(sigmas, self.config["max_evaluations"], self.always)
        else:
            self.steps = set(self.config["evaluated_steps"])
        self.evaluated = None  # [B] lists
        self.last = self.before = None  # (v_cond, v_null) [B, ...] of the last evaluations
        self.guidance = None

    def begin(self, batch):
        self.evaluated = [[] for _ in range(batch)]
        self.error = torch.zeros(batch, dtype=torch.float64)
        self.rate = torch.full((batch,), math.inf, dtype=torch.float64)

    def pending(self, i, step):
        if self.config["rule"] == "easy":
            moved = self.sigmas[step - 1] - self.sigmas[step]
            return float(self.error[i] + self.rate[i] * moved)
        gap = self.places[step] - self.places[self.evaluated[i][-1]]
        moved = self.places[step] - self.places[step - 1]
        return float(self.error[i] + self.rate[i] * gap * gap * moved)

    def skips(self, i, step):
        c, done = self.config, self.evaluated[i]
        if not done or step in self.always or c["rule"] == "off":
            return False
        if c["rule"] in ("schedule", "budget"):
            return step not in self.steps
        if c["longest_run"] and step - done[-1] > c["longest_run"]:
            return False
        if step < c["warm_up"] or step >= len(self.sigmas) - 1 - c["cool_down"]:
            return False
        return self.pending(i, step) < c["threshold"]

    def evaluates_null(self, i, step):
        return step in self.always or len(self.evaluated[i]) % self.config["null_every"] == 0

    def line_weight(self, i, step):
        done = self.evaluated[i]
        if len(done) < 2:
            return 0.0
        last, before = self.places[done[-1]], self.places[done[-2]]
        return min((self.places[step] - last) / (last - before), LARGEST_WEIGHT)

    def line(self, step, device):
        """The line through the last two evaluations at `step`, for each branch."""
        weights = torch.tensor([self.line_weight(i, step) for i in range(len(self.evaluated))],
                               device=device, dtype=torch.float32).view(-1, 1, 1, 1, 1)
        return tuple((1 + weights) * a - weights * b for a, b in zip(self.last, self.before))

    def advance(self, step, cfg, evaluate):
        """(guided velocities, what corrects the latents first), both [B, ...]; `evaluate(videos)`
        gives both branches, which count for the listed videos only."""
        skipped = [self.skips(i, step) for i in range(len(self.evaluated))]
        if all(skipped):
            cond, null = self.predict(step)
            return self.settle(step, skipped, cond, null, cfg), torch.zeros_like(cond)
        cond, null = evaluate([i for i, skip in enumerate(skipped) if not skip])
        null_held = [not s and not self.evaluates_null(i, step) for i, s in enumerate(skipped)]
        if any(null_held):
            held = self.mask(null_held, cond)
            null = torch.where(held, cond - self.guidance, null)
        self.measure(step, skipped, cond, null, cfg)
        shift = self.correct(step, skipped, cond, null, cfg)
        if any(skipped):
            at = self.mask(skipped, cond)
            cond_p, null_p = self.predict(step)
            cond_v, null_v = torch.where(at, cond_p, cond), torch.where(at, null_p, null)
        else:
            cond_v, null_v = cond, null
        self.keep(step, skipped, null_held, cond, null)
        return self.settle(step, skipped, cond_v, null_v, cfg), shift

    @staticmethod
    def mask(flags, like):
        return torch.tensor(flags, device=like.device).view(-1, 1, 1, 1, 1)

    def predict(self, step):
        if self.config["extrapolation"] == "hold" or self.before is None:
            return self.last
        return self.line(step, self.last[0].device)

    def settle(self, step, skipped, cond, null, cfg):
        for i, skip in enumerate(skipped):
            if skip and self.config["rule"] in ("easy", "line"):
                self.error[i] = self.pending(i, step)
            elif not skip:
                self.error[i] = 0
                self.evaluated[i].append(step)
        return null + cfg * (cond - null)

    def correct(self, step, skipped, cond, null, cfg):
        """Replaces the held velocity of the skipped steps before by the line over the noise level
        from the last evaluation to this one."""
        if not self.config["correct_path"] or self.last is None:
            return torch.zeros_like(cond)
        s, weights = self.sigmas, []
        for skip, done in zip(skipped, self.evaluated):
            steps = [] if skip or not done else range(done[-1] + 1, step)
            weights.append(sum((s[k] - s[k + 1]) * (s[done[-1]] - s[k]) / (s[done[-1]] - s[step])
                               for k in steps))
        weights = torch.tensor(weights, device=cond.device).view(-1, 1, 1, 1, 1)
        return weights * (guide(cfg, (cond, null)) - guide(cfg, self.last))

    def measure(self, step, skipped, cond, null, cfg):
        if self.config["rule"] not in ("easy", "line") or self.last is None:
            return
        now, last = guide(cfg, (cond, null)), guide(cfg, self.last)
        change, former, current = norm(now - last), norm(last), norm(now)
        off_line = norm(guide(cfg, self.line(step, cond.device)) - now) if self.before else change
        for i, skip in enumerate(skipped):
            done = self.evaluated[i]
            if skip or not done:
                continue
            if self.config["rule"] == "easy":
                gap = self.sigmas[done[-1]] - self.sigmas[step]
                self.rate[i] = float(change[i] / former[i]) / gap
            elif len(done) > 1:
                gap = self.places[step] - self.places[done[-1]]
                rate = float(off_line[i] / current[i]) / gap ** 2
                known = float(self.rate[i]) if math.isfinite(self.rate[i]) else 0.0
                self.rate[i] = max(rate, known / 2)

    def keep(self, step, skipped, null_held, cond, null):
        if self.last is None:
            self.last, self.guidance = (cond, null), cond - null
            return
        at = self.mask(skipped, cond)
        before = self.before or self.last
        self.before = tuple(torch.where(at, b, a) for b, a in zip(before, self.last))
        self.last = tuple(torch.where(at, a, v) for a, v in zip(self.last, (cond, null)))
        fresh = self.mask([not s and not h for s, h in zip(skipped, null_held)], cond)
        self.guidance = torch.where(fresh, cond - null, self.guidance)
