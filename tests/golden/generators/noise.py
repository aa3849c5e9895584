"""Noise goldens: PyTorch's own on CPU; for CUDA and for our own source an emulation in numpy."""

import mpmath
import numpy as np
import torch

from generators.common import fnv1a, write_json

SEEDS = (0, 1, 42, 2**32 + 5, 12345)
MASK = np.uint64(0xFFFFFFFF)

# counter, key, output: the known answers published with the algorithm (Random123).
PHILOX_KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def philox(counter, key):
    """Philox 4x32-10 of uint64 arrays that hold 32-bit words: four counters, two key words."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        shift = np.uint64(32)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & MASK, (p0 >> shift) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & MASK, (k1 + np.uint64(0xBB67AE85)) & MASK
    return np.stack([c0, c1, c2, c3])


def words(low, high, seed):
    low, high = np.asarray(low, dtype=np.uint64), np.asarray(high, dtype=np.uint64)
    shift = np.uint64(32)
    counter = (low & MASK, low >> shift, high & MASK, high >> shift)
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))


def curand_normals(first, second):
    """cuRAND's Box–Muller: uniforms in fp32 (with one rounding, as fused), then sine and cosine."""
    scale = np.float64(np.float32(2.0**-32) * np.float32(2 * np.pi))
    u = (first.astype(np.float32).astype(np.float64) * 2.0**-32 + 2.0**-33).astype(np.float32)
    v = (second.astype(np.float32).astype(np.float64) * scale + scale / 2).astype(np.float32)
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    angle = v.astype(np.float64)
    return (radius * np.sin(angle)).astype(np.float32), (radius * np.cos(angle)).astype(np.float32)


def torch_cuda(seed, n, num_multiprocessors):
    """The element order of PyTorch's kernel: 256 threads a block, four normals per thread."""
    num_threads = 256 * min((n + 255) // 256, num_multiprocessors * 8)
    rounds = []
    for start in range(0, n, 4 * num_threads):
        w = words(np.full(num_threads, start // (4 * num_threads)), np.arange(num_threads), seed)
        rounds += [*curand_normals(w[0], w[1]), *curand_normals(w[2], w[3])]
    return np.concatenate(rounds)[:n]


def torch_cpu(seed, n):
    torch.manual_seed(seed)
    return torch.randn(n).numpy()


def mochi_probabilities(seed, n):
    w = words(np.arange((n + 3) // 4), np.zeros((n + 3) // 4), seed)
    return (w.T.reshape(-1)[:n].astype(np.float64) + 0.5) / 2.0**32


def normal_quantile(p):
    """To 40 digits, then rounded once to fp32."""
    with mpmath.workdps(40):
        exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(float(p)) - 1)
        return np.float32(exact)


def chosen(n):
    """All of a short tensor; of a long one its ends and a sample between them."""
    if n <= 100:
        return list(range(n))
    spread = [n * i // 64 for i in range(1, 64)]
    return sorted({*range(64), *spread, *range(n - 64, n)})


def case(seed, n, indices, values, **extra):
    # Shortest decimals that give the same fp32 value back.
    numbers = [float(str(value)) for value in values]
    return {"seed": seed, "n": n, **extra, "indices": indices, "values": numbers}


def torch_cpu_cases():
    for seed in SEEDS:
        for n in (1, 7, 15, 16, 17, 100, 1000, 12 * 8 * 24 * 40):
            values, indices = torch_cpu(seed, n), chosen(n)
            yield case(seed, n, indices, values[indices], fnv1a=fnv1a(values.tobytes()))


def torch_cuda_cases():
    for seed in SEEDS:
        for n in (1, 7, 17, 1000, 12 * 8 * 24 * 40):
            yield case(seed, n, chosen(n), torch_cuda(seed, n, 132)[chosen(n)], multiprocessors=132)
    n = 1_100_001  # more than one round of the kernel
    for multiprocessors in (132, 108):
        values = torch_cuda(42, n, multiprocessors)[chosen(n)]
        yield case(42, n, chosen(n), values, multiprocessors=multiprocessors)


def mochi_cases():
    for seed in SEEDS:
        for n in (1, 7, 100, 12 * 8 * 24 * 40):
            probabilities = mochi_probabilities(seed, n)
            order = np.argsort(probabilities)
            # The most extreme values too: they come from another branch than the middle.
            indices = sorted({*chosen(n), *map(int, order[:8]), *map(int, order[-8:])})
            values = [normal_quantile(p) for p in probabilities[indices]]
            yield case(seed, n, indices, values)


def generate():
    print("noise")
    for counter, key, want in PHILOX_KNOWN:
        assert [int(word) for word in philox(counter, key)] == want
    known = [{"counter": c, "key": k, "words": w} for c, k, w in PHILOX_KNOWN]
    write_json(
        "sampler/noise",
        {
            "philox_4x32_10": known,
            "mochi": list(mochi_cases()),
            "torch_cpu": list(torch_cpu_cases()),
            "torch_cuda": list(torch_cuda_cases()),
        },
    )
