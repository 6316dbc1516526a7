"""Results of a sweep, read from its folder: tables, configurations, curves, trained variants."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from losslens.files import unique, write_json
from losslens.sweep.baseline import Baseline, read_baselines, read_reasons
from losslens.sweep.ledger import read_status
from losslens.sweep.stored import (
    ENVIRONMENT,
    METRICS,
    STUDY,
    SWEEP,
    Damaged,
    Shape,
    check_links,
    check_name,
    inside,
    read_object,
    read_settings_file,
    read_table,
)
from losslens.variant import PICTURES, Variant, VariantConfig, config_key

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from losslens.training.module import LitAutoencoder

SEEDS = ("seed", "order_seed")  # in which the variants of a row differ
DECISIVE = ("model", "loss", "optimizer", "schedule", "trainer", "data", "callbacks")  # parts that determine training
SWEEP_FILE = "sweep.json"
ENVIRONMENT_FILE = "environment.json"
DATA_PATHS = ("root", "path")  # settings of data
CHECKPOINT = Path("checkpoints") / "last.ckpt"
FACTS = ("steps", "epochs", "seconds", "num_parameters", "compression_ratio")
STUDY_FILE = "study.json"
CONFIG_FILE = "config.yaml"
MADE_PARTS = ("model", "loss", "optimizer", "schedule", "data")  # of a configuration, which a report makes
CODE, COLOR = "code", "color"


@dataclass(frozen=True)
class VariantResult:
    """Results of one variant, read from its folder; those that are not there yet are empty.

    Args:
        name: unique within the sweep.
        values: main choices, by name: loss, model, data, seed, and whatever differs within the sweep.
        own_loss: its loss's name among those of the sweep.
        trusted: whether code of other packages than losslens, torch and torchmetrics may run that it names.
        unreadable: why it is not to be read at all; empty if it is.
    """

    name: str
    folder: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    own_loss: str = ""
    trusted: bool = False
    unreadable: str = ""

    @cached_property
    def damage(self) -> str:
        """Which of its files is not as it was written; empty if none is. All others of this variant count as empty."""
        if self.unreadable:
            return self.unreadable
        try:
            _ = self._status, self._results, self._study, self._environment, self._curves
        except Damaged as error:
            return str(error)
        return ""

    @cached_property
    def status(self) -> dict[str, Any]:
        """`status` (pending, running, interrupted, done, failed, damaged) and `reason`."""
        return {"status": "damaged", "reason": self.damage} if self.damage else self._status

    @cached_property
    def foreign(self) -> list[str]:
        """What its configuration names that is not made without trust: classes, functions and interpolations."""
        if self.trusted:
            return []
        from losslens.training.trust import foreign  # imports torch, which tables do not need

        return foreign([self.config.get(part) for part in MADE_PARTS])

    @property
    def done(self) -> bool:
        """Whether it trained to the end."""
        return bool(self.status["status"] == "done" and self.results)

    @property
    def config(self) -> VariantConfig:
        """Resolved configuration; empty if there is none, or if it is damaged."""
        return cast(VariantConfig, {}) if self.damage or self.config_damage else self._config

    @cached_property
    def config_damage(self) -> str:
        """How its configuration is not as it was written; empty if it is, or if there is none. Takes time to read."""
        try:
            _ = self._config
        except Damaged as error:
            return str(error)
        return ""

    @property
    def environment(self) -> dict[str, Any]:
        """Command, machine and versions."""
        return {} if self.damage else self._environment

    @property
    def results(self) -> dict[str, Any]:
        """All of `metrics.json`."""
        return {} if self.damage else self._results

    @property
    def study(self) -> dict[str, Any]:
        """Numbers of its study, `study.json`; empty if there was none."""
        return {} if self.damage else self._study

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last validation: of the whole training if it is done. Those that are not finite are absent."""
        if self.results:
            return {name: value for name, value in self.results["metrics"].items() if value is not None}
        last = self.curves[-1] if self.curves else {}
        return {name.removeprefix("val/"): value for name, value in last.items() if name.startswith("val/")}

    @property
    def curves(self) -> list[dict[str, float]]:
        """Rows of `metrics.csv`, one for each validation."""
        return [] if self.damage else self._curves

    @property
    def facts(self) -> dict[str, Any]:
        """Steps, time, throughput, size; steps alone while it trains. Seconds are those of its whole array."""
        facts = {name: self.results.get(name) for name in FACTS}
        if not self.results:
            facts["steps"] = int(self.curves[-1]["step"]) if self.curves else 0
        seconds = facts["seconds"]
        return {**facts, "steps_per_second": round(facts["steps"] / seconds, 3) if seconds else None}

    @cached_property
    def originals(self) -> "Tensor | None":
        """The fixed images, float `(N, 3, H, W)` in [0, 1]; None if training has not begun."""
        steps = self.picture_steps
        return self._grid(steps[0])[0] if steps else None

    @cached_property
    def picture_steps(self) -> list[int]:
        """Steps whose reconstructions of the fixed images are stored."""
        stems = [] if self.damage else [path.stem for path in (self.folder / PICTURES).glob("[0-9]*.png")]
        return sorted(int(stem) for stem in stems if stem.isdecimal() and stem == _stem(int(stem)))

    def reconstructions(self, step: int) -> "Tensor":
        """Read the reconstructions of the fixed images after so many steps, float `(N, 3, H, W)` in [0, 1]."""
        return self._grid(step)[1]

    def load(self) -> "LitAutoencoder":
        """Load the trained variant, from its last checkpoint.

        Raises:
            FileNotFoundError: if there is none.
            Untrusted: if it names classes of other packages, and is not trusted.
        """
        from losslens.training.module import load_module

        path = self.folder / CHECKPOINT
        if not path.exists():
            raise FileNotFoundError(f"{self.name} has no checkpoint yet: its status is {self.status['status']}")
        return load_module(path, trust=self.trusted)

    def _grid(self, step: int) -> "tuple[Tensor, Tensor]":
        from losslens.pictures.grid import read_grid  # imports torch, which tables do not need

        if step not in self._grids:
            self._grids[step] = read_grid(self.folder / PICTURES / f"{_stem(step)}.png")
        return self._grids[step]

    @cached_property
    def _grids(self) -> "dict[int, tuple[Tensor, Tensor]]":
        """Grids read so far: each is shown several times."""
        return {}

    @cached_property
    def _status(self) -> dict[str, Any]:
        return read_status(self.folder)

    @cached_property
    def _config(self) -> VariantConfig:
        return read_config(self.folder) if (self.folder / CONFIG_FILE).exists() else cast(VariantConfig, {})

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return self._json(ENVIRONMENT_FILE, ENVIRONMENT)

    @cached_property
    def _results(self) -> dict[str, Any]:
        return self._json("metrics.json", METRICS)

    @property
    def _study(self) -> dict[str, Any]:  # not kept: a report writes it
        return self._json(STUDY_FILE, STUDY) or self._results.get("study", {})  # the place of it before version 0.2

    @cached_property
    def _curves(self) -> list[dict[str, float]]:
        path = self.folder / "metrics.csv"
        return read_table(path) if path.exists() else []

    def _json(self, name: str, shape: Shape) -> dict[str, Any]:
        path = self.folder / name
        return read_object(path, shape) if path.exists() else {}


