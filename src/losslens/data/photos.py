"""Square crops of the color photographs that ship inside scikit-image and scikit-learn: nothing is downloaded."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from losslens.data.crops import cut_crops, shares
from losslens.data.source import Images, Source

# By package and path. Free to use: NASA (astronaut, rocket, hubble_deep_field), CC0 (chelsea, coffee, retina), free of
# known restrictions (ihc), CC BY 2.0 (china.jpg by danielbuechele, flower.jpg by vultilion, both on Flickr).
PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)


@dataclass(kw_only=True)
class Photos(Source):
    """Crops of nine photographs; training and validation crops come from disjoint regions of each photograph.

    A strip across each photograph, at a place that `seed` picks, is for validation and the rest for training. Regions
    are resized on their own, so that no pixel of one enters the other; crops of both are cut at the same scales.

    Args:
        image_size: side of the crops in pixels.
        train_size: number of training crops, over all photographs.
        val_size: number of validation crops, over all photographs.
        val_fraction: share of each photograph that is for validation, at most 1/2.
    """

    image_size: int
    train_size: int
    val_size: int
    val_fraction: float

    def decode(self) -> Images:
        """Cut all crops, photograph by photograph."""
        if not 0 < self.val_fraction <= 0.5:
            raise ValueError(
                f"val_fraction {self.val_fraction} is not above 0 and up to 0.5: try data.val_fraction=0.2"
            )
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size} is not 1 or more: try data.image_size=128")
        if min(self.train_size, self.val_size) < len(PHOTOGRAPHS):
            raise ValueError(
                f"train_size {self.train_size} and val_size {self.val_size} must be at least {len(PHOTOGRAPHS)}, "
                "one crop from every photograph"
            )
        with ThreadPoolExecutor() as pool:
            train, val = zip(*pool.map(self._cut, range(len(PHOTOGRAPHS))), strict=True)
        return Images(train=torch.cat(train), val=torch.cat(val))

    def _cut(self, index: int) -> tuple[Tensor, Tensor]:
        """Cut one photograph's training and validation crops; `train_size` does not change the latter."""
        rng = np.random.default_rng([self.seed, index])
        train_regions, val_region = _regions(_open(PHOTOGRAPHS[index]), self.val_fraction, rng)
        largest = min(side for region in (*train_regions, val_region) for side in region.size)
        num_train, num_val = (shares(size, len(PHOTOGRAPHS))[index] for size in (self.train_size, self.val_size))
        spans = min(self.image_size, largest), largest
        val = cut_crops(val_region, self.image_size, spans, num_val, rng)
        counts = shares(num_train, len(train_regions))
        train = [
            cut_crops(region, self.image_size, spans, count, rng)
            for region, count in zip(train_regions, counts, strict=True)
        ]
        return torch.from_numpy(np.concatenate(train)), torch.from_numpy(val)


def _open(photograph: tuple[str, str]) -> Image.Image:
    package, path = photograph
    spec = find_spec(package)  # the package itself is not imported: that takes a second
    if spec is None or spec.origin is None:
        raise ValueError(f"package {package}, whose photographs are the default data, is missing: pip install losslens")
    return Image.open(Path(spec.origin).parent / path).convert("RGB")


def _regions(
    photograph: Image.Image, val_fraction: float, rng: np.random.Generator
) -> tuple[list[Image.Image], Image.Image]:
    """Cut a photograph across its longer axis into one or two training regions and a strip for validation.

    The strip stands in one of the places that leave either nothing or a region as wide as itself on each side; inner
    places are preferred, since the subject of a photograph is rarely at its edge.
    """
    length = max(photograph.size)
    strip = round(length * val_fraction)
    places = range(length // strip)
    start = strip * int(rng.choice(places[1:-1] or places))
    cuts = [0, start, start + strip, length]
    if photograph.width == length:
        boxes = [(begin, 0, end, photograph.height) for begin, end in pairwise(cuts)]
    else:
        boxes = [(0, begin, photograph.width, end) for begin, end in pairwise(cuts)]
    before, val, after = (photograph.crop(box) for box in boxes)
    return [region for region in (before, after) if min(region.size) >= strip // 2], val
