"""Read the command line of a Hydra program: values, paths, losses, folders."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf

from losslens.files import claim
from losslens.variant import folder_name, safe_name

LOSS_KEYS = ("loss", "loss._target_", "loss/view", "loss/distance")  # together they choose the loss
FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # whose resolvers make folders
LISTS = ("variant", "images")  # may be lists of paths
VARYING = (*LISTS, "image", "data.root", "data.path")  # below -m, commas separate
GROUPS = ("model", "loss", "loss/view", "loss/distance", "data", "optimizer", "trainer")  # each has a choice
QUEUE = ("address", "partition", "account", "qos", "constraint", "mem")
TEXTS = (*VARYING, *FOLDER_KEYS, "resume", "sweep", *(f"hydra.launcher.{key}" for key in QUEUE))  # taken as they are
_STRING = r"""('([^'\\]|\\.)*'|"([^"\\]|\\.)*")"""
QUOTED = re.compile(rf"\[?\s*{_STRING}(\s*,\s*{_STRING})*\s*\]?", re.DOTALL)


def register_resolvers() -> None:
    """Register the resolvers of configurations: for folders, names and the limit of steps.

    `${claim:PATH}` is a new folder, `${own_folder:RESUMED,PATH}` one that is resumed or else a new one,
    `${sweep_folder:NAME,PATH}` that of a name or else a new one; `${variant_name:}` and `${lens_name:}` are names.
    `${steps_unless:EPOCHS,STEPS}` is the most steps: STEPS, or where epochs are given -1, no limit.
    """
    OmegaConf.register_new_resolver("steps_unless", lambda epochs, steps: steps if epochs is None else -1, replace=True)
    OmegaConf.register_new_resolver("claim", _once(lambda path: str(claim(Path(path)))), replace=True)
    OmegaConf.register_new_resolver("own_folder", _once(_own_folder), replace=True)
    OmegaConf.register_new_resolver("sweep_folder", _once(_sweep_folder), replace=True)
    OmegaConf.register_new_resolver("variant_name", _variant_name, replace=True)
    OmegaConf.register_new_resolver("lens_name", _lens_name, replace=True)


def _once(make: Callable[..., str]) -> Callable[..., str]:
    """Let a resolver make a folder once for each configuration, and only for the settings that name such folders."""

    def resolve(*arguments: Any, _node_: Node, _root_: DictConfig) -> str:
        key = _node_._get_full_key(None)
        if key not in FOLDER_KEYS:
            name = "a setting" if key.startswith("hydra.") else key
            raise ValueError(f"{name} would make a folder: only {' and '.join(FOLDER_KEYS[:2])} may")
        made = OmegaConf.get_cache(_root_)["folders"]
        if arguments not in made:
            made[arguments] = make(*arguments)
        return str(made[arguments])

    return resolve


def _own_folder(resumed: str | None, path: str) -> str:
    if resumed is None:
        return str(claim(Path(path)))
    if not Path(resumed).is_dir():  # Hydra would make it
        raise ValueError(f"{resumed} is no folder: give that of a sweep or of a run with resume=FOLDER")
    return str(resumed)


def _sweep_folder(name: str | None, path: str) -> str:
    return str(claim(Path(path))) if name is None else str(Path(path).parent / safe_name(str(name)))


def _variant_name() -> str:
    return folder_name({"loss": _given_values()["loss"]})


def _lens_name() -> str:
    values = _given_values()
    names = ("losses" if "losses" in values else "loss", "against")
    return folder_name({key: values[key].strip("[]") for key in names if key in values})


def _given_values() -> dict[str, str]:
    """Read the job's values as they were given: what interpolations stand for may need the folder that this names."""
    hydra = HydraConfig.get()
    given = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(given, list)
    return job_values(given, hydra.runtime.choices)


def read_command_line() -> None:
    """Register the resolvers, and quote what Hydra would not take as it was typed."""
    register_resolvers()
    sys.argv[1:] = quote_texts(sys.argv[1:])


def quote_texts(arguments: Sequence[str]) -> list[str]:
    """Quote texts on a command line, such as paths, which may have commas, brackets and quotes that Hydra would parse.

    Of the keys in `TEXTS`, values are taken as they were typed, but for those in quotes, `null` and interpolations.
    Below -m, commas separate several values unless the whole is an existing path. Of all other keys, values are quoted
    that Hydra cannot parse. `schedule=null` leaves a group out, as Hydra's `~schedule` does.

    Raises:
        ValueError: if a group that each variant needs is left out.
    """
    for each in arguments:
        if each.removesuffix("=null") in GROUPS and each.endswith("=null"):
            group = each.removesuffix("=null")
            raise ValueError(f"{group} is null: use a choice of conf/{group}")
    arguments = ["~schedule" if each == "schedule=null" else each for each in arguments if each != "experiment=null"]
    multirun = any(each in ("-m", "--multirun") for each in arguments)
    return [_quote_value(each, multirun) for each in arguments]


