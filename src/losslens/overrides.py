"""Read the command line of a Hydra program: values, paths, losses, folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from losslens.files import claim
from losslens.variant import folder_name, safe_name

LOSS_KEYS = ("loss", "loss._target_", "loss/view", "loss/distance")  # together they choose the loss


def register_resolvers() -> None:
    """Register the resolvers of configurations: for folders, names and the limit of steps.

    `${claim:PATH}` is a new folder, `${own_folder:RESUMED,PATH}` one that is resumed or else a new one,
    `${sweep_folder:NAME,PATH}` that of a name or else a new one; `${variant_name:}` and `${lens_name:}` are names.
    `${steps_unless:EPOCHS,STEPS}` is the most steps: STEPS, or where epochs are given -1, no limit.
    """
    OmegaConf.register_new_resolver("steps_unless", lambda epochs, steps: steps if epochs is None else -1, replace=True)
    OmegaConf.register_new_resolver("claim", lambda path: str(claim(Path(path))), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("own_folder", _own_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_folder", _sweep_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("variant_name", _variant_name, replace=True)
    OmegaConf.register_new_resolver("lens_name", _lens_name, replace=True)


def _own_folder(resumed: str | None, path: str) -> str:
    if resumed is None:
        return str(claim(Path(path)))
    if not Path(resumed).is_dir():  # Hydra would make it
        raise ValueError(f"{resumed} is no folder: give that of a sweep or of a run with resume=FOLDER")
    return str(resumed)


def _sweep_folder(name: str | None, path: str) -> str:
    return str(claim(Path(path))) if name is None else str(Path(path).parent / safe_name(str(name)))


def _variant_name() -> str:
    hydra = HydraConfig.get()
    return folder_name({"loss": job_values(hydra.overrides.task, hydra.runtime.choices)["loss"]})


def _lens_name() -> str:
    hydra = HydraConfig.get()
    values = job_values(hydra.overrides.task, hydra.runtime.choices)
    names = ("losses" if "losses" in values else "loss", "against")
    return folder_name({key: values[key].strip("[]") for key in names if key in values})


def quote_paths(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Quote the paths on a command line: names of variants have `=` and commas, which Hydra would parse.

    Args:
        keys: whose values are paths, or lists of paths in brackets. Values quoted already stay as they are.
    """
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in keys and equals and value and not value.strip("[").startswith(('"', "'")):
            listed = value.startswith("[") and value.endswith("]")
            paths = [_quote(path) for path in (_split_paths(value[1:-1]) if listed else [value])]
            argument = f"{key}=[{','.join(paths)}]" if listed else f"{key}={paths[0]}"
        quoted.append(argument)
    return quoted


def _quote(path: str) -> str:
    path = path.strip().replace("'", "\\'")
    ending = len(path) - len(path.rstrip("\\"))  # Hydra takes backslashes literally, except before a quote
    return f"'{path}{ending * chr(92)}'"


def _split_paths(text: str) -> list[str]:
    """Split at commas, except those inside an existing path."""
    paths: list[str] = []
    pieces = text.split(",")
    while pieces:
        lengths = range(len(pieces), 0, -1)
        length = next((n for n in lengths if Path(",".join(pieces[:n]).strip()).expanduser().exists()), 1)
        paths.append(",".join(pieces[:length]))
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
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides if not override.startswith("~"))
    _, target, *halves = (given.pop(key, None) for key in LOSS_KEYS)
    if target:
        loss = target.rpartition(".")[2]
    elif any(halves):
        loss = f"{choices['loss/view']}-{choices['loss/distance']}"
    else:
        loss = str(choices["loss"])
    return {"loss": loss, **{value_name(key): value for key, value in given.items()}}


def value_name(key: str) -> str:
    """Return the name under which `job_values` keeps the value of an override."""
    key = key.lstrip("+")
    return "loss" if key in LOSS_KEYS else key.removeprefix("loss.")
