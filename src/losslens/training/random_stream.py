"""Give each variant its own stream of random numbers from the global generators."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch

_TURN = Lock()  # a process has one global random state


class RandomStream:
    """The global random state of Python, NumPy and torch, kept apart for one variant.

    It starts as the state at the time of construction. `drawn` says whether anything was drawn from it since.
    """

    def __init__(self) -> None:
        self._state = _collect()
        self.drawn = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the stream, as tensors and plain values."""
        name, keys, *rest = self._state["numpy"]
        return {"state": {**self._state, "numpy": [name, keys.tolist(), *rest]}, "drawn": self.drawn}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        state = dict(saved["state"])
        name, keys, *rest = state["numpy"]
        self._state = {**state, "numpy": (name, np.array(keys, dtype=np.uint32), *rest)}
        self.drawn = saved["drawn"]

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Draw from this stream inside; one stream at a time. After an error, nothing counts as drawn."""
        with _TURN:
            before = _collect()
            _restore(self._state)
            try:
                yield
                after = _collect()
                self.drawn |= not _equal(self._state, after)
                self._state = after
            finally:
                _restore(before)


def _collect() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (
        first["python"] == second["python"]
        and first["numpy"][2] == second["numpy"][2]
        and np.array_equal(first["numpy"][1], second["numpy"][1])
        and all(
            torch.equal(first[name], second[name]) for name in ("torch", "cuda") if name in first and name in second
        )
    )
