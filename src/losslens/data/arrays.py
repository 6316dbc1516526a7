"""Images in `.npy` or `.npz` files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from losslens.data.source import Images, Source, split
from losslens.data.stored import StoredImages

VAL_KEYS = ("val", "valid", "validation", "test")


@dataclass(kw_only=True)
class Arrays(Source):
    """An array of images, uint8 or float in [0, 1], `(N, 3, H, W)` or `(N, H, W, 3)`; one channel is gray.

    An `.npz` with `train` and `val` (also `valid`, `validation`, `test`) is split by these; any other file holds one
    array, and `seed` splits it.

    Args:
        val_fraction: share of the images for validation if the file holds one array.
    """

    path: str
    val_fraction: float

    def decode(self) -> Images:
        """Open the file; images streamed from an `.npy` are read when they are used."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise ValueError(f"{path} is not a file: give an .npy or .npz file with data.path=FILE")
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"images": loaded}
        except Exception as error:  # damaged files raise many kinds of errors
            raise ValueError(f"{path} cannot be read as .npy or .npz ({error}): write it with numpy.save") from error
        val_key = next((key for key in VAL_KEYS if key in arrays), None)
        if "train" in arrays and val_key:
            train, val = (to_images(arrays[key], path) for key in ("train", val_key))
            return self.hold(Images(train, val))
        if len(arrays) != 1:
            raise ValueError(f"{path} holds {sorted(arrays)}: give one array, or two named train and val")
        return self.hold(split(to_images(next(iter(arrays.values())), path), self.val_fraction, self.seed))


def to_images(array: np.ndarray, path: Path) -> StoredImages:
    """Check an array of images; they are converted to uint8 `(N, 3, H, W)` when they are used.

    Raises:
        ValueError: for another number of axes or channels, another dtype, or floats outside [0, 1].
    """
    if array.ndim != 4 or not {array.shape[1], array.shape[3]} & {1, 3}:
        raise ValueError(f"{path} has shape {array.shape}: expected (N, 3, H, W) or (N, H, W, 3)")
    if not len(array):
        raise ValueError(f"{path} has no images: its shape is {array.shape}")
    if array.dtype.kind == "f":
        # A comparison with NaN is false, so this refuses NaN too.
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{path} has values from {array.min()} to {array.max()}: floats must be in [0, 1]")
    elif array.dtype != np.uint8:
        raise ValueError(f"{path} has dtype {array.dtype}: expected uint8 in [0, 255] or float in [0, 1]")
    return StoredImages(array, to_uint8_nchw)


def to_uint8_nchw(array: np.ndarray) -> Tensor:
    """Convert checked images to uint8 `(n, 3, H, W)`."""
    if array.dtype.kind == "f":
        array = (array * 255).round().astype(np.uint8)
    channels_first = array.shape[1] == 3 or (array.shape[1] == 1 and array.shape[3] != 3)
    images = torch.from_numpy(array if channels_first else array.transpose(0, 3, 1, 2))
    return images.expand(-1, 3, -1, -1).contiguous()
