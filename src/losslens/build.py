"""Make objects from configurations; no other module does."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf


def build(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Make the object that a configuration with `_target_` describes.

    Args:
        config: `_target_`, the import path of a class or function, and its arguments, which may be configurations.
        **arguments: further arguments, already objects.

    Raises:
        ValueError: if the target cannot be imported or refuses its arguments.
    """
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError) and not isinstance(cause, InstantiationException):
            raise ValueError(str(cause)) from error
        raise ValueError(f"cannot make {config.get('_target_')}: {cause or error}") from error


def build_loss(config: Mapping[str, Any]) -> Any:
    """Make a loss; only `losslens.losses.Loss` is given a view and a distance.

    `loss._target_=package.module.Class` overrides the target of a composed loss, whose view and distance stay in the
    configuration and mean nothing to that class.
    """
    composed = {"view", "distance"}
    if config["_target_"] != "losslens.losses.Loss" and composed <= set(config):
        config = {key: value for key, value in config.items() if key not in composed}
    return build(config)


def require(choice: str, packages: Sequence[str], extra: str) -> None:
    """Check that the packages which a choice needs are installed.

    Args:
        choice: as the user types it.
        extra: of losslens, which installs them.

    Raises:
        ValueError: if one is missing, with the command that installs it.
    """
    missing = [name for name in packages if not is_there(name)]
    if missing:
        raise ValueError(f"{choice} needs {', '.join(missing)}: pip install 'losslens[{extra}]'")


def is_there(package: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def plain_settings(config: Any) -> dict[str, Any]:
    """Resolve a configuration of Hydra to plain values."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List the settings of a nested configuration by keys with dots."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings |= flat_settings(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings


def as_count(value: int | str, key: str) -> int:
    """Check that a setting is a positive number.

    Raises:
        ValueError: if not.
    """
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value}: use auto, or a whole number of 1 or more")
    return value
