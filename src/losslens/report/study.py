"""Trained variants under the lens: what their codes keep, what training moved, and what they can return at all."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from losslens.build import build
from losslens.data.datamodule import HeldImages
from losslens.data.source import Images
from losslens.files import write_json
from losslens.lens.changes import recolorings
from losslens.lens.codes import (
    Copies,
    Probe,
    Recall,
    change_all,
    codes_of,
    mean_chroma,
    probe_chroma,
    recall_of_recolored,
    sensitivity,
)
from losslens.lens.last_layer import Moved, moved
from losslens.lens.output_space import Wheel, between, color_wheel, principal_axes
from losslens.lens.subject import linear_view
from losslens.losses import LinearView
from losslens.report.results import SweepResult, VariantResult
from losslens.training.codes import evenly
from losslens.training.fit import NUM_FIXED_IMAGES
from losslens.training.module import LitAutoencoder, draw_module
from losslens.training.random_stream import RandomStream

MAX_STUDIED = 256  # validation images
MAX_FITTED = 512  # training images, to which the probe is fitted
MAX_CHANGED = 24  # validation images that are changed in every way of the bank
NUM_NOISE = 2
NUM_BETWEEN = 6  # images along the line between two codes
AT_ONCE = 64


@dataclass(frozen=True)
class Exhibits:
    """Images of one data set, float `(N, 3, H, W)` in [0, 1], that all its variants are shown.

    Args:
        val: of validation.
        train: of training.
        fixed: those of all pictures.
        recolored: copies of `val`, by the name of the recoloring.
        changed: copies of `some_val`, by change.
        noise: uniform.
    """

    val: Tensor
    train: Tensor
    fixed: Tensor
    recolored: dict[str, Tensor]
    changed: dict[str, Copies]
    noise: Tensor

    @property
    def some_val(self) -> Tensor:
        """Those validation images that are changed in every way."""
        return self.val[evenly(len(self.val), MAX_CHANGED)]


@dataclass(frozen=True)
class CodeStudy:
    """What the codes of an encoder keep; see `losslens.lens.codes`.

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
    """What was found of one trained variant.

    Args:
        module: trained.
        view: of its loss, if that is linear.
        exhibits: what it was shown.
        reconstructions: of the validation images; not clamped.
        codes: of its encoder.
        untrained_codes: of the encoder that its seed drew.
        moved: of the last layer by training; None for a model that does not say which its last layer is.
        two_color_index: first principal share of the pixels of `reconstructions`, `originals` and `untrained`.
        wheel: a color wheel in, a color wheel out.
        noise: what it returns for noise.
        line: what it returns between the codes of two images.
    """

    module: LitAutoencoder
    view: LinearView | None
    exhibits: Exhibits
    reconstructions: Tensor
    codes: CodeStudy
    untrained_codes: CodeStudy
    moved: Moved | None
    two_color_index: dict[str, float]
    wheel: Wheel
    noise: Tensor
    line: Tensor

    def encode(self, images: Tensor) -> Tensor:
        """Encode images on the module's device."""
        return self.module.encode(images.to(self.module.device))


def study_sweep(sweep: SweepResult, say: Callable[[str], None]) -> dict[str, Study]:
    """Study every finished variant, and write the numbers to its `metrics.json` as `study`.

    Args:
        sweep: with its folders.
        say: takes a line for each variant that cannot be studied, and why.

    Returns:
        By the variant's name.
    """
    shared = _Shared()
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = pool.map(lambda variant: _try(variant, shared), sweep.done)
    studies = {}
    for variant, study in zip(sweep.done, found, strict=True):
        if isinstance(study, Study):
            studies[variant.name] = study
            _write(variant, study)
        else:
            say(f"{variant.name} is not studied: {study}")
    return studies


