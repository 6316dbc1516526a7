"""A search: trials that Optuna asks for are trained in batches, and each is told what came of it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from losslens.build import build
from losslens.report.results import VariantResult
from losslens.sweep.errors import SweepInterrupted, VariantsFailed
from losslens.sweep.names import value_name
from losslens.sweep.pruning import PRUNED, SETTINGS, STUDY, open_storage, trial_id
from losslens.sweep.run import resume_sweep
from losslens.sweep.space import examples, read_space, suggest
from losslens.sweep.stored import COMMAND_KEYS, locked
from losslens.training.metrics import METRICS, SUBSPACE_METRICS

if TYPE_CHECKING:
    from hydra_plugins.losslens_optuna.sweeper import OptunaSweeper

Direction = Literal["maximize", "minimize"]
LOCK = "search.lock"  # that of the sweep is free between batches
VARIANT = "variant"  # attribute of a trial: its name
ENDS = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
NOTHING_MORE = {"retry_failed": False, "fail_fast": False, "optimize": None}  # all is trained
DIRECTIONS: dict[str, Direction] = {"max": "maximize", "min": "minimize"}


class Search:
    """Search with the settings of a sweeper; all trials stand in a journal in the sweep's folder.

    The draws of a trial depend on the seed, its number and what was told before, and not on interruptions. Trials of
    equal parameters are one variant: training it again would give the same bits.

    Args:
        sweeper: its settings, launcher and configuration.
        arguments: overrides of the command, some of which vary.

    Raises:
        ValueError: if the command cannot be searched with, or its folder holds another search.
    """

    def __init__(self, sweeper: "OptunaSweeper", arguments: Sequence[str]) -> None:
        self.sweeper = sweeper
        self.config = sweeper.config
        self.metric, self.direction = _read_optimize(self.config.optimize)
        for key in ("n_trials", "batch"):
            if getattr(sweeper, key) < 1:
                raise ValueError(f"hydra.sweeper.{key} is {getattr(sweeper, key)}: use a whole number of 1 or more")
        if self.config.retry_failed:
            raise ValueError("retry_failed=true goes without a search: what a trial was told to be stays")
        if self.config.plan:
            raise ValueError("plan=true goes without a search, which does not know yet what it will train")
        if sweeper.pruner is not None:
            build(sweeper.pruner)  # else every variant would find out by itself
        parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
        self.space, self.fixed = read_space(parser.parse_overrides(list(arguments)))
        sweeper.validate_batch_is_legal([[*self.fixed, *words] for words in examples(self.space)])
        self.settings: dict[str, Any] = {
            "metric": self.metric,
            "direction": self.direction,
            "overrides": sorted(each for each in arguments if each.partition("=")[0] not in COMMAND_KEYS),
            "pruner": sweeper.pruner,
        }

    def run(self) -> None:
        """Train the trials that are to be trained, and print which was best.

        Raises:
            ValueError: if none of them came to its end.
            SweepInterrupted: if it was asked to stop.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
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
        """Keep what is searched for with the study, or compare it with what is kept."""
        before = self.study.user_attrs.get(SETTINGS)
        if before is None:
            self.study.set_user_attr(SETTINGS, self.settings)
        elif before != self.settings:
            changed = [key for key, own in self.settings.items() if own != before[key]]
            differences = "; ".join(f"{key} was {before[key]}, now {self.settings[key]}" for key in changed)
            raise ValueError(
                f"{self.folder} holds another search: {differences}; "
                "give this one another name with sweep=NAME, or the same settings"
            )

    def _next_trials(self) -> list[Trial]:
        """Return the next batch, or what an interruption left of one."""
        before, size = self.study.get_trials(), self.sweeper.batch
        first = next((each.number for each in before if each.state == TrialState.RUNNING), len(before))
        trials = []
        for number in range(first, min((first // size + 1) * size, self.sweeper.n_trials)):
            seed = int(np.random.SeedSequence([self.sweeper.seed, number]).generate_state(1)[0])
            self.study.sampler = build({"seed": seed, **self.sweeper.sampler})
            if number >= len(before):
                trials.append(self.study.ask())
            elif before[number].state == TrialState.RUNNING:
                trials.append(Trial(self.study, trial_id(self.storage, number)))
            else:
                continue
            suggest(trials[-1], self.space)
        return trials

    def _train(self, trials: Sequence[Trial]) -> None:
        """Train trials, but for those whose parameters are known, and tell them what came of it."""
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
        """Write all overrides of a trial."""
        searched = dict.fromkeys(value_name(key) for key in self.space)
        job = [*self.fixed, *words, f"searched=[{','.join(searched)}]"]
        if self.sweeper.pruner is not None:
            job.append(f"+callbacks.pruning={{_target_:losslens.sweep.pruning.Pruning,trial:{trial.number}}}")
        return job

    def _launch(self, jobs: Sequence[Sequence[str]], first: int) -> list[VariantResult]:
        try:
            return [job.return_value for job in self.sweeper.launcher.launch(jobs, first)]
        except VariantsFailed as error:
            return error.results
        except SweepInterrupted as error:
            raise SweepInterrupted(error.reason, self._command(), error.exit_code) from None

    def _command(self) -> str:
        """Write the command that goes on: the same one, with the name of the folder."""
        arguments = sys.argv[1:]
        if not any(each.startswith(("sweep=", "hydra.sweep.dir=")) for each in arguments):
            arguments = [*arguments, f"sweep={self.folder.name}"]
        return f"python train.py {shlex.join(arguments)}"

    def _tell(self, trial: Trial, result: VariantResult) -> FrozenTrial:
        """Tell a trial what its variant came to."""
        trial.set_user_attr(VARIANT, result.name)
        value = result.metrics.get(self.metric.removeprefix("val/")) if result.done else None
        if value is None:
            return self.study.tell(trial, state=TrialState.FAIL)
        if self.study.get_trials(deepcopy=False)[trial.number].user_attrs.get(PRUNED):
            return self.study.tell(trial, state=TrialState.PRUNED)
        return self.study.tell(trial, value)

    def _repeat(self, trial: Trial, same: FrozenTrial) -> FrozenTrial:
        """Tell a trial what one of the same parameters was told."""
        trial.set_user_attr(VARIANT, same.user_attrs[VARIANT])
        return self.study.tell(trial, same.value if same.state == TrialState.COMPLETE else None, same.state)

    def _show(self) -> None:
        """Show the sweep, and which trial was best."""
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
    """Read `METRIC:max` or `METRIC:min`: the metric, and Optuna's word for the direction."""
    metric, _, direction = str(text).rpartition(":")
    names = [f"val/{name}" for name in (*METRICS, *SUBSPACE_METRICS)]
    if text is None:
        raise ValueError("a search needs to know what it is for: give it optimize=METRIC:max or optimize=METRIC:min")
    if direction not in DIRECTIONS:
        raise ValueError(f"optimize={text} does not end in :max or :min: try optimize=val/ssim:max")
    if metric not in names:
        raise ValueError(f"optimize={text}: there is no metric {metric}; there are {', '.join(names)}")
    return metric, DIRECTIONS[direction]
