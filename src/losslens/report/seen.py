"""What a loss sees of images, as a picture."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from losslens.build import build_loss
from losslens.losses.views import LinearView

ZERO_SUM = 1e-4  # of a color difference's weights, which are rounded


def picture_of_view(loss: Mapping[str, Any], images: Tensor) -> Tensor | None:
    """Draw the features of a loss's view: one feature as gray, three as red, green and blue; never rescaled.

    Features of a linear view whose weights sum to 0 (color differences) are shown around mid-gray.

    Args:
        loss: configuration.
        images: float `(N, 3, H, W)` in [0, 1].

    Returns:
        Float images of that shape, clamped to [0, 1]; None if the loss has no view, if its features are no image, or
        if it cannot be made here.
    """
    try:
        view = getattr(build_loss(loss), "view", None)
        if not isinstance(view, nn.Module):
            return None
        with torch.no_grad():
            features = view(images)
    except Exception:  # a loss of the user's own, which need not be there when only its results are looked at
        return None
    if not isinstance(features, Tensor) or features.ndim != 4:
        return None
    if features.shape[1] not in (1, 3) or features.shape[-2:] != images.shape[-2:]:
        return None
    if isinstance(view, LinearView):
        features = features + 0.5 * (view.weights.sum(1).abs() < ZERO_SUM).to(features)[:, None, None]
    return features.expand(-1, 3, -1, -1).clamp(0, 1)
