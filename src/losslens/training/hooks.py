"""The hooks of a step that do something."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import lightning as L

if TYPE_CHECKING:
    from losslens.training.member import Member

# Hooks that a callback or module may have at every step, in the order of Lightning's automatic optimization.
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def overriding(member: "Member", name: str) -> list[Callable[..., Any]]:
    """List the hooks of that name which the callbacks of a member, and then its module, have of their own."""

    def bound(callback: L.Callback) -> Callable[..., Any]:
        return lambda *arguments: getattr(callback, name)(member.trainer, member.module, *arguments)

    own = [bound(each) for each in member.callbacks if getattr(type(each), name) is not getattr(L.Callback, name)]
    if getattr(type(member.module), name) is not getattr(L.LightningModule, name):
        own.append(getattr(member.module, name))
    return own
