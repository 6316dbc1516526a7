"""CIFAR-10 and STL-10 through torchvision, downloaded on first use."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from losslens.data.cache import cache_folder
from losslens.data.source import Images, Source

if TYPE_CHECKING:
    from torchvision import datasets


@dataclass(kw_only=True)
class CIFAR10(Source):
    """Krizhevsky 2009: 50,000 training and 10,000 validation images of 32x32 pixels.

    Args:
        root: folder of the data set; null for the user's cache folder.
    """

    root: str | None

    def is_here(self) -> bool:
        """Return whether the data set is downloaded."""
        return (_folder("CIFAR10", self.root) / "cifar-10-batches-py").is_dir()

    def decode(self) -> Images:
        """Load both parts, downloading them if they are not there."""
        from torchvision import datasets

        parts = [_load(datasets.CIFAR10, self.root, train=train) for train in (True, False)]
        train, val = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in parts)
        return Images(train=train, val=val)


@dataclass(kw_only=True)
class STL10(Source):
    """Coates, Lee and Ng 2011: images of 96x96 pixels.

    Args:
        root: folder of the data set; null for the user's cache folder.
        train_split: "train" (5,000 images) or "unlabeled" (100,000); validation is "test" (8,000).
    """

    root: str | None
    train_split: str

    def is_here(self) -> bool:
        """Return whether the data set is downloaded."""
        return (_folder("STL10", self.root) / "stl10_binary").is_dir()

    def decode(self) -> Images:
        """Load both parts, downloading them if they are not there."""
        from torchvision import datasets

        if self.train_split not in ("train", "unlabeled"):
            raise ValueError(f"train_split {self.train_split!r} is unknown: use data.train_split=train or unlabeled")
        train, val = (_rgb(_load(datasets.STL10, self.root, split=split).data) for split in (self.train_split, "test"))
        return Images(train=train, val=val)


def _rgb(pixels: object) -> Tensor:
    return torch.as_tensor(pixels).contiguous()


def _folder(name: str, root: str | None) -> Path:
    return Path(root) if root else cache_folder() / name.lower()


def _load(dataset: type["datasets.VisionDataset"], root: str | None, **part: object) -> "datasets.VisionDataset":
    folder = _folder(dataset.__name__, root)
    try:
        return dataset(folder, download=True, **part)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{dataset.__name__} is not in {folder} and cannot be downloaded ({reason}): "
            "connect to the network, or give a folder that holds it with data.root=FOLDER"
        ) from error
