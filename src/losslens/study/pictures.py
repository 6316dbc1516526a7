"""Pictures of what trained variants keep and of what they can return; at most 20 variants each."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from losslens.lens.chance import spread_maps
from losslens.lens.codes import neighbors
from losslens.lens.last_layer import swap_unseen
from losslens.lens.output_space import draw_wheel
from losslens.pictures.grid import evenly
from losslens.pictures.sheet import MIN_SIDE, ROWS_ON_A_PAGE, sheet
from losslens.study.study import NUM_BETWEEN, NUM_NEIGHBORS, Exhibits, Study
from losslens.training.random_stream import RandomStream

NUM_SEED_COLUMNS = 6
MAP_GAIN = 2.0  # a standard deviation of 0.5 is drawn white


def neighbor_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw images and their five nearest by pixels, then by each variant's codes; all of one data set."""
    exhibits = _exhibits(studies)
    by_pixels = neighbors(exhibits.val.flatten(1), exhibits.queries, NUM_NEIGHBORS)
    rows = {name: _row(exhibits, study.neighbors) for name, study in _first(studies).items()}
    return sheet(_row(exhibits, by_pixels), rows, caption="nearest by pixels")


def _row(exhibits: Exhibits, found: list[list[int]]) -> Tensor:
    """Concatenate each query and its neighbors, separated by white images."""
    white = torch.ones(1, *exhibits.val.shape[1:])
    parts = []
    for query, places in zip(exhibits.queries, found, strict=True):
        parts += [exhibits.val[[query, *places]], white]
    return torch.cat(parts[:-1])


def recall_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw recolored copies of two images, above the images whose codes are nearest, for each variant."""
    exhibits = _exhibits(studies)
    rows = {name: exhibits.val[study.found] for name, study in _first(studies).items()}
    return sheet(exhibits.searched, rows, caption="search for")


def output_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw each variant's outputs for a color wheel, for noise, and between the codes of two images."""
    exhibits = _exhibits(studies)
    scale = max(1, -(-MIN_SIDE // exhibits.val.shape[-2]))
    shares = torch.linspace(0, 1, NUM_BETWEEN).view(-1, 1, 1, 1)
    first, last = exhibits.ends[:, None]

    def row(wheel: Tensor, noise: Tensor, line: Tensor) -> Tensor:
        images = torch.cat([noise, line]).clamp(0, 1)
        images = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        drawn = torch.ones_like(images[:1])
        side = min(images.shape[-2:])
        drawn[0, :, :side, :side] = draw_wheel(wheel, side)
        return torch.cat([drawn, images])

    given = row(next(iter(studies.values())).wheel.given, exhibits.noise, (1 - shares) * first + shares * last)
    return sheet(
        given,
        {name: row(each.wheel.returned, each.noise, each.line) for name, each in _first(studies).items()},
        caption="given",
    )


def seed_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw reconstructions of one loss, seed by seed, and maps of where they differ in the seen and the free part."""
    kept, view = _exhibits(studies).kept, next(iter(studies.values())).view
    places = evenly(len(kept), NUM_SEED_COLUMNS)
    rows = {name: study.reconstructions[places] for name, study in _first(studies).items()}
    outputs = torch.stack([study.reconstructions[places] for study in studies.values()])
    parts = [] if view is None else [("seen differs", view.seen_axes()), ("free differs", view.unseen_axes())]
    for name, axes in parts:
        if len(axes):
            rows[name] = (MAP_GAIN * spread_maps(outputs, axes)).expand(-1, 3, -1, -1)
    return sheet(kept[places], rows)


@dataclass(frozen=True)
class Swap:
    """Two seeds of one loss before and after they exchange the unseen part of their last layers.

    Args:
        picture: originals, both before, both after.
        losses: mean over the kept images, by name: both before, both after.
    """

    picture: Image.Image
    losses: dict[str, float]


def swap(studies: Mapping[str, Study]) -> Swap | None:
    """Exchange the unseen part of the last layers of the first two variants; None where there is no such part."""
    pair = dict(list(studies.items())[:2])
    kept, view = _exhibits(studies).kept, next(iter(studies.values())).view
    if view is None or not len(view.unseen_axes()) or any(study.moved is None for study in pair.values()):
        return None
    with RandomStream().own_random_state():  # constructors draw weights, which the saved ones then replace
        own, other = ([study.variant.load().eval() for study in pair.values()] for _ in range(2))
    for module, donor in zip(other, reversed(own), strict=True):
        swap_unseen(module.autoencoder, donor.autoencoder, view)
    modules = dict(zip([*pair, *(f"{name}, swapped" for name in pair)], [*own, *other], strict=True))
    places = evenly(len(kept), NUM_SEED_COLUMNS)
    rows, losses = {}, {}
    with torch.no_grad():
        for name, module in modules.items():
            outputs = module(kept)
            losses[name] = float(module.loss(outputs, kept))
            rows[name] = outputs[places]
    return Swap(sheet(kept[places], rows), losses)


def _exhibits(studies: Mapping[str, Study]) -> Exhibits:
    return next(iter(studies.values())).exhibits


def _first(studies: Mapping[str, Study]) -> dict[str, Study]:
    return dict(list(studies.items())[:ROWS_ON_A_PAGE])
