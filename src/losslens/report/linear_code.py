"""The best linear code of a size: a network worth training has to reach its quality."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from losslens.data.stored import StoredImages
from losslens.losses import LinearView
from losslens.pictures.grid import evenly

MAX_IMAGES = 2000  # training images for the fit, evenly spaced
AT_ONCE = 16  # images


@dataclass(frozen=True)
class Blocks:
    """Mean and covariance of the blocks of `side` x `side` pixels of images, in RGB.

    Args:
        side: in pixels.
        mean: float64 `(3 * side**2,)`, channel by channel.
        covariance: float64 `(3 * side**2, 3 * side**2)`.
    """

    side: int
    mean: Tensor
    covariance: Tensor


def block_statistics(images: Tensor | StoredImages, side: int) -> Blocks:
    """Measure blocks of images, uint8 `(N, 3, H, W)`, up to `MAX_IMAGES` of them."""
    places = evenly(len(images), MAX_IMAGES)
    total = torch.zeros(3 * side**2, dtype=torch.float64)
    products = torch.zeros(len(total), len(total), dtype=torch.float64)
    count = 0
    for start in range(0, len(places), AT_ONCE):
        # Around mid-gray, where float32 loses least.
        blocks = _cut(images[places[start : start + AT_ONCE]].float() / 255 - 0.5, side)
        rows = blocks.movedim(1, -1).reshape(-1, len(total))
        count += len(rows)
        total += rows.sum(0, dtype=torch.float64)
        products += (rows.T @ rows).double()
    mean = total / count
    return Blocks(side, mean + 0.5, products / count - mean.outer(mean))


class LinearCode:
    """Linear code with the least mean squared error of its size: Karhunen-Loève transform (PCA) of blocks.

    Under a linear view the error is that of the features, which the pseudoinverse maps back to RGB.

    Args:
        numbers: size of the code per block.
        view: None for RGB itself.
    """

    def __init__(self, blocks: Blocks, numbers: int, view: LinearView | None = None) -> None:
        self.side = blocks.side
        pixels = torch.eye(blocks.side**2, dtype=torch.float64)
        weights = torch.eye(3, dtype=torch.float64) if view is None else view.weights.detach().double().cpu()
        forth, back = (torch.kron(each.contiguous(), pixels) for each in (weights, torch.linalg.pinv(weights)))
        _, axes = torch.linalg.eigh(forth @ blocks.covariance @ forth.T)
        axes = axes[:, -numbers:]
        mean = forth @ blocks.mean
        self._map = (back @ axes @ axes.T @ forth).float()
        self._offset = (back @ (mean - axes @ (axes.T @ mean))).float()

    def __call__(self, images: Tensor) -> Tensor:
        """Reconstruct float images `(N, 3, H, W)` in [0, 1]; sides are padded by edge pixels as a network's are."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.side, 0, -height % self.side), mode="replicate")
        blocks = torch.einsum("dc,nchw->ndhw", self._map, _cut(padded, self.side)) + self._offset[:, None, None]
        return F.pixel_shuffle(blocks, self.side)[..., :height, :width]


def _cut(images: Tensor, side: int) -> Tensor:
    """Cut images `(N, 3, H, W)` into whole blocks `(N, 3 * side**2, H // side, W // side)`."""
    height, width = (length // side * side for length in images.shape[-2:])
    return F.pixel_unshuffle(images[..., :height, :width], side)
