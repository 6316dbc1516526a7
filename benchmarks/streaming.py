"""One variant: images streamed from a file or from main memory, against images that are held on the device."""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from overhead import NUM_STEPS, configuration, images, losslens_seconds
from results_table import write_table
from torch import Tensor

from losslens.data import Images
from losslens.data.stored import StoredImages

REPEATS = 5


def in_a_file(images: Tensor, path: Path) -> StoredImages:
    """Write images as the cache of decoded images does, and map the file."""
    images.numpy().tofile(path)
    return StoredImages(np.memmap(path, np.uint8, "r", shape=tuple(images.shape)))


def main() -> None:
    """Measure all in turn, and write the table."""
    held, streamed = (configuration(**{"data.resident": resident}) for resident in ("true", "false"))
    data = images(NUM_STEPS, held["data"]["batch_size"])
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        stored = Images(*(in_a_file(part, Path(name) / str(index)) for index, part in enumerate(data)))
        for _ in range(REPEATS):
            sides = [losslens_seconds(*side) for side in ((held, data), (streamed, data), (streamed, stored))]
            weights = [side[1] for side in sides]
            same = all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in other)
            assert same or torch.cuda.is_available(), "streaming changed what was learned"
            rounds.append([seconds for seconds, _ in sides])
    names = ("held on the device", "streamed from main memory", "streamed from a file")
    rows = []
    for index, what in enumerate(names):
        ratios = [each[0] / each[index] for each in rounds]
        speed = NUM_STEPS / median(each[index] for each in rounds)
        rows.append((what, speed, f"{median(ratios):.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}"))
    notes = [
        f"{NUM_STEPS} steps of the default variant, {REPEATS} times in turn; medians, and the range of the ratio.",
        f"{len(data.train):,} random images of 64x64 pixels, {data.train.nbytes / 2**20:.0f} MiB, whose file is in the "
        "system's cache: what a slow disk costs is not in here.",
        f"The weights at the end are {'the same to the last bit' if same else 'not the same to the last bit'}.",
        "Validation, pictures and checkpoints are outside of the clock; what losslens logs is inside.",
    ]
    write_table(__file__, ("images", "steps / s", "against held", "range"), rows, notes)


if __name__ == "__main__":
    main()
