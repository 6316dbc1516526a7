"""Prepare a loss and an image for measurements."""

import copy

import torch
from torch import Tensor, nn

from losslens.losses.loss import linear_view


def precision(loss: nn.Module) -> torch.dtype:
    """Return the precision of computations: float64 for linear views, where it is exact and cheap, else float32."""
    return torch.float32 if linear_view(loss) is None else torch.float64


def prepare(loss: nn.Module, image: Tensor, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """Copy a loss and convert an image to `dtype`, or to float32 if the loss takes no other.

    Args:
        image: float `(3, H, W)` or `(1, 3, H, W)` in [0, 1].

    Returns:
        The copy, in evaluation mode, and the image `(1, 3, H, W)`.

    Raises:
        ValueError: if the image has another shape or range, or the loss of two equal images is no finite scalar.
    """
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[:2] != (1, 3) or not image.is_floating_point():
        raise ValueError(f"image is {image.dtype} {tuple(image.shape)}, expected float (3, H, W) in [0, 1]")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"image has values from {image.min():.3g} to {image.max():.3g}, expected [0, 1]")
    for type_ in dict.fromkeys((dtype, torch.float32)):
        ready = copy.deepcopy(loss).to(type_).eval().requires_grad_(False)
        converted = image.detach().to(type_)
        try:
            value = ready(converted.clone(), converted)
        except RuntimeError as error:
            failure = error
            continue
        _check_equality(type(loss).__name__, value)
        return ready, converted
    raise ValueError(f"loss {type(loss).__name__} cannot compare images {tuple(image.shape)}: {failure}") from failure


def is_differentiable(loss: nn.Module, image: Tensor) -> bool:
    """Return whether a loss has a finite gradient, not all zero, at a picture that differs from its target."""
    input = (image * 0.8 + 0.1 * image.flip(-1) + 0.05).requires_grad_()
    with torch.enable_grad():
        try:
            value = loss(input, image)
            if not value.requires_grad:
                return False
            (gradient,) = torch.autograd.grad(value, input, allow_unused=True)
        except RuntimeError:
            return False
    return gradient is not None and bool(gradient.isfinite().all() and gradient.any())


def excess_loss(loss: nn.Module, input: Tensor, target: Tensor) -> float:
    """Return by how much a loss is larger for `input` than for an image equal to `target`."""
    with torch.no_grad():
        return float(loss(input, target) - loss(target, target))


def _check_equality(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss {name} returns {given}, expected a scalar tensor: take the mean, .mean()")
    if not value.isfinite():
        raise ValueError(f"loss {name} of two equal images is {value.item()}: it must be finite, 0 at best")
