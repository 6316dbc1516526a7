"""The sweepers of a multirun. Every Hydra program imports this module: no heavy imports at its top."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ArraySweeper(BasicSweeper):
    """Hydra's basic sweeper without its check, for launchers that compose all jobs before they train one.

    The check composes every job once more: half of the time that a variant takes before training.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave the check to the launcher, which raises the same errors."""


@dataclass
class ArraySweeperConfig(BasicSweeperConf):
    """Settings of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.losslens.sweepers.ArraySweeper"


class OptunaSweeper(Sweeper):
    """Ask Optuna for trials, train them in batches, and report their results.

    Args:
        **settings: the fields of `OptunaSweeperConfig`.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs, and make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Search, or resume a search.

        Args:
            arguments: overrides of the command, some of which vary.

        Raises:
            ValueError: if Optuna is not installed, or as `losslens.run.search.Search` does.
            SweepInterrupted: if it was asked to stop.
        """
        try:
            import optuna  # noqa: F401
        except ImportError:
            raise ValueError("hydra/sweeper=optuna needs Optuna: pip install 'losslens[optuna]'") from None
        from losslens.console import fast_imports
        from losslens.settings import check_settings

        check_settings({"hydra": {"sweeper": self.settings}})
        with fast_imports():
            from losslens.run.search import Search, SearchSettings
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        search = Search(SearchSettings(**self.settings), self.config, overrides)
        self.validate_batch_is_legal(search.examples())
        search.run(self.launcher)


@dataclass
class OptunaSweeperConfig:
    """Configuration of the sweeper; sampler and pruner are made by losslens, once Optuna is imported."""

    _target_: str = "hydra_plugins.losslens.sweepers.OptunaSweeper"
    _recursive_: bool = False
    _convert_: str = "all"
    n_trials: int = 20  # in the whole search
    batch: int = 5  # trials that the launcher gets at once
    seed: int = 0  # seeds the sampler
    sampler: dict[str, Any] = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Any = None  # `_target_` of an Optuna pruner; None: every trial trains to its end


for name, node in {"array": ArraySweeperConfig, "optuna": OptunaSweeperConfig}.items():
    ConfigStore.instance().store(group="hydra/sweeper", name=name, node=node, provider="losslens")
