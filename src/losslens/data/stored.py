"""Streamed images, usually in a file: only those that are indexed are read."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

READ_AT_ONCE = 64  # images


class StoredImages:
    """Streamed images, uint8 `(N, 3, H, W)`; indexing by a slice or by places gives a tensor.

    One thread reads, whatever PyTorch's number of threads is: training needs the cores.

    Args:
        array: memory-mapped, or in main memory; images along its first axis.
        convert: from a part of the array to uint8 images `(n, 3, H, W)`.
        rows: places in the array, int64 `(N,)`; None: all.
    """

    device = torch.device("cpu")  # device of the tensors that are read

    def __init__(
        self, array: np.ndarray, convert: Callable[[np.ndarray], Tensor] = torch.from_numpy, rows: Tensor | None = None
    ) -> None:
        self._array = array
        self._convert = convert
        self._rows = torch.arange(len(array)) if rows is None else rows
        self.shape = torch.Size([len(self._rows), *convert(np.array(array[:1])).shape[1:]])
        self.nbytes = self.shape.numel()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: slice | Sequence[int] | Tensor) -> Tensor:
        return self._convert(self._array[self._rows[places].numpy()])

    def part(self, places: Tensor) -> "StoredImages":
        """Return the images at places, int64 `(n,)`, without reading them."""
        return StoredImages(self._array, self._convert, self._rows[places])

    def to(self, device: torch.device) -> Tensor:
        """Read all into the memory of a device, some at a time."""
        images = torch.empty(self.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self), READ_AT_ONCE):
            places = slice(start, start + READ_AT_ONCE)
            images[places] = self[places].to(device)
        return images
