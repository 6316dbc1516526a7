"""Pictures of what trained variants keep, and of what they can return."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from losslens.lens.chance import spread_maps
from losslens.lens.codes import codes_of, nearest, neighbors
from losslens.lens.last_layer import swap_unseen
from losslens.lens.output_space import draw_wheel
from losslens.report.sheet import MIN_SIDE, ROWS_ON_A_PAGE, sheet
from losslens.report.study import NUM_BETWEEN, Exhibits, Study, ends
from losslens.training.codes import evenly

if TYPE_CHECKING:
    from losslens.training.module import LitAutoencoder

NUM_QUERIES = 3
NUM_NEIGHBORS = 5
NUM_SEED_COLUMNS = 6
MAP_GAIN = 2.0  # of maps of standard deviations: 0.5 is white


def neighbor_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw some images and the five nearest by pixels, then by every variant's codes; all of one data set."""
    exhibits = next(iter(studies.values())).exhibits
    queries = evenly(len(exhibits.val), NUM_QUERIES)
    rows = {"nearest by pixels": _row(exhibits, queries, exhibits.val.flatten(1))}
    for name, study in _first(studies).items():
        rows[name] = _row(exhibits, queries, codes_of(study.encode, exhibits.val))
    first, *rest = rows
    return sheet(rows[first], {name: rows[name] for name in rest}, caption=first)


def _row(exhibits: Exhibits, queries: list[int], codes: Tensor) -> Tensor:
    """Set each query before its neighbors, with white between."""
    white = torch.ones(1, *exhibits.val.shape[1:])
    parts = []
    for query, found in zip(queries, neighbors(codes, queries, NUM_NEIGHBORS), strict=True):
        parts += [exhibits.val[[query, *found]], white]
    return torch.cat(parts[:-1])


def recall_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw recolored copies of two images, and below them what each variant's codes take for their original."""
    exhibits = next(iter(studies.values())).exhibits
    queries = evenly(len(exhibits.val), 2)
    shown = torch.cat([torch.stack([each[query] for each in exhibits.recolored.values()]) for query in queries])
    rows = {}
    for name, study in _first(studies).items():
        gallery = codes_of(study.encode, exhibits.val)
        found = nearest(gallery, codes_of(study.encode, shown))
        rows[name] = exhibits.val[found]
    return sheet(shown, rows, caption="search for")


def output_picture(studies: Mapping[str, Study]) -> Image.Image:
    """Draw what each variant returns for a color wheel, for noise, and between the codes of two images."""
    exhibits = next(iter(studies.values())).exhibits
    scale = max(1, -(-MIN_SIDE // exhibits.val.shape[-2]))
    shares = torch.linspace(0, 1, NUM_BETWEEN).view(-1, 1, 1, 1)
    first, last = ends(exhibits.val)[:, None]

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
    """Draw reconstructions of variants of one loss, seed by seed, and maps of where they differ: seen and free part."""
    some = next(iter(studies.values()))
    places = evenly(len(some.exhibits.val), NUM_SEED_COLUMNS)
    rows = {name: study.reconstructions[places] for name, study in _first(studies).items()}
    outputs = torch.stack([study.reconstructions[places] for study in studies.values()])
    if some.view is not None:
        for name, axes in (
            ("seen part differs", some.view.seen_axes()),
            ("free part differs", some.view.unseen_axes()),
        ):
            if len(axes):
                rows[name] = (MAP_GAIN * spread_maps(outputs, axes)).expand(-1, 3, -1, -1)
    return sheet(some.exhibits.val[places], rows)


@dataclass(frozen=True)
class Swap:
    """Two seeds of one loss that exchanged what the loss does not see of the last layer.

    Args:
        picture: originals, both, and both after the exchange.
        losses: on the validation images shown to all: both, and both after.
    """

    picture: Image.Image
    losses: dict[str, float]


def swap(studies: Mapping[str, Study]) -> Swap | None:
    """Exchange the unseen part of the last layers of the first two variants; None where there is no such part."""
    (first_name, first), (second_name, second) = list(studies.items())[:2]
    view, exhibits = first.view, first.exhibits
    if view is None or first.moved is None or second.moved is None or not len(view.unseen_axes()):
        return None
    swapped = {}
    for name, own, other in ((first_name, first, second), (second_name, second, first)):
        module = copy.deepcopy(own.module)
        swap_unseen(module.autoencoder, other.module.autoencoder, view)
        swapped[f"{name}, swapped"] = module
    modules: dict[str, LitAutoencoder] = {first_name: first.module, second_name: second.module, **swapped}
    places = evenly(len(exhibits.val), NUM_SEED_COLUMNS)
    rows, losses = {}, {}
    with torch.no_grad():
        for name, module in modules.items():
            images = exhibits.val.to(module.device)
            outputs = module(images)
            losses[name] = float(module.loss(outputs, images))
            rows[name] = outputs[places].cpu()
    return Swap(sheet(exhibits.val[places], rows), losses)


def _first(studies: Mapping[str, Study]) -> dict[str, Study]:
    return dict(list(studies.items())[:ROWS_ON_A_PAGE])
