"""A weighted sum of losses."""

from collections.abc import Mapping

from torch import Tensor, nn

from losslens.losses.contract import check_loss


class Mix(nn.Module):
    """Two images are equal when every term says so.

    Formula: `sum_k weights[k] * terms[k](input, target)`. 0 at equality if its terms are. Blind to what all are blind
    to.

    Args:
        terms: losses by name.
        weights: of each of them; 0 leaves a term out of the sum, which is logged all the same.

    Raises:
        ValueError: if there is no term, if a weight is no number of 0 or more, or all are 0, or if terms and weights
            have different names.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not terms or set(terms) != set(weights):
            raise ValueError(
                f"a mix has weights for {', '.join(weights) or 'nothing'} and terms {', '.join(terms) or 'none'}: "
                "give each term a weight, loss.weights.NAME=1, and each weight a term, +loss@loss.terms.NAME=LOSS"
            )
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ValueError(f"weight {weight} of the term {name} is no number of 0 or more")
        if not any(weights.values()):
            raise ValueError(f"all weights of {', '.join(weights)} are 0: give one of them a larger one")
        try:
            self.terms = nn.ModuleDict(terms)
        except KeyError as error:
            raise ValueError(f"a term cannot have this name: {error.args[0]}: use another one") from error
        self.weights = dict(weights)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)`; returns a scalar."""
        return self.total(self.parts(input, target))

    def parts(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the value of each term, without its weight."""
        return {name: term(input, target) for name, term in self.terms.items()}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Add the terms up with their weights."""
        total: Tensor = sum(self.weights[name] * value for name, value in parts.items() if self.weights[name])  # type: ignore[assignment]
        return total

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
