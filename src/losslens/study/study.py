"""Study trained variants: what their codes keep, what training moved, and what they can return at all."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

from losslens.console import joined_lines
from losslens.data.datamodule import fixed_images
from losslens.data.source import Images
from losslens.files import write_json
from losslens.lens.changes import recolorings
from losslens.lens.codes import (
    Copies,
    Probe,
    Recall,
    apply,
    change_all,
    codes_of,
    mean_chroma,
    nearest,
    neighbors,
    probe_chroma,
    recall_of_recolored,
    sensitivity,
)
from losslens.lens.last_layer import Moved, moved
from losslens.lens.output_space import Wheel, between, color_wheel, principal_axes
from losslens.losses import LinearView
from losslens.losses.loss import linear_view
from losslens.pictures.grid import evenly
from losslens.study.shared import Shared, decoded
from losslens.sweep.results import STUDY_FILE, SweepResult, VariantResult
from losslens.training.fit import NUM_FIXED_IMAGES
from losslens.training.module import LitAutoencoder, draw_module
from losslens.training.random_stream import RandomStream
from losslens.training.trust import Untrusted
from losslens.variant import config_key

MAX_STUDIED = 256  # validation images
MAX_FITTED = 256  # training images, to which the probe is fitted
MAX_CHANGED = 16  # validation images to which the bank's changes are applied
MAX_KEPT = 1_500_000  # values of reconstructions kept per variant, to compare seeds
NUM_QUERIES, NUM_NEIGHBORS = 3, 5
NUM_SEARCHED = 2  # images whose recolored copies are drawn
NUM_NOISE = 2
NUM_BETWEEN = 6  # images along the line between two codes


@dataclass(frozen=True)
class Exhibits:
    """Images of one data set, float `(N, 3, H, W)` in [0, 1], that all its variants are shown.

    Args:
        fixed: the validation images of all sheets.
        recolored: copies of `val`, by recoloring.
        changed: copies of `some_val`, by change.
        noise: uniform.
    """

    val: Tensor
    train: Tensor
    fixed: Tensor
    recolored: dict[str, Tensor]
    changed: dict[str, Copies]
    noise: Tensor

    @cached_property
    def two_color_index(self) -> float:
        """Two-color index of `val`."""
        return principal_axes(self.val).two_color_index

    @property
    def some_val(self) -> Tensor:
        """Validation images to which the bank's changes are applied."""
        return self.val[evenly(len(self.val), MAX_CHANGED)]

    @property
    def kept(self) -> Tensor:
        """Validation images whose reconstructions are kept."""
        return self.val[evenly(len(self.val), max(1, MAX_KEPT // self.val[0].numel()))]

    @property
    def queries(self) -> list[int]:
        """Indices in `val` of the images whose neighbors are drawn."""
        return evenly(len(self.val), NUM_QUERIES)

    @property
    def searched(self) -> Tensor:
        """Recolored copies of some images, grouped by image."""
        places = evenly(len(self.val), NUM_SEARCHED)
        return torch.cat([torch.stack([copies[place] for copies in self.recolored.values()]) for place in places])

    @property
    def ends(self) -> Tensor:
        """Two images, as ends of a line between their codes."""
        return self.val[[0, len(self.val) // 2]]


@dataclass(frozen=True)
class CodeStudy:
    """Measurements of an encoder's codes; see `losslens.lens.codes`.

    Args:
        size: numbers in a code.
        recall: by metric, then by recoloring.
        sensitivity: by change.
        probe: of mean chroma.
    """

    size: int
    recall: dict[str, dict[str, Recall]]
    sensitivity: dict[str, float]
    probe: Probe


@dataclass(frozen=True)
class Study:
    """Measurements of one trained variant.

    Args:
        view: of the loss; None if it has no linear view.
        reconstructions: of `exhibits.kept`; not clamped.
        untrained_codes: of the encoder at initialization.
        neighbors: for each query, indices of the images with the nearest codes.
        found: for each searched copy, index of the image with the nearest code.
        moved: change of the last layer by training; None if the model does not name that layer.
        two_color_index: first principal share of the pixels of `reconstructions`, `originals` and `untrained`.
        noise: outputs for `exhibits.noise`.
        line: outputs between the codes of `exhibits.ends`.
    """

    variant: VariantResult
    view: LinearView | None
    exhibits: Exhibits
    reconstructions: Tensor
    codes: CodeStudy
    untrained_codes: CodeStudy
    neighbors: list[list[int]]
    found: list[int]
    moved: Moved | None
    two_color_index: dict[str, float]
    wheel: Wheel
    noise: Tensor
    line: Tensor


def study_sweep(sweep: SweepResult, shared: Shared, say: Callable[[str], None]) -> dict[str, Study]:
    """Study every finished variant, by name, and write the numbers to its `study.json`.

    Args:
        say: takes a line with the reason for each variant that cannot be studied.
    """
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(lambda variant: _try(variant, shared), sweep.done))
    studies = {}
    for variant, study in zip(sweep.done, found, strict=True):
        if isinstance(study, str):
            say(f"{variant.name} is not studied: {study}")
            continue
        studies[variant.name] = study
        try:
            _write(variant, study)
        except OSError as error:
            say(f"the numbers of {variant.name} cannot be kept: {error.strerror or error}")
    return studies


def gather_exhibits(images: Images) -> Exhibits:
    """Choose evenly spaced images of a data set, and make their recolored and changed copies.

    Raises:
        ValueError: if there are too few images to compare.
    """
    if min(len(images.val), len(images.train)) < 2:
        raise ValueError("it takes two images to validate on, and two to train on")
    val, train = (
        part[evenly(len(part), most)].float() / 255
        for part, most in ((images.val, MAX_STUDIED), (images.train, MAX_FITTED))
    )
    fixed = fixed_images(images, NUM_FIXED_IMAGES)
    noise = torch.rand(NUM_NOISE, *val.shape[1:], generator=torch.Generator().manual_seed(0))
    changed = change_all(val[evenly(len(val), MAX_CHANGED)])
    return Exhibits(val, train, fixed, recolorings(val), changed, noise)


def _try(variant: VariantResult, shared: Shared) -> Study | str:
    """Study a variant, or return the reason why that is impossible."""
    data = variant.config.get("data", {})
    try:
        if variant.foreign:
            raise Untrusted("its configuration", variant.foreign)
        exhibits = shared.get(config_key(data), lambda: gather_exhibits(decoded(data, shared)))
        _check_unchanged(variant, exhibits)
        return _study(variant, exhibits, shared)
    except Exception as error:  # the data may be gone, a custom model or loss not importable here
        reason = joined_lines(error)
        return reason if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {reason}"


def _study(variant: VariantResult, exhibits: Exhibits, shared: Shared) -> Study:
    config = variant.config
    with RandomStream().own_random_state():  # one at a time: all threads share torch's generator
        module, initial = variant.load().eval(), draw_module(config).eval()
    device = "cuda" if torch.cuda.is_available() and config["trainer"].get("accelerator") != "cpu" else "cpu"
    for each in (module, initial):
        each.to(device)

    def study_untrained() -> tuple[CodeStudy, float]:
        index = principal_axes(apply(_there(initial, device), exhibits.val)).two_color_index
        return study_codes(_there(initial.encode, device), exhibits, config["seed"]), index

    # Variants of one model and seed have the same initial weights, whatever their loss.
    alike = config_key(config["model"], config["seed"], config["data"])
    untrained_codes, untrained_index = shared.get(alike, study_untrained)
    encode, reconstruct = _there(module.encode, device), _there(module, device)
    gallery = codes_of(encode, exhibits.val)
    all_reconstructions = apply(reconstruct, exhibits.val)
    return Study(
        variant=variant,
        view=linear_view(module.loss),
        exhibits=exhibits,
        reconstructions=all_reconstructions[evenly(len(exhibits.val), len(exhibits.kept))],
        codes=study_codes(encode, exhibits, config["seed"]),
        untrained_codes=untrained_codes,
        neighbors=neighbors(gallery, exhibits.queries, NUM_NEIGHBORS),
        found=nearest(gallery, codes_of(encode, exhibits.searched)),
        moved=moved(module.autoencoder, initial.autoencoder, linear_view(module.loss)),
        two_color_index={
            "reconstructions": principal_axes(all_reconstructions).two_color_index,
            "originals": exhibits.two_color_index,
            "untrained": untrained_index,
        },
        wheel=color_wheel(reconstruct, (exhibits.val.shape[-2], exhibits.val.shape[-1])),
        noise=apply(reconstruct, exhibits.noise),
        line=between(encode, module.autoencoder.decode, exhibits.ends, NUM_BETWEEN),
    )


def study_codes(encode: Callable[[Tensor], Tensor], exhibits: Exhibits, seed: int) -> CodeStudy:
    """Measure what the codes of an encoder keep.

    Args:
        seed: for shuffling the probe's labels.
    """
    val, train = exhibits.val, exhibits.train
    codes = codes_of(encode, val)
    return CodeStudy(
        size=codes.shape[1],
        recall=recall_of_recolored(encode, val, exhibits.recolored),
        sensitivity=sensitivity(encode, exhibits.some_val, exhibits.changed),
        probe=probe_chroma(codes_of(encode, train), mean_chroma(train), codes, mean_chroma(val), seed),
    )


def _there(function: Callable[[Tensor], Tensor] | LitAutoencoder, device: str) -> Callable[[Tensor], Tensor]:
    return lambda images: function(images.to(device))


def _check_unchanged(variant: VariantResult, exhibits: Exhibits) -> None:
    """Check by the fixed images that the data is still what the variant was trained on.

    Raises:
        ValueError: if it is not.
    """
    originals = variant.originals
    if originals is not None and not (originals.shape == exhibits.fixed.shape and originals.equal(exhibits.fixed)):
        raise ValueError("its data has changed since: the fixed images are others")


def _write(variant: VariantResult, study: Study) -> None:
    """Write the numbers into the variant's `study.json`."""
    numbers = {
        "codes": asdict(study.codes),
        "untrained_codes": asdict(study.untrained_codes),
        "moved": asdict(study.moved) if study.moved else None,
        "two_color_index": study.two_color_index,
        "hue_kept": study.wheel.hue_kept,
    }
    write_json(variant.folder / STUDY_FILE, numbers)
