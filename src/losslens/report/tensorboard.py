"""TensorBoard's run for a sweep itself: the sheet over training, and charts with all variants."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from losslens.training.grid import encode

LAYOUT = {
    "what each loss sees, and what it does not": {
        "seen and unseen": ["Multiline", ["val/seen_error", "val/unseen_error"]],
        "seen": ["Multiline", ["val/seen_error"]],
        "unseen": ["Multiline", ["val/unseen_error"]],
    },
    "errors along color directions": {
        name: ["Multiline", [f"val/{name}"]] for name in ("red", "green", "blue", "luma", "cb", "cr")
    },
}


def write_sweep_run(films: Sequence[Mapping[int, Image.Image]], folder: Path) -> None:
    """Write the events of the sweep's own run into its folder, in the place of earlier ones."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars(LAYOUT)
        for number, frames in enumerate(films, start=1):
            tag = f"all variants {number}" if number > 1 else "all variants"  # TensorBoard shows it first
            for step, page in frames.items():
                summary = Summary(value=[Summary.Value(tag=tag, image=encode(page))])
                writer._get_file_writer().add_summary(summary, step)
