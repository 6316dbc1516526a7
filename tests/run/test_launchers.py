"""Arrays in processes of their own on this machine: the same bits as in one process, whatever happens to them."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from commands import HANGS, kill
from sweeps import LOSSES, TINY, VARIANTS, Sweep

from losslens.run import plan as pack_module
from losslens.run.plan import pack
from losslens.sweep.queue import claimed_arrays, clear_queue, queue_arrays, queued_arrays
from losslens.training.costs import StepBytes, VariantCost
from losslens.variant import Variant

TRAINER = {"_target_": "lightning.Trainer", "accelerator": "cpu", "max_epochs": 1}

# Of the tests that start interpreters for their workers, some seconds each, one is in the first tier.
MORE_WORKERS = pytest.mark.slow("starts interpreters for its workers")
LOCAL = ["hydra/launcher=local_gpus", "hydra.launcher.processes=2"]
LONG = [*(each for each in TINY if not each.startswith("trainer.max_epochs")), "trainer.max_epochs=100000"]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def workers(sweep):
    return sweep.processes("losslens.run.worker")


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


@MORE_WORKERS
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


def test_killed_workers_are_started_anew(sweep, unhurt):
    process = sweep.held(45, sweep.command(*LOCAL), variants=2)
    for number in workers(sweep):
        os.kill(number, signal.SIGKILL)
    sweep.let_go()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_as_unhurt(sweep, unhurt)


@MORE_WORKERS
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


@MORE_WORKERS
def test_asked_to_stop_it_stops_them(sweep, unhurt):
    process = sweep.held(20, sweep.command(*LOCAL), variants=2)
    process.send_signal(signal.SIGINT)
    sweep.pace(20, 0.5)
    _, errors = process.communicate()
    sweep.let_go()
    assert process.returncode == 130, errors
    assert errors.startswith("interrupted: SIGINT; go on with: python train.py resume=")
    assert sweep.states() == ["interrupted", "interrupted"]
    done = sweep.run(sweep.resumption())  # here in one process
    assert done.returncode == 0, done.stderr
    assert_as_unhurt(sweep, unhurt)


@MORE_WORKERS
def test_all_are_asked_to_stop_at_once(sweep, unhurt):
    """As systemd and scancel do; the workers are asked by the command, too."""
    process = sweep.held(20, sweep.command(*LOCAL), variants=2)
    steps = [sweep.saved_step(name) for name in VARIANTS]
    for number in (*workers(sweep), process.pid):
        os.kill(number, signal.SIGTERM)
    sweep.pace(20, 0.5)
    _, errors = process.communicate()
    sweep.let_go()
    assert process.returncode == 143, errors
    assert sweep.states() == ["interrupted", "interrupted"]
    assert [sweep.saved_step(name) for name in VARIANTS] > steps
    assert sweep.run(sweep.resumption()).returncode == 0
    assert_as_unhurt(sweep, unhurt)


@MORE_WORKERS
def test_processes_that_cannot_start(sweep):
    (sweep.place / "sitecustomize.py").write_text(
        "import os, sys\nif 'losslens.run.worker' in sys.orig_argv:\n"
        "    print('no such library', file=sys.stderr, flush=True); os._exit(3)\n"
    )
    done = sweep.run(sweep.command(*LOCAL), fresh=True)
    assert done.returncode == 1
    assert "the processes that train ended: no such library" in done.stdout
    assert "2 variants are not done; go on with: python train.py resume=" in done.stderr
    (sweep.place / "sitecustomize.py").write_text("")
    assert sweep.run(sweep.resumption()).returncode == 0
    assert sweep.states() == ["done", "done"]


def test_arrays_that_others_have_are_not_withdrawn(tmp_path):
    first, second = queue_arrays(tmp_path, [["a"], ["b"]], {"report": True, "fail_fast": False})
    with second.claimed() as mine:
        assert mine
        assert claimed_arrays(tmp_path) == [second]
        with second.claimed() as again:
            assert not again
        with pytest.raises(ValueError, match="other processes are at work on"):
            clear_queue(tmp_path)
        assert not second.has_ended
    clear_queue(tmp_path)
    assert first.has_ended
    assert second.has_ended
    assert queued_arrays(tmp_path) == []


@pytest.mark.parametrize(
    ("seconds", "slots", "most", "expected"),
    [
        ([1] * 8, 2, "auto", [4, 4]),
        ([9, 1, 1, 1], 2, "auto", [9, 3]),
        ([1] * 5, 1, 2, [2, 2, 1]),
        ([3, 2, 1], 8, "auto", [3, 2, 1]),
    ],
)
def test_arrays_take_about_the_same_time(seconds, slots, most, expected, tmp_path):
    config = {"trainer": TRAINER, "array": {"max_variants": most}}
    variants = [Variant(str(number), config, tmp_path, {}) for number in range(len(seconds))]
    arrays = pack([(variants, [VariantCost(StepBytes(1, 1), each) for each in seconds])], slots)
    assert [array.work for array in arrays] == expected
    assert sorted(each.name for array in arrays for each in array.variants) == [each.name for each in variants]


def test_arrays_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_module, "free_memory", lambda device: 1000)  # 400 for each of two slots
    monkeypatch.setattr(pack_module, "count_workers", lambda variants: 1)
    config = {"trainer": TRAINER, "array": {"max_variants": "auto"}}
    variants = [Variant(str(number), config, tmp_path, {}) for number in range(6)]
    arrays = pack([(variants, [VariantCost(StepBytes(100, 150), 1.0)] * 6)], 2)
    assert [len(array.variants) for array in arrays] == [2, 2, 2]
    assert all(array.bytes == 350 for array in arrays)


@MORE_WORKERS
def test_without_the_process_of_the_command_they_end(sweep, unhurt):
    process = sweep.start(sweep.command(*LOCAL, size=LONG))
    sweep.wait_for(lambda: min(sweep.saved_step(name) for name in VARIANTS) >= 13, process)
    numbers = workers(sweep)
    kill(process)
    deadline = time.monotonic() + HANGS
    while any(map(is_alive, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@MORE_WORKERS
def test_fail_fast_reaches_all(sweep):
    (sweep.place / "broken.py").write_text(
        "import pathlib, torch\n"
        f"OTHER = pathlib.Path({str(sweep.folder / 'loss=L1Loss' / 'status.json')!r})\n"
        "class Broken(torch.nn.L1Loss):\n"
        "    def forward(self, input, target):\n"
        "        if torch.is_grad_enabled() and OTHER.is_file() and 'running' in OTHER.read_text():\n"
        "            raise RuntimeError('torn')\n"
        "        return super().forward(input, target)\n"
    )
    arguments = ["loss._target_=broken.Broken,torch.nn.L1Loss", "sweep=mine", *LONG, *LOCAL, "fail_fast=true"]
    done = sweep.run(["train.py", "-m", *arguments])
    assert done.returncode == 1
    assert "fail_fast=true" in done.stderr
    states = {path.parent.name: sweep.status(path.parent.name)["status"] for path in sweep.folder.glob("*/status.json")}
    assert states == {"loss=Broken": "failed", "loss=L1Loss": "interrupted"}


@pytest.mark.parametrize("launcher", [[], LOCAL])
def test_a_plan_starts_nothing(sweep, launcher):
    assert sweep.run(sweep.command(losses="loss=l1")).returncode == 0
    before = sorted(sweep.place.rglob("*"))
    done = sweep.run(sweep.command(*launcher, "plan=true", "seed=0,1"))
    assert done.returncode == 0, done.stderr
    assert f"4 variants in {sweep.folder.relative_to(sweep.place)}" in done.stdout
    assert "4 variants to train in" in done.stdout or "3 variants to train in" in done.stdout
    assert "MiB" in done.stdout
    assert "nothing was started" in done.stdout
    new = sweep.run(["train.py", "-m", LOSSES, *TINY, *launcher, "plan=true"])
    assert new.returncode == 0, new.stderr
    assert sorted(sweep.place.rglob("*")) == before


def test_a_plan_without_an_end(sweep):
    size = [*(each for each in TINY if "max_epochs" not in each), "trainer.max_epochs=-1"]
    done = sweep.run(sweep.command("plan=true", size=size))
    assert done.returncode == 1
    assert done.stderr == "error: trainer.max_steps is -1: use a whole number of 1 or more, or trainer.max_epochs\n"


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_not_installed_is_named(sweep, launcher, package):
    (sweep.place / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == '{package}' else find(name, *rest)\n"
    )
    done = sweep.run(sweep.command(f"hydra/launcher={launcher}"), fresh=True)
    assert done.returncode == 1
    assert done.stderr == f"error: hydra/launcher={launcher} needs {package}: pip install 'losslens[{launcher}]'\n"
