"""A weighted sum of losses, with weights that are constant, scheduled or learned."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from losslens.losses.contract import check_loss

Points = Sequence[Sequence[float]]


class Mix(nn.Module):
    """Two images are equal when every term says so.

    Formula: `sum_k weights[k] * terms[k](input, target)`. 0 at equality if its terms are. Blind to what all are blind
    to. While it trains (`mix.train()`), weights may move: a scheduled one is that of `step` of `num_steps`; with
    `uncertainty` it is `sum_k exp(-s_k) terms[k] + s_k`, whose `s_k = log(sigma_k^2)` are parameters to be learned,
    which may be negative. In `mix.eval()` weights are those given, the last ones of a schedule, so that values are
    comparable over training and between networks.
    Source of the uncertainty: Kendall, Gal and Cipolla, 2018, arXiv:1705.07115.

    Args:
        weights: by term: a number, where 0 only logs the term; or a schedule, points `[share, weight]`, shares of
            training from 0 to 1, with straight lines between them.
        uncertainty: learn the weights, starting at those given.

    Raises:
        ValueError: if there is no term, if a weight is no number of 0 or more, or all are 0, if a schedule is none, or
            of weights that are learned, or if terms and weights have different names.
    """

    step: Tensor

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float | Points],
        uncertainty: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(uncertainty, bool):
            raise ValueError(f"uncertainty {uncertainty} of a mix is neither true nor false")
        if not isinstance(weights, Mapping):
            raise ValueError(f"weights {weights} of a mix are not given by name: loss.weights.NAME=1")
        if not terms or set(terms) != set(weights):
            raise ValueError(
                f"a mix has weights for {', '.join(weights) or 'nothing'} and terms {', '.join(terms) or 'none'}: "
                "give each term a weight, loss.weights.NAME=1, and each weight a term, +loss@loss.terms.NAME=LOSS"
            )
        self.schedules = {name: _points(name, each) for name, each in weights.items() if isinstance(each, list | tuple)}
        self.weights = {
            name: self.schedules[name][-1][1] if name in self.schedules else _weight(name, each)
            for name, each in weights.items()
        }
        if not any(self.weights.values()):
            end = " at the end" if self.schedules else ""
            raise ValueError(f"all weights of {', '.join(weights)} are 0{end}: give one of them a larger one")
        try:
            self.terms = nn.ModuleDict(terms)
        except KeyError as error:
            raise ValueError(f"a term cannot have this name: {error.args[0]}: use another one") from error
        self.num_steps: int | None = None  # None: schedules do not move
        if self.schedules:
            self.register_buffer("step", torch.tensor(0), persistent=False)  # training sets it at its start
        self.log_variances: nn.ParameterDict | None = None
        if uncertainty:
            still = [name for name, weight in self.weights.items() if not weight or name in self.schedules]
            if still:
                raise ValueError(
                    f"weights by uncertainty begin at a number above 0, and {still[0]} does at {weights[still[0]]}"
                )
            self.log_variances = nn.ParameterDict(
                {name: nn.Parameter(torch.tensor(-math.log(weight))) for name, weight in self.weights.items()}
            )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)`; returns a scalar."""
        return self.total(self.parts(input, target), self.moving_weights())

    def parts(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the value of each term, without its weight."""
        return {name: term(input, target) for name, term in self.terms.items()}

    def total(self, parts: Mapping[str, Tensor], moving: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of terms; `moving` replaces the weights given."""
        weights = {name: moving.get(name, weight) for name, weight in self.weights.items()}
        summands = [weights[name] * value for name, value in parts.items() if name in moving or weights[name]]
        if self.training and self.log_variances is not None:
            summands += self.log_variances.values()
        total: Tensor = sum(summands)  # type: ignore[assignment]
        return total.to(next(iter(parts.values())).dtype)

    def moving_weights(self) -> dict[str, Tensor]:
        """Return this step's scheduled or learned weights, scalars; empty where the weights given hold."""
        if not self.training:
            return {}
        if self.log_variances is not None:
            return {name: torch.exp(-each) for name, each in self.log_variances.items()}
        if not self.schedules or self.num_steps is None:
            return {}
        share = self.step.float() / self.num_steps
        return {name: _between(points, share) for name, points in self.schedules.items()}

    def advance(self, *_: Any) -> None:
        """Count a step of training, as an optimizer's hook."""
        self.step += 1

    def check(self, images: Tensor) -> None:
        """Check every term with originals `(N, 3, H, W)`.

        Raises:
            ValueError: as `check_loss` does, with the name of the term.
        """
        for name, term in self.terms.items():
            try:
                check_loss(term, images)
            except ValueError as error:
                raise ValueError(f"term {name}: {error}") from error


def _weight(name: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ValueError(
            f"weight {weight} of the term {name} is no number of 0 or more, and no schedule [[share, weight], ...]"
        )
    return weight


def _points(name: str, points: Points) -> list[tuple[float, float]]:
    """Return the points of a schedule, checked."""
    try:
        read = [(float(share), _weight(name, weight)) for share, weight in points]
    except (TypeError, ValueError):
        read = []
    shares = [share for share, _ in read]
    if not read or shares != sorted(shares) or not 0 <= shares[0] <= shares[-1] <= 1:
        raise ValueError(
            f"weights {points} of the term {name} are no schedule: give points [share, weight] whose shares of "
            "training grow from 0 to 1, such as [[0,0],[0.5,1]]"
        )
    return read


def _between(points: Sequence[tuple[float, float]], share: Tensor) -> Tensor:
    """Return a schedule's weight at a share of training; it jumps where two points have the same share."""
    weight = torch.full_like(share, points[0][1])
    for (start, before), (end, after) in pairwise(points):
        way = (share - start).clamp(0, end - start) / (end - start) if end > start else (share >= end).to(share)
        weight = weight + (after - before) * way
    return weight
