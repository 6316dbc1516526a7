"""Measures of image quality as losses."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losslens.losses.loss import UnitRange, check_pair
from losslens.losses.spatial_views import blur, gaussian
from losslens.losses.views import LinearView, Luma, precise

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # pixels
SSIM_CONSTANTS = (0.01**2, 0.03**2)
FLOOR = 0.01  # below it, factors of a product follow a hyperbola
VIF_SIDE = 41  # pixels
VIF_WINDOWS = (17, 9, 5, 3)  # pixels; sigma is a fifth
VIF_NOISE = 2.0
VIF_EPSILON = 1e-8
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
PREWITT = ((1 / 3, 0.0, -1 / 3),) * 3
GMSD_CONSTANT = 170 / 255**2
HAAR_CONSTANT = 30 / 255**2  # in units of squared values
HAAR_SLOPE = 4.2
HAAR_SCALES = 3


class MSSSIM(UnitRange):
    """Two images are equal when contrasts and structures of each channel are equal at several scales.

    Formula: 1 minus the product over scales of contrast and structure, with luminance at the last one, each to the
    power of its weight; windows of 11 pixels, sigma 1.5, that lie within the image; the mean over images and channels.
    A term t below 0.01 is continued by the hyperbola `0.01^2 / (0.02 - t)`, so that it stays above 0 and has a
    gradient. Images whose shorter side is below 176 pixels have fewer scales, the first of the five with weights that
    sum to 1: three from 44 pixels on. 0 at equality, at most 1. Half precision is computed in float32.
    Source: Wang, Simoncelli and Bovik, 2003, doi:10.1109/ACSSC.2003.1292216.
    """

    name = "ms_ssim"

    line: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("line", gaussian(WINDOW, SIGMA), persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, C, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is below 11 pixels.
        """
        check_pair(input, target, "ms_ssim", WINDOW)
        first, second = (precise(each).flatten(0, 1)[:, None] for each in (input, target))
        side = min(input.shape[-2:])
        count = sum(side >> scale >= WINDOW for scale in range(len(MS_SSIM_WEIGHTS)))
        weights = [weight / sum(MS_SSIM_WEIGHTS[:count]) for weight in MS_SSIM_WEIGHTS[:count]]
        similarity: Any = 1
        for scale, weight in enumerate(weights):
            if scale:
                first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
            luminance, rest = self._terms(first, second)
            term = (luminance * rest if scale == count - 1 else rest).mean((1, 2, 3))
            similarity = similarity * _above_zero(term) ** weight
        loss: Tensor = (1 - similarity).mean().to(input.dtype)
        return loss

    def _terms(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return luminance, and contrast times structure, of every window."""
        mean = blur(first, self.line), blur(second, self.line)
        product = mean[0] * mean[1]
        squares = mean[0].square() + mean[1].square()
        variances = blur(first.square() + second.square(), self.line) - squares
        covariance = blur(first * second, self.line) - product
        luminance = (2 * product + SSIM_CONSTANTS[0]) / (squares + SSIM_CONSTANTS[0])
        return luminance, (2 * covariance + SSIM_CONSTANTS[1]) / (variances + SSIM_CONSTANTS[1])


def _above_zero(terms: Tensor) -> Tensor:
    return torch.where(terms > FLOOR, terms, FLOOR**2 / (2 * FLOOR - terms.clamp(max=FLOOR)))


class VIF(nn.Module):
    """Two images are equal when each channel carries the information of the other, at four scales.

    Formula: `|1 - VIFp|` of each channel, the mean over images and channels; pixel domain, values times 255, noise
    variance 2, windows of 17, 9, 5 and 3 pixels. A reconstruction of more contrast than its original has VIFp above 1.
    0 at equality. Half precision is computed in float32. Not symmetric.
    Source: Sheikh and Bovik, 2006, doi:10.1109/TIP.2005.859378, as their code has it.
    """

    def __init__(self) -> None:
        super().__init__()
        for scale, size in enumerate(VIF_WINDOWS):
            self.register_buffer(f"line{scale}", gaussian(size, size / 5), persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, C, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is below 41 pixels.
        """
        check_pair(input, target, "vif", VIF_SIDE)
        first, second = (255 * precise(each).flatten(0, 1)[:, None] for each in (input, target))
        kept: Any = VIF_EPSILON
        all_: Any = VIF_EPSILON
        for scale in range(len(VIF_WINDOWS)):
            line: Tensor = getattr(self, f"line{scale}")
            if scale:
                first, second = (blur(each, line)[..., ::2, ::2] for each in (first, second))
            gain, remaining, variance = self._channel(first, second, line)
            kept = kept + torch.log10(1 + gain.square() * variance / (remaining + VIF_NOISE)).sum((1, 2, 3))
            all_ = all_ + torch.log10(1 + variance / VIF_NOISE).sum((1, 2, 3))
        loss: Tensor = (1 - kept / all_).abs().mean().to(input.dtype)
        return loss

    def _channel(self, first: Tensor, second: Tensor, line: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict `first` from `second` in every window: return gain, residual variance, variance of `second`."""
        means = blur(first, line), blur(second, line)
        of_first = (blur(first.square(), line) - means[0].square()).relu()
        of_second = (blur(second.square(), line) - means[1].square()).relu()
        covariance = blur(first * second, line) - means[0] * means[1]
        follows = (of_first >= VIF_EPSILON) & (of_second >= VIF_EPSILON) & (covariance >= 0)
        gain = torch.where(follows, covariance / (of_second + VIF_EPSILON), 0.0)
        remaining = torch.where(follows, of_first - gain * covariance, of_first)
        return gain, remaining.clamp(min=VIF_EPSILON), torch.where(of_second >= VIF_EPSILON, of_second, 0.0)


class GMSD(nn.Module):
    """Two images are equal when the similarity of their luma's gradients is the same everywhere.

    Formula: luma halved by averages of 2x2, Prewitt magnitudes m, similarity `(2 m1 m2 + c) / (m1^2 + m2^2 + c)` with
    `c = 170 / 255^2`, its standard deviation over the image (population), the mean over images. 0 at equality, where
    the gradient is 0. Blind to color at equal luma, and to offsets but for the border, around which there are zeros.
    Half precision is computed in float32.
    Source: Xue, Zhang, Mou and Bovik, 2014, doi:10.1109/TIP.2013.2293423.
    """

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.luma = Luma()
        kernel = torch.tensor(PREWITT)
        self.register_buffer("kernels", torch.stack([kernel, kernel.T])[:, None], persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is below 4 pixels.
        """
        check_pair(input, target, "gmsd", 4)
        first, second = (self._slopes(_halved(self.luma(precise(each)))) for each in (input, target))
        similarity = (2 * first * second + GMSD_CONSTANT) / (first.square() + second.square() + GMSD_CONSTANT)
        differences = similarity.flatten(1) - similarity.flatten(1).mean(1, keepdim=True)
        deviation: Tensor = torch.linalg.vector_norm(differences, dim=1) / differences.shape[1] ** 0.5
        return deviation.mean().to(input.dtype)

    def _slopes(self, images: Tensor) -> Tensor:
        """Return magnitudes of Prewitt's filters with zeros around the image; at 0 the gradient is 0."""
        slopes = F.conv2d(images, self.kernels.to(images), padding=1)
        magnitudes: Tensor = torch.linalg.vector_norm(slopes, dim=1, keepdim=True)
        return magnitudes


class HaarPSI(nn.Module):
    """Two images are equal when their Haar wavelet coefficients are equal, the more so where coarse ones are large.

    Formula: `1 - HaarPSI` of YIQ (coefficients of FCC, 1953, as piq has them) halved by averages of 2x2, constants 30
    (on a scale to 255) and 4.2, for color images. 0 at equality, at most 1. Half precision is computed in float32.
    Source: Reisenhofer, Bosse, Kutyniok and Wiegand, 2018, doi:10.1016/j.image.2017.11.001.
    """

    def __init__(self) -> None:
        super().__init__()
        self.yiq = LinearView(YIQ)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or a side is below 16 pixels.
        """
        check_pair(input, target, "haarpsi", 2 ** (HAAR_SCALES + 1))
        first, second = (_halved(self.yiq(precise(each))) for each in (input, target))
        waves = [(_haar(first[:, :1], scale), _haar(second[:, :1], scale)) for scale in range(1, HAAR_SCALES + 1)]
        coarse = torch.maximum(*waves[-1])
        fine = torch.stack([_similar(*pair) for pair in waves[:-1]]).mean(0)
        colors = (F.avg_pool2d(F.pad(each[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs() for each in (first, second))
        similarity = torch.cat([fine, _similar(*colors).mean(1, keepdim=True)], dim=1)
        weights = torch.cat([coarse, coarse.mean(1, keepdim=True)], dim=1)
        weights = weights + torch.finfo(weights.dtype).eps  # black pairs would divide by 0
        best = 1 / (1 + math.exp(-HAAR_SLOPE))
        lost = ((best - (HAAR_SLOPE * similarity).sigmoid()) * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)
        # 1 - (logit(best - lost) / slope)^2, without differences of nearly equal numbers
        lower = (torch.log1p(lost / (1 - best)) - torch.log1p(-lost / best)) / HAAR_SLOPE
        return (lower * (2 - lower)).mean().to(input.dtype)


class FocalFrequency(nn.Module):
    """Two images are equal when their Fourier transforms are equal; what is worst reconstructed counts most.

    Formula: `w |d|^2`, d the difference of the orthonormal discrete Fourier transforms of a channel and w = `|d|` over
    the largest of that channel, without a gradient of its own; the mean over all. 0 at equality. Blind to nothing.
    Half precision is computed in float32. Source: Jiang, Dai, Wu and Loy, 2021, arXiv:2012.12821 (alpha 1).
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, C, H, W)`; returns a scalar.

        Raises:
            ValueError: if the two differ in shape.
        """
        check_pair(input, target, "focal_frequency")
        waves = torch.view_as_real(torch.fft.fft2(precise(input) - precise(target), norm="ortho"))
        power = waves.square().sum(-1)
        sizes = power.detach().sqrt()
        weights = sizes / sizes.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(sizes.dtype).tiny)
        return (weights * power).mean().to(input.dtype)


def _halved(images: Tensor) -> Tensor:
    """Average 2x2 pixels; both sides get a line of zeros at the end if either is odd, as in the references."""
    odd = max(images.shape[-2] % 2, images.shape[-1] % 2)
    return F.avg_pool2d(F.pad(images, (0, odd, 0, odd)), 2)


def _haar(images: Tensor, scale: int) -> Tensor:
    """Return absolute Haar coefficients of a scale, down and across, `(N, 2, H, W)`; zeros around the image."""
    side = 2**scale
    signs = images.new_ones(side, side)
    signs[side // 2 :] = -1
    kernels = torch.stack([signs, signs.T])[:, None] / side
    padded = F.pad(images, (side // 2 - 1, side // 2, side // 2 - 1, side // 2))
    return F.conv2d(padded, kernels).abs()


def _similar(first: Tensor, second: Tensor) -> Tensor:
    return (2 * first * second + HAAR_CONSTANT) / (first.square() + second.square() + HAAR_CONSTANT)
