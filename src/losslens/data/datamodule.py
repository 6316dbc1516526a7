"""Decoded images as a LightningDataModule: held on the training device, in an order of their own for every seed."""

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.data.store import Batches

MAX_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; what is larger stays in main memory, and batches travel


class ImageDataModule(L.LightningDataModule):
    """Batches of float images in [0, 1] from decoded ones.

    Args:
        images: decoded images; shared by the variants of a sweep.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        seed: of the variant; decides the order of the batches and the mirroring.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool, seed: int) -> None:
        super().__init__()
        if not 1 <= batch_size <= len(images.train):
            raise ValueError(
                f"batch_size {batch_size} is not between 1 and the {len(images.train)} training images: "
                f"use data.batch_size={min(32, len(images.train))}, or more images"
            )
        self.images = images
        self.batch_size = batch_size
        self.flip = flip
        self.generator = torch.Generator().manual_seed(seed)

    def setup(self, stage: str) -> None:
        """Move the images to the GPU if there is one and they fit."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(part.nbytes for part in self.images) > MAX_SHARE_OF_FREE_MEMORY * free:
                return
        self.images = Images(*(part.to(device) for part in self.images))

    def train_dataloader(self) -> Batches:
        """Return batches in a fresh order at every pass; the incomplete last one is left out."""
        return Batches(self.images.train, self.batch_size, generator=self.generator, flip=self.flip)

    def val_dataloader(self) -> Batches:
        """Return the validation images in their order."""
        return Batches(self.images.val, max(self.batch_size, 128))

    def fixed_images(self, count: int) -> Tensor:
        """Return float validation images `(count or fewer, 3, H, W)`, evenly spaced over the set: always the same.

        The last of each part is taken: of the default photographs, the crop that shows most of each.
        """
        val = self.images.val
        count = min(count, len(val))
        return val[[(index + 1) * len(val) // count - 1 for index in range(count)]].float() / 255
