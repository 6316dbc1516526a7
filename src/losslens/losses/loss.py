"""A loss is the distance between what a view sees of two images."""

from torch import Tensor, nn


class Loss(nn.Module):
    """Two images are equal when their views are equal.

    Formula: `distance(view(input), view(target))`. The mean over batch and features is the distance's affair
    (`torch.nn.L1Loss` and `torch.nn.MSELoss` take it); gamma-encoded values; no padding, no epsilon. 0 at equality,
    larger is worse.

    Args:
        view: module from images `(N, 3, H, W)` to features.
        distance: module of `(input, target)` features to a scalar.
    """

    def __init__(self, view: nn.Module, distance: nn.Module) -> None:
        super().__init__()
        self.view = view
        self.distance = distance

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)`; returns a scalar.

        Raises:
            ValueError: if the two differ in shape.
        """
        if input.shape != target.shape:
            raise ValueError(
                f"input {tuple(input.shape)} and target {tuple(target.shape)} differ in shape: "
                "a loss compares images of one size"
            )
        distance: Tensor = self.distance(self.view(input), self.view(target))
        return distance
