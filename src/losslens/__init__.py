"""Train one image autoencoder under many losses and see what each loss values and what it is blind to."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from losslens.sweep.results import load_sweep
    from losslens.trained.load import load_variant

__all__ = ["load_sweep", "load_variant"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the command line starts sooner."""
    if name == "load_sweep":
        from losslens.sweep.results import load_sweep

        return load_sweep
    if name == "load_variant":
        from losslens.trained.load import load_variant

        return load_variant
    raise AttributeError(f"module losslens has no attribute {name}")
