"""What every setting of `conf/` may be: one table, with one form of message."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = ("losslens.", "torch.", "lightning.")  # beginnings of `_target_`; other classes know their own settings
LONGEST = 80  # characters of a value in a message


@dataclass(frozen=True)
class Allowed:
    """The values that a setting may have.

    Args:
        fits: whether a value is one of them.
        use: says what they are, after the word "use".
    """

    fits: Callable[[Any], bool]
    use: str

    def __or__(self, other: "Allowed") -> "Allowed":
        return Allowed(lambda value: self.fits(value) or other.fits(value), f"{self.use}, or {other.use}")


def written(value: object) -> str:
    """Write a value as on the command line, shortened."""
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    text = text or (str(value) if value != "" else "empty")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def word(*words: Any) -> Allowed:
    """Allow some values alone."""
    allowed = [(type(each), each) for each in words]
    *most, last = (written(each) for each in words)
    text = f"{', '.join(most)} or {last}" if most else last
    return Allowed(lambda value: (type(value), value) in allowed, text)


def whole(least: int, most: int = 10**12) -> Allowed:
    """Allow whole numbers within bounds."""
    text = f"a whole number of {least} or more" + ("" if most == 10**12 else f", up to {most}")
    return Allowed(lambda value: type(value) is int and least <= value <= most, text)


def number(fits: Callable[[float], bool], text: str) -> Allowed:
    """Allow finite numbers with a property."""
    return Allowed(lambda value: type(value) in (int, float) and math.isfinite(value) and fits(value), text)


def list_of(each: Allowed, text: str) -> Allowed:
    """Allow lists that are not empty."""
    return Allowed(lambda value: isinstance(value, list) and bool(value) and all(map(each.fits, value)), text)


NULL, AUTO, FLAG = word(None), word("auto"), word(True, False)
COUNT, PIXELS, SEED = whole(1), whole(1, 10**5), whole(0, 2**63 - 1)
TEXT = Allowed(lambda value: isinstance(value, str) and bool(value.strip()), "a text")
NAME = Allowed(lambda value: bool(str(value).strip()) and type(value) in (str, int, float), "a name")
ABOVE_0 = number(lambda value: value > 0, "a number above 0")
FROM_0 = number(lambda value: value >= 0, "a number of 0 or more")
INSIDE = number(lambda value: 0 < value < 1, "a number between 0 and 1")
BELOW_1 = number(lambda value: 0 <= value < 1, "a number from 0 to below 1")
SHARE = number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
PART = number(lambda value: isinstance(value, float) and 0 < value <= 1, "a share such as 0.5")
SETTINGS = Allowed(lambda value: isinstance(value, Mapping), "settings such as {name:value}")
OBJECT = Allowed(
    lambda value: isinstance(value, Mapping) and isinstance(value.get("_target_"), str),
    "a class, as its _target_",
)
PATHS = TEXT | list_of(TEXT, "a list of these")
PRECISIONS = word("auto", "32-true", "bf16-mixed", "bf16-true", "64-true", "16-true", "16-mixed", 16, 32, 64, "bf16")
LETTERS = Allowed(
    lambda value: isinstance(value, str) and set(value) - set("lab") == set() != set(value), "some of l, a and b"
)
LAYERS = NULL | list_of(COUNT, "a list of numbers from 1")

# By the key, or by the class that `_target_` names and the key in it.
TABLE: dict[str, Allowed] = {
    # conf/train.yaml
    "seed": SEED,
    "order_seed": SEED,
    "callbacks": NULL | SETTINGS,
    "array.max_variants": AUTO | COUNT,
    "array.threads": AUTO | COUNT,
    "array.compile": FLAG,
    "checkpoint": SETTINGS,
    "array": SETTINGS,
    "report": FLAG,
    "sweep": NULL | NAME,
    "resume": NULL | NAME,
    "retry_failed": FLAG,
    "fail_fast": FLAG,
    "plan": FLAG,
    "optimize": NULL | TEXT,
    "searched": Allowed(lambda value: isinstance(value, list), "a list of keys"),
    # conf/data
    "data.image_size": PIXELS,
    "data.train_size": whole(1, 10**9),
    "data.val_size": whole(1, 10**9),
    "data.val_fraction": INSIDE,
    "data.batch_size": whole(1, 10**9),
    "data.flip": FLAG,
    "data.resident": AUTO | FLAG,
    "data.seed": SEED,
    "data.crops": whole(1, 10**4),
    "data.on_error": word("skip", "raise"),
    "data.max_pixels": whole(1, 2 * 89_478_485),
    "data.max_value": AUTO | ABOVE_0,
    "data.train_split": word("train", "unlabeled"),
    "data.root": NULL | TEXT,
    "Folder.root": TEXT,
    "data.path": TEXT,
    # conf/model
    "model.stride": whole(1, 1024),
    "model.code_channels": whole(1, 10**5),
    "model.width": whole(1, 10**5),
    "model.depth": whole(0, 1000),
    "model.patch": whole(1, 1024),
    "model.activation": OBJECT,
    "LeakyReLU.negative_slope": FROM_0,
    # conf/optimizer, conf/schedule
    "optimizer.lr": FROM_0,
    "optimizer.momentum": BELOW_1,
    "optimizer.fused": NULL | FLAG,
    "schedule.factor": number(lambda value: 0 < value <= 1, "a number above 0, up to 1"),
    "schedule.max_lr": ABOVE_0,
    "schedule.pct_start": SHARE,
    "schedule.cycle_momentum": FLAG,
    # conf/trainer
    "trainer.accelerator": word("auto", "cpu", "gpu", "cuda"),
    "trainer.devices": AUTO | COUNT | list_of(whole(0), "a list of one number, such as [2]"),
    "trainer.precision": PRECISIONS,
    "trainer.max_epochs": NULL | COUNT | word(-1),
    "trainer.max_steps": COUNT | word(-1),
    "trainer.val_check_interval": NULL | COUNT | PART,
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.limit_train_batches": NULL | COUNT | PART,
    "trainer.limit_val_batches": NULL | COUNT | PART,
    "trainer.gradient_clip_val": NULL | FROM_0,
    "trainer.deterministic": NULL | FLAG | word("warn"),
    "trainer.log_every_n_steps": COUNT,
    "trainer.callbacks": NULL | Allowed(lambda value: isinstance(value, list), "a list of settings with _target_"),
    # conf/loss
    "loss.seed": SEED,
    "loss.sigma": number(lambda value: 0 < value <= 1000, "a number of pixels above 0, up to 1000"),
    "loss.size": PIXELS,
    "loss.levels": whole(1, 30),
    "loss.q": INSIDE,
    "loss.epsilon": ABOVE_0,
    "loss.delta": ABOVE_0,
    "loss.directions": whole(1, 10**6),
    "loss.standard": word(601, 709),
    "loss.part": word("amplitude", "phase"),
    "loss.missing": word("l", "m"),
    "loss.uncertainty": FLAG,
    "loss.widths": list_of(whole(1, 10**4), "a list of whole numbers of 1 or more"),
    "loss.layers": LAYERS,
    "loss.network": TEXT,
    "Chroma.parts": list_of(word("cb", "cr"), "[cb], [cr] or [cb,cr]"),
    "Lab.parts": LETTERS,
    "Mix.weights": SETTINGS,
    **{f"{name}.weights": NULL | TEXT for name in ("NetworkFeatures", "NetworkLoss", "TimmFeatures", "ClipEmbedding")},
    # conf/lens.yaml
    "against": NULL | NAME,
    "image": NULL | TEXT,
    "size": PIXELS,
    "rms": INSIDE,
    "steps": COUNT,
    "tolerance": ABOVE_0,
    "principal": FLAG,
    "tensorboard": FLAG,
    # conf/reconstruct.yaml, conf/export.yaml
    "variant": PATHS,
    "images": PATHS,
    "codes": FLAG,
    "trust": FLAG,
    "format": word("onnx", "torch_export", "safetensors"),
    # conf/hydra/launcher, hydra/sweeper=optuna
    "hydra.launcher.executor": NULL | TEXT,
    "hydra.launcher.processes": AUTO | whole(1, 10**4),
    "hydra.launcher.address": NULL | TEXT,
    "hydra.launcher.cpus": ABOVE_0,
    "hydra.launcher.gpus": AUTO | FROM_0,
    "hydra.launcher.retries": whole(0),
    "hydra.launcher.max_jobs": COUNT,
    **{f"hydra.launcher.{key}": NULL | NAME for key in ("partition", "account", "qos", "constraint", "mem")},
    "hydra.launcher.time": NULL | COUNT,
    "hydra.launcher.gpus_per_node": NULL | NAME,
    "hydra.launcher.cpus_per_task": NULL | COUNT,
    "hydra.launcher.signal_delay_s": NULL | whole(0),
    "hydra.launcher.setup": NULL | list_of(TEXT, "a list of lines"),
    "hydra.launcher.additional_parameters": NULL | SETTINGS,
    "hydra.sweeper.n_trials": COUNT,
    "hydra.sweeper.batch": COUNT,
    "hydra.sweeper.seed": SEED,
    "hydra.sweeper.sampler": OBJECT,
    "hydra.sweeper.pruner": NULL | OBJECT,
}


def check_settings(config: Mapping[str, Any], parts: Sequence[str] = ()) -> None:
    """Check resolved settings.

    Args:
        config: nested, as in the files of `conf/`; keys that are not in the table are left to what they are for.
        parts: of the configuration, each of which must be a class with its settings.

    Raises:
        ValueError: for the first one whose value is not allowed.
    """
    for part in parts:
        _check(part, config.get(part), Allowed(OBJECT.fits, f"a choice of conf/{part}, or {OBJECT.use}"))
    for path, key, value, made in _settings(config):
        allowed = TABLE.get(f"{made}.{key.rpartition('.')[2]}") or TABLE.get(key)
        if allowed is not None:
            _check(path, value, allowed)
    trainer = config.get("trainer")
    if isinstance(trainer, Mapping) and trainer.get("max_epochs", 1) in (None, -1) and trainer.get("max_steps") == -1:
        _check("trainer.max_steps", -1, Allowed(lambda _: False, f"{COUNT.use}, or trainer.max_epochs"))


def _check(path: str, value: object, allowed: Allowed) -> None:
    if not allowed.fits(value):
        raise ValueError(f"{path} is {written(value)}: use {allowed.use}")


def _settings(config: Mapping[str, Any], path: str = "", made: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """List settings: where they are, their key in the table, the value, and the class that they are for.

    In a loss, whose parts are nested in many ways, keys are those of the table whatever part they are in.
    """
    target = config.get("_target_")
    if isinstance(target, str):
        if not target.startswith(OURS):
            return
        made = target.rpartition(".")[2]
    for name, value in config.items():
        place = f"{path}.{name}" if path else str(name)
        key = f"loss.{name}" if place.startswith("loss.") else place
        yield place, key, value, made
        if isinstance(value, Mapping):
            yield from _settings(value, place, made)
