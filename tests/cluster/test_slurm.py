"""Sweeps on a real Slurm of one node."""

import re
import signal
import subprocess
import time

import pytest
from commands import HANGS
from filelock import FileLock
from one_node_slurm import is_possible, one_node_slurm, wait_for_idle
from sweeps import LOSSES, TINY, VARIANTS, Sweep

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not is_possible(), reason="needs root, two cores, slurmctld, slurmd and munged: apt install slurm-wlm munge"
    ),
]
SLURM = [
    *("hydra/launcher=slurm", "hydra.launcher.partition=debug", "hydra.launcher.max_jobs=2"),
    "hydra.launcher.additional_parameters={comment:any}",
    "hydra.launcher.setup=['export FROM_SETUP=1']",
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    # One at a time on a machine, whichever process of the tests comes first.
    only = FileLock(tmp_path_factory.getbasetemp().parent / "slurm.lock")
    with only, one_node_slurm(tmp_path_factory.mktemp("slurm")) as node:
        yield node


@pytest.fixture
def sweep(tmp_path, node):
    return Sweep(tmp_path)


def jobs(what="%i"):
    """Names of the jobs, or with `%T` their states."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", f"--format={what}"], capture_output=True, text=True, check=True
    )
    return asked.stdout.split()


def held(sweep, *arguments, **settings):
    """Start a sweep, and wait until all jobs have written states; none goes on before `let_go`."""
    process = sweep.held(20, sweep.command(*SLURM, *arguments, **settings), variants=2)
    assert len(jobs()) == 2
    return process


def assert_ends_as_unhurt(sweep, unhurt, process):
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    assert sweep.states() == ["done", "done"]
    for name in VARIANTS:
        assert sweep.results(name) == unhurt[name]
    return out


def test_the_notice_of_a_preemption(sweep, unhurt):
    process = held(sweep)
    subprocess.run(["scancel", "--signal=USR2", jobs()[0]], check=True)
    sweep.pace(20, 0.5)
    sweep.wait_for(lambda: "interrupted" in sweep.states(), process)
    sweep.let_go()
    out = assert_ends_as_unhurt(sweep, unhurt, process)
    assert "2 arrays as jobs of Slurm: " in out
    logs = [path.read_text() for path in sweep.folder.glob("loss=*/log.txt")]
    assert sum("interrupted: SIGUSR2" in log for log in logs) == 1


def test_a_node_fails(sweep, unhurt, node):
    process = held(sweep)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    sweep.wait_for(lambda: "RUNNING" not in jobs("%T"), process)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"])  # unless it is back by itself
    sweep.let_go()
    assert_ends_as_unhurt(sweep, unhurt, process)
    wait_for_idle(node)


def test_jobs_are_cancelled(sweep, unhurt):
    process = held(sweep)
    subprocess.run(["scancel", *{job.partition("_")[0] for job in jobs()}], check=True)
    sweep.pace(20, 0.5)
    _, errors = process.communicate()
    sweep.let_go()
    assert process.returncode == 1
    assert "2 variants are not done; go on with: " in errors
    assert sweep.states() == ["interrupted", "interrupted"]
    again = sweep.start(sweep.command(*SLURM))
    assert_ends_as_unhurt(sweep, unhurt, again)


def test_the_submitting_side_leaves(sweep):
    process = held(sweep, size=[each for each in TINY if each != "report=false"])
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 130
    assert re.search(r"the jobs (\d+) go on in Slurm; end them with: scancel \1\n", out)
    assert "python -m losslens.status" in errors
    refused = sweep.run(sweep.resumption())
    assert refused.returncode == 1
    assert "other processes are at work on" in refused.stderr
    sweep.let_go()
    deadline = time.monotonic() + HANGS
    while not (sweep.folder / "arrays" / "reported").exists():  # by the last job
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert sweep.states() == ["done", "done"]
    assert (sweep.folder / "report.html").is_file()


def test_slurm_refuses(sweep):
    done = sweep.run(["train.py", "-m", LOSSES, *TINY, *SLURM, "hydra.launcher.partition=nowhere"])
    assert done.returncode == 1
    assert "Slurm takes no jobs: " in done.stderr
    assert "invalid partition" in done.stderr
    assert done.stderr.count("\n") == 1
