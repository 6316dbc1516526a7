"""Pretrained networks of timm and open_clip as views. Needs the extra `backbones`; not imported with the package."""

import hashlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from losslens.losses.networks import Normalize, freeze, run, told
from losslens.losses.views import check_images, in_one_row, precise

SHA256_DIGITS = 64  # hexadecimal; the Hub names a large file by its SHA-256


class _Frozen(nn.Module):
    """A network in evaluation mode whose weights are neither trained nor saved."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], size: int | None) -> None:
        super().__init__()
        self.network = freeze(network).eval()
        self.size = size
        self.normalize = Normalize(mean, std)

    def forward(self, images: Tensor) -> Any:
        """Return the network's output for images `(N, 3, H, W)` in [0, 1]."""
        check_images(images)
        images = precise(images)
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        return run(self.network, self.normalize(images))

    def train(self, mode: bool = True) -> "_Frozen":
        """Stay in evaluation mode."""
        return super().train(False)


class TimmFeatures(nn.Module):
    """Two images are equal when a trained network of timm answers equally.

    Formula: images minus the network's mean over its standard deviation; those of networks that take one size only,
    such as transformers, are resized to it before (bicubic, antialiased); what some of its stages answer in one row,
    scaled so that with L1 every stage weighs the same. `(N, 3, H, W)` gives `(N, F)`. Half precision is computed in
    float32. The weights are downloaded once, with a checksum, to where the Hugging Face Hub keeps them (`HF_HOME`).
    Source: https://github.com/huggingface/pytorch-image-models.

    Args:
        network: one of `timm.list_pretrained()`.
        layers: numbers of stages, from 1, as timm counts them (`features_only`); None: timm's default.
        weights: file of other weights of the whole network; None: timm's.

    Raises:
        ValueError: if timm is not installed, knows no such network or stage, or if the weights cannot be had.
    """

    def __init__(self, network: str, layers: Sequence[int] | None = None, weights: str | None = None) -> None:
        super().__init__()
        timm = _import("timm")
        try:
            config = timm.get_pretrained_cfg(network)
        except RuntimeError:
            config = None
        if config is None:
            raise ValueError(f"timm has no trained network {network}: timm.list_pretrained() says which it has")
        if layers is not None and (not layers or min(layers) < 1):  # timm counts negative ones from the last stage
            raise ValueError(f"layers {list(layers)} of {network}: use numbers from 1")
        file = weights or _from_hub(network, config.hf_hub_id, [config.hf_hub_filename or "model.safetensors"])
        stages = {} if layers is None else {"out_indices": [layer - 1 for layer in layers]}
        load = partial(timm.create_model, network, pretrained=True, pretrained_cfg_overlay={"file": file})
        try:
            load()  # whole: for features alone timm ignores missing weights
            made = load(features_only=True, **stages)
        except (AssertionError, IndexError) as error:
            raise ValueError(f"layers {list(layers or ())} of {network}: it has no such stages") from error
        except Exception as error:
            raise ValueError(f"{network} of timm cannot be made of {file}: {told(error)}") from error
        size = config.input_size[-1] if config.fixed_input_size else None
        self.network = _Frozen(made, config.mean, config.std, size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features in one row, `(N, F)`."""
        return in_one_row(self.network(images))


class ClipEmbedding(nn.Module):
    """Two images are equal when CLIP would give them the same captions.

    Formula: images resized to the network's size (bicubic, antialiased), minus its mean over its standard deviation;
    their embedding. `(N, 3, H, W)` gives `(N, D)`. Half precision is computed in float32. Nearly blind to what captions
    do not tell. The weights are downloaded once, with a checksum, to where the Hugging Face Hub keeps them (`HF_HOME`).
    Source: Radford et al., 2021, arXiv:2103.00020; https://github.com/mlfoundations/open_clip.

    Args:
        network: one of `open_clip.list_models()`.
        weights: a name of `open_clip.list_pretrained_tags_by_model(network)`, or a file.

    Raises:
        ValueError: if open_clip is not installed, knows no such network or weights, or if these cannot be had.
    """

    def __init__(self, network: str, weights: str) -> None:
        super().__init__()
        open_clip = _import("open_clip")
        if network not in open_clip.list_models():
            raise ValueError(f"open_clip has no network {network}: open_clip.list_models() says which it has")
        known = open_clip.get_pretrained_cfg(network, weights)
        if not known and not Path(weights).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(network)) or "none"
            raise ValueError(f"weights {weights} of {network} are no file, and none of open_clip's: {tags}")
        file = weights
        if known:
            repository, _, name = known["hf_hub"].rpartition("/")
            names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
            file = _from_hub(network, repository, names)
        try:
            made = open_clip.create_model(network, pretrained=file, force_quick_gelu=known.get("quick_gelu", False))
        except Exception as error:
            raise ValueError(f"{network} of open_clip cannot be made of {file}: {told(error)}") from error
        size = made.visual.image_size
        mean, std = (known.get(name) or getattr(made.visual, f"image_{name}") for name in ("mean", "std"))
        self.network = _Frozen(made.visual, mean, std, size[0] if isinstance(size, tuple) else size)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding `(N, D)`."""
        answer = self.network(images)
        embedding: Tensor = answer[0] if isinstance(answer, tuple) else answer  # CoCa returns tokens, too
        return embedding


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"this view needs {name}: pip install 'losslens[backbones]'") from error


def _from_hub(network: str, repository: str | None, names: Sequence[str]) -> str:
    """Return the path of a file of the Hugging Face Hub, downloaded once; the name of a large file is its checksum."""
    hub, errors, constants = (_import(f"huggingface_hub{part}") for part in ("", ".errors", ".constants"))
    if not repository:
        raise ValueError(f"{network} has no weights on the Hugging Face Hub: give a file, loss.view.weights=FILE")
    cached = (hub.try_to_load_from_cache(repository, name) for name in names)
    path = next((each for each in cached if isinstance(each, str)), None)
    for name in names if path is None else ():
        try:
            with _quiet("huggingface_hub"):
                path = hub.hf_hub_download(repository, name)
            break
        except (errors.HfHubHTTPError, OSError) as error:
            missing = isinstance(error, errors.RemoteEntryNotFoundError)
            if missing and name != names[-1]:
                continue
            raise ValueError(
                f"the weights of {network} are not in {constants.HF_HUB_CACHE} and cannot be downloaded from "
                f"{repository} of the Hugging Face Hub: connect to the internet once, or give a file, "
                "loss.view.weights=FILE"
            ) from error
    assert path is not None
    digest = Path(path).resolve().name
    if len(digest) == SHA256_DIGITS:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ValueError(f"the weights of {network} in {path} are damaged: remove them, to download them again")
    return path


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Suppress a library's warnings, such as those of retried downloads: the final error says more."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
