"""Train one image autoencoder under many losses and see what each loss values and what it is blind to."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from losslens.report.results import load_sweep

__all__ = ["load_sweep"]


def __getattr__(name: str) -> Any:
    """Import what is public once it is used: the command line need not wait for it."""
    if name == "load_sweep":
        from losslens.report.results import load_sweep

        return load_sweep
    raise AttributeError(f"module losslens has no attribute {name}")
