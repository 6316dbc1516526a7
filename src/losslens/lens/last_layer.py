"""How far training moved the last layer from its initialization, by color."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losslens.losses import LinearView

CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Moved:
    """How far training moved a last layer: norms of changes over norms of initial values.

    Args:
        channels: by color channel, of its weights and biases; exactly 0 where they are bit-identical.
        unseen: of their part in the dimensions of RGB that the view does not see; None where it sees all, or is not
            linear.
    """

    channels: dict[str, float]
    unseen: float | None

    @property
    def frozen(self) -> list[str]:
        """The channels whose weights and biases are bit-identical to their initialization."""
        return [channel for channel, change in self.channels.items() if change == 0]


def rows(autoencoder: nn.Module) -> Tensor | None:
    """Return the weights and biases of the last layer by channel, `(3, D)`.

    Args:
        autoencoder: names its last layer by `output_layer`, a `Conv2d` or `Linear` whose rows paint red, green and
            blue, a third each, in this order. None is returned for one that does not.
    """
    weights = _weights(autoencoder)
    if weights is None:
        return None
    return torch.cat([weight.detach().unflatten(0, (3, -1)).flatten(1) for weight in weights], dim=1).cpu()


def moved(trained: nn.Module, initial: nn.Module, view: LinearView | None) -> Moved | None:
    """Measure how far training moved the last layer; None for autoencoders without `output_layer`.

    Args:
        trained: autoencoder after training.
        initial: the same autoencoder as its seed initialized it.
        view: of the loss; None if it is not linear.
    """
    after, before = rows(trained), rows(initial)
    if after is None or before is None:
        return None
    changes = [0.0 if torch.equal(a, b) else _share(a - b, b) for a, b in zip(after, before, strict=True)]
    unseen = None
    if view is not None and len(axes := view.unseen_axes().double().cpu()):
        unseen = _share(axes @ (after - before).double(), axes @ before.double())
    return Moved(channels=dict(zip(CHANNELS, changes, strict=True)), unseen=unseen)


def swap_unseen(own: nn.Module, other: nn.Module, view: LinearView) -> None:
    """Replace the part of an autoencoder's last layer that a view does not see by another's.

    Args:
        own: changed in place.
        other: of the same architecture.

    Raises:
        ValueError: if they do not say which their last layer is.
    """
    ours, theirs = _weights(own), _weights(other)
    if ours is None or theirs is None:
        raise ValueError(f"{type(own).__name__} has no output_layer: it does not say which its last layer is")
    axes = view.unseen_axes()
    with torch.no_grad():
        for mine, its in zip(ours, theirs, strict=True):
            difference = (its - mine).double().unflatten(0, (3, -1))
            projection = (axes.T @ axes).to(difference)
            mine += torch.einsum("ij,j...->i...", projection, difference).flatten(0, 1).to(mine)


def _weights(autoencoder: nn.Module) -> list[Tensor] | None:
    """Return weight and bias, if there is one, of the last layer."""
    layer = getattr(autoencoder, "output_layer", None)
    if not isinstance(layer, nn.Conv2d | nn.Linear) or len(layer.weight) % len(CHANNELS):
        return None
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


def _share(change: Tensor, initial: Tensor) -> float:
    return float(change.norm() / initial.norm().clamp(min=1e-30))
