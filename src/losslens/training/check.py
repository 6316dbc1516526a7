"""Whether a model can be trained on some images, and what a loss sees of them."""

import torch
from torch import Tensor, nn

from losslens.losses import LinearView
from losslens.losses.color import COLOR_DIRECTIONS
from losslens.training.module import LitAutoencoder


def check_autoencoder(module: LitAutoencoder, images: Tensor) -> list[int]:
    """Check that a model takes these images and returns their like.

    Returns:
        The shape of one code.

    Raises:
        ValueError: if the reconstructions' shape is not that of the images.
    """
    training = module.training
    module.eval()
    with torch.no_grad():
        code, reconstructions = module.encode(images), module(images)
    module.train(training)
    if reconstructions.shape != images.shape:
        raise ValueError(
            f"model {type(module.autoencoder).__name__} turns images {tuple(images.shape)} into "
            f"{tuple(reconstructions.shape)}: decode(encode(images)) must have at least their size and 3 channels"
        )
    return list(code.shape[1:])


def seen_directions(loss: nn.Module) -> list[str]:
    """Name the color directions that determine the value of a loss; empty if its view is not linear."""
    view = getattr(loss, "view", None)
    if not isinstance(view, LinearView):
        return []
    return [name for name, direction in COLOR_DIRECTIONS.items() if view.sees(direction)]