@dataclass(frozen=True)
class SweepResult:
    """Results of a sweep.

    Args:
        variants: by name, in their order.
        losses: names of the losses that all variants are measured with.
        varied: names of the values that differ between the variants.
    """

    folder: Path
    variants: dict[str, VariantResult] = field(repr=False)
    losses: list[str]
    varied: list[str]

    @property
    def done(self) -> list[VariantResult]:
        """The variants that trained to the end."""
        return [variant for variant in self.variants.values() if variant.done]

    @cached_property
    def baselines(self) -> list[Baseline]:
        """Results without training, as far as they were measured."""
        try:
            return read_baselines(self.folder)
        except Damaged:  # as `left_out` says
            return []

    @property
    def left_out(self) -> list[str]:
        """Why other baselines were not measured."""
        try:
            return read_reasons(self.folder)
        except Damaged as error:
            return [f"no baselines: {error}"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per variant: name, varied values, metrics (`val/...`), losses (`loss/...`), study, facts, status."""
        metrics = dict.fromkeys(name for variant in self.variants.values() for name in variant.metrics)
        studied = [study_columns(variant.study) for variant in self.variants.values()]
        names = dict.fromkeys(name for columns in studied for name in columns)
        return [
            {"variant": variant.name}
            | {name: variant.values.get(name) for name in self.varied}
            | {f"val/{name}": variant.metrics.get(name) for name in metrics}
            | {f"loss/{name}": variant.results.get("losses", {}).get(name) for name in self.losses}
            | {name: columns.get(name) for name in names}
            | variant.facts
            | {"folder": os.path.relpath(variant.folder, self.folder), **variant.status}
            for variant, columns in zip(self.variants.values(), studied, strict=True)
        ]

    @property
    def table(self) -> "pandas.DataFrame":
        """The rows as a table, indexed by the variants' names."""
        import pandas  # slow to import, and not needed for training

        return pandas.DataFrame(self.rows).set_index("variant")

    def __getitem__(self, name: str) -> VariantResult:
        """Return the variant of that name.

        Raises:
            KeyError: if there is none.
        """
        if name not in self.variants:
            raise KeyError(f"no variant {name}: there are {', '.join(self.variants)}")
        return self.variants[name]


class VariantsFailed(ValueError):
    """Some variants failed; all others are done.

    Args:
        results: of all variants of the command, in their order.
    """

    def __init__(self, message: str, results: "Sequence[VariantResult]") -> None:
        super().__init__(message)
        self.results = list(results)


def read_config(folder: Path) -> VariantConfig:
    """Read the resolved configuration of a variant; a relative path of data is that of the directory it began in.

    Raises:
        Damaged: if its file is not as it was written.
    """
    config = cast(VariantConfig, read_settings_file(folder / CONFIG_FILE))
    data = config.get("data") or {}
    relative = {key: data[key] for key in DATA_PATHS if isinstance(data.get(key), str) and data[key][:1] not in "~/"}
    if not relative or not (folder / ENVIRONMENT_FILE).is_file():
        return config
    began_in = read_object(folder / ENVIRONMENT_FILE, ENVIRONMENT).get("directory")
    if began_in is None or Path(began_in) == Path.cwd():
        return config
    found = {key: str(place) for key, path in relative.items() if (place := Path(began_in, path)).exists()}
    return cast(VariantConfig, {**config, "data": {**data, **found}})


def _stem(step: int) -> str:
    return f"{step:08d}"  # as training names its pictures


def write_sweep_file(folder: Path, variants: Sequence[Variant], losses: Mapping[str, Any]) -> None:
    """Write `sweep.json`, the table of contents of a sweep's folder, before anything trains.

    Entries of other variants, whose folders are lost, stay.

    Args:
        variants: with folders inside `folder`.
        losses: configurations of all losses, by name.
    """
    entries = [
        {
            "name": variant.name,
            "folder": os.path.relpath(variant.folder, folder),
            "values": dict(variant.values),
            "threads": variant.threads,
            "own_loss": next(name for name, config in losses.items() if config == variant.config["loss"]),
        }
        for variant in variants
    ]
    before = read_sweep_file(folder)["variants"] if (folder / SWEEP_FILE).exists() else []
    entries += [entry for entry in before if entry["name"] not in {variant.name for variant in variants}]
    names = dict.fromkeys([*losses, *(entry["own_loss"] for entry in entries)])
    keys = dict.fromkeys(key for variant in variants for key in variant.values)
    varied = [key for key in keys if len({repr(variant.values.get(key)) for variant in variants}) > 1]
    write_json(folder / SWEEP_FILE, {"variants": entries, "losses": list(names), "varied": varied or ["loss"]})


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """Read `sweep.json`.

    Raises:
        Damaged: if it is not as it was written, or names a folder or a variant that is not within the sweep's folder.
    """
    file = folder / SWEEP_FILE
    try:
        contents = read_object(file, SWEEP)
        for entry in contents["variants"]:
            check_name(entry["name"], file)
    except Damaged as error:
        raise Damaged(file, error.reason, "bring back a copy, or begin a new sweep") from error
    for entry in contents["variants"]:
        inside(folder, entry["folder"], file)
    check_links(folder, "", "arrays", "baselines")
    return contents


def load_sweep(path: Path | str, *, trust: bool = False) -> SweepResult:
    """Read the results of a sweep or a single run from its folder, also while it runs or if variants failed.

    Args:
        trust: whether variants may be loaded that name classes of packages other than losslens, torch and torchmetrics.

    Raises:
        ValueError: if that is not the folder of a sweep.
    """
    folder = Path(path)
    if not (folder / SWEEP_FILE).is_file():
        raise ValueError(f"{folder} has no {SWEEP_FILE}: give the folder of a sweep, such as outputs/sweeps/DATE-TIME")
    contents = read_sweep_file(folder)
    variants = {
        entry["name"]: VariantResult(entry["name"], folder / entry["folder"], entry["values"], entry["own_loss"], trust)
        for entry in contents["variants"]
    }
    return SweepResult(folder, variants, contents["losses"], contents["varied"])


def join_sweeps(sweeps: Mapping[str, SweepResult], folder: Path) -> SweepResult:
    """Join several sweeps into one, to compare them in a folder of its own.

    Args:
        sweeps: by the prefix of their variants' names. Losses of one name are taken for the same.
        folder: for the comparison.

    Raises:
        ValueError: if a loss's name means different things in two of them.
    """
    meanings: dict[str, tuple[str, Any]] = {}
    for name, sweep in sweeps.items():
        for variant in sweep.variants.values():
            if not variant.config:
                continue
            other, meaning = meanings.setdefault(variant.own_loss, (name, variant.config["loss"]))
            if meaning != variant.config["loss"]:
                raise ValueError(
                    f"loss {variant.own_loss} of {name} is another one than that of {other}: "
                    "they cannot be set beside each other; give each sweep alone"
                )
    joined = [
        replace(variant, name=f"{name}/{variant.name}", values={"sweep": name, **variant.values})
        for name, sweep in sweeps.items()
        for variant in sweep.variants.values()
    ]
    losses = dict.fromkeys(loss for sweep in sweeps.values() for loss in sweep.losses)
    varied = dict.fromkeys(["sweep", *(key for sweep in sweeps.values() for key in sweep.varied)])
    return SweepResult(folder, {variant.name: variant for variant in joined}, list(losses), list(varied))


def distinct_losses(variants: Sequence[Variant]) -> dict[str, Mapping[str, Any]]:
    """List the configurations of the losses of a sweep, each once, by unique names."""
    configs: list[Mapping[str, Any]] = []
    names = []
    for variant in variants:
        if variant.config["loss"] not in configs:
            configs.append(variant.config["loss"])
            names.append(str(variant.values["loss"]))
    return dict(zip(unique(names), configs, strict=True))


def names_without_seeds(sweep: SweepResult) -> dict[str, str]:
    """Return for each finished variant a name shared with those that differ from it only in seeds.

    Variants of several commands may differ in settings that are not among their values: these keep their own names.
    """
    keys = [key for key in sweep.varied if key not in SEEDS] or ["loss"]
    common, kinds = {}, defaultdict(set)
    for variant in sweep.done:
        name = variant.name
        values = {key: variant.values.get(key) for key in keys}
        common[name] = ",".join(f"{key}={value}" for key, value in values.items() if value is not None) or name
        kinds[common[name]].add(config_key(*(variant.config.get(part) for part in DECISIVE)))
    return {name: shared if len(kinds[shared]) == 1 else name for name, shared in common.items()}


def study_columns(study: Mapping[str, Any]) -> dict[str, float]:
    """Return the main numbers of a study, given as in `study.json`; empty if there is none.

    Returns:
        `code/recall_at_1/...`, `code/recall_at_5/...` and `code/median_rank/...` by recoloring (Euclidean);
        `code/sensitivity/...` by change; `code/chroma_r2`; `color/two_color_index`; `color/hue_kept`.
    """
    if not study:
        return {}
    codes = study["codes"]
    recalls = codes["recall"]["euclidean"]
    return {
        **{
            f"{CODE}/{column}/{name}": recall[number]
            for column, number in (
                ("recall_at_1", "at_1"),
                ("recall_at_5", "at_5"),
                ("median_rank", "median_rank"),
            )
            for name, recall in recalls.items()
        },
        **{f"{CODE}/sensitivity/{change}": value for change, value in codes["sensitivity"].items()},
        f"{CODE}/chroma_r2": codes["probe"]["r2"],
        f"{COLOR}/two_color_index": study["two_color_index"]["reconstructions"],
        f"{COLOR}/hue_kept": study["hue_kept"],
    }