def _quote_value(argument: str, multirun: bool) -> str:
    key, equals, value = argument.partition("=")
    if key.startswith("-") or not equals:
        return argument
    parsed = _parse(argument)
    if key.lstrip("+") in TEXTS:
        is_read = parsed is not None and not parsed.is_sweep_override() and parsed.value() == value
        return argument if is_read else f"{key}={_quote_text(key.lstrip('+'), value, multirun)}"
    quoted = f"{key}={_quote(value)}"
    is_path = set(value) & set(",[{") and _exists(value)
    return quoted if (parsed is None or is_path) and _parse(quoted) is not None else argument


def _quote_text(key: str, value: str, multirun: bool) -> str:
    if _exists(value):
        return _quote(value)
    if value.lower() == "null" or "${" in value or QUOTED.fullmatch(value):
        return value
    if key in LISTS and value.startswith("[") and value.endswith("]"):
        return f"[{_quote_each(value[1:-1])}]"
    if not multirun or key not in VARYING:
        return _quote(value)
    parsed = _parse(f"{key}={value}")
    if parsed is not None and parsed.is_sweep_override():
        sweep = parsed.value()
        if not (isinstance(sweep, ChoiceSweep) and sweep.simple_form):  # a function, such as glob(*)
            return value
    return _quote_each(value)


def _quote_each(paths: str) -> str:
    return ",".join(each if QUOTED.fullmatch(each) else _quote(each) for each in _split_paths(paths))


def _quote(text: str) -> str:
    """Quote a text for Hydra, which takes backslashes literally, except before a quote and at the end."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"


def _parse(argument: str) -> Override | None:
    """Parse an override; None if Hydra cannot."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _exists(path: str) -> bool:
    try:
        return bool(path.strip()) and Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a long text, an unknown user's home
        return False


def _split_paths(text: str) -> list[str]:
    """Split at commas, except those inside an existing path or in quotes."""
    paths: list[str] = []
    pieces = text.split(",")
    while pieces:
        wholes = {n: ",".join(pieces[:n]).strip() for n in range(len(pieces), 0, -1)}
        length = next((n for n, whole in wholes.items() if _exists(whole) or QUOTED.fullmatch(whole)), 1)
        paths.append(",".join(pieces[:length]).strip())
        pieces = pieces[length:]
    return paths


def path_list(value: object) -> list[str]:
    """Read a configured path, or list of paths."""
    return [str(each) for each in value] if isinstance(value, ListConfig) else [str(value)]


def compose_losses(config: DictConfig) -> dict[str, DictConfig]:
    """Compose the losses that `loss`, `losses` and `against` name; returns configurations by name.

    Raises:
        ValueError: if `loss` and `losses` are both given, or `losses` is no list of names.
    """
    hydra = HydraConfig.get()
    found: dict[str, DictConfig] = {}
    if config.losses is None:
        found[job_values(hydra.overrides.task, hydra.runtime.choices)["loss"]] = config.loss
    else:
        given = [each for each in hydra.overrides.task if each.startswith("loss=")]
        if given:
            raise ValueError(f"{given[0]} and losses= are both given: use one of them")
        if not isinstance(config.losses, ListConfig) or not config.losses:
            raise ValueError(f"losses {config.losses} is no list of names: try 'losses=[l1,luma]'")
        found |= {str(name): _compose_loss(str(name)) for name in config.losses}
    if config.against is not None and config.against not in found:
        found[str(config.against)] = _compose_loss(str(config.against))
    return found


def _compose_loss(name: str) -> DictConfig:
    """Compose a choice of the group `loss`, as `loss=NAME` does."""
    paths = [each for each in HydraConfig.get().overrides.hydra if each.startswith("hydra.searchpath=")]
    loss = compose("lens", [f"loss={name}", *paths]).loss
    assert isinstance(loss, DictConfig)
    return loss


def job_values(overrides: Sequence[str], choices: Mapping[str, Any]) -> dict[str, str]:
    """Read a job's values from its overrides; the keys that choose the loss become one readable `loss`.

    Args:
        overrides: of the task, for instance `["loss=luma", "seed=1"]`.
        choices: Hydra's `runtime.choices`.
    """
    pairs = (override.lstrip("+").partition("=") for override in overrides if not override.startswith("~"))
    given = {key: _unquoted(value) for key, _, value in pairs}
    _, target, *halves = (given.pop(key, None) for key in LOSS_KEYS)
    if target:
        loss = target.rpartition(".")[2]
    elif any(halves):
        loss = f"{choices['loss/view']}-{choices['loss/distance']}"
    else:
        loss = str(choices["loss"])
    return {"loss": loss, **{value_name(key): value for key, value in given.items()}}


def _unquoted(value: str) -> str:
    """Return what a value means if it is one quoted text, else as it is."""
    override = _parse(f"key={value}") if value.startswith(("'", '"')) else None
    text = None if override is None else override.value()
    return text if isinstance(text, str) else value


def value_name(key: str) -> str:
    """Return the name under which `job_values` keeps the value of an override."""
    key = key.lstrip("+")
    return "loss" if key in LOSS_KEYS else key.removeprefix("loss.")
