"""Interrupted at any moment, a sweep goes on and ends with the same bits."""

import random
import re
import signal
import time
from threading import Timer

import pytest
from commands import kill
from filelock import FileLock
from sweeps import LOSSES, SIZE, TINY, VARIANTS, Sweep

from losslens.files import ASIDE
from losslens.sweep.folder import locked
from losslens.sweep.queue import is_locked

SLOW = [*(each for each in TINY if not each.startswith("trainer.max_epochs")), "trainer.max_epochs=100000"]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def finish(sweep, unhurt):
    done = sweep.run(sweep.resumption())
    assert done.returncode == 0, done.stderr
    assert sweep.states() == ["done", "done"]
    sweep.whole()
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]
        assert not list((sweep.folder / name / "checkpoints").glob("state*"))
    assert not list(sweep.folder.rglob(f".*{ASIDE}*"))


@pytest.mark.parametrize("step", [17, 45, 61, 93])
def test_killed_after_a_state(sweep, unhurt, step):
    sweep.killed(step)
    assert 0 < sweep.saved_step() < step
    for folder in (sweep.folder, sweep.folder / VARIANTS[0], sweep.folder / VARIANTS[0] / "pictures"):
        (folder / f".file{ASIDE}0").touch()  # as if it had been killed in the midst of writing one
    finish(sweep, unhurt)


def test_killed_before_the_first_step(sweep, unhurt):
    sweep.pace(1, float("inf"))
    process = sweep.start()
    sweep.wait_for(lambda: (sweep.folder / "sweep.json").exists(), process)
    kill(process)
    sweep.let_go()
    assert sweep.states() == ["pending", "pending"] or "running" in sweep.states()
    finish(sweep, unhurt)


def test_killed_again_and_again(sweep, unhurt):
    command = sweep.command()
    for step in (20, 50, 80):
        sweep.killed(step, command)
        command = sweep.resumption()
    finish(sweep, unhurt)


REPEATED = pytest.mark.slow("more of the same")


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=REPEATED) for seed in range(3, 20))])
def test_killed_at_random(sweep, unhurt, seed):
    """At a moment between the list of variants and the end, wherever that is."""
    process = sweep.start()
    sweep.wait_for(lambda: (sweep.folder / "sweep.json").exists(), process)
    time.sleep(random.Random(seed).uniform(0, 1.5))
    kill(process)
    sweep.whole()
    finish(sweep, unhurt)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_asked_to_stop(sweep, unhurt, number, code):
    process = sweep.held(20)
    process.send_signal(number)
    sweep.pace(20, 0.5)
    _, errors = process.communicate()
    sweep.let_go()
    assert process.returncode == code
    resume = f"python train.py resume={sweep.folder.relative_to(sweep.place)}"
    assert errors == f"interrupted: {signal.Signals(number).name}; go on with: {resume}\n"
    assert [sweep.status(name) for name in VARIANTS] == 2 * [
        {"status": "interrupted", "reason": signal.Signals(number).name}
    ]
    steps = {sweep.saved_step(name) for name in VARIANTS}
    assert len(steps) == 1  # all stopped at the same one
    finish(sweep, unhurt)


