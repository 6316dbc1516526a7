"""Images as uint8, held on the training device or streamed to it; batches are mirrored and made float there."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from losslens.data.stored import StoredImages

PREFETCH = "prefetch"  # name of the threads that read ahead
Wanted = TypeVar("Wanted")
Read = TypeVar("Read")


class Order(NamedTuple):
    """Which images make which step: `indices`, int64 `(steps, B)`, and `mirror`, bool of that shape."""

    indices: Tensor
    mirror: Tensor


class Chunk(NamedTuple):
    """Many steps of K variants, and the images that they take.

    `images` are uint8 `(N, 3, H, W)`; `indices`, int64 `(K, steps, B)`, and `mirror`, bool of that shape, say which
    make which step. `staged` images are those of this chunk alone; else they are the whole data set, the same tensor
    in every chunk.
    """

    images: Tensor
    indices: Tensor
    mirror: Tensor
    staged: bool

    @property
    def num_steps(self) -> int:
        """Steps of every variant."""
        return self.indices.shape[1]

    def steps(self, first: int, end: int) -> "Chunk":
        """Return some of the steps."""
        return self._replace(indices=self.indices[:, first:end], mirror=self.mirror[:, first:end])


def draw_order(count: int, batch_size: int, generator: torch.Generator, flip: bool) -> Order:
    """Draw a fresh permutation of images; the incomplete last batch is left out, so that every step has one shape.

    Args:
        count: of images, at least `batch_size`.
        batch_size: images per step.
        generator: on the CPU; what it draws does not depend on the device of the images.
        flip: mirror each image left to right with probability 1/2.
    """
    steps = count // batch_size
    order = torch.randperm(count, generator=generator)
    mirror = torch.rand(count, generator=generator).lt(0.5) & flip
    return Order(*(drawn[: steps * batch_size].view(steps, batch_size) for drawn in (order, mirror)))


class OrderStream:
    """The order of a variant's data, drawn anew for every epoch.

    Args:
        seed: of the variant.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.epoch_start = self.next_epoch

    @property
    def next_epoch(self) -> Tensor:
        """The state from which the next order is drawn, uint8; `epoch_start` is that of the latest one."""
        return self._generator.get_state()

    def go_on_from(self, state: Tensor) -> None:
        """Draw the next order from such a state."""
        self._generator.set_state(state)

    def draw(self, count: int, batch_size: int, flip: bool) -> Order:
        """Draw the order of an epoch as `draw_order` does."""
        self.epoch_start = self.next_epoch
        return draw_order(count, batch_size, self._generator, flip)


def gather(images: Tensor, indices: Tensor, mirror: Tensor) -> Tensor:
    """Make a batch, float `(B, 3, H, W)` in [0, 1], of uint8 images `(N, 3, H, W)` on the same device."""
    return to_batch(images[indices], mirror)


def to_batch(images: Tensor, mirror: Tensor) -> Tensor:
    """Make a batch, float `(B, 3, H, W)` in [0, 1], of as many uint8 images on the same device."""
    return torch.where(mirror[:, None, None, None], images.flip(-1), images).float().div_(255)


def read_ahead(read: Callable[[Wanted], Read], wanted: Iterable[Wanted]) -> Iterator[Read]:
    """Read in a background thread: while one result is in use, the next one is read.

    The thread ends with the iteration, also if that is left early. An error in it is raised here.
    """
    with ThreadPoolExecutor(1, PREFETCH) as pool:
        reading = None
        for each in wanted:
            following = pool.submit(read, each)
            if reading is not None:
                yield reading.result()
            reading = following
        if reading is not None:
            yield reading.result()


class Batches:
    """Iterable over batches of uint8 images, each a float image `(B, 3, H, W)` in [0, 1] on a device.

    Given a generator, every pass follows a new `draw_order`; without one, all images come in their order. Stored images
    are read ahead, while the batch before is in use.

    Args:
        images: uint8 `(N, 3, H, W)`.
        batch_size: images per batch, at most N if a generator is given.
        device: of the batches.
        generator: on the CPU.
        flip: mirror each image left to right with probability 1/2.
    """

    def __init__(
        self,
        images: Tensor | StoredImages,
        batch_size: int,
        *,
        device: torch.device,
        generator: torch.Generator | None = None,
        flip: bool = False,
    ) -> None:
        assert generator is not None or not flip
        self.images = images
        self.batch_size = batch_size
        self.device = device
        self.generator = generator
        self.flip = flip

    def __len__(self) -> int:
        if self.generator is None:
            return -(-len(self.images) // self.batch_size)
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        if self.generator is None:
            starts = range(0, len(self.images), self.batch_size)
            for batch in self._read(slice(start, start + self.batch_size) for start in starts):
                yield batch.to(self.device).float().div_(255)
            return
        order = draw_order(len(self.images), self.batch_size, self.generator, self.flip)
        indices, mirrors = order.indices.to(self.images.device), order.mirror.to(self.device)
        for batch, mirror in zip(self._read(indices), mirrors, strict=True):
            yield to_batch(batch.to(self.device), mirror)

    def _read(self, places: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        return (read_ahead if isinstance(self.images, StoredImages) else map)(self.images.__getitem__, places)
