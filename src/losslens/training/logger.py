"""TensorBoard for a variant: one run, named by its folder, with its row in the HParams tab."""

from pathlib import Path

import google_crc32c
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer import record_writer
from torch.utils.tensorboard.summary import hparams

from losslens.variant import HParam

# Lightning's `log_hyperparams` and torch's `add_hparams` bring a made-up metric and a nested run of its own.


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of a record of TensorBoard's event files."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# TensorBoard's own takes every byte of every picture in Python, seconds in which no other thread comes to its turn.
record_writer.masked_crc32c = masked_crc32c


class RunLogger(TensorBoardLogger):
    """Write events into the variant's folder itself.

    Args:
        folder: of the variant.
        first_step: from which it goes on: TensorBoard drops what an earlier process wrote after that.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        begun = any(folder.glob("events.*"))
        purge_step = first_step + 1 if first_step else 0 if begun else None
        super().__init__(folder.resolve(), name="", version="", default_hp_metric=False, purge_step=purge_step)

    @rank_zero_only
    def save(self) -> None:
        """Flush events; the configuration is in `config.yaml`, so there is no `hparams.yaml`."""
        self.experiment.flush()

    def open_session(self, values: dict[str, HParam], metrics: list[str]) -> None:
        """Announce the variant in the HParams tab: its values, and the tags under which its metrics will come."""
        experiment, start, _ = hparams(values, dict.fromkeys(metrics, 0.0))
        for summary in (experiment, start):
            self.experiment._get_file_writer().add_summary(summary)

    def add_picture(self, tag: str, image: Summary.Image, step: int) -> None:
        """Log an image that is already encoded."""
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self.experiment._get_file_writer().add_summary(summary, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush only: the Trainer calls this after fitting, when the last picture is still to come."""
        self.experiment.flush()

    def close_session(self) -> None:
        """Mark the variant as finished in the HParams tab, and close the file."""
        self.experiment._get_file_writer().add_summary(hparams({}, {})[2])
        self.experiment.close()
