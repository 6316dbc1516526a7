"""Images as uint8, held on the training device or streamed to it; batches are mirrored and made float there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from losslens.data.stored import StoredImages

PREFETCH = "prefetch"  # name of the threads that read ahead
Wanted = TypeVar("Wanted")
Read = TypeVar("Read")


class Order(NamedTuple):
    """The images of each step: `indices`, int64 `(steps, B)`, and `mirror`, bool of that shape."""

    indices: Tensor
    mirror: Tensor


class Chunk(NamedTuple):
    """Steps of K variants, and their images.

    `images` are uint8 `(N, 3, H, W)`; `indices`, int64 `(K, steps, B)`, and `mirror`, bool of that shape, select those
    of each step. `staged` images are this chunk's alone; else they are the whole data set, the same tensor in every
    chunk.
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
        """Return the steps from `first` up to `end`, exclusive."""
        return self._replace(indices=self.indices[:, first:end], mirror=self.mirror[:, first:end])


class OrderStream:
    """The order of a variant's data: one permutation after another, cut into batches across their ends.

    So every step has a full batch, and all images occur equally often.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._taken = 0  # images taken of the latest permutation
        self.start = self.place

    @property
    def place(self) -> dict[str, Any]:
        """Where the next draw begins, for `resume_at`; `start` is where the latest one began."""
        return {"permutation": self._generator.get_state(), "taken": self._taken}

    def resume_at(self, place: Mapping[str, Any]) -> None:
        """Draw next from a place that `place` returned."""
        self._generator.set_state(place["permutation"])
        self._taken = place["taken"]

    def draw(self, count: int, batch_size: int, num_steps: int, flip: bool) -> Order:
        """Draw the next steps, the same on every device.

        Args:
            count: images of the data set.
            flip: mirror each image left to right with probability 1/2, anew in every permutation.
        """
        self.start = self.place
        drawn: list[tuple[Tensor, Tensor]] = []
        missing = num_steps * batch_size
        while missing:
            before = self._generator.get_state()
            images = torch.randperm(count, generator=self._generator)
            mirror = torch.rand(count, generator=self._generator).lt(0.5) & flip
            part = slice(self._taken, self._taken + missing)
            drawn.append((images[part], mirror[part]))
            missing -= len(images[part])
            self._taken = (self._taken + len(images[part])) % count
            if self._taken:
                self._generator.set_state(before)
        return Order(*(torch.cat(parts).view(num_steps, batch_size) for parts in zip(*drawn, strict=True)))


def gather(images: Tensor, indices: Tensor, mirror: Tensor) -> Tensor:
    """Make a batch, float `(B, 3, H, W)` in [0, 1], of uint8 images `(N, 3, H, W)` on the same device."""
    return to_batch(images[indices], mirror)


def to_batch(images: Tensor, mirror: Tensor) -> Tensor:
    """Make a batch, float `(B, 3, H, W)` in [0, 1], of as many uint8 images on the same device."""
    return torch.where(mirror[:, None, None, None], images.flip(-1), images).float().div_(255)


def read_ahead(read: Callable[[Wanted], Read], wanted: Iterable[Wanted]) -> Iterator[Read]:
    """Read in a background thread: the next result is read while one is in use.

    The thread ends with the iteration, even if that stops early; its errors are raised here.
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

    Given an order, every pass draws its next steps; without one, all images come in sequence. Stored images are read
    ahead, while the previous batch is in use.

    Args:
        images: uint8 `(N, 3, H, W)`.
        num_steps: batches per pass, if an order is given.
        flip: mirror each image left to right with probability 1/2.
    """

    def __init__(
        self,
        images: Tensor | StoredImages,
        batch_size: int,
        *,
        device: torch.device,
        order: OrderStream | None = None,
        num_steps: int = 0,
        flip: bool = False,
    ) -> None:
        assert order is not None or not flip
        self.images = images
        self.batch_size = batch_size
        self.device = device
        self.order = order
        self.num_steps = num_steps
        self.flip = flip

    def __len__(self) -> int:
        return self.num_steps if self.order else -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.order is None:
            starts = range(0, len(self.images), self.batch_size)
            for batch in self._read(slice(start, start + self.batch_size) for start in starts):
                yield batch.to(self.device).float().div_(255)
            return
        order = self.order.draw(len(self.images), self.batch_size, self.num_steps, self.flip)
        indices, mirrors = order.indices.to(self.images.device), order.mirror.to(self.device)
        for batch, mirror in zip(self._read(indices), mirrors, strict=True):
            yield to_batch(batch.to(self.device), mirror)

    def _read(self, places: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        return (read_ahead if isinstance(self.images, StoredImages) else map)(self.images.__getitem__, places)
