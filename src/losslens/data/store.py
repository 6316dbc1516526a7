"""Images held as uint8 on one device; batches are gathered, mirrored and made float there."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """Iterable over batches of one uint8 tensor, each a float image `(B, 3, H, W)` in [0, 1] on the tensor's device.

    Given a generator, the order is a fresh permutation at every pass and the incomplete last batch is left out, so that
    every step has one shape; without one, all images come in their order.

    Args:
        images: uint8 `(N, 3, H, W)`.
        batch_size: images per batch, at most N if a generator is given.
        generator: on the CPU; draws the order and the mirroring, the same on every device.
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
        device, count = self.images.device, len(self.images)
        order = torch.randperm(count, generator=self.generator).to(device)
        mirror = torch.rand(count, generator=self.generator).lt(0.5).to(device)
        for step in range(len(self)):
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            images = self.images[order[batch]]
            if self.flip:
                images = torch.where(mirror[batch, None, None, None], images.flip(-1), images)
            yield images.float().div_(255)
