"""One variant in two processes that share every batch."""

import json
import os
import signal
import time

import pytest
from commands import HANGS, kill
from sweeps import UNPACED, VARIANTS, Sweep

pytestmark = pytest.mark.slow("each test starts several interpreters, which wait for each other")
DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2"]
SIZE = [*DDP, *(each for each in UNPACED if each != "trainer=cpu"), "trainer.callbacks=[{_target_:pace.Pace}]"]
TOLERANCE = 2e-2  # of metrics after 100 steps: sums in another order, and Muon takes small directions as far as large


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("peers"))
    done = sweep.run(sweep.command(size=SIZE))
    assert done.returncode == 0, done.stderr
    return sweep


def test_the_same_as_one_process_with_the_whole_batch(trained, unhurt):
    for name in VARIANTS:
        results = trained.results(name)
        assert results["metrics"] == pytest.approx(unhurt[name]["metrics"], rel=TOLERANCE)
        assert results["losses"] == pytest.approx(unhurt[name]["losses"], rel=TOLERANCE)
        assert results["metrics"] != unhurt[name]["metrics"]  # it was another computation
        assert len(results["table"].splitlines()) == len(unhurt[name]["table"].splitlines())  # written once
        assert results["pictures"] == unhurt[name]["pictures"]
        assert len(list((trained.folder / name).glob("events.*"))) == 1


def test_stopped_together_they_go_on_together(trained, sweep):
    process = sweep.held(30, sweep.command(size=SIZE))
    process.send_signal(signal.SIGTERM)
    sweep.pace(30, 0.5)
    _, errors = process.communicate()
    sweep.let_go()
    assert process.returncode == 143, errors
    assert "interrupted" in sweep.states()
    done = sweep.run(sweep.resumption())
    assert done.returncode == 0, done.stderr
    for name in VARIANTS:
        assert sweep.results(name) == trained.results(name)


def peers(sweep):
    return sweep.processes("--peer")


def test_one_of_them_is_killed(trained, sweep):
    process = sweep.held(30, sweep.command(size=SIZE))
    os.kill(peers(sweep)[-1], signal.SIGKILL)
    sweep.let_go()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    for name in VARIANTS:
        assert sweep.results(name) == trained.results(name)


def test_the_command_is_killed(trained, sweep):
    process = sweep.held(30, sweep.command(size=SIZE))
    kill(process)
    sweep.pace(30, 0.5)
    deadline = time.monotonic() + HANGS
    while peers(sweep) or sweep.processes("losslens.sweep.worker"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    sweep.let_go()
    assert "failed" not in sweep.states()
    done = sweep.run(sweep.resumption())
    assert done.returncode == 0, done.stderr
    for name in VARIANTS:
        assert sweep.results(name) == trained.results(name)


def test_a_loss_that_is_nan_in_one_part_fails_in_all(sweep):
    (sweep.place / "partly.py").write_text(
        "import os, torch\nclass Partly(torch.nn.L1Loss):\n    calls = 0\n"
        "    def forward(self, input, target):\n"
        "        self.calls += torch.is_grad_enabled()\n"
        "        bad = self.calls == 20 and os.environ.get('RANK') == '1'\n"
        "        return super().forward(input, target) * (float('nan') if bad else 1)\n"
    )
    done = sweep.run(["train.py", "-m", "loss._target_=partly.Partly,torch.nn.L1Loss", "sweep=mine", *SIZE])
    assert done.returncode == 1
    assert "1 of 2 variants failed: loss=Partly: the loss is nan at step " in done.stderr
    assert json.loads((sweep.folder / "loss=L1Loss" / "status.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.devices=3"], "data.batch_size 8 and 16 images to validate on are not enough for 3 processes"),
        (["trainer.devices=auto"], "with trainer=ddp give the number of processes"),
    ],
)
def test_wrong_words(sweep, arguments, message):
    done = sweep.run(sweep.command(*arguments, losses="loss=l1", size=SIZE))
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
