"""Responses of a sweep's losses to the bank of changes."""

from collections.abc import Sequence

from losslens.build import build_loss
from losslens.lens.changes import change_bank
from losslens.lens.responses import Response, responses
from losslens.sweep.results import VariantResult
from losslens.variant import config_key


def measure_responses(variants: Sequence[VariantResult]) -> dict[str, dict[str, Response]]:
    """Measure the responses of each variant's loss at the first of its fixed images.

    Args:
        variants: with pictures.

    Returns:
        By variant, then by change; empty for a loss that is not trusted, or cannot be built or measured here.
    """
    found: dict[str, dict[str, Response]] = {}
    known: dict[str, dict[str, Response]] = {}
    for variant in variants:
        assert variant.originals is not None
        loss, image = variant.config.get("loss", {}), variant.originals[0].double()
        if variant.foreign:
            found[variant.name] = {}
            continue
        key = config_key(loss, variant.config.get("data"))  # variants of one loss and data set share responses
        if key not in known:
            try:
                bank, _ = change_bank(image[None])
                known[key] = responses(build_loss(loss), image, bank=bank)
            except Exception:  # a custom loss need not be importable where only its results are read
                known[key] = {}
        found[variant.name] = known[key]
    return found
