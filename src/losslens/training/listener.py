"""Listen to a training, and stop it on request."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from losslens.training.stop import Stop

if TYPE_CHECKING:
    from losslens.variant import Outcome

DescribeVariants = Callable[[], Mapping[str, Mapping[str, float | None]]]


class Listener:
    """Ignore all events but failures, and raise their error; subclasses override the methods that they need."""

    def __init__(self, stop: Stop | None = None) -> None:
        self.stop = Stop() if stop is None else stop

    def progress(self, share: float, describe: DescribeVariants) -> None:
        """Receive the progress after every chunk of steps.

        Args:
            share: fraction of steps done, in [0, 1].
            describe: returns for each variant its `step`, the number of `steps` and its last `loss`.
        """

    def say(self, text: str) -> None:
        """Receive a line for the user."""

    def done(self, name: str, outcome: "Outcome") -> None:
        """Receive the outcome of a variant, once all of it is on disk."""

    def failed(self, name: str, error: Exception) -> None:
        """Receive the error that ends a variant; the others continue."""
        raise error
