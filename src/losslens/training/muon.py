"""Momentum with orthogonalized steps: a few hundred do what takes Adam a few thousand."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the iterated polynomial, from Jordan's post: steepest at zero, so that few iterations suffice.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Move each weight along its orthogonalized momentum: equally far in all directions that gradients had.

    A weight is taken as a matrix of outputs times all the rest, a bias as a matrix of one column. Its Nesterov momentum
    `U S V^T` becomes about `U V^T` by Newton-Schulz iterations in float32 (of one column exactly), times the learning
    rate and `sqrt(max(1, rows / columns))`. Directions in which no gradient ever was stay exactly as they were: a row
    whose gradient is zero does not move, and a layer moves nowhere but in the span of its gradients. No weight decay.
    `torch.optim.Muon` takes matrices alone and holds its learning rate as a number, which a CUDA graph would freeze.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        params: of any number of axes.
        lr: learning rate, a number or a tensor of one.
        momentum: share of the momentum that is kept at each step, in [0, 1).

    Raises:
        ValueError: if the learning rate is negative, or the momentum outside of its range.
    """

    def __init__(self, params: Iterable[Any], lr: float | Tensor = 0.02, momentum: float = 0.9) -> None:
        if not float(lr) >= 0:
            raise ValueError(f"lr {lr} is negative: use optimizer.lr=0.02, for instance")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum} is not in [0, 1): use optimizer.momentum=0.9, for instance")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns the loss of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            averages = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            if parameters:
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                along = torch._foreach_lerp(gradients, averages, group["momentum"])
                changes = all_orthogonalized(along) if along[0].is_cuda else [orthogonalized(each) for each in along]
                torch._foreach_mul_(changes, group["lr"])
                torch._foreach_sub_(parameters, changes)
        return loss


def orthogonalized(gradient: Tensor) -> Tensor:
    """Bring all singular values near to 1, times `sqrt(max(1, rows / columns))`; the shape is kept."""
    if gradient.ndim < 2:
        unit: Tensor = gradient / (gradient.norm() + EPSILON) * gradient.numel() ** 0.5
        return unit
    x = _wide(gradient)
    return _like(gradient, _iterated(x / (x.norm() + EPSILON)))


def all_orthogonalized(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Orthogonalize many gradients, those of about one size in one batch, since a GPU starts few products sooner."""
    changes: dict[int, Tensor] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for place, gradient in enumerate(gradients):
        if gradient.ndim < 2:
            changes[place] = orthogonalized(gradient)
        else:
            rows, columns = _wide(gradient).shape
            alike.setdefault((rows.bit_length(), columns.bit_length()), []).append(place)
    for places in alike.values():
        matrices = [_wide(gradients[place]) for place in places]
        rows, columns = (max(sizes) for sizes in zip(*(matrix.shape for matrix in matrices), strict=True))
        x = torch.stack([nn.functional.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in matrices])
        x = _iterated(x / (x.norm(dim=(1, 2), keepdim=True) + EPSILON))
        for place, matrix, change in zip(places, matrices, x, strict=True):
            changes[place] = _like(gradients[place], change[: matrix.shape[0], : matrix.shape[1]])
    return [changes[place] for place in range(len(gradients))]


def _iterated(x: Tensor) -> Tensor:
    """Iterate the polynomial on a wide matrix, or on a batch of them."""
    multiply = torch.addmm if x.ndim == 2 else torch.baddbmm
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = multiply(x, multiply(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _wide(gradient: Tensor) -> Tensor:
    """Take a gradient as a float32 matrix with no more rows than columns."""
    rows = gradient.movedim(1, -1)  # in the memory order of a convolution; the order of columns does not matter
    matrix = rows.reshape(len(rows), -1).float()
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """Bring a wide matrix back to the shape of a gradient, scaled."""
    rows = gradient.movedim(1, -1)
    num_rows, num_columns = len(rows), gradient[0].numel()
    scale = max(1, num_rows / num_columns) ** 0.5
    change: Tensor = ((x.T if num_rows > num_columns else x) * scale).reshape(rows.shape).to(gradient)
    return change.movedim(-1, 1)
