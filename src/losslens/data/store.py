"""Images held as uint8 on one device; batches are gathered, mirrored and made float there."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Order(NamedTuple):
    """Which images make which step: `indices`, int64 `(steps, B)`, and `mirror`, bool of that shape."""

    indices: Tensor
    mirror: Tensor


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
    batch = images[indices]
    batch = torch.where(mirror[:, None, None, None], batch.flip(-1), batch)
    return batch.float().div_(255)


class Batches:
    """Iterable over batches of one uint8 tensor, each a float image `(B, 3, H, W)` in [0, 1] on the tensor's device.

    Given a generator, every pass follows a new `draw_order`; without one, all images come in their order.

    Args:
        images: uint8 `(N, 3, H, W)`.
        batch_size: images per batch, at most N if a generator is given.
        generator: on the CPU.
        flip: mirror each image left to right with probability 1/2.
    """

    def __init__(
        self, images: Tensor, batch_size: int, *, generator: torch.Generator | None = None, flip: bool = False
    ) -> None:
        assert generator is not None or not flip
        self.images = images
        self.batch_size = batch_size
        self.generator = generator
        self.flip = flip

    def __len__(self) -> int:
        if self.generator is None:
            return -(-len(self.images) // self.batch_size)
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        if self.generator is None:
            for start in range(0, len(self.images), self.batch_size):
                yield self.images[start : start + self.batch_size].float().div_(255)
            return
        order = draw_order(len(self.images), self.batch_size, self.generator, self.flip)
        device = self.images.device
        for indices, mirror in zip(order.indices.to(device), order.mirror.to(device), strict=True):
            yield gather(self.images, indices, mirror)
