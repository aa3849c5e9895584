"""Several processes that train together, one a GPU: `torchrun --nproc-per-node N train.py`.

A process that was started alone is a group of one; everything here then does nothing.
"""

import os

import torch
import torch.distributed as dist

RANK = int(os.environ.get("RANK", 0))
SIZE = int(os.environ.get("WORLD_SIZE", 1))


def join(device_type):
    if SIZE > 1:
        if device_type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")


def leave():
    if SIZE > 1:
        dist.destroy_process_group()


def average(tensor):
    """Replaces the tensor by its mean over all processes."""
    if SIZE > 1:
        dist.all_reduce(tensor)
        tensor /= SIZE
    return tensor


def agree(value):
    """The mean of a number over all processes, so that they leave their loops together."""
    return value if SIZE == 1 else float(average(torch.tensor([value], dtype=torch.float64)))


def average_gradients(params):
    if SIZE == 1:
        return
    grads = [p.grad for p in params if p.grad is not None]
    flat = average(torch.cat([g.reshape(-1) for g in grads]))
    parts = flat.split([g.numel() for g in grads])
    torch._foreach_copy_(grads, [part.view_as(g) for part, g in zip(parts, grads)])
