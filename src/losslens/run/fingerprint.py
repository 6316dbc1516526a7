"""Check that the data is still the same as when variants began."""

import hashlib
import json
from collections.abc import Collection, Sequence

from losslens.data.source import Images
from losslens.files import write_json
from losslens.variant import Variant

DATA = "data.json"
READ_AT_ONCE = 1024  # images


def check_data(group: Sequence[Variant], images: Images, all_variants: Collection[Variant]) -> None:
    """Store the fingerprint of the data with each variant, or compare it with the stored one.

    Args:
        group: variants with these images.
        all_variants: of the sweep; those with the same configuration of data must have begun with the same data.

    Raises:
        ValueError: if a variant began with other data.
    """
    digest = hashlib.sha256()
    for part in images:
        digest.update(str(tuple(part.shape)).encode())
        for start in range(0, len(part), READ_AT_ONCE):
            digest.update(part[start : start + READ_AT_ONCE].cpu().contiguous().numpy().data)
    now = {"train": len(images.train), "val": len(images.val), "sha256": digest.hexdigest()}
    for variant in all_variants:
        file = variant.folder / DATA
        if variant.config["data"] != group[0].config["data"] or not file.exists():
            continue
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != now:
            raise ValueError(
                f"the data has changed since {variant.name} began: {before['train']} images to train on and "
                f"{before['val']} to validate on were {now['train']} and {now['val']} now, or others among them; "
                "bring them back and go on with retry_failed=true, or begin a new sweep"
            )
    for variant in group:
        write_json(variant.folder / DATA, now)
