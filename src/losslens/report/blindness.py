"""What the losses of a sweep respond to, beside what the networks made of them."""

from collections.abc import Sequence

from losslens.build import build_loss
from losslens.lens.changes import change_bank
from losslens.lens.responses import Response, responses
from losslens.report.results import VariantResult


def measure_responses(variants: Sequence[VariantResult]) -> dict[str, dict[str, Response]]:
    """Ask each variant's loss about the first of its fixed images.

    Args:
        variants: with pictures.

    Returns:
        By the variant's name, then the change's; empty for a loss that cannot be made or asked here.
    """
    found: dict[str, dict[str, Response]] = {}
    known: dict[str, dict[str, Response]] = {}
    for variant in variants:
        assert variant.originals is not None
        loss, image = variant.config.get("loss", {}), variant.originals[0].double()
        key = repr((loss, variant.config.get("data")))  # one loss and one set of images answer alike
        if key not in known:
            try:
                bank, _ = change_bank(image[None])
                known[key] = responses(build_loss(loss), image, bank=bank)
            except Exception:  # a loss of the user's own, which need not be there when only its results are looked at
                known[key] = {}
        found[variant.name] = known[key]
    return found
