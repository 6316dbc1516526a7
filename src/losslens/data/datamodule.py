"""Lightning data modules of decoded images, held on the training device or streamed, with an order for every seed."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import lightning as L
import torch
from torch import Tensor

from losslens.data.source import Images
from losslens.data.store import Batches, Chunk, Order, OrderStream, read_ahead
from losslens.data.stored import StoredImages

CANDIDATES = 32  # images, of which one is shown
STAGED_BYTES = 2**30  # largest size of a chunk's images
VAL_PIXELS = {"cpu": 2**17}  # per batch; more do not fit into the caches


class HeldImages(L.LightningDataModule):
    """Decoded images, held on the training device or streamed to it, and batches of those for validation.

    Args:
        batch_size: images per training step of a variant.
        flip: mirror training images with probability 1/2.
        resident: true holds images on the device, false streams them; "auto" streams those in a file to a CPU, and to
            a GPU those that take more than half of its free memory.

    Raises:
        ValueError: if the batch has no image.
    """

    def __init__(self, images: Images, *, batch_size: int, flip: bool, resident: bool | str) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not 1 or more: try data.batch_size=4")
        self.images = images
        self.batch_size = batch_size
        self.flip = flip
        self.resident = resident
        self.device = torch.device("cpu")

    def setup(self, stage: str) -> None:
        """Move the images to the device, or prepare to stream them."""
        if self.trainer:
            self.device = self.trainer.strategy.root_device
        held = self.resident
        if held == "auto":
            on_device = all(isinstance(part, Tensor) and part.device == self.device for part in self.images)
            held = on_device or (self.device.type != "cpu" and self.images.fit(self.device))
        self.images = Images(*(part.to(self.device) if held else _stored(part) for part in self.images))

    def val_dataloader(self) -> Batches:
        """Return the validation images in their order."""
        pixels = self.images.val.shape[-2:].numel()
        batch_size = max(1, VAL_PIXELS.get(self.device.type, 2**21) // pixels)
        return Batches(self.images.val, batch_size, device=self.device)


def fixed_images(images: Images, count: int) -> Tensor:
    """Return float validation images `(count or fewer, 3, H, W)` spread over the set, the same at every call.

    The set is divided into as many parts, one for each of the default photographs. Of the last images of each part,
    the one of most contrast is taken, since a blank sky shows nothing.
    """
    val = images.val
    count = min(count, len(val))
    ends = [(index + 1) * len(val) // count for index in range(count)]
    chosen = []
    for start, end in pairwise([0, *ends]):
        candidates = val[max(start, end - CANDIDATES) : end].float() / 255
        chosen.append(candidates[candidates.mean(1).flatten(1).std(1).argmax()])
    return torch.stack(chosen)


def _stored(images: Tensor | StoredImages) -> StoredImages:
    return images if isinstance(images, StoredImages) else StoredImages(images.numpy())


class ImageDataModule(HeldImages):
    """Batches of float images in [0, 1] from decoded ones, for one variant in any Trainer.

    Args:
        seed: of the variant; decides the order of the batches and the mirroring.
        num_steps: per epoch; None: as many as there are full batches.

    Raises:
        ValueError: if the batch has no image, or an epoch no step.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        flip: bool,
        resident: bool | str,
        seed: int,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip, resident=resident)
        self.order = OrderStream(seed)
        self.num_steps = full_batches(len(images.train), batch_size) if num_steps is None else num_steps

    def train_dataloader(self) -> Batches:
        """Return batches that continue the order at every pass."""
        return Batches(
            self.images.train,
            self.batch_size,
            device=self.device,
            order=self.order,
            num_steps=self.num_steps,
            flip=self.flip,
        )


def full_batches(count: int, batch_size: int) -> int:
    """Return the number of full batches among `count` images.

    Raises:
        ValueError: if they make none.
    """
    if count < batch_size:
        raise ValueError(
            f"batch_size {batch_size} is more than the {count} training images, so that an epoch has no step: "
            f"use data.batch_size={min(32, count)}, more images, or trainer.max_steps instead of epochs"
        )
    return count // batch_size


class Chunks:
    """Iterable over the steps of an array's epoch, as `Chunk`s with a row per variant.

    Stored images are read ahead, while the previous chunk is in use.

    Args:
        images: uint8 `(N, 3, H, W)`.
        batch_size: images per step of a variant.
        streams: one per variant; each draws as if its variant trained alone.
        flip: mirror each image left to right with probability 1/2.
        num_steps: per epoch.
        length: most steps of a chunk.
        passed: steps at the start of the first epoch that were taken before; their images are not read.
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
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.streams = streams
        self.flip = flip
        self.num_steps = num_steps
        self.length = length
        self.passed = passed

    def __len__(self) -> int:
        return -(-self.num_steps // self.length)

    def __iter__(self) -> Iterator[Chunk]:
        draw = (len(self.images), self.batch_size, self.num_steps, self.flip)
        drawn = [stream.draw(*draw) for stream in self.streams]
        indices, mirror = (torch.stack(parts) for parts in zip(*drawn, strict=True))
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
        """Gather the images of some steps, each once, except those of passed steps."""
        wanted, places = order.indices[:, max(passed, 0) :].unique(return_inverse=True)
        indices = torch.zeros_like(order.indices)
        indices[:, max(passed, 0) :] = places
        return Chunk(self.images[wanted], indices, order.mirror, staged=True)


class ArrayDataModule(HeldImages):
    """Training steps of an array, as `Chunks`, and float validation images.

    Args:
        streams: one per variant.
        chunk: most steps of a `Chunk`.
        num_steps: per epoch.

    Raises:
        ValueError: if the batch has no image.
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
        num_steps: int,
    ) -> None:
        super().__init__(images, batch_size=batch_size, flip=flip, resident=resident)
        self.streams = streams
        self.chunk = chunk
        self.passed = 0  # steps of the first epoch that were taken before
        self.num_steps = num_steps

    def train_dataloader(self) -> Chunks:
        """Return the steps of an epoch, drawn anew at every pass."""
        length = self.chunk
        if not isinstance(self.images.train, Tensor):
            in_step = len(self.streams) * self.batch_size * self.images.train.shape[1:].numel()
            length = max(1, min(length, STAGED_BYTES // in_step))
        return Chunks(
            self.images.train,
            self.batch_size,
            self.streams,
            flip=self.flip,
            num_steps=self.num_steps,
            length=length,
            passed=self.passed,
        )
