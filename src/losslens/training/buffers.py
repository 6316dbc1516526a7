"""What the steps of a CUDA graph log, kept on the device until the host looks."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor


class Buffers(MutableMapping[str, Any]):
    """What a captured step logs, for every step of a chunk: the copy that `buffers[name] = value` makes is captured.

    Args:
        counter: int64 `(1,)` on the device, the place of the step in its chunk.
        length: most steps of a chunk.
    """

    def __init__(self, counter: Tensor, length: int) -> None:
        self._counter = counter
        self._length = length
        self._kept: dict[str, Tensor] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        device = self._counter.device
        if name not in self._kept:
            self._kept[name] = torch.empty(self._length, device=device)
        value = value.float().reshape(1) if isinstance(value, Tensor) else torch.full((1,), value, device=device)
        self._kept[name].index_copy_(0, self._counter, value)

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __delitem__(self, name: str) -> None:
        del self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
