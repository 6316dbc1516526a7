"""What the steps of a CUDA graph log, kept on the device until the host looks."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor


class Buffers(MutableMapping[str, Any]):
    """What a captured step logs, for every step of a chunk: the copy that `buffers[name] = value` makes is captured.

    Args:
        names: of all that is going to be logged. The buffers are made now, since what fills them in a captured step
            would do so in every replay.
        counter: int64 `(1,)` on the device, the place of the step in its chunk.
        length: most steps of a chunk.
    """

    def __init__(self, names: Iterable[str], counter: Tensor, length: int) -> None:
        self._counter = counter
        self._places = torch.arange(length, device=counter.device)
        self._kept = {name: torch.zeros(length, device=counter.device) for name in names}

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._kept:
            raise ValueError(f"{name} is not logged at every step")
        device = self._counter.device
        value = value.float().reshape(1) if isinstance(value, Tensor) else torch.full((1,), value, device=device)
        kept = self._kept[name]  # index_copy_ would sort, and may look at the counter, where bits are to be the same
        kept.copy_(torch.where(self._places == self._counter, value, kept))

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __delitem__(self, name: str) -> None:
        del self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
