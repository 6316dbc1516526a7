"""Makes the jobs of a multirun. Every Hydra program imports this module: nothing heavy at its top."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


class ArraySweeper(BasicSweeper):
    """Hydra's own, for launchers that compose all jobs before they train one.

    Hydra composes every job once more only to see whether it can be: that is half of the time which a variant takes
    before training.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which raises the same errors."""


@dataclass
class ArraySweeperConfig(BasicSweeperConf):
    """Settings of Hydra's own."""

    _target_: str = "hydra_plugins.losslens_launcher.sweeper.ArraySweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="array", node=ArraySweeperConfig, provider="losslens")
