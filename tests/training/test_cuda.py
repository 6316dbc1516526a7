"""The GPU's engine by its logic, on a CPU: what would be captured is called again instead of replayed."""

from typing import ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_array import Forgetful, Fragile, SeesSteps, target
from torch import nn
from variants import ADAM, DIFFERENT, MODEL, MSE, ONE_CYCLE, SGD, assert_nearly_the_same, assert_same_bits

from losslens.training import array as array_module
from losslens.training import cuda as cuda_module
from losslens.training.capture import CaptureFailed
from losslens.training.cuda import GraphEngine

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")


class RecordedEngine(GraphEngine):
    """Takes a call for a capture, and calls for replays; what fails in capture and how many fit can be set."""

    refuses: str | None = None
    most_streams = 100
    recorded: ClassVar[list[int]] = []

    def _record(self, shared):
        if min(len(shared.members), self.num_streams) > self.most_streams:
            raise CaptureFailed(self.most_streams, torch.OutOfMemoryError("CUDA out of memory"))
        for place, member in enumerate(shared.members):
            if member.name == self.refuses:
                raise CaptureFailed(place, RuntimeError("operation not permitted when stream is capturing\nand more"))
        self.recorded.append(len(shared.members))
        return lambda: [call() for call in (shared.begin, *shared.branches, shared.end)]


@pytest.fixture
def engine(monkeypatch):
    """Let arrays use a fresh kind of RecordedEngine, which is returned."""
    kind = type("Engine", (RecordedEngine,), {"recorded": []})
    monkeypatch.setattr(array_module, "ThreadEngine", lambda workers, threads, say: kind(torch.device("cpu"), say))
    return kind


def test_the_same_as_the_threads(train_array, monkeypatch):
    threads = train_array(DIFFERENT, max_epochs=5)
    with monkeypatch.context() as patch:
        patch.setattr(array_module, "ThreadEngine", lambda w, t, say: RecordedEngine(torch.device("cpu"), say))
        graphs = train_array(DIFFERENT, max_epochs=5)
    assert graphs.lines == []
    for name in DIFFERENT:
        assert_nearly_the_same(threads.weights(name), graphs.weights(name))
        first, second = (array.folder / name / "metrics.csv" for array in (threads, graphs))
        rows = [[float(cell) for cell in path.read_text().splitlines()[-1].split(",")] for path in (first, second)]
        assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"max_steps": 13}, {"val_check_interval": 4}, {"gradient_clip_val": 0.01}], ids=str
)
def test_alone_and_together_with_the_same_bits(train_array, engine, settings):
    together = train_array(DIFFERENT, **settings)
    assert together.lines == []
    assert engine.recorded
    for name, changes in DIFFERENT.items():
        alone = train_array({name: changes}, **settings)
        assert_same_bits(alone.weights(name), together.weights(name))
        assert alone.outcomes[name].metrics == together.outcomes[name].metrics


def test_step_by_step_and_replayed_with_the_same_bits(train_array, engine, monkeypatch):
    """Learning rates on the device are float32, and so are those of the steps before the capture."""
    replayed = train_array(DIFFERENT, max_epochs=10)
    monkeypatch.setattr(cuda_module, "WARM_UP_STEPS", 1000)
    one_by_one = train_array(DIFFERENT, max_epochs=10)
    for name in DIFFERENT:
        assert_same_bits(replayed.weights(name), one_by_one.weights(name))


def test_what_lasts_longer_than_a_step_is_made_before_the_capture(train_array, engine, monkeypatch):
    """Memory that a graph allocates is taken by others in its next replay."""
    seen = []

    def record(self, shared):
        seen.append((shared, _lasting(shared)))
        return RecordedEngine._record(self, shared)

    monkeypatch.setattr(engine, "_record", record)
    train_array(DIFFERENT)
    for shared, before in seen:
        after = _lasting(shared)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {"_batches", "_now"}  # of one step


