"""Configurations: the one place where they become objects."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def build(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Make the object that a configuration with `_target_` describes.

    Args:
        config: `_target_`, the import path of a class or function, and its arguments, nested likewise.
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
    """Make a loss; a class that is not composed of a view and a distance is not given any.

    `loss._target_=package.module.Class` overrides the target of a composed loss, whose view and distance stay in the
    configuration and mean nothing to that class.
    """
    composed = {"view", "distance"}
    if config["_target_"] != "losslens.losses.Loss":
        config = {key: value for key, value in config.items() if key not in composed}
    return build(config)


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List the settings of a nested configuration by keys with dots."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings |= flat_settings(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings
