"""What every data source has: a size, how it is batched, and `decode`, which yields its images once, as uint8."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """Decoded images, uint8 RGB `(N, 3, H, W)`: one tensor to train on, one to validate on."""

    train: Tensor
    val: Tensor


@dataclass(kw_only=True)
class Source:
    """A data set of images.

    Args:
        batch_size: images per training step.
        flip: mirror each training image left to right with probability 1/2, anew in every epoch.
        seed: decides what of the data is for training and what for validation; not the seed of a variant, so that
            all variants of a sweep are measured on the same images.
    """

    batch_size: int
    flip: bool
    seed: int

    def is_here(self) -> bool:
        """Whether `decode` needs no network."""
        return True

    def decode(self) -> Images:
        """Read or draw all images.

        Raises:
            ValueError: if there are none, in one line that says what to do.
        """
        raise NotImplementedError


def split(images: Tensor, val_fraction: float, seed: int) -> Images:
    """Split images at random, the same for the same seed; order is kept within each part.

    Raises:
        ValueError: if either part would be empty.
    """
    num_val = round(len(images) * val_fraction)
    if not 0 < num_val < len(images):
        raise ValueError(
            f"val_fraction {val_fraction} of {len(images)} images leaves a part empty: "
            "use data.val_fraction between 0 and 1, or more images"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return Images(train=images[order[num_val:].sort().values], val=images[order[:num_val].sort().values])
