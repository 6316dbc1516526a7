"""The base class of data sets: how they are batched and held, and `decode`, which returns their images as uint8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from losslens.data.stored import StoredImages
from losslens.machine import free_memory

MAX_SHARE_OF_FREE_MEMORY = 0.5


class Images(NamedTuple):
    """Decoded images, uint8 RGB `(N, 3, H, W)`: some to train on, some to validate on."""

    train: Tensor | StoredImages
    val: Tensor | StoredImages

    def fit(self, device: torch.device) -> bool:
        """Return whether the images take at most half of a device's free memory."""
        return sum(part.nbytes for part in self) <= MAX_SHARE_OF_FREE_MEMORY * free_memory(device)


@dataclass(kw_only=True)
class Source:
    """A data set of images.

    Args:
        batch_size: images per training step of a variant.
        flip: mirror each training image left to right with probability 1/2, anew in every epoch.
        resident: true holds all images in the memory of the training device; false streams them, so that the device
            holds those of a few steps only, as does main memory if the images are in a file; "auto" streams those that
            do not fit into half of the free memory. Training gives the same weights.
        seed: decides the split into training and validation, or what is drawn; not the seed of a variant, so that all
            variants of a sweep are measured on the same images.

    Attributes:
        found: once decoded, a line for the user on the images found; None where the settings tell it.

    Raises:
        ValueError: if `resident` is none of the three.
    """

    batch_size: int
    flip: bool
    resident: bool | str
    seed: int

    def __post_init__(self) -> None:
        self.found: str | None = None
        if not isinstance(self.resident, bool) and self.resident != "auto":
            raise ValueError(
                f"resident {self.resident!r} is unknown: use data.resident=auto, data.resident=true or "
                "data.resident=false"
            )

    def is_here(self) -> bool:
        """Return whether `decode` needs no network."""
        return True

    def decode(self) -> Images:
        """Read or draw all images.

        Raises:
            ValueError: if there are none, in one line that says what to do.
        """
        raise NotImplementedError

    def hold(self, images: Images) -> Images:
        """Read images that are in files into main memory, unless they are to be streamed."""
        memory = torch.device("cpu")
        if self.resident is True or (self.resident == "auto" and images.fit(memory)):
            return Images(*(part.to(memory) for part in images))
        return images


def split(images: Tensor | StoredImages, val_fraction: float, seed: int, counts: Sequence[int] | None = None) -> Images:
    """Split images at random, the same for the same seed; order is kept within each part.

    Args:
        images: uint8 `(N, 3, H, W)`.
        val_fraction: share of the files for validation.
        counts: images of each file, which stay together; their sum is N. None: one image per file.

    Raises:
        ValueError: if either part would be empty.
    """
    files = torch.arange(len(images))
    if counts is not None:
        files = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    numbers = files.unique()
    num_val = round(len(numbers) * val_fraction)
    if not 0 < num_val < len(numbers):
        raise ValueError(
            f"val_fraction {val_fraction} of {len(numbers)} images leaves a part empty: "
            "use data.val_fraction between 0 and 1, or more images"
        )
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    in_val = torch.isin(files, numbers[order[:num_val]])
    part = images.part if isinstance(images, StoredImages) else images.__getitem__
    return Images(train=part((~in_val).nonzero()[:, 0]), val=part(in_val.nonzero()[:, 0]))
