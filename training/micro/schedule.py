"""What both trainings share: a rate that follows the clock, weight averages, printing."""

import copy
import math
import time

import torch

from micro import peers


class Clock:
    """Progress of a training that has a time budget and not a number of steps.

    Processes that train together must ask for it equally often.
    """

    def __init__(self, minutes):
        peers.agree(0)  # whoever is early waits
        self.start = time.time()
        self.budget = minutes * 60

    def seconds(self):
        return time.time() - self.start

    def progress(self):
        return min(1.0, peers.agree(self.seconds() / self.budget))


def rate(peak, progress, step, warm_up):
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return peak * min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * cosine)


class Average:
    """An exponential moving average of the weights of several modules."""

    def __init__(self, modules, decay):
        self.sources = [p for m in modules for p in m.parameters()]
        self.modules = [copy.deepcopy(m).eval() for m in modules]
        self.targets = [p for m in self.modules for p in m.parameters()]
        for p in self.targets:
            p.requires_grad_(False)
        self.decay = decay
        self.num = 0

    @torch.no_grad()
    def update(self):
        self.num += 1
        decay = min(self.decay, (1 + self.num) / (10 + self.num))
        torch._foreach_lerp_(self.targets, [p.detach() for p in self.sources], 1 - decay)


def say(*words):
    if peers.RANK == 0:
        print(time.strftime("%H:%M:%S"), *words, flush=True)
