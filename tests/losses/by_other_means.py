"""Losses and views that several tests compare with, in numpy, on arrays `(N, C, H, W)`, or by another library."""

import kornia
import numpy as np
import piq
import torch
from skimage.metrics import structural_similarity


def ssim(input, target):
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(input, target, strict=True)
    return 1 - np.mean([structural_similarity(a, b, channel_axis=0, **settings) for a, b in pairs])


def ms_ssim(input, target):
    weights = torch.tensor([0.0448, 0.2856, 0.3001], dtype=torch.float64)  # of three scales, which fit into 64 pixels
    return float(
        1 - piq.multi_scale_ssim(*map(torch.from_numpy, (input, target)), scale_weights=weights / weights.sum())
    )


def seen_without_middle_cones(x):
    """Vienot, Brettel and Mollon: equal long and short cones, the third from them; sRGB from scikit-image's XYZ."""
    linear = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    cones = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    long, _, short = np.einsum("kc,nchw->knhw", cones, linear)
    found = np.einsum("ck,knhw->nchw", np.linalg.inv(cones), [long, 0.494207 * long + 1.24827 * short, short])
    return np.where(found > 0.0031308, 1.055 * np.maximum(found, 0.0031308) ** (1 / 2.4) - 0.055, found * 12.92)


def differences(x):
    across, down = np.zeros_like(x), np.zeros_like(x)
    across[..., :-1], down[..., :-1, :] = np.diff(x, axis=3), np.diff(x, axis=2)
    return np.concatenate([across, down], axis=1)


def sobel(x):
    return kornia.filters.sobel(torch.from_numpy(x)).numpy()
