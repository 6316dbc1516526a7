"""Searches with Optuna. Every Hydra program imports this module: nothing heavy at its top."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Ask Optuna for trials, train them in batches, and tell what came of them.

    Args:
        n_trials: of the whole search.
        batch: trials that the launcher gets at once.
        seed: of the sampler.
        sampler: `_target_` and arguments of one of Optuna's.
        pruner: likewise; None lets every trial train to its end.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self, n_trials: int, batch: int, seed: int, sampler: dict[str, Any], pruner: dict[str, Any] | None
    ) -> None:
        self.n_trials = n_trials
        self.batch = batch
        self.seed = seed
        self.sampler = sampler
        self.pruner = pruner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs, and make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Search, or go on with a search.

        Args:
            arguments: overrides of the command, some of which vary.

        Raises:
            ValueError: if Optuna is not installed, or as `losslens.sweep.search.Search` does.
            SweepInterrupted: if it was asked to stop.
        """
        try:
            import optuna  # noqa: F401
        except ImportError:
            raise ValueError("hydra/sweeper=optuna needs Optuna: pip install 'losslens[optuna]'") from None
        from losslens.sweep.start import fast_imports

        with fast_imports():
            from losslens.sweep.search import Search
        Search(self, arguments).run()


@dataclass
class OptunaSweeperConfig:
    """Configuration of the sweeper; sampler and pruner are made by Losslens, once Optuna is imported."""

    _target_: str = "hydra_plugins.losslens_optuna.sweeper.OptunaSweeper"
    _recursive_: bool = False
    _convert_: str = "all"
    n_trials: int = 20
    batch: int = 5
    seed: int = 0
    sampler: dict[str, Any] = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Any = None


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConfig, provider="losslens")
