"""Measures of what codes keep: neighbors, recall of originals from changed copies, sensitivity, color.

Codes are compared standardized: every dimension has mean 0 and standard deviation 1 over the gallery, so that none
counts more for its scale; constant dimensions are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from losslens.lens.changes import RMS, change_bank
from losslens.losses import LinearView
from losslens.losses.color import CB_601, CR_601

Encode = Callable[[Tensor], Tensor]

AT_ONCE = 16  # images; more do not fit into a core's cache
METRICS = ("euclidean", "cosine")
DIGITS = 9  # kept of scores; later ones depend on the threads
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 7))  # ridge penalties to choose from


@dataclass(frozen=True)
class Recall:
    """How well the codes of changed copies find their originals in a gallery.

    Args:
        at_1: share of the copies whose nearest code is that of their original.
        at_5: share of those whose original is among the nearest five.
        median_rank: of the originals; 1 is the best. Originals at an equal distance share their mean rank.
        count: of originals; by chance, `at_1` is 1 / count.
    """

    at_1: float
    at_5: float
    median_rank: float
    count: int


@dataclass(frozen=True)
class Probe:
    """How well a ridge regression reads the mean chroma of images from their codes: R^2 on held-out images.

    Args:
        r2: mean over Cb and Cr; at most 1; predicting the mean gives 0.
        shuffled: the same with chroma shuffled before fitting: chance level.
    """

    r2: float
    shuffled: float


def apply(function: Encode, images: Tensor) -> Tensor:
    """Apply a function to images `(N, ...)` in batches; returns float32 on the CPU."""
    with torch.no_grad():
        return torch.cat([function(batch).float().cpu() for batch in images.split(AT_ONCE)])


def codes_of(encode: Encode, images: Tensor) -> Tensor:
    """Encode float images `(N, 3, H, W)` in batches; returns float32 codes `(N, D)`, flat."""
    return apply(lambda batch: encode(batch).flatten(1), images)


def standardize(gallery: Tensor, *others: Tensor) -> list[Tensor]:
    """Standardize codes `(N, D)` by the mean and standard deviation of the gallery; returns all, that one first."""
    mean, deviation = gallery.mean(0), gallery.std(0, correction=0)
    varies = deviation > 1e-6 * deviation.max().clamp(min=1e-30)
    return [((codes - mean) / deviation)[:, varies] for codes in (gallery, *others)]


def neighbors(gallery: Tensor, queries: list[int], count: int, metric: str = "euclidean") -> list[list[int]]:
    """Find the nearest neighbors of some codes in their gallery.

    Args:
        gallery: codes `(N, D)`.
        queries: places in the gallery.
        count: neighbors per query, without itself; fewer if the gallery is smaller.
        metric: "euclidean" or "cosine", of standardized codes.

    Returns:
        For each query the places of its neighbors, the nearest first.
    """
    from sklearn.neighbors import NearestNeighbors

    (codes,) = (each.numpy() for each in standardize(gallery))
    if codes.shape[1] == 0:  # all are equal
        return [[place for place in range(len(codes)) if place != query][:count] for query in queries]
    search = NearestNeighbors(n_neighbors=min(count + 1, len(codes)), metric=metric).fit(codes)
    found = search.kneighbors(codes[queries], return_distance=False)
    return [[int(place) for place in row if place != query][:count] for query, row in zip(queries, found, strict=True)]


def nearest(gallery: Tensor, queries: Tensor) -> list[int]:
    """Return for each query `(M, D)` the place of the nearest code in a gallery `(N, D)`, by standardized codes."""
    from sklearn.neighbors import NearestNeighbors

    codes, asked = (each.numpy() for each in standardize(gallery, queries))
    if codes.shape[1] == 0:  # all are equal
        return [0] * len(asked)
    found = NearestNeighbors(n_neighbors=1).fit(codes).kneighbors(asked, return_distance=False)
    return [int(place) for (place,) in found]


def recall(gallery: Tensor, copies: Tensor, metric: str = "euclidean") -> Recall:
    """Search for every original by the code of its changed copy.

    Args:
        gallery: codes `(N, D)` of the originals.
        copies: codes of their changed copies, in the same order.
        metric: "euclidean" or "cosine", of codes standardized by the gallery.
    """
    from sklearn.metrics import pairwise_distances

    originals, queries = (each.double().numpy() for each in standardize(gallery, copies))
    if originals.shape[1] == 0:  # codes that are all equal find nothing
        distances = np.zeros((len(queries), len(originals)))
    else:
        distances = pairwise_distances(queries, originals, metric=metric)
    own = distances.diagonal()[:, None]
    ranks = 1 + (distances < own).sum(1) + ((distances == own).sum(1) - 1) / 2
    return Recall(
        at_1=float((ranks <= 1).mean()),
        at_5=float((ranks <= 5).mean()),
        median_rank=float(np.median(ranks)),
        count=len(originals),
    )


@dataclass(frozen=True)
class Copies:
    """Copies of some images after one change of the bank.

    Args:
        places: of the images that the change applies to.
        images: the copies, float `(M, 3, H, W)`.
        scales: wanted over actual size of each change, `(M,)`.
    """

    places: list[int]
    images: Tensor
    scales: Tensor


def change_all(images: Tensor, rms: float = RMS) -> dict[str, Copies]:
    """Change images `(N, 3, H, W)` in every way of the bank (`change_bank`), each by the same RMS over RGB."""
    banks = [change_bank(image[None], rms) for image in images]
    copies = {}
    for name in dict.fromkeys(name for bank, _ in banks for name in bank):
        rows = [(place, bank[name], rms / size) for place, (bank, size) in enumerate(banks) if name in bank]
        places, changed, scales = zip(*rows, strict=True)
        copies[name] = Copies(list(places), torch.cat(changed), torch.tensor(scales))
    return copies


def sensitivity(encode: Encode, images: Tensor, copies: Mapping[str, Copies] | None = None) -> dict[str, float]:
    """Measure how far changes of one size move a code, relative to how far apart two images are.

    Args:
        images: float `(N, 3, H, W)` in [0, 1], at least two.
        copies: of these images; None: `change_all(images)`. Distances of smaller changes are scaled up by `scales`.

    Returns:
        By change: the median over images of the distance between the codes of an image and its changed copy, over
        the median distance between the codes of two different images; standardized codes, Euclidean.
    """
    copies = change_all(images) if copies is None else copies
    gallery = codes_of(encode, images)
    moved = torch.cat([codes_of(encode, each.images) for each in copies.values()])
    own, moved = standardize(gallery, moved)
    apart = torch.nn.functional.pdist(own).median().clamp(min=1e-30)
    parts = moved.split([len(each.places) for each in copies.values()])
    return {
        name: float(((part - own[each.places]).norm(dim=1) * each.scales / apart).median())
        for (name, each), part in zip(copies.items(), parts, strict=True)
    }


def mean_chroma(images: Tensor) -> Tensor:
    """Return the mean Cb and Cr (Rec. 601) of float images `(N, 3, H, W)`, as `(N, 2)`."""
    chroma: Tensor = LinearView([CB_601, CR_601])(images.mean((2, 3), keepdim=True))
    return chroma[:, :, 0, 0].cpu()


def probe_chroma(codes: Tensor, chroma: Tensor, held_out_codes: Tensor, held_out_chroma: Tensor, seed: int) -> Probe:
    """Fit a ridge regression from codes to mean chroma, and score it on held-out images.

    Args:
        codes: `(N, D)` to fit on; the penalty is chosen on them by leave-one-out.
        chroma: `(N, 2)` of the same images.
        held_out_codes: `(M, D)`.
        held_out_chroma: `(M, 2)`.
    """
    from sklearn.linear_model import RidgeCV

    fit, held_out = (each.double().numpy() for each in standardize(codes, held_out_codes))
    if fit.shape[1] == 0:
        return Probe(0.0, 0.0)
    order = torch.randperm(len(chroma), generator=torch.Generator().manual_seed(seed))
    scores = [
        float(RidgeCV(ALPHAS).fit(fit, labels.double().numpy()).score(held_out, held_out_chroma.double().numpy()))
        for labels in (chroma, chroma[order])
    ]
    return Probe(*(round(score, DIGITS) for score in scores))


def recall_of_recolored(
    encode: Encode, images: Tensor, recolored: Mapping[str, Tensor]
) -> dict[str, dict[str, Recall]]:
    """Search for every image by the code of its recolored copies.

    Args:
        images: float `(N, 3, H, W)` in [0, 1].
        recolored: copies of all, by the name of the recoloring.

    Returns:
        By metric ("euclidean", "cosine"), then by recoloring.
    """
    gallery = codes_of(encode, images)
    copies = {name: codes_of(encode, changed) for name, changed in recolored.items()}
    return {metric: {name: recall(gallery, codes, metric) for name, codes in copies.items()} for metric in METRICS}
