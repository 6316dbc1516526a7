"""Decoded images as a LightningDataModule: held on the training device, in an order of their own for every seed."""

from collections.abc import Iterator, Sequence

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.data.store import Batches, Order, OrderStream

VAL_BATCH_SIZE = {"cpu": 32}  # at least; in larger ones SSIM takes three times as long, outside of the caches
MAX_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU; what is larger stays in main memory, and batches travel


class HeldImages(L.LightningDataModule):
    """Decoded images on the training device, and batches of those for validation.

    Args:
        images: decoded images; shared by the variants of a sweep.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool) -> None:
        super().__init__()
        if not 1 <= batch_size <= len(images.train):
            raise ValueError(
                f"batch_size {batch_size} is not between 1 and the {len(images.train)} training images: "
                f"use data.batch_size={min(32, len(images.train))}, or more images"
            )
        self.images = images
        self.batch_size = batch_size
        self.flip = flip

    def setup(self, stage: str) -> None:
        """Move the images to the GPU if there is one and they fit."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(part.nbytes for part in self.images) > MAX_SHARE_OF_FREE_MEMORY * free:
                return
        self.images = Images(*(part.to(device) for part in self.images))

    def val_dataloader(self) -> Batches:
        """Return the validation images in their order."""
        val = self.images.val
        return Batches(val, max(self.batch_size, VAL_BATCH_SIZE.get(val.device.type, 128)))

    def fixed_images(self, count: int) -> Tensor:
        """Return float validation images `(count or fewer, 3, H, W)`, evenly spaced over the set: always the same.

        The last of each part is taken: of the default photographs, the crop that shows most of each.
        """
        val = self.images.val
        count = min(count, len(val))
        return val[[(index + 1) * len(val) // count - 1 for index in range(count)]].float() / 255


class ImageDataModule(HeldImages):
    """Batches of float images in [0, 1] from decoded ones, for one variant in any Trainer.

    Args:
        images: decoded images.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        seed: of the variant; decides the order of the batches and the mirroring.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool, seed: int) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip)
        self.generator = torch.Generator().manual_seed(seed)

    def train_dataloader(self) -> Batches:
        """Return batches in a fresh order at every pass; the incomplete last one is left out."""
        return Batches(self.images.train, self.batch_size, generator=self.generator, flip=self.flip)


class Orders:
    """Iterable over one epoch of an array's steps in chunks: `Order`s of `(K, steps, B)`, a row a variant.

    Args:
        count: of training images.
        batch_size: images per step.
        streams: of the variants; what each draws is what it would draw alone.
        flip: mirror each image left to right with probability 1/2.
        num_steps: of the epoch.
        chunk: most steps at once.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        streams: Sequence[OrderStream],
        *,
        flip: bool,
        num_steps: int,
        chunk: int,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.streams = streams
        self.flip = flip
        self.num_steps = num_steps
        self.chunk = chunk

    def __len__(self) -> int:
        return -(-self.num_steps // self.chunk)

    def __iter__(self) -> Iterator[Order]:
        drawn = [stream.draw(self.count, self.batch_size, self.flip) for stream in self.streams]
        indices, mirror = (torch.stack(parts)[:, : self.num_steps] for parts in zip(*drawn, strict=True))
        yield from map(Order, indices.split(self.chunk, dim=1), mirror.split(self.chunk, dim=1))


class ArrayDataModule(HeldImages):
    """Training steps of an array, as `Orders`, and float validation images.

    Args:
        images: decoded images, shared by the variants.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        streams: of the variants.
        chunk: most steps at once.
        limit: `limit_train_batches` of Lightning: steps of an epoch as a number or as a share; None: all.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        flip: bool,
        streams: Sequence[OrderStream],
        chunk: int,
        limit: int | float | None,
    ) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip)
        self.streams = streams
        self.chunk = chunk
        all_steps = len(images.train) // batch_size
        self.num_steps = (
            all_steps if limit is None else min(limit, all_steps) if isinstance(limit, int) else int(limit * all_steps)
        )

    def train_dataloader(self) -> Orders:
        """Return the steps of an epoch, drawn anew at every pass."""
        return Orders(
            len(self.images.train),
            self.batch_size,
            self.streams,
            flip=self.flip,
            num_steps=self.num_steps,
            chunk=self.chunk,
        )
