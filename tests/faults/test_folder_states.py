"""The states of a sweep's folder under random sequences of events, with training that is only pretended."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import dictionaries, sampled_from, sets

from losslens.console import SweepInterrupted
from losslens.data import Images
from losslens.run import command as run_module
from losslens.run import train as train_module
from losslens.sweep.folder import locked
from losslens.sweep.ledger import state_of
from losslens.sweep.variants import add_variants, stored_variants
from losslens.training.stop import Interrupted
from losslens.variant import Outcome, Variant

NAMES = ("a", "b", "c", "d")
STATES = ("pending", "running", "interrupted", "done", "failed")
FATES = ("done", "fails")
ENDS = ("end", "signal", "kill", "full disk")


class Killed(BaseException):
    """Stands for a process that is gone: whatever comes after is not done."""


class Folders(RuleBasedStateMachine):
    """A command names variants; each ends well or fails; the process ends by itself or otherwise."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "sweep"
        self.folder.mkdir()
        self.trained: list[str] = []
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(train_module, "build", lambda config: Pretended())
        self.patch.setattr(train_module, "fit", self.fit)
        self.patch.setattr(train_module, "split_by_memory", lambda variants, *_: [list(variants)])
        self.patch.setattr(run_module, "print_results", lambda *_: None)

    def teardown(self):
        self.patch.undo()
        shutil.rmtree(self.folder.parent)

    def fit(self, variants, images, listener, **_):
        self.trained += [variant.name for variant in variants]
        outcomes = {}
        for position, variant in enumerate(variants):
            if position == len(variants) // 2 and self.end != "end":
                if self.end == "kill":
                    raise Killed
                if self.end == "signal":
                    listener.stop.request("SIGTERM", 143)
                    raise Interrupted
                raise OSError(28, "No space left on device")
            if self.fates.get(variant.name) == "fails":
                listener.failed(variant.name, RuntimeError("a mistake"))
                continue
            metrics = {"loss": 0.1}
            (variant.folder / "metrics.json").write_text(
                json.dumps({"metrics": metrics, "seen": [], "losses": {}, "steps": 1, "seconds": 1.0})
            )
            facts = {"steps": 1, "seconds": 1.0, "num_parameters": 1, "code_shape": [1], "compression_ratio": 1.0}
            outcomes[variant.name] = Outcome(metrics, [], facts)
            listener.done(variant.name, outcomes[variant.name])
        return outcomes

    def command(self, planned, fates, end, **options):
        """Returns how it ended: `well`, `failed`, `interrupted` or `killed`."""
        self.fates, self.end, self.trained = fates, end, []
        options = {"report": False, "retry_failed": False, "fail_fast": False, "optimize": None, **options}
        try:
            with locked(self.folder):
                stored = stored_variants(self.folder)
                variants, _ = add_variants(stored, planned)
                command = run_module._Command(self.folder, options, None)
                found = run_module._run(command, variants, {each.name for each in stored})
            run_module._raise_failures(found, [], single=False)
        except Killed:
            return "killed"
        except SweepInterrupted:
            return "interrupted"
        except ValueError:
            return "failed"
        return "well"

    def states(self):
        return {variant.name: state_of(variant.folder) for variant in stored_variants(self.folder)}

    @rule(
        names=sets(sampled_from(NAMES), min_size=1),
        fates=dictionaries(sampled_from(NAMES), sampled_from(FATES)),
        end=sampled_from(ENDS),
    )
    def start_or_add(self, names, fates, end):
        before = self.states()
        planned = [variant(name, self.folder) for name in sorted(names)]
        self.check(before, self.command(planned, fates, end), retried=False)
        assert set(self.states()) == set(before) | names

    @precondition(lambda self: self.states())
    @rule(
        fates=dictionaries(sampled_from(NAMES), sampled_from(FATES)), end=sampled_from(ENDS), retry=sampled_from([0, 1])
    )
    def resume(self, fates, end, retry):
        before = self.states()
        self.check(before, self.command([], fates, end, retry_failed=retry), retried=retry)

    @precondition(lambda self: self.states())
    @rule()
    def resume_to_the_end(self):
        assert self.command([], {}, "end", retry_failed=True) == "well"
        assert set(self.states().values()) == {"done"}

    def check(self, before, ended, *, retried):
        after = self.states()
        for name, state in before.items():
            if state == "done" or (state == "failed" and not retried):
                assert after[name] == state
                assert name not in self.trained
        if ended in ("well", "failed"):
            assert set(after.values()) <= {"done", "failed"}
            assert ("failed" in after.values()) == (ended == "failed")
        if ended == "interrupted":
            assert "running" not in after.values()

    @invariant()
    def folders_tell_the_truth(self):
        for name, state in self.states().items():
            assert state in STATES
            assert (state == "done") <= (self.folder / name / "metrics.json").exists()
            reason = json.loads((self.folder / name / "status.json").read_text())["reason"]
            assert (reason is not None) == (state in ("failed", "interrupted"))


class Pretended:
    def decode(self):
        return Images(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3, 2, 2, dtype=torch.uint8))


def variant(name, folder):
    config = {
        "loss": {"_target_": name},
        "data": {},
        "trainer": {},
        "array": {"threads": 1, "max_variants": "auto"},
        "seed": 0,
    }
    return Variant(name, config, folder / name, {"loss": name})


TestFolders = Folders.TestCase
TestFolders.settings = settings(max_examples=25, stateful_step_count=8, deadline=None)
