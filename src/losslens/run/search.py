"""Search with Optuna: train its trials in batches, and report their results."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from losslens.build import build
from losslens.console import SweepInterrupted
from losslens.overrides import value_name
from losslens.run.command import resume_sweep
from losslens.run.space import examples, read_space, suggest
from losslens.sweep.folder import locked
from losslens.sweep.pruning import PRUNED, SETTINGS, STUDY, open_storage, trial_id
from losslens.sweep.results import VariantResult, VariantsFailed
from losslens.sweep.variants import COMMAND_KEYS
from losslens.training.metrics import METRICS, SUBSPACE_METRICS

Direction = Literal["maximize", "minimize"]
LOCK = "search.lock"  # held during the whole search; the sweep's lock is free between batches
VARIANT = "variant"  # attribute of a trial: name of its variant
ENDS = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
NOTHING_MORE = {"retry_failed": False, "fail_fast": False, "optimize": None}  # to resume without training
DIRECTIONS: dict[str, Direction] = {"max": "maximize", "min": "minimize"}


@dataclass(frozen=True)
class SearchSettings:
    """Settings under `hydra.sweeper`.

    Args:
        n_trials: in the whole search.
        batch: trials that train together.
        sampler: `_target_` and arguments of an Optuna sampler.
        pruner: `_target_` and arguments of an Optuna pruner; None: every trial trains to its end.

    Raises:
        ValueError: if there is no such pruner.
    """

    n_trials: int
    batch: int
    seed: int
    sampler: dict[str, Any]
    pruner: dict[str, Any] | None

    def __post_init__(self) -> None:
        if self.pruner is not None:
            build(self.pruner)  # raises here rather than in every variant


class Search:
    """A search with Optuna; all trials are in a journal in the sweep's folder.

    A trial's parameters depend on the seed, its number and earlier results, not on interruptions. Trials with equal
    parameters are one variant: training it again would give the same bits.

    Args:
        config: of the command, without the overrides that vary.
        overrides: of the command, some of which vary.

    Raises:
        ValueError: if the command cannot be searched with, or its folder holds another search.
    """

    def __init__(self, settings: SearchSettings, config: DictConfig, overrides: Sequence[Override]) -> None:
        self.settings = settings
        self.config = config
        self.metric, self.direction = _read_optimize(self.config.optimize)
        if self.config.retry_failed:
            raise ValueError("retry_failed=true goes without a search: what a trial was told to be stays")
        if self.config.plan:
            raise ValueError("plan=true goes without a search, which does not know yet what it will train")
        self.space, self.fixed = read_space(overrides)
        lines = [str(each.input_line) for each in overrides]
        self.stored_settings: dict[str, Any] = {
            "metric": self.metric,
            "direction": self.direction,
            "overrides": sorted(each for each in lines if each.partition("=")[0] not in COMMAND_KEYS),
            "pruner": settings.pruner,
        }

    def examples(self) -> list[list[str]]:
        """List overrides in which every choice, and both ends of every range, occur at least once."""
        return [[*self.fixed, *words] for words in examples(self.space)]

    def run(self, launcher: Launcher) -> None:
        """Train the remaining trials, and print the best.

        Raises:
            ValueError: if no trial completed.
            SweepInterrupted: if it was asked to stop.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.launcher = launcher
        self.folder = Path(self.config.hydra.sweep.dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, LOCK):
            self.storage = open_storage(self.folder)
            self.study = optuna.create_study(
                study_name=STUDY, storage=self.storage, direction=self.direction, load_if_exists=True
            )
            self._check_settings()
            while trials := self._next_trials():
                self._train(trials)
            self._show()

    def _check_settings(self) -> None:
        """Store the settings of the search in the study, or compare them with the stored ones."""
        before = self.study.user_attrs.get(SETTINGS)
        if before is None:
            self.study.set_user_attr(SETTINGS, self.stored_settings)
        elif before != self.stored_settings:
            changed = [key for key, own in self.stored_settings.items() if own != before[key]]
            differences = "; ".join(f"{key} was {before[key]}, now {self.stored_settings[key]}" for key in changed)
            raise ValueError(
                f"{self.folder} holds another search: {differences}; "
                "give this one another name with sweep=NAME, or the same settings"
            )

    def _next_trials(self) -> list[Trial]:
        """Return the next batch, or the rest of an interrupted one."""
        before, size = self.study.get_trials(), self.settings.batch
        first = next((each.number for each in before if each.state == TrialState.RUNNING), len(before))
        trials = []
        for number in range(first, min((first // size + 1) * size, self.settings.n_trials)):
            seed = int(np.random.SeedSequence([self.settings.seed, number]).generate_state(1)[0])
            self.study.sampler = build({"seed": seed, **self.settings.sampler})
            if number >= len(before):
                trials.append(self.study.ask())
            elif before[number].state == TrialState.RUNNING:
                trials.append(Trial(self.study, trial_id(self.storage, number)))
            else:
                continue
            suggest(trials[-1], self.space)
        return trials

    def _train(self, trials: Sequence[Trial]) -> None:
        """Train trials, except those with known parameters, and report the results."""
        told = {self._words(each): each for each in self.study.get_trials(deepcopy=False) if each.state.is_finished()}
        asked = {trial.number: self._words(trial) for trial in trials}
        wanted = {words: trial for trial in reversed(trials) if (words := asked[trial.number]) not in told}
        jobs = [self._job(words, trial) for words, trial in reversed(wanted.items())]
        results = dict(zip(reversed(wanted), self._launch(jobs, trials[0].number) if jobs else [], strict=True))
        for trial in trials:
            words = asked[trial.number]
            told[words] = self._repeat(trial, told[words]) if words in told else self._tell(trial, results[words])

    def _words(self, trial: BaseTrial) -> tuple[str, ...]:
        return tuple(suggest(trial, self.space))

    def _job(self, words: Sequence[str], trial: Trial) -> list[str]:
        """Return all overrides of a trial."""
        searched = dict.fromkeys(value_name(key) for key in self.space)
        job = [*self.fixed, *words, f"searched=[{','.join(searched)}]"]
        if self.settings.pruner is not None:
            job.append(f"+callbacks.pruning={{_target_:losslens.sweep.pruning.Pruning,trial:{trial.number}}}")
        return job

    def _launch(self, jobs: Sequence[Sequence[str]], first: int) -> list[VariantResult]:
        try:
            return [job.return_value for job in self.launcher.launch(jobs, first)]
        except VariantsFailed as error:
            return error.results
        except SweepInterrupted as error:
            raise SweepInterrupted(error.reason, self._command(), error.exit_code) from None

    def _command(self) -> str:
        """Return the command that resumes the search: the same one, with the name of the folder."""
        arguments = sys.argv[1:]
        if not any(each.startswith(("sweep=", "hydra.sweep.dir=")) for each in arguments):
            arguments = [*arguments, f"sweep={self.folder.name}"]
        return f"python train.py {shlex.join(arguments)}"

    def _tell(self, trial: Trial, result: VariantResult) -> FrozenTrial:
        """Report a variant's result to its trial."""
        trial.set_user_attr(VARIANT, result.name)
        value = result.metrics.get(self.metric.removeprefix("val/")) if result.done else None
        if value is None:
            return self.study.tell(trial, state=TrialState.FAIL)
        if self.study.get_trials(deepcopy=False)[trial.number].user_attrs.get(PRUNED):
            return self.study.tell(trial, state=TrialState.PRUNED)
        return self.study.tell(trial, value)

    def _repeat(self, trial: Trial, same: FrozenTrial) -> FrozenTrial:
        """Report to a trial the result of one with the same parameters."""
        trial.set_user_attr(VARIANT, same.user_attrs[VARIANT])
        return self.study.tell(trial, same.value if same.state == TrialState.COMPLETE else None, same.state)

    def _show(self) -> None:
        """Show the sweep and the best trial."""
        failures = ""
        try:
            resume_sweep(self.folder, {"report": self.config.report, **NOTHING_MORE}, None)
        except VariantsFailed as error:
            failures = f": {error}"
        states = [each.state for each in self.study.get_trials(deepcopy=False)]
        counts = {name: states.count(state) for name, state in ENDS.items()}
        others = "".join(f", {count} {name}" for name, count in counts.items() if count)
        if TrialState.COMPLETE not in states:
            raise ValueError(f"no best of {len(states)} trials{others}{failures}")
        best = self.study.best_trial
        print(
            f"best of {len(states)} trials{others}: {self.metric} {best.value:.6g} with {' '.join(self._words(best))} "
            f"in {self.folder / best.user_attrs[VARIANT]}"
        )


def _read_optimize(text: object) -> tuple[str, Direction]:
    """Read `METRIC:max` or `METRIC:min`: the metric, and Optuna's name of the direction."""
    metric, _, direction = str(text).rpartition(":")
    names = [f"val/{name}" for name in (*METRICS, *SUBSPACE_METRICS)]
    if text is None:
        raise ValueError("a search needs to know what it is for: give it optimize=METRIC:max or optimize=METRIC:min")
    if direction not in DIRECTIONS:
        raise ValueError(f"optimize={text} does not end in :max or :min: try optimize=val/ssim:max")
    if metric not in names:
        raise ValueError(f"optimize={text}: there is no metric {metric}; there are {', '.join(names)}")
    return metric, DIRECTIONS[direction]
