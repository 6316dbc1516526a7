"""The responses of a loss: its values at changes of equal size."""

from dataclasses import dataclass

from torch import Tensor, nn

from losslens.lens.changes import NOISE, RMS, change_bank
from losslens.lens.subject import excess_loss, precision, prepare

# Thresholds of responses relative to white noise of the same RMS.
BLIND = 1e-4
WEAK = 0.1
HEAT_TOP = 2.0  # relative response that is drawn as the strongest


@dataclass(frozen=True)
class Response:
    """The response of a loss to one change.

    Args:
        value: the loss of the changed image, less that of an equal one.
        relative: `value` over that of white noise of the same RMS; 0 is blind.
    """

    value: float
    relative: float

    @property
    def verdict(self) -> str:
        """`blind`, `weak` or `sees`, by the thresholds `BLIND` and `WEAK` on the relative response."""
        size = abs(self.relative)
        return "blind" if size < BLIND else "weak" if size < WEAK else "sees"


def responses(
    loss: nn.Module, image: Tensor, *, rms: float = RMS, bank: dict[str, Tensor] | None = None
) -> dict[str, Response]:
    """Measure how a loss responds to every change of the bank.

    Args:
        loss: any module of `(input, target)` that returns a scalar; it need not be differentiable.
        image: float `(3, H, W)` in [0, 1].
        rms: size of the changes over RGB.
        bank: changed images by name; None: `change_bank(image, rms)`.

    Returns:
        By the name of the change. Computed in float64 for linear views, else in float32.

    Raises:
        ValueError: if the loss of equal images is not finite, is larger than that of white noise, or that of a
            change is not finite.
    """
    ready, target = prepare(loss, image, precision(loss))
    if bank is None:
        bank, _ = change_bank(target, rms)
    values = {name: excess_loss(ready, changed.to(target), target) for name, changed in bank.items()}
    name = type(loss).__name__
    for change, value in values.items():
        if value != value or abs(value) == float("inf"):
            raise ValueError(f"loss {name} is {value} at the change {change}: it must be finite on images in [0, 1]")
    noise = values[NOISE]
    if noise < 0:
        raise ValueError(
            f"loss {name} is smaller for a noisy image than for an equal one: it measures similarity; use its negative"
        )
    return {
        change: Response(value=value, relative=value / noise if noise > 0 else 0.0) for change, value in values.items()
    }


def response_text(relative: float) -> str:
    """Format a relative response: `blind` below its threshold, else with two digits or decimals."""
    size = abs(relative)
    return "blind" if size < BLIND else f"{relative:.1g}" if size < WEAK / 10 else f"{relative:.2f}"
