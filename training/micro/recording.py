"""A training step as one CUDA graph: launching its kernels one by one takes longer than they run."""

import torch

from micro.schedule import say

WARM_UP = 3


def record(step, inputs, opt):
    """Returns `step` as a function of new inputs of the same shapes.

    `step` runs forward and backward and returns tensors; gradients then stand in the parameters.
    On a GPU the inputs are copied into those of the recording and the results are overwritten by
    the next call; elsewhere `step` is just called.
    """
    def call(*new):
        opt.zero_grad(set_to_none=True)
        return step(*new)

    if not inputs[0].is_cuda:
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    opt.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads (the one that watches collectives) may go on calling the driver.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = step(*inputs)
    except RuntimeError as error:
        say("the step cannot be recorded, it runs slower:", str(error).splitlines()[0])
        return call

    def replay(*new):
        torch._foreach_copy_(list(inputs), list(new))
        graph.replay()
        return results
    return replay
