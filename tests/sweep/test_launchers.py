"""Arrays in processes of their own on this machine: the same bits as in one process, whatever happens to them."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from sweeps import LOSSES, TINY, VARIANTS, Sweep

LOCAL = ["hydra/launcher=local_gpus", "hydra.launcher.processes=2"]
LONG = [*(each for each in TINY if not each.startswith("trainer.max_epochs")), "trainer.max_epochs=100000"]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def workers(sweep):
    """Process numbers of those that train."""
    return {beat["process"] for beat in sweep.heartbeats()}


def assert_as_unhurt(sweep, unhurt):
    assert sweep.states() == ["done", "done"]
    sweep.whole()
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_same_bits_and_one_report(sweep, unhurt):
    size = [each for each in TINY if each != "report=false"]
    done = sweep.run(sweep.command(*LOCAL, size=size))
    assert done.returncode == 0, done.stderr
    assert "2 arrays, 2 processes on the CPU" in done.stdout
    assert re.search(r"loss=l1 +0\.\d+\*", done.stdout)  # the table
    assert_as_unhurt(sweep, unhurt)
    assert (sweep.folder / "report.html").is_file()
    assert (sweep.folder / "log.txt").read_text().count("loss=red: loss") == 1
    again = sweep.run(sweep.command(*LOCAL, size=size))
    assert again.returncode == 0, again.stderr
    assert "2 done from earlier on" in again.stdout


def test_a_killed_worker_is_started_anew(sweep, unhurt):
    process = sweep.start(sweep.command(*LOCAL))
    sweep.wait_for(lambda: sweep.saved_step() >= 40 and workers(sweep), process)
    os.kill(workers(sweep).pop(), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_as_unhurt(sweep, unhurt)


def test_an_array_that_kills_its_processes_fails_alone(sweep):
    (sweep.place / "deadly.py").write_text(
        "import os, torch\nclass Deadly(torch.nn.L1Loss):\n    calls = 0\n"
        "    def forward(self, input, target):\n"
        "        self.calls += torch.is_grad_enabled()\n"
        "        if self.calls == 50:\n            os.kill(os.getpid(), 9)\n"
        "        return super().forward(input, target)\n"
    )
    losses = "loss._target_=deadly.Deadly,torch.nn.L1Loss"
    done = sweep.run(sweep.command(*LOCAL, losses=losses, size=[*TINY, "checkpoint.every=1h"]))
    assert done.returncode == 1
    assert done.stderr == "error: 1 of 2 variants failed: loss=Deadly: 3 processes that trained it were killed\n"


def test_asked_to_stop_it_stops_them(sweep, unhurt):
    process = sweep.start(sweep.command(*LOCAL))
    sweep.wait_for(lambda: min(sweep.saved_step(name) for name in VARIANTS) >= 20, process)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 130, errors
    assert errors.startswith("interrupted: SIGINT; go on with: python train.py resume=")
    assert sweep.states() == ["interrupted", "interrupted"]
    done = sweep.run(sweep.resumption())  # here in one process
    assert done.returncode == 0, done.stderr
    assert_as_unhurt(sweep, unhurt)


def test_without_the_process_of_the_command_they_end(sweep, unhurt):
    process = sweep.start(sweep.command(*LOCAL, size=LONG))
    sweep.wait_for(lambda: min(sweep.saved_step(name) for name in VARIANTS) >= 13, process)
    numbers = workers(sweep)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(map(is_alive, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_fail_fast_reaches_all(sweep):
    (sweep.place / "broken.py").write_text(
        "import torch\nclass Broken(torch.nn.L1Loss):\n    calls = 0\n"
        "    def forward(self, input, target):\n"
        "        self.calls += torch.is_grad_enabled()\n"
        "        if self.calls == 50:\n            raise RuntimeError('torn')\n"
        "        return super().forward(input, target)\n"
    )
    arguments = ["loss._target_=broken.Broken,torch.nn.L1Loss", "sweep=mine", *LONG, *LOCAL, "fail_fast=true"]
    done = sweep.run([*sweep.command()[:3], *arguments])
    assert done.returncode == 1
    assert "fail_fast=true" in done.stderr
    states = {path.parent.name: sweep.status(path.parent.name)["status"] for path in sweep.folder.glob("*/status.json")}
    assert states == {"loss=Broken": "failed", "loss=L1Loss": "interrupted"}


@pytest.mark.parametrize("launcher", [[], LOCAL])
def test_a_plan_starts_nothing(sweep, launcher):
    assert sweep.run(sweep.command(losses="loss=l1", size=[*TINY, "trainer.max_epochs=6"])).returncode == 0
    before = sorted(sweep.place.rglob("*"))
    done = sweep.run(sweep.command(*launcher, "plan=true", "seed=0,1"))
    assert done.returncode == 0, done.stderr
    assert f"4 variants in {sweep.folder.relative_to(sweep.place)}" in done.stdout
    assert "4 variants to train in" in done.stdout or "3 variants to train in" in done.stdout
    assert "MiB" in done.stdout
    assert "nothing was started" in done.stdout
    new = sweep.run([*sweep.command()[:3], LOSSES, *TINY, *launcher, "plan=true"])
    assert new.returncode == 0, new.stderr
    assert sorted(sweep.place.rglob("*")) == before


def test_a_plan_without_an_end(sweep):
    size = [*(each for each in TINY if "max_epochs" not in each), "trainer.max_epochs=-1"]
    done = sweep.run(sweep.command("plan=true", size=size))
    assert done.returncode == 1
    assert done.stderr == "error: training has no end: give trainer.max_epochs or trainer.max_steps\n"


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_not_installed_is_named(sweep, launcher, package):
    (sweep.place / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == '{package}' else find(name, *rest)\n"
    )
    done = sweep.run(sweep.command(f"hydra/launcher={launcher}"))
    assert done.returncode == 1
    assert done.stderr == f"error: hydra/launcher={launcher} needs {package}: pip install 'losslens[{launcher}]'\n"
