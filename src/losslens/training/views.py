"""What a variant's callbacks see of the Trainer of its array: values that can be read, and nothing that can be set.

A callback of one variant must not reach its neighbors, so each part of the Trainer that all variants share is shown by
a few of its attributes, with the values that the variant would see alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

# Attributes of a `lightning.Trainer` that are the same for all variants of an array, and do not change in training.
SHARED = frozenset(
    (
        *("accelerator", "accumulate_grad_batches", "barebones", "check_val_every_n_epoch", "ckpt_path", "device_ids"),
        *("enable_validation", "evaluating", "fast_dev_run", "global_rank", "interrupted", "is_global_zero"),
        *("limit_train_batches", "limit_val_batches", "local_rank", "log_every_n_steps", "max_epochs", "max_steps"),
        *("min_epochs", "min_steps", "node_rank", "num_devices", "num_nodes", "num_sanity_val_steps"),
        *("num_val_batches",),
        *("overfit_batches", "precision", "precision_plugin", "predicting", "print", "profiler", "received_sigterm"),
        *("sanity_checking", "testing", "training", "validating", "val_check_interval", "world_size"),
    )
)


class View:
    """Show values under the names that they have in a part of the Trainer.

    Args:
        part: as a callback calls it, such as `trainer.fit_loop`.
        values: functions that return the present values.
    """

    def __init__(self, part: str, values: Mapping[str, Callable[[], Any]]) -> None:
        self.__dict__.update(_part=part, _values=values)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name not in values:
            raise refusal(f"{self.__dict__.get('_part')}.{name}")
        return values[name]()

    def __setattr__(self, name: str, value: object) -> None:
        raise refusal(f"{self._part}.{name}")


def constant(value: Any) -> Callable[[], Any]:
    """Return a function that returns a value."""
    return lambda: value


def refusal(name: str) -> AttributeError:
    """Return the error for an attribute that a callback must not use or set."""
    return AttributeError(
        f"{name} belongs to the Trainer that the variants of an array share, and a callback of one may not use or set "
        "it: docs/callbacks.md says what it may"
    )