class _Shared:
    """What variants have in common: images of one data set, untrained encoders of one seed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[str, Any] = {}

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what was made of that name, or make it; whoever asks meanwhile waits."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]


def _try(variant: VariantResult, shared: _Shared) -> Study | str:
    """Study a variant, or say why that cannot be done."""
    config = variant.config
    try:
        exhibits = shared.get(
            repr(config["data"]), lambda: gather_exhibits(build(config["data"]).decode(), config["seed"])
        )
        _check_unchanged(variant, exhibits)
        return _study(variant, exhibits, shared)
    except Exception as error:  # data that is gone, a model or loss of the user's own that is not importable here
        reason = " ".join(str(error).split())
        return reason if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {reason}"


def gather_exhibits(images: Images, seed: int) -> Exhibits:
    """Choose what variants are shown of their data set, evenly spaced, and recolor it."""
    val, train = (
        part[evenly(len(part), most)].float() / 255
        for part, most in ((images.val, MAX_STUDIED), (images.train, MAX_FITTED))
    )
    fixed = HeldImages(images, batch_size=1, flip=False).fixed_images(NUM_FIXED_IMAGES)
    noise = torch.rand(NUM_NOISE, *val.shape[1:], generator=torch.Generator().manual_seed(seed))
    changed = change_all(val[evenly(len(val), MAX_CHANGED)])
    return Exhibits(val, train, fixed, recolorings(val), changed, noise)


def _study(variant: VariantResult, exhibits: Exhibits, shared: _Shared) -> Study:
    module = variant.load().eval()
    with RandomStream().turn():  # nobody else's random numbers change
        initial = draw_module(variant.config).eval()
    for each in (module, initial):
        each.to("cuda" if torch.cuda.is_available() else "cpu")
    seed = variant.config["seed"]

    def study_untrained() -> tuple[CodeStudy, float]:
        index = principal_axes(_apply(initial, exhibits.val)).two_color_index
        return study_codes(_on_its_device(initial.encode, initial), exhibits, seed), index

    # Variants of one model and seed start alike, whatever their loss.
    alike = repr([variant.config[part] for part in ("model", "seed", "data")])
    untrained_codes, untrained_index = shared.get(alike, study_untrained)
    reconstructions = _apply(module, exhibits.val)
    return Study(
        module=module,
        view=linear_view(module.loss),
        exhibits=exhibits,
        reconstructions=reconstructions,
        codes=study_codes(_on_its_device(module.encode, module), exhibits, seed),
        untrained_codes=untrained_codes,
        moved=moved(module.autoencoder, initial.autoencoder),
        two_color_index={
            "reconstructions": principal_axes(reconstructions).two_color_index,
            "originals": principal_axes(exhibits.val).two_color_index,
            "untrained": untrained_index,
        },
        wheel=color_wheel(_on_its_device(module, module), _size(exhibits.val)),
        noise=_apply(module, exhibits.noise),
        line=between(_on_its_device(module.encode, module), module.autoencoder.decode, ends(exhibits.val), NUM_BETWEEN),
    )


def study_codes(encode: Callable[[Tensor], Tensor], exhibits: Exhibits, seed: int) -> CodeStudy:
    """Find out what the codes of an encoder keep.

    Args:
        encode: from images to codes.
        exhibits: images.
        seed: of the shuffling of labels.
    """
    val, train = exhibits.val, exhibits.train
    codes = codes_of(encode, val)
    return CodeStudy(
        size=codes.shape[1],
        recall=recall_of_recolored(encode, val, exhibits.recolored),
        sensitivity=sensitivity(encode, exhibits.some_val, exhibits.changed),
        probe=probe_chroma(codes_of(encode, train), mean_chroma(train), codes, mean_chroma(val), seed),
    )


def ends(images: Tensor) -> Tensor:
    """Choose the two images between whose codes a line is drawn."""
    return images[[0, len(images) // 2]]


def _apply(module: nn.Module, images: Tensor) -> Tensor:
    function = _on_its_device(module, module)
    with torch.no_grad():
        return torch.cat([function(batch).float().cpu() for batch in images.split(AT_ONCE)])


def _on_its_device(function: Callable[[Tensor], Tensor], module: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: function(images.to(module.device))


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _check_unchanged(variant: VariantResult, exhibits: Exhibits) -> None:
    """Check that the data is what the variant was trained on, as far as its pictures show.

    Raises:
        ValueError: if it is not.
    """
    originals = variant.originals
    if originals is not None and not (originals.shape == exhibits.fixed.shape and originals.equal(exhibits.fixed)):
        raise ValueError("its data has changed since: the fixed images are others")


def _write(variant: VariantResult, study: Study) -> None:
    """Add the numbers to the variant's `metrics.json`."""
    numbers = {
        "codes": asdict(study.codes),
        "untrained_codes": asdict(study.untrained_codes),
        "moved": asdict(study.moved) if study.moved else None,
        "two_color_index": study.two_color_index,
        "hue_kept": study.wheel.hue_kept,
    }
    variant.results["study"] = numbers
    write_json(variant.folder / "metrics.json", variant.results)