def _lasting(shared):
    return {name: value.data_ptr() for name, value in vars(shared).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_rates_and_logs_are_float32_in_every_precision(train_array, engine, monkeypatch, precision):
    seen = []
    record = engine._record
    monkeypatch.setattr(engine, "_record", lambda self, shared: seen.append(shared) or record(self, shared))
    replayed = train_array({"red": {}}, precision=precision, max_epochs=10)
    assert {shared.rates.dtype for shared in seen} == {shared._kept.dtype for shared in seen} == {torch.float32}
    monkeypatch.setattr(cuda_module, "WARM_UP_STEPS", 1000)
    one_by_one = train_array({"red": {}}, precision=precision, max_epochs=10)
    assert_same_bits(replayed.weights("red"), one_by_one.weights("red"))


def test_a_schedule_that_fails_ends_its_variant_alone_at_its_step(train_array, engine):
    """Torch raises the error after the step in which it is asked for one more than it was made for."""
    short = {"schedule": {**ONE_CYCLE, "total_steps": 12}}
    array = train_array({"red": {}, "short": short}, max_epochs=3)
    assert list(array.outcomes) == ["red"]
    assert "Tried to step 1" in str(array.failures["short"])
    rows = (array.folder / "short" / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("0,10,")
    assert_same_bits(array.weights("red"), train_array({"red": {}}, max_epochs=3).weights("red"))


class CalmsDown(torch.optim.lr_scheduler.LambdaLR):
    """Changes the momentum at the 13th step."""

    def __init__(self, optimizer):
        super().__init__(optimizer, lambda step: 1.0)

    def step(self, epoch=None):
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["momentum"] = 0.9 if self.last_epoch < 13 else 0.1


def test_a_setting_that_changes_late_is_not_missed(train_array, engine, monkeypatch):
    late = {"optimizer": SGD, "schedule": {"_target_": "test_cuda.CalmsDown", "_partial_": True}}
    array = train_array({"red": {}, "late": late}, max_epochs=3)
    assert array.lines == [
        "late: trains one step at a time, without a CUDA graph: its schedule changes more than the learning rate"
    ]
    assert_same_bits(array.weights("red"), train_array({"red": {}}, max_epochs=3).weights("red"))
    monkeypatch.setattr(cuda_module, "WARM_UP_STEPS", 1000)
    assert_same_bits(array.weights("late"), train_array({"late": late}, max_epochs=3).weights("late"))


class StopsAtFirstValidation(Callback):
    def on_validation_end(self, trainer, *_):
        trainer.should_stop = True


def test_as_many_steps_as_asked_for_at_least_and_no_more(train_array, engine):
    array = train_array(DIFFERENT, callbacks=[target(StopsAtFirstValidation)], max_epochs=5, min_steps=13)
    assert array.lines == []
    assert {name: outcome.facts["steps"] for name, outcome in array.outcomes.items()} == dict.fromkeys(DIFFERENT, 13)


def test_the_host_looks_while_the_next_steps_are_computed(train_array, engine, monkeypatch):
    order = []

    def note(name):
        method = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda self, *arguments: order.append(name) or method(self, *arguments))

    note("_ask")
    note("_look_at")
    monkeypatch.setattr(cuda_module, "SPAN_STEPS", 2)
    train_array({"red": {}}, max_epochs=1)
    assert order[:3] == ["_ask", "_ask", "_look_at"]
    assert order.count("_ask") == order.count("_look_at")


class StopsAt5(Callback):
    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 5 or trainer.should_stop


def test_who_asks_to_stop_takes_no_step_more(train_array, engine, monkeypatch):
    monkeypatch.setattr(cuda_module, "SPAN_SECONDS", 1e-9)  # spans of one step
    array = train_array(DIFFERENT, callbacks=[target(StopsAt5)])
    assert {name: outcome.facts["steps"] for name, outcome in array.outcomes.items()} == dict.fromkeys(DIFFERENT, 5)


class Greedy(nn.Module):
    """L1 that runs out of memory while others compute, as in a capture of many."""

    captured = False

    def forward(self, input, target):
        if self.captured:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return (input - target).abs().mean()


def test_memory_that_runs_out_within_a_step_is_taken_for_that(train_array, engine, monkeypatch):
    def record(self, shared):
        for place, (member, branch) in enumerate(zip(shared.members, shared.branches, strict=True)):
            if self.num_streams > 1 and isinstance(member.module.loss, Greedy):
                with monkeypatch.context() as patch:
                    patch.setattr(Greedy, "captured", True)
                    shared.begin()
                    try:
                        branch()
                    except Exception as error:
                        raise CaptureFailed(place, error) from error
        return RecordedEngine._record(self, shared)

    monkeypatch.setattr(engine, "_record", record)
    array = train_array({"red": {}, "greedy": {"loss": target(Greedy)}})
    assert array.lines == ["out of memory: from here on variants compute 1 at a time"]
    assert engine.recorded == [2]
    assert_same_bits(array.weights("red"), train_array({"red": {}}).weights("red"))


def test_memory_that_does_not_last_for_all_at_once(train_array, engine):
    whole = train_array(DIFFERENT)
    engine.most_streams = 1
    fewer = train_array(DIFFERENT)
    assert fewer.lines == ["out of memory: from here on variants compute 1 at a time"]
    for name in DIFFERENT:
        assert_same_bits(fewer.weights(name), whole.weights(name))
    engine.most_streams = 0
    none = train_array({"red": {}})
    assert none.lines == [
        "out of memory: from here on variants compute 1 at a time",
        "red: trains one step at a time, without a CUDA graph: out of memory",
    ]
    assert none.outcomes["red"].facts["steps"] == 20


FORGETFUL = {"model": {**MODEL, "_target_": f"{Forgetful.__module__}.Forgetful"}}
REFUSED = {
    "refused in capture": ({}, {}, "RuntimeError: operation not permitted when stream is capturing"),
    "random numbers": (FORGETFUL, {}, "it draws random numbers in its steps"),
    "momentum": (
        {"optimizer": SGD, "schedule": {**ONE_CYCLE, "cycle_momentum": True}},
        {},
        "its schedule changes more than the learning rate",
    ),
    "host state": ({"optimizer": {**ADAM, "_target_": "test_cuda.HostAdam", "fused": False}}, {}, "keeps its count on"),
    "callback": ({}, {"callbacks": [target(SeesSteps)]}, "a callback looks at every step"),
}


class HostAdam(torch.optim.Adam):
    """Counts in Python."""

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state["count"] = state.get("count", 0) + 1


@pytest.mark.parametrize("case", REFUSED)
def test_who_cannot_be_captured_goes_on_beside_the_others(train_array, engine, case):
    changes, settings, reason = REFUSED[case]
    plain = train_array({"odd": changes}, **settings)
    engine.recorded.clear()
    if case == "refused in capture":
        engine.refuses = "odd"
    array = train_array({"red": {}, "odd": changes}, **settings)
    lines = [line for line in array.lines if line.startswith("odd: trains one step at a time, without a CUDA graph: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    if case != "callback":  # which all have
        assert len(array.lines) == 1
        assert engine.recorded[-1] == 1
        assert_same_bits(array.weights("red"), train_array({"red": {}}).weights("red"))
    for key, weight in plain.weights("odd").items():
        assert torch.allclose(array.weights("odd")[key], weight, atol=1e-5), key


@pytest.mark.parametrize("n", [3, 9])
def test_nan_is_told_with_its_step_also_when_looked_at_later(train_array, engine, n):
    """One call is the check before training; the third step is still taken by itself, the ninth replayed."""
    array = train_array({"red": {}, "bad": {"loss": target(Fragile, n=n + 1, how="nan")}, "mse": {"loss": MSE}})
    assert str(array.failures["bad"]).startswith(f"the loss is nan at step {n}: lower the learning rate")
    assert engine.recorded[-1] == 2  # captured anew, without it
    whole = train_array({"red": {}, "mse": {"loss": MSE}})
    for name in ("red", "mse"):
        assert_same_bits(array.weights(name), whole.weights(name))


def test_what_is_logged_has_its_step(train_array, engine):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    array = train_array({"red": {}})
    events = EventAccumulator(str(array.folder / "red"))
    events.Reload()
    assert [event.step for event in events.Scalars("lr")] == [5, 10, 15, 20]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.002)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, total_steps=20, cycle_momentum=False)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < 20 else None
    assert [event.value for event in events.Scalars("lr")] == pytest.approx(
        [rates[step - 1] for step in (5, 10, 15, 20)]
    )
