"""Views of shape: pixels compared with their neighbors, in each channel by itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losslens.losses.views import LEVEL, check_size, precise, unit

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)  # kernel of Burt and Adelson's pyramid


def _check_places(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, C, H, W)")


def correlate(images: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel of `(N, C, H, W)` with one kernel `(h, w)`, without padding."""
    filtered: Tensor = F.conv2d(images.flatten(0, 1)[:, None], kernel.to(images)[None, None])
    return filtered.view(*images.shape[:2], *filtered.shape[2:])


def repeat_borders(images: Tensor, width: int) -> Tensor:
    """Repeat border pixels outwards, `width` times."""
    return F.pad(images, (width, width, width, width), mode="replicate")


def blur(images: Tensor, line: Tensor) -> Tensor:
    """Correlate with a line of weights, normalized to sum 1, along rows and columns, without padding."""
    line = line.to(images)
    line = line / line.sum()
    return correlate(correlate(images, line[None]), line[:, None])


def smooth(images: Tensor, line: Tensor) -> Tensor:
    """Blur images to their own size; border pixels are repeated outwards."""
    return blur(repeat_borders(images, len(line) // 2), line)


def gaussian(size: int, sigma: float) -> Tensor:
    """Return an odd number of weights of a centered Gaussian, not normalized; sigma in pixels."""
    return torch.exp(-0.5 * ((torch.arange(size) - size // 2) / sigma) ** 2)


class Edges(nn.Module):
    """Two images are equal when the strengths of their edges are equal, in each channel.

    Formula: `sqrt(gx^2 + gy^2 + 1e-6)` of Sobel's filters divided by 8; borders are repeated. `(N, C, H, W)` gives
    features of that shape. Blind to offsets, to the sign of an edge, and nearly to its direction.
    Source: Sobel and Feldman, 1968; the epsilon is kornia's.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(SOBEL) / 8, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return strengths `(N, C, H, W)`."""
        _check_places(images)
        padded = repeat_borders(images, 1)
        across, down = correlate(padded, self.kernel), correlate(padded, self.kernel.T)
        return (across.square() + down.square() + 1e-6).sqrt()


class Gradient(nn.Module):
    """Two images are equal when all differences of neighboring pixels are equal, in each channel.

    Formula: `x[i, j + 1] - x[i, j]` and `x[i + 1, j] - x[i, j]`, 0 in the last column and row. `(N, C, H, W)` gives
    `(N, 2 C, H, W)`. Blind to a constant offset of each channel.
    Source: Mathieu, Couprie and LeCun, 2016, arXiv:1511.05440 (there of absolute differences).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return differences along rows, then along columns, `(N, 2 C, H, W)`."""
        _check_places(images)
        across = F.pad(images[..., :, 1:] - images[..., :, :-1], (0, 1))
        down = F.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
        return torch.cat([across, down], dim=1)


class Lowpass(nn.Module):
    """Two images are equal when they are equal once blurred.

    Formula: every channel correlated with a Gaussian out to 4 sigma; borders are repeated. `(N, C, H, W)` gives
    features of that shape. Nearly blind to detail finer than sigma.

    Args:
        sigma: in pixels.

    Raises:
        ValueError: if it is not above 0.
    """

    line: Tensor

    def __init__(self, sigma: float = 2.0) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma {sigma} is not above 0: give pixels")
        self.register_buffer("line", gaussian(2 * round(4 * sigma) + 1, sigma), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Blur `(N, C, H, W)`."""
        _check_places(images)
        return smooth(images, self.line)


class Highpass(Lowpass):
    """Two images are equal when they are equal but for what a blur leaves of them.

    Formula: the image minus its blur (`Lowpass`). `(N, C, H, W)` gives features of that shape.
    Blind to a constant offset of each channel, and nearly to detail coarser than sigma.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return images minus their blur, `(N, C, H, W)`."""
        return images - super().forward(images)


class LaplacianPyramid(nn.Module):
    """Two images are equal when the bands of their Laplacian pyramids are equal, of which each weighs the same.

    Formula: `4^j (x_j - up(x_{j+1}))` for each level j and `4^J x_J`, with `x_{j+1}` = `x_j` smoothed by [1, 4, 6, 4,
    1] / 16 along both axes and every second pixel taken, and up = linear interpolation between these; all in one row,
    so that with L1 every band weighs the same. `(N, C, H, W)` gives `(N, F)`. Blind to nothing.
    Source: Burt and Adelson, 1983, doi:10.1109/TCOM.1983.1095851; the weights: Bojanowski et al., 2018,
    arXiv:1707.05776.

    Args:
        levels: bands above the coarsest; sides must be at least `2^levels` pixels.

    Raises:
        ValueError: if there are fewer than 1, or if an image is too small for them.
    """

    line: Tensor

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels {levels} of a pyramid: use 1 or more")
        self.levels = levels
        self.register_buffer("line", torch.tensor(BINOMIAL) / 16, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return all bands of `(N, C, H, W)` in one row, `(N, F)`."""
        _check_places(images)
        check_size(images, f"{self.levels} levels of a pyramid", 2**self.levels)
        bands, current = [], images
        for level in range(self.levels):
            coarse = smooth(current, self.line)[..., ::2, ::2]
            up = _doubled(_doubled(coarse, 2, current.shape[2]), 3, current.shape[3])
            bands.append(4**level * (current - up).flatten(1))
            current = coarse
        return torch.cat([*bands, 4**self.levels * current.flatten(1)], dim=1)


def _doubled(images: Tensor, dim: int, size: int) -> Tensor:
    """Interpolate to `size`, about twice as large, along a dimension; the last value is repeated."""
    last = images.shape[dim] - 1
    following = torch.cat([images.narrow(dim, 1, last), images.narrow(dim, last, 1)], dim)
    return torch.stack([images, (images + following) / 2], dim + 1).flatten(dim, dim + 1).narrow(dim, 0, size)


class Spectrum(nn.Module):
    """Two images are equal when amplitudes, or phases, of their Fourier transforms are equal, in each channel.

    Formula: `|F|`, or real and imaginary part of `F / max(|F|, 1/255)`, F the orthonormal discrete Fourier transform.
    Half precision is computed in float32. `(N, C, H, W)` gives `(N, C, H, W)`, or `(N, 2 C, H, W)` for phases.
    Amplitude is blind to cyclic shifts and to turning by 180 degrees, phase to multiplied contrast where `|F|` is 1/255
    or more.

    Args:
        part: `amplitude` or `phase`.

    Raises:
        ValueError: for another part.
    """

    def __init__(self, part: str = "amplitude") -> None:
        super().__init__()
        if part not in ("amplitude", "phase"):
            raise ValueError(f"part {part} of a spectrum: use amplitude or phase")
        self.part = part

    def forward(self, images: Tensor) -> Tensor:
        """Return amplitudes or phases."""
        _check_places(images)
        waves = torch.fft.fft2(precise(images), norm="ortho")
        if self.part == "amplitude":
            amplitudes: Tensor = waves.abs()
            return amplitudes
        directions = unit(torch.view_as_real(waves), dim=-1)
        return torch.cat([directions[..., 0], directions[..., 1]], dim=1)


class LocalContrast(Lowpass):
    """Two images are equal when the standard deviations around every pixel are equal, in each channel.

    Formula: `sqrt(max(blur(x^2) - blur(x)^2, 0) + 1/255^2)` with the blur of `Lowpass`.
    `(N, C, H, W)` gives features of that shape. Blind to offsets, and nearly to where in the window something is.

    Args:
        sigma: of the window, in pixels.

    Raises:
        ValueError: if it is not above 0.
    """

    def __init__(self, sigma: float = 1.5) -> None:
        super().__init__(sigma)

    def forward(self, images: Tensor) -> Tensor:
        """Return local standard deviations `(N, C, H, W)`."""
        values = precise(images)
        variance = super().forward(values.square()) - super().forward(values).square()
        return (variance.clamp(min=0) + LEVEL**2).sqrt()


class Patches(nn.Module):
    """Two images are equal when every patch holds the same values of each channel, in whatever order.

    Formula: the values of each channel in patches that do not overlap, sorted; with L1 that is the Wasserstein
    distance of their distributions. Borders are repeated up to whole patches. `(N, C, H, W)` gives `(N, C, P, size^2)`.
    Blind to moving pixels within a patch.

    Args:
        size: side of a patch, in pixels.

    Raises:
        ValueError: if it is below 1.
    """

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size {size} of a patch: use 1 pixel or more")
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Return sorted values `(N, C, P, size^2)`."""
        _check_places(images)
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.size, 0, -height % self.size), mode="replicate")
        patches = F.unfold(padded, self.size, stride=self.size).unflatten(1, (images.shape[1], -1)).transpose(2, 3)
        values: Tensor = patches.sort(dim=-1).values
        return values
