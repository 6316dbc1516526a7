"""Pretrained networks of torchvision, and losses that compare their features. Not imported with the package."""

from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
import torchvision.models
from torch import Tensor, nn
from torch.func import functional_call
from torch.hub import HASH_REGEX

from losslens.losses.loss import check_pair
from losslens.losses.views import check_images, check_size, in_one_row, precise

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Known(NamedTuple):
    """A network of torchvision: constructor, weights, ends of its layers, smallest side of an image in pixels."""

    make: Callable[..., nn.Module]
    weights: Any
    ends: tuple[int, ...]
    smallest: int


NETWORKS = {
    "vgg16": Known(torchvision.models.vgg16, torchvision.models.VGG16_Weights.IMAGENET1K_V1, (4, 9, 16, 23, 30), 16),
    "vgg19": Known(torchvision.models.vgg19, torchvision.models.VGG19_Weights.IMAGENET1K_V1, (4, 9, 18, 27, 36), 16),
    "alexnet": Known(
        torchvision.models.alexnet, torchvision.models.AlexNet_Weights.IMAGENET1K_V1, (2, 5, 8, 10, 12), 31
    ),
    "squeezenet": Known(
        torchvision.models.squeezenet1_1,
        torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
        (2, 5, 8, 10, 11, 12, 13),
        17,
    ),
}


class Normalize(nn.Module):
    """Subtract the channels' means of a network's training images, and divide by their standard deviations."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return normalized images `(N, 3, H, W)`."""
        return (images - self.mean.to(images)) / self.std.to(images)


class Network(nn.Module):
    """The convolutional layers of a network trained on ImageNet, frozen.

    Images are normalized by ImageNet's mean and standard deviation; each layer's features are those after its last
    ReLU. The weights are downloaded once, with a checksum, to torch's folder (`TORCH_HOME`), and are not saved in
    checkpoints. Half precision is computed in float32.

    Args:
        name: `vgg16`, `vgg19`, `alexnet` or `squeezenet` (1.1).
        weights: file of other weights, or a URL that ends in the first digits of their SHA-256, `-0123abcd.pth`; None:
            torchvision's.

    Raises:
        ValueError: if there is no such network, or if its weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise ValueError(f"network {name} is unknown: use {', '.join(NETWORKS)}")
        self.name = name
        known = NETWORKS[name]
        with torch.device("meta"):
            features: Any = known.make().features
        state = _load(name, weights or known.weights.url)
        own = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
        try:
            features.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{weights} does not hold the weights of {name}: {told(error)}") from error
        starts = (0, *known.ends)
        self.layers = nn.ModuleList(features[start:end] for start, end in zip(starts, known.ends, strict=False))
        freeze(self.layers)
        self.normalize = Normalize(mean, std)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return each layer's features `(N, C, h, w)` of images `(N, 3, H, W)` in [0, 1].

        Raises:
            ValueError: if an image is too small.
        """
        check_images(images)
        check_size(images, self.name, NETWORKS[self.name].smallest)
        features, answers = self.normalize(precise(images)), []
        for layer in self.layers:
            features = run(layer, features)
            answers.append(features)
        return answers


def freeze(network: nn.Module) -> nn.Module:
    """Turn a network's parameters and buffers into non-persistent buffers, in place; returns the network."""
    for module in network.modules():
        held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for key, value in held:
            delattr(module, key)
            module.register_buffer(key, value.detach(), persistent=False)
    return network


def run(layer: nn.Module, features: Tensor) -> Any:
    """Apply a layer, or a network, in the precision of the features."""
    buffers = {key: buffer for key, buffer in layer.named_buffers() if buffer.is_floating_point()}
    if all(buffer.dtype == features.dtype for buffer in buffers.values()):
        return layer(features)
    return functional_call(layer, {key: buffer.to(features) for key, buffer in buffers.items()}, features)


def _load(name: str, place: str) -> dict[str, Tensor]:
    """Read weights from a file or URL; torch caches downloads."""
    if "://" in place and not HASH_REGEX.search(place.rpartition("/")[2]):
        raise ValueError(f"weights {place} have no checksum in their name: it ends on -0123abcd.pth, of the SHA-256")
    try:
        state: dict[str, Tensor] = (
            torch.hub.load_state_dict_from_url(
                place, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
            if "://" in place
            else torch.load(place, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        if "://" not in place:
            reason = error.strerror or error
            raise ValueError(f"the weights of {name} cannot be read from {place}: {reason}") from error
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"the weights of {name} are not in {folder} and cannot be downloaded from {place} ({error}): connect to "
            "the internet once, put the file there, or give one with weights=FILE"
        ) from error
    except (RuntimeError, UnpicklingError) as error:
        raise ValueError(f"the weights of {name} from {place} are not what they should be: {told(error)}") from error
    return state


def told(error: Exception) -> str:
    """Return the most telling sentence of an error: torch lists mismatches below its first line."""
    first, *others = str(error).splitlines() or [type(error).__name__]
    return others[-1].strip() if others and first.endswith(":") else first.partition(". ")[0]


class NetworkFeatures(nn.Module):
    """Two images are equal when a trained network answers equally.

    Formula: the answers of some layers of `Network` in one row, scaled so that with L1 every layer weighs the same.
    `(N, 3, H, W)` gives `(N, F)`.

    Args:
        network: name, as for `Network`.
        layers: numbers of layers, from 1; None: all.
        weights: as for `Network`.

    Raises:
        ValueError: as of `Network`, or if there is no such layer.
    """

    def __init__(self, network: str, layers: Sequence[int] | None = None, weights: str | None = None) -> None:
        super().__init__()
        self.network = Network(network, weights)
        self.indices = _indices(self.network, layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features in one row, `(N, F)`."""
        answers = self.network(images)
        return in_one_row([answers[index] for index in self.indices])


def _indices(network: Network, layers: Sequence[int] | None) -> list[int]:
    count = len(network.layers)
    if layers is not None and (not layers or any(not 1 <= layer <= count for layer in layers)):
        raise ValueError(f"layers {list(layers)} of {network.name}: use numbers from 1 to {count}")
    return list(range(count)) if layers is None else [layer - 1 for layer in layers]


class NetworkLoss(nn.Module):
    """Two images are equal when a trained network's answers are, compared layer by layer.

    Formula: the sum over layers of the distance between their answers. With the mean squared error the perceptual
    loss, with `losslens.losses.distances.Gram` the style loss. 0 at equality.
    Source: Johnson, Alahi and Fei-Fei, 2016, arXiv:1603.08155; Gatys, Ecker and Bethge, 2016.

    Args:
        network: name, as for `Network`.
        distance: module of `(input, target)` features to a scalar.
        layers: as for `NetworkFeatures`.
        weights: as for `Network`.

    Raises:
        ValueError: as of `NetworkFeatures`.
    """

    def __init__(
        self,
        network: str,
        distance: nn.Module,
        layers: Sequence[int] | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.network = Network(network, weights)
        self.distance = distance
        self.indices = _indices(self.network, layers)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compare reconstructions `input` with originals `target`, both `(N, 3, H, W)` in [0, 1]; returns a scalar.

        Raises:
            ValueError: if the two differ in shape, or are too small.
        """
        check_pair(input, target, self.network.name)
        first, second = self.network(input), self.network(target)
        distances = [self.distance(first[index], second[index]) for index in self.indices]
        return torch.stack(distances).sum().to(input.dtype)
