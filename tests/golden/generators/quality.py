"""PSNR and SSIM of two patterns, by scikit-image: quality.json."""

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from generators.common import write_json

WIDTH, HEIGHT = 40, 24


def pattern(shift):
    """Integers only, so that the test draws the same bytes."""
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(3), indexing="ij")
    return (x * (5 + c) + y * (3 + 2 * c) + (x * y) // 7 * shift) % 256


def generate():
    print("quality")
    a, b = pattern(0), pattern(1)
    weights = np.array([0.299, 0.587, 0.114])  # BT.601
    results = {
        "psnr": float(peak_signal_noise_ratio(a, b, data_range=255)),
        # These settings are those of the paper.
        "ssim": float(structural_similarity(a @ weights, b @ weights, data_range=255, sigma=1.5,
                                      gaussian_weights=True, use_sample_covariance=False)),
        "largest_difference": int(np.abs(a - b).max()),
    }
    write_json("io/quality", results)
