"""Train a sweep's variants in arrays, resume from saved states, and record each outcome."""

import gc
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from losslens.build import build
from losslens.console import TRACEBACK_WANTED, one_line, say
from losslens.data.source import Images, Source
from losslens.files import append_line, is_disk_error
from losslens.run.distribute import Executor, distribute
from losslens.run.fingerprint import check_data
from losslens.run.plan import count_workers, group_variants, pack, split_by_memory
from losslens.study.shared import Shared, keep_images
from losslens.sweep import ledger
from losslens.sweep.folder import LOG
from losslens.sweep.progress import Heartbeat
from losslens.training.costs import VariantCost, variant_costs
from losslens.training.fit import fit
from losslens.training.listener import DescribeVariants, Listener
from losslens.training.state import SavedState, read_states, remove_states
from losslens.training.stop import Interrupted, Stop
from losslens.training.variant_trainer import Stage
from losslens.variant import Outcome, Variant


class SweepTraining(Listener):
    """Train variants of a sweep, and record their outcomes.

    Args:
        variants: all of the sweep, or of an array; their folders exist.
        on_progress: takes the fraction done of all training, in [0, 1].
        losses: configurations of all losses of the sweep, by name.
        heartbeat: file for heartbeats.
        fail_fast: whether the first failure stops the others.

    Attributes:
        known: names of variants of earlier commands, which wait if their data is not there, instead of failing.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        folder: Path,
        console: Console,
        on_progress: Callable[[float], None],
        stop: Stop,
        *,
        losses: Mapping[str, Mapping[str, Any]],
        heartbeat: Path,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(stop)
        self.variants = {variant.name: variant for variant in variants}
        self.losses = losses
        self.folder = folder
        self.console = console
        self.on_progress = on_progress
        self.known: Set[str] = frozenset()
        self.fail_fast = fail_fast
        self.heartbeat_file = heartbeat
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, str] = {}
        self.without_data: dict[str, str] = {}  # why the data of variants cannot be used
        self.interrupted = False
        self.disk_failed = False
        self.shared = Shared()  # the images that were decoded last
        self._in_all = (0, 0, 1)  # numbers of variants: ended, in the present array, wanted

    def train(self, names: Sequence[str]) -> None:
        """Train the variants of these names; one that fails does not stop the others."""
        self.heartbeat = Heartbeat(self.heartbeat_file, len(names))
        with self._until_stopped():
            for group, images in self._decoded(names):
                try:
                    starts = self._starts(group)
                    arrays = [(array, states) for alike, states in starts for array in split_by_memory(alike, images)]
                except Exception as error:
                    self._fail_all(group, error)
                    continue
                if len(arrays) > len(starts):
                    self.say(f"memory or array.max_variants allow {len(arrays)} arrays, one after another")
                for array, states in arrays:
                    self._train_array(array, images, states, len(names))
        with suppress(OSError):  # no longer in training
            self.heartbeat_file.unlink(missing_ok=True)

    def hand_over(self, names: Sequence[str], executor: Executor, settings: Mapping[str, Any]) -> bool:
        """Let an executor train these variants; returns whether jobs continue after this process was asked to stop."""
        left_alone = False
        with self._until_stopped():
            self.heartbeat_file.unlink(missing_ok=True)  # of an earlier process
            for name in names:  # also those that failed before
                ledger.pending(self.variants[name].folder)
            packed = pack(self._costs(names), executor.max_jobs())
            arrays = [[each.name for each in array.variants] for array in packed]
            if arrays:
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                left_alone = distribute(
                    [self.variants[name] for array in arrays for name in array],
                    arrays,
                    self.folder,
                    executor,
                    settings,
                    show=self._show,
                    on_progress=self.on_progress,
                    stop=self.stop,
                )
                if self.stop and not left_alone:
                    raise Interrupted
        return left_alone

    def _costs(self, names: Sequence[str]) -> list[tuple[list[Variant], list[VariantCost]]]:
        """Measure the costs of variants; those that cannot be measured fail."""
        costs = []
        for group, images in self._decoded(names):
            try:
                costs.append((group, variant_costs(group, images)))
            except Exception as error:
                self._fail_all(group, error)
        return costs

    def _decoded(self, names: Sequence[str]) -> Iterator[tuple[list[Variant], Images]]:
        """Yield the variants that could train together, and their images; new ones without images fail."""
        for group in group_variants([self.variants[name] for name in names]):
            try:
                source = build(group[0].config["data"])
                images: Images = source.decode()
                if isinstance(source, Source) and source.found:
                    self.say(source.found)
                check_data(group, images, self.variants.values())
                self.shared = Shared()
                keep_images(images, group[0].config["data"], self.shared)
            except Exception as error:
                waiting = [] if is_disk_error(error) else [each.name for each in group if each.name in self.known]
                for name in waiting:
                    self.without_data[name] = one_line(error)
                    self.say(f"{name} waits for its data: {self.without_data[name]}")
                self._fail_all([each for each in group if each.name not in waiting], error)
            else:
                yield group, images

    @contextmanager
    def _until_stopped(self) -> Iterator[None]:
        """End the block on a request to stop, and record which variants were interrupted."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning turns a KeyboardInterrupt into a SystemExit
            self.stop.request("interrupted", 130)
            self.interrupted = True
            with suppress(OSError):  # on a full disk they stay `running`, but their lock is free
                self._mark_interrupted()

    def say(self, text: str) -> None:
        """Print a line, and add it to the sweep's log."""
        self._show(text)
        append_line(self.folder / LOG, text)

    def _show(self, text: str) -> None:
        say(self.console, text)

    def _train_array(
        self, array: Sequence[Variant], images: Images, states: Mapping[str, SavedState], num_wanted: int
    ) -> None:
        self._in_all = (len(self.outcomes) + len(self.failures), len(array), num_wanted)
        for variant in array:
            ledger.running(variant.folder, states[variant.name].step if variant.name in states else 0)
        try:
            outcomes = fit(
                array,
                images,
                self,
                num_workers=count_workers(array),
                num_threads=array[0].threads,
                losses=self.losses,
                states=states,
            )
        except torch.OutOfMemoryError as error:
            outcomes = {}
            if len(array) == 1:
                self._fail_all(array, error)
                return
        except Interrupted:
            raise
        except Exception as error:
            self._fail_all(array, error)
            return
        if self.stop:
            raise Interrupted
        left = [each for each in array if each.name not in (*outcomes, *self.outcomes, *self.failures)]
        if left:  # only here, where no error holds the memory of the array that was too large
            gc.collect()
            torch.cuda.empty_cache()
            self.say("out of memory: the array is split, and its halves train one after another")
            for half in (left[: -(-len(left) // 2)], left[-(-len(left) // 2) :]):
                for alike, latest in self._starts(half):
                    self._train_array(alike, images, latest, num_wanted)

    def progress(self, share: float, describe: DescribeVariants) -> None:
        """Report the progress of the whole command, and write the heartbeat."""
        before, at_work, wanted = self._in_all
        done = (before + share * at_work) / wanted
        self.on_progress(done)
        self.heartbeat.beat(done, describe)

    def done(self, name: str, outcome: Outcome) -> None:
        """Record that a variant is done, and remove its states."""
        folder = self.variants[name].folder
        ledger.done(folder)
        remove_states(folder)
        self.outcomes[name] = outcome
        self.say(_summary(name, outcome))

    def _starts(self, group: Sequence[Variant]) -> list[tuple[list[Variant], dict[str, SavedState]]]:
        """Group variants by the place at which they resume, since an array has one place.

        If all that were interrupted have states at a common place, as is usual, they resume at the latest such place.
        """
        # Of two states at one place, the latest is taken.
        saved = {variant.name: {s.place: s for s in read_states(variant.folder, self.say)[::-1]} for variant in group}
        begun = [set(places) for places in saved.values() if places]
        common = set.intersection(*begun) if begun else set()
        parts: dict[tuple[int, Stage] | None, list[Variant]] = {}
        for variant in group:
            places = saved[variant.name]
            place = None if not places else max(common) if common else max(places)
            parts.setdefault(place, []).append(variant)
        return [
            (variants, {variant.name: saved[variant.name][place] for variant in variants} if place else {})
            for place, variants in parts.items()
        ]

    def failed(self, name: str, error: Exception) -> None:
        """Record why a variant failed; a full disk is no failure, but stops all."""
        folder = self.variants[name].folder
        if is_disk_error(error):  # they can be resumed once there is room
            self.disk_failed = True
            self.stop.request(f"{folder} cannot be written ({error.strerror}): make room", 1)
            return
        self.failures[name] = one_line(error)
        ledger.failed(folder, self.failures[name], "".join(traceback.format_exception(error)))
        self.say(f"{name}: failed: {self.failures[name]}")
        if TRACEBACK_WANTED:
            traceback.print_exception(error)
        if self.fail_fast:
            self.stop.request(f"{name} failed, and fail_fast=true", 1)

    def _fail_all(self, variants: Sequence[Variant], error: Exception) -> None:
        for variant in variants:
            if variant.name not in self.failures and variant.name not in self.outcomes:
                self.failed(variant.name, error)
        if self.stop:
            raise Interrupted

    def _mark_interrupted(self) -> None:
        """Record which variants were interrupted."""
        for name, variant in self.variants.items():
            if ledger.state_of(variant.folder) == "running" and name not in self.failures:
                ledger.interrupted(variant.folder, self.stop.reason)


def _summary(name: str, outcome: Outcome) -> str:
    facts = outcome.facts
    code = "x".join(str(side) for side in facts["code_shape"])
    return (
        f"{name}: loss {outcome.metrics['loss']:.4f} after {facts['steps']} steps in {facts['seconds']:.0f} s, "
        f"{facts['num_parameters']:,} parameters, code {code}, compression {facts['compression_ratio']:.3g}:1"
    )
