"""Variants that fail: the others end with the same bits, and everybody is told."""

import pytest
from commands import kill, run
from sweeps import SIZE, VARIANTS, Sweep

import losslens

MINE = """
import os, torch
class Bad(torch.nn.Module):
    def __init__(self, how, after=40):
        super().__init__()
        self.how, self.left = how, after
    def forward(self, input, target):
        loss = (input - target).abs().mean()
        if torch.is_grad_enabled():
            self.left -= 1
            if self.left < 0 and not os.path.exists("mended"):
                if self.how == "nan":
                    return loss * float("nan")
                if self.how == "memory":
                    raise MemoryError("no room")
                if self.how == "exit":
                    raise SystemExit(3)
                raise RuntimeError("a mistake of mine")
        return loss
"""
LOSSES = "loss=l1,bad,red"


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return Sweep(tmp_path)


def command(sweep, how, *arguments):
    group = sweep.place / "conf" / "loss"
    group.mkdir(parents=True, exist_ok=True)
    (group / "bad.yaml").write_text(f"_target_: mine.Bad\nhow: {how}\n")
    return sweep.command("hydra.searchpath=[file://conf]", *arguments, losses=LOSSES)


@pytest.mark.parametrize(("how", "reason"), [("raise", "a mistake of mine"), ("nan", "the loss is nan at step")])
def test_one_fails(sweep, unhurt, how, reason):
    done = sweep.run(command(sweep, how))
    assert done.returncode == 1
    assert done.stderr.startswith("error: 1 of 3 variants failed: loss=bad: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert "loss=bad: failed: " in done.stdout  # below the table
    assert sweep.status("loss=bad")["status"] == "failed"
    assert reason in sweep.status("loss=bad")["reason"]
    trace = (sweep.folder / "loss=bad" / "traceback.txt").read_text()
    assert "Traceback (most recent call last)" in trace
    assert reason in trace
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]
        assert sweep.results(name)["metrics"] == unhurt[name]["metrics"]
    for log in (sweep.folder / "log.txt", sweep.folder / "loss=bad" / "log.txt"):
        assert reason in log.read_text()


def test_memory_runs_out(sweep, unhurt):
    done = sweep.run(command(sweep, "memory"))
    assert done.returncode == 1
    assert "use fewer pixels, a smaller data.batch_size or a smaller model" in done.stderr
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]


def test_failures_are_retried_on_request_only(sweep, unhurt):
    assert sweep.run(command(sweep, "raise")).returncode == 1
    (sweep.place / "mended").touch()
    done = sweep.run(sweep.resumption())
    assert done.returncode == 1  # still one that failed
    assert "1 of 3 variants failed: loss=bad: RuntimeError: a mistake of mine" in done.stderr
    done = sweep.run(sweep.resumption("retry_failed=true"))
    assert done.returncode == 0, done.stderr
    assert sweep.status("loss=bad") == {"status": "done", "reason": None}
    assert "trains from step" in (sweep.folder / "loss=bad" / "log.txt").read_text()
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]


def test_fail_fast(sweep, unhurt):
    done = sweep.run(command(sweep, "raise", "fail_fast=true"))
    assert done.returncode == 1
    assert "interrupted: loss=bad failed, and fail_fast=true; go on with: python train.py resume=" in done.stderr
    assert sweep.status("loss=bad")["status"] == "failed"
    assert sweep.states() == ["interrupted", "interrupted"]
    done = sweep.run(sweep.resumption())
    assert done.returncode == 1  # of the one that failed
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]


def test_a_library_that_ends_the_program(sweep, unhurt):
    """`sys.exit` inside of a loss: that variant fails, and no other."""
    done = sweep.run(command(sweep, "exit"))
    assert done.returncode == 1
    assert "loss=bad: RuntimeError: it wanted to end the program with sys.exit(3)" in done.stderr
    assert sweep.states() == ["done", "done"]
    (sweep.place / "mended").touch()
    done = sweep.run([*sweep.resumption(), "retry_failed=true"])
    assert done.returncode == 0, done.stderr
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]


def test_all_fail(sweep):
    done = sweep.run(sweep.command("loss._target_=mine.Bad", "+loss.how=raise", losses="seed=0,1"))
    assert done.returncode == 1
    assert "2 of 2 variants failed" in done.stderr
    assert done.stderr.count("\n") == 1


def status(sweep):
    return run(["-m", "losslens.status", sweep.folder], sweep.place)


def test_status_of_a_sweep_at_work_dead_and_done(sweep):
    process = sweep.start(sweep.command(size=[*SIZE, "trainer=cpu", "trainer.max_epochs=100000", "report=false"]))
    sweep.wait_for(lambda: (sweep.folder / "heartbeat.json").exists(), process)
    shown = status(sweep)
    assert shown.returncode == 0, shown.stderr
    for text in (
        "loss=l1",
        "running",
        "of 2.5e+06",
        f"process {process.pid} on ",
        "at work: ",
        " left; process",
        "heard of",
    ):
        assert text in shown.stdout
    assert set(losslens.load_sweep(sweep.folder).table["status"]) == {"running"}
    kill(process)
    shown = status(sweep)
    assert "interrupted" in shown.stdout
    assert "running" not in shown.stdout
    assert f"no process is at work on it; go on with: python train.py resume={sweep.folder}" in shown.stdout


def test_status_of_a_sweep_that_is_done(sweep):
    assert sweep.run(sweep.command("trainer.max_epochs=1")).returncode == 0
    assert "all variants are done" in status(sweep).stdout
    nothing = run(["-m", "losslens.status", sweep.place], sweep.place)
    assert nothing.returncode == 1
    assert "has no sweep.json" in nothing.stderr


def test_tensorboard_has_each_step_once(sweep):
    """What a killed process wrote after its last state is dropped."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sweep.killed(90, sweep.command("checkpoint.every=40steps", "trainer.log_every_n_steps=1"))
    assert 65 <= sweep.saved_step() < 75  # and a validation since
    assert sweep.run(sweep.resumption()).returncode == 0
    accumulator = EventAccumulator(str(sweep.folder / "loss=l1"), size_guidance={"scalars": 0})
    accumulator.Reload()
    steps = [event.step for event in accumulator.Scalars("train/loss")]
    assert steps == list(range(1, 101))
