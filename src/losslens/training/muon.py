"""Momentum whose steps are orthogonalized: a few hundred steps teach what takes Adam a few thousand."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the polynomial that is applied again and again, from Jordan's post: steepest at zero, so that it ends soonest.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Change each weight along its orthogonalized momentum: all directions that gradients had are taken equally far.

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
        """Take one step; of a closure, the loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
                    average: Tensor = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                    change = orthogonalized(parameter.grad.lerp(average, group["momentum"]))
                    parameter.sub_(change * group["lr"])
        return loss


def orthogonalized(gradient: Tensor) -> Tensor:
    """Bring all singular values near to 1, times `sqrt(max(1, rows / columns))`; the shape is kept."""
    if gradient.ndim < 2:
        unit: Tensor = gradient / (gradient.norm() + EPSILON) * gradient.numel() ** 0.5
        return unit
    rows = gradient.movedim(1, -1)  # a convolution's as they lie in memory; the order of columns does not matter
    matrix = rows.reshape(len(rows), -1).float()
    scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + EPSILON)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    change: Tensor = ((x.T if tall else x) * scale).reshape(rows.shape).to(gradient)
    return change.movedim(-1, 1)
