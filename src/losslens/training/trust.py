"""Tell which code a stored configuration would run, before anything of it is imported.

A sweep's folder and a checkpoint may come from somebody else. Networks, losses, optimizers, schedules and data of
losslens, torch and torchmetrics are made of them; whatever else they name runs only on request.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from losslens.data.source import Source

ROOTS = ("losslens", "torch", "torchmetrics")  # packages of which classes are made
MADE = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
TRUSTED = (*MADE, Source)
FRAMEWORK = ("lightning",)  # whose Trainer and callbacks every configuration has
INTERPOLATION = "${"  # could make a `_target_` when it is resolved
HOW = "if you trust its author, use trust=true on the command line, or --trust, or trust=True in Python"


class Untrusted(ValueError):
    """What somebody stored would run code that is neither of losslens nor of torch.

    Args:
        who: has the settings.
        names: what they name.
    """

    def __init__(self, who: object, names: Sequence[str]) -> None:
        super().__init__(
            f"{who} names {', '.join(names)}, which is no class of a network, a loss, an optimizer, a schedule or data "
            f"of {', '.join(ROOTS)}: nothing of it is run; {HOW}"
        )


def foreign(settings: Any, known: Container[str] = ()) -> list[str]:
    """List what nested settings name besides networks, losses, optimizers, schedules and data of `ROOTS`.

    Args:
        known: packages whose classes are not listed, either.
    """
    targets = dict.fromkeys(_named(settings))
    return [each for each in targets if each.partition(".")[0] not in known and not _is_known(each)]


def check_trusted(settings: Any, who: object) -> None:
    """Check that nested settings name nothing foreign.

    Args:
        who: has these settings, as the error says.

    Raises:
        Untrusted: if they do; nothing of it was imported.
    """
    if found := foreign(settings):
        raise Untrusted(who, found)


def check_made(settings: Any, who: object) -> None:
    """Check that trusted settings name classes of networks, losses, optimizers and schedules; imports them.

    Raises:
        ValueError: if they name anything else.
    """
    for target in _named(settings):
        found = get_object(target)
        if not (isinstance(found, type) and issubclass(found, MADE)):
            raise ValueError(
                f"{who} names {target}, which is no class of a network, a loss, an optimizer or a schedule: "
                "it is not called"
            )


def _named(settings: Any) -> Iterator[str]:
    """Yield all that nested settings name by `_target_`, and all interpolations."""
    if isinstance(settings, Mapping):
        yield from (str(value) for key, value in settings.items() if key == "_target_")
        settings = [value for key, value in settings.items() if key != "_target_"]
    if isinstance(settings, list | tuple):
        for each in settings:
            yield from _named(each)
    elif isinstance(settings, str) and INTERPOLATION in settings:
        yield settings


def _is_known(target: str) -> bool:
    """Return whether a target is a class that may be made; imports modules of `ROOTS` only."""
    if INTERPOLATION in target or target.partition(".")[0] not in ROOTS:
        return False
    try:
        found = get_object(target)
    except Exception:  # it is not there, or its module cannot be imported
        return False
    return isinstance(found, type) and issubclass(found, TRUSTED) and found.__module__.partition(".")[0] in ROOTS
