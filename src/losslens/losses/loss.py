"""A loss is the distance between what a view sees of two images."""

from torch import Tensor, nn

from losslens.losses.views import LinearView, check_size

ROUNDING = 1e-5  # tolerance of a view's range


class Loss(nn.Module):
    """Two images are equal when their views are equal.

    Formula: `distance(view(input), view(target))`. The mean over batch and features is the distance's affair
    (`torch.nn.L1Loss` and `torch.nn.MSELoss` take it); values are gamma-encoded; a view documents its padding, a
    distance its epsilon. 0 at equality, larger is worse.

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
        check_pair(input, target)
        distance: Tensor = self.distance(self.view(input), self.view(target))
        return distance.to(input.dtype)

    def check(self, images: Tensor) -> None:
        """Check that the distance can compare the view's features of originals `(N, 3, H, W)`.

        Raises:
            ValueError: as the distance does, if it has a `check(features)` of its own.
        """
        check = getattr(self.distance, "check", None)
        if callable(check):
            check(self.view(images))


def linear_view(loss: nn.Module) -> LinearView | None:
    """Return a loss's view if it is linear, else None."""
    view = loss.view if isinstance(loss, Loss) else None
    return view if isinstance(view, LinearView) else None


def check_pair(input: Tensor, target: Tensor, name: str = "a loss", side: int = 1) -> None:
    """Check the shapes of reconstructions and originals.

    Args:
        side: smallest height and width, in pixels.

    Raises:
        ValueError: if the two differ in shape, are no images where a side is wanted, or are too small.
    """
    if input.shape != target.shape:
        raise ValueError(
            f"input {tuple(input.shape)} and target {tuple(target.shape)} differ in shape: {name} compares images of "
            "one size"
        )
    if side > 1:
        if input.ndim != 4:
            raise ValueError(
                f"{name} compares images (N, C, H, W), and these have shape {tuple(input.shape)}: "
                "use another distance, or a view such as rgb or edges"
            )
        check_size(input, name, side)


class UnitRange(nn.Module):
    """A distance of values in [0, 1] only, called `name` in errors."""

    name: str

    def check(self, features: Tensor) -> None:
        """Check originals, or a view's features of them.

        Raises:
            ValueError: if there are values outside of [0, 1].
        """
        if features.min() < -ROUNDING or features.max() > 1 + ROUNDING:
            raise ValueError(
                f"distance {self.name} compares values in [0, 1], and this view gives {features.min():.3g} to "
                f"{features.max():.3g}: use another distance, or a view such as rgb or luma"
            )
