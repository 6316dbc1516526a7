"""TensorBoard's run for a sweep itself: the sheet over training, and charts with all variants."""

from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from losslens.report.results import SweepResult
from losslens.report.sheet import frames, same_originals
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


def write_sweep_run(sweep: SweepResult, folder: Path) -> None:
    """Write the events of the sweep's own run into its folder, in the place of earlier ones."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars(LAYOUT)
        for number, variants in enumerate(same_originals(sweep), start=1):
            tag = f"all variants {number}" if number > 1 else "all variants"  # TensorBoard shows it first
            for step, page in frames(variants):
                summary = Summary(value=[Summary.Value(tag=tag, image=encode(page))])
                writer._get_file_writer().add_summary(summary, step)