def test_asked_to_stop_it_writes_states_first(sweep):
    """With a minute between states, none would be there otherwise."""
    size = [*(each for each in SLOW if not each.startswith("checkpoint.every")), "checkpoint.every=60s"]
    process = sweep.start(sweep.command(size=size))
    table = sweep.folder / "loss=red" / "metrics.csv"
    sweep.wait_for(lambda: table.exists() and table.read_text().count("\n") > 2, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    assert sweep.saved_step("loss=l1") == sweep.saved_step("loss=red") > 25  # where the first validation was


def test_asked_to_stop_it_still_makes_the_report(sweep):
    process = sweep.start(sweep.command("report=true", size=[each for each in SLOW if each != "report=false"]))
    sweep.wait_for(lambda: sweep.saved_step() >= 60, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == 143
    assert "stopped: SIGTERM; go on with: python train.py resume=" in out
    page = (sweep.folder / "report.html").read_text()
    assert "loss=l1: interrupted: SIGTERM" in page
    assert (sweep.folder / "sheet.png").is_file()


def test_asked_to_stop_with_a_variant_that_is_done(sweep, unhurt):
    """Then there is a report with pictures and a table to make."""
    shown = [each for each in TINY if each != "report=false"]
    assert sweep.run(sweep.command(losses="loss=l1", size=shown)).returncode == 0
    process = sweep.held(20, sweep.command(size=shown))
    process.send_signal(signal.SIGTERM)
    sweep.pace(20, 0.5)
    process.communicate()
    sweep.let_go()
    assert process.returncode == 143
    assert sweep.states() == ["done", "interrupted"]
    assert sweep.run(sweep.resumption()).returncode == 0
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]
        assert sweep.results(name)["metrics"] == unhurt[name]["metrics"]


def test_someone_who_looks_at_the_lock_is_in_nobodys_way(tmp_path):
    """As `losslens.status` does, for a moment."""
    lock = FileLock(tmp_path / "sweep.lock", thread_local=False)
    lock.acquire()
    Timer(0.3, lock.release).start()
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_a_second_signal_ends_it_at_once(sweep):
    """While the first one is being followed: here in a report that takes its time."""
    (sweep.place / "sitecustomize.py").write_text(
        "import importlib.abc, sys, time\n"
        "class Slow(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'losslens.report.make':\n"
        "            open('reporting', 'w').close(); time.sleep(100_000)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    command = sweep.command("report=true", size=[each for each in SLOW if each != "report=false"])
    process = sweep.start(command, fresh=True)
    sweep.wait_for(lambda: sweep.saved_step() >= 20, process)
    process.send_signal(signal.SIGINT)
    sweep.wait_for(lambda: (sweep.place / "reporting").exists(), process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert sweep.states() == ["interrupted", "interrupted"]


def test_the_same_command_goes_on(sweep, unhurt):
    sweep.killed(60)
    done = sweep.run()  # the very same command
    assert done.returncode == 0, done.stderr
    assert "2 interrupted from earlier on" in done.stdout
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]


def test_what_is_done_is_left_alone(sweep, unhurt):
    assert sweep.run().returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (sweep.folder / "loss=l1").rglob("*") if path.is_file()}
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert "2 done from earlier on" in done.stdout
    assert "loss=l1" in done.stdout  # the table is shown again
    assert {path: path.stat().st_mtime_ns for path in (sweep.folder / "loss=l1").rglob("*") if path.is_file()} == before


def test_variants_are_added(sweep, unhurt):
    assert sweep.run(sweep.command(losses="loss=red")).returncode == 0
    done = sweep.run()  # l1 and red
    assert done.returncode == 0, done.stderr
    for name in VARIANTS:
        assert sweep.results(name)["weights"] == unhurt[name]["weights"]
        assert sweep.results(name)["metrics"] == unhurt[name]["metrics"]


def test_only_new_variants_are_named(sweep, unhurt):
    assert sweep.run(sweep.command(losses="loss=l1,luma")).returncode == 0
    done = sweep.run(sweep.command(losses="loss=red"))
    assert done.returncode == 0, done.stderr
    assert sweep.results("loss=red")["weights"] == unhurt["loss=red"]["weights"]


def test_a_variant_that_is_called_as_one_that_is_there(sweep):
    """Names say what varies in a command: here the seeds in both."""
    size = [each for each in TINY if each != "trainer.max_epochs=4"] + ["trainer.max_epochs=1"]
    assert sweep.run(sweep.command("seed=1,2", losses="loss=l1", size=size)).returncode == 0
    for _ in range(2):  # the second time, all is there
        done = sweep.run(sweep.command("seed=1,2", losses="loss=luma", size=size))
        assert done.returncode == 0, done.stderr
        folders = sorted(path.parent.name for path in sweep.folder.glob("*/metrics.json"))
        assert folders == ["loss=luma,seed=1", "loss=luma,seed=2", "seed=1", "seed=2"]
    assert "2 done from earlier on" not in done.stdout
    assert "4 done from earlier on" in done.stdout
    done = sweep.run(sweep.command("seed=1,2", "optimizer.lr=0.01", losses="loss=luma", size=size))
    assert done.returncode == 1
    assert "loss=luma,seed=1 of " in done.stderr
    assert "optimizer.lr was 0.02, now 0.01" in done.stderr


def test_killed_while_folders_are_made(sweep, unhurt):
    """Before `sweep.json`, which is written last, lists them."""
    assert sweep.run(sweep.command(losses="loss=l1")).returncode == 0
    (sweep.folder / "loss=red").mkdir()
    (sweep.folder / "loss=red" / "config.yaml").write_text("half")
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    assert sweep.results("loss=red")["weights"] == unhurt["loss=red"]["weights"]


def test_another_configuration_is_refused(sweep):
    assert sweep.run().returncode == 0
    done = sweep.run(sweep.command("optimizer.lr=0.01", "trainer.max_epochs=7"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: loss=l1 of ")
    assert "trainer.max_epochs was 4, now 7" in done.stderr
    assert "optimizer.lr was 0.02, now 0.01" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sweep.states() == ["done", "done"]


def test_a_single_run_goes_on(sweep):
    sweep.killed(20, ["train.py", "loss=red", *TINY])
    (folder,) = sweep.place.glob("outputs/*/*-loss=red")
    assert (folder / "checkpoints" / "state.ckpt").exists()
    done = sweep.run(["train.py", f"resume={folder}", "report=false"])
    assert done.returncode == 0, done.stderr
    assert list(sweep.place.glob("outputs/*/*")) == [folder]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=nothing"], "nothing is no folder: give that of a sweep or of a run with resume=FOLDER"),
        (["resume=."], "has no sweep.json: give the folder of a sweep or of a run with resume=FOLDER"),
        (["-m", "resume=.", "loss=l1,red"], "resume=FOLDER knows its variants: it goes without -m"),
        (["resume=.", "optimizer.lr=1"], "resume=FOLDER goes on with the settings of that folder, and not with"),
        (["sweep=name"], "sweep=NAME names a sweep of several variants: it goes with -m"),
        (["checkpoint.every=often"], "checkpoint.every is often: use a time such as 60s"),
    ],
)
def test_wrong_words(sweep, arguments, message):
    size = [] if any(each.startswith("resume=") for each in arguments) else [*SIZE, "trainer=cpu"]
    done = sweep.run(["train.py", *arguments, *size])
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_its_names_stay_inside(sweep):
    done = sweep.run(["train.py", "-m", LOSSES, "sweep=../../out", *TINY, "trainer.max_epochs=1"])
    assert done.returncode == 0, done.stderr
    (name,) = (path.name for path in (sweep.place / "outputs" / "sweeps").iterdir())
    assert re.fullmatch("out-[0-9a-f]{8}", name)


def test_a_second_process_is_refused(sweep):
    process = sweep.start(sweep.command(size=SLOW))
    sweep.wait_for(lambda: sweep.saved_step() >= 13, process)
    for command in (sweep.command(size=SLOW), sweep.resumption()):
        done = sweep.run(command)
        assert done.returncode == 1
        assert "another process is at work on" in done.stderr
        assert done.stderr.count("\n") == 1
    assert process.poll() is None  # it is not disturbed
    kill(process)
    process = sweep.start(sweep.resumption())  # a lock of a dead process holds nobody
    step = sweep.saved_step()
    sweep.wait_for(lambda: sweep.saved_step() > step, process)
    kill(process)
    assert sweep.saved_step() > step
