"""Decoded images as a LightningDataModule: on the training device or on their way, in an order for every seed."""

from collections.abc import Iterator, Sequence

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.data.store import Batches, Chunk, Order, OrderStream, read_ahead
from losslens.data.stored import StoredImages

VAL_BATCH_SIZE = {"cpu": 32}  # at least; in larger ones SSIM takes three times as long, outside of the caches


class HeldImages(L.LightningDataModule):
    """Decoded images, held on the training device or streamed to it, and batches of those for validation.

    Args:
        images: decoded images; shared by the variants of a sweep.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        resident: true holds them on the device, false streams them; "auto" streams those that are in a file, and on a
            GPU only what takes more than half of its free memory.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool, resident: bool | str) -> None:
        super().__init__()
        if not 1 <= batch_size <= len(images.train):
            raise ValueError(
                f"batch_size {batch_size} is not between 1 and the {len(images.train)} training images: "
                f"use data.batch_size={min(32, len(images.train))}, or more images"
            )
        self.images = images
        self.batch_size = batch_size
        self.flip = flip
        self.resident = resident
        self.device = torch.device("cpu")

    def setup(self, stage: str) -> None:
        """Move the images to the device if they are to be held there; else let them be streamed."""
        if self.trainer:
            self.device = self.trainer.strategy.root_device
        held = self.resident
        if held == "auto":
            on_device = all(isinstance(part, Tensor) and part.device == self.device for part in self.images)
            held = on_device or (self.device.type != "cpu" and self.images.fit(self.device))
        self.images = Images(*(part.to(self.device) if held else _stored(part) for part in self.images))

    def val_dataloader(self) -> Batches:
        """Return the validation images in their order."""
        batch_size = max(self.batch_size, VAL_BATCH_SIZE.get(self.device.type, 128))
        return Batches(self.images.val, batch_size, device=self.device)

    def fixed_images(self, count: int) -> Tensor:
        """Return float validation images `(count or fewer, 3, H, W)`, evenly spaced over the set: always the same.

        The last of each part is taken: of the default photographs, the crop that shows most of each.
        """
        val = self.images.val
        count = min(count, len(val))
        return val[[(index + 1) * len(val) // count - 1 for index in range(count)]].float() / 255


def steps_per_epoch(count: int, batch_size: int, limit: int | float | None) -> int:
    """Return the optimizer steps of an epoch.

    Args:
        count: of training images.
        batch_size: images per step; an incomplete batch is left out.
        limit: `limit_train_batches` of Lightning: steps as a number or as a share; None: all.
    """
    steps = count // batch_size
    return steps if limit is None else min(limit, steps) if isinstance(limit, int) else int(limit * steps)


def _stored(images: Tensor | StoredImages) -> StoredImages:
    return images if isinstance(images, StoredImages) else StoredImages(images.numpy())


class ImageDataModule(HeldImages):
    """Batches of float images in [0, 1] from decoded ones, for one variant in any Trainer.

    Args:
        images: decoded images.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        resident: as for `HeldImages`.
        seed: of the variant; decides the order of the batches and the mirroring.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool, resident: bool | str, seed: int) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip, resident=resident)
        self.generator = torch.Generator().manual_seed(seed)

    def train_dataloader(self) -> Batches:
        """Return batches in a fresh order at every pass; the incomplete last one is left out."""
        return Batches(
            self.images.train,
            self.batch_size,
            device=self.device,
            generator=self.generator,
            flip=self.flip,
        )


class Chunks:
    """Iterable over one epoch of an array's steps, as `Chunk`s with a row a variant.

    Of stored images, those of a chunk are read ahead, while the chunk before is in use.

    Args:
        images: uint8 `(N, 3, H, W)`.
        batch_size: images per step.
        streams: of the variants; what each draws is what it would draw alone.
        flip: mirror each image left to right with probability 1/2.
        num_steps: of the epoch.
        length: most steps of a chunk.
        passed: steps of the first epoch that are not taken again, whose images are not read.
        part: of every batch, if other processes take the rest.
    """

    def __init__(
        self,
        images: Tensor | StoredImages,
        batch_size: int,
        streams: Sequence[OrderStream],
        *,
        flip: bool,
        num_steps: int,
        length: int,
        passed: int,
        part: slice,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.streams = streams
        self.flip = flip
        self.num_steps = num_steps
        self.length = length
        self.passed = passed
        self.part = part

    def __len__(self) -> int:
        return -(-self.num_steps // self.length)

    def __iter__(self) -> Iterator[Chunk]:
        drawn = [stream.draw(len(self.images), self.batch_size, self.flip) for stream in self.streams]
        indices, mirror = (torch.stack(parts)[:, : self.num_steps, self.part] for parts in zip(*drawn, strict=True))
        passed, self.passed = self.passed, 0
        orders = map(Order, indices.split(self.length, dim=1), mirror.split(self.length, dim=1))
        if isinstance(self.images, Tensor):
            for order in orders:
                yield Chunk(self.images, *order, staged=False)
        else:
            starts = range(0, self.num_steps, self.length)
            wanted = ((order, passed - start) for start, order in zip(starts, orders, strict=True))
            yield from read_ahead(lambda order: self._stage(*order), wanted)

    def _stage(self, order: Order, passed: int) -> Chunk:
        """Gather the images of some steps, each once, but for those passed over."""
        wanted, places = order.indices[:, max(passed, 0) :].unique(return_inverse=True)
        indices = torch.zeros_like(order.indices)
        indices[:, max(passed, 0) :] = places
        return Chunk(self.images[wanted], indices, order.mirror, staged=True)


class ArrayDataModule(HeldImages):
    """Training steps of an array, as `Chunks`, and float validation images.

    Args:
        images: decoded images, shared by the variants.
        batch_size: images per training step.
        flip: mirror training images with probability 1/2.
        resident: as for `HeldImages`.
        streams: of the variants.
        chunk: most steps at once.
        limit: `limit_train_batches` of Lightning: steps of an epoch as a number or as a share; None: all.
        part: of every batch, if other processes take the rest.

    Raises:
        ValueError: if the batch is larger than the training set.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        flip: bool,
        resident: bool | str,
        streams: Sequence[OrderStream],
        chunk: int,
        limit: int | float | None,
        part: slice = slice(None),
    ) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip, resident=resident)
        self.streams = streams
        self.chunk = chunk
        self.part = part
        self.passed = 0  # steps that were taken already of the epoch that training begins with
        self.num_steps = steps_per_epoch(len(images.train), batch_size, limit)

    def train_dataloader(self) -> Chunks:
        """Return the steps of an epoch, drawn anew at every pass."""
        return Chunks(
            self.images.train,
            self.batch_size,
            self.streams,
            flip=self.flip,
            num_steps=self.num_steps,
            length=self.chunk,
            passed=self.passed,
            part=self.part,
        )
