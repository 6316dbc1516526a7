"""Check once, before training, that a loss is usable."""

import torch
from torch import Tensor, nn


def check_loss(loss: nn.Module, images: Tensor) -> None:
    """Check that a loss of `(input, target)` gives a finite scalar that a network can learn from.

    Args:
        images: originals, float `(N, 3, H, W)` in [0, 1]; their mirror images stand in for reconstructions.

    Raises:
        ValueError: naming what is wrong, if the value is no scalar tensor, is not finite, or has no gradient; or as the
            loss's own `check(images)` says, if it has one.
    """
    name = type(loss).__name__
    check = getattr(loss, "check", None)
    if callable(check):
        check(images)
    input = images.flip(-1).requires_grad_()
    with torch.enable_grad():
        value = loss(input, images)
        if not isinstance(value, Tensor) or value.ndim != 0:
            given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss {name} returns {given}, expected a scalar tensor: take the mean, .mean()")
        if not value.isfinite():
            raise ValueError(f"loss {name} is {value.item()} on images in [0, 1]: it must be finite")
        if not value.requires_grad:
            raise ValueError(f"loss {name} has no gradient: compute it from its input with differentiable operations")
        (gradient,) = torch.autograd.grad(value, input, allow_unused=True)
    if gradient is None or not gradient.isfinite().all():
        state = "no gradient" if gradient is None else "a gradient that is not finite"
        raise ValueError(f"loss {name} has {state} at its input, the reconstruction: no network can learn from it")
