"""Who hears what happens in a training, and may stop it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from losslens.training.stop import Stop

if TYPE_CHECKING:
    from losslens.variant import Outcome

DescribeVariants = Callable[[], Mapping[str, Mapping[str, float | None]]]


class Listener:
    """Hears nothing, and raises the error of the first variant that fails; others override what they want to hear.

    Args:
        stop: asked for to stop.
    """

    def __init__(self, stop: Stop | None = None) -> None:
        self.stop = Stop() if stop is None else stop

    def progress(self, share: float, describe: DescribeVariants) -> None:
        """Hear, after every chunk of steps, the fraction that is done.

        Args:
            share: in [0, 1].
            describe: returns for each variant its `step`, the number of `steps` and its last `loss`.
        """

    def say(self, text: str) -> None:
        """Hear a line for the user."""

    def done(self, name: str, outcome: "Outcome") -> None:
        """Hear what came of a variant, once all of it is on disk."""

    def failed(self, name: str, error: Exception) -> None:
        """Hear the error that ends a variant; the others go on."""
        raise error
