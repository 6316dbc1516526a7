"""Interrupted at any moment, a search goes on, and ends with the same trials."""

import json
import shlex
import shutil
import signal

import optuna
import pytest
from commands import kill
from sweeps import Sweep

from losslens.sweep.pruning import JOURNAL, STUDY, open_storage

WORDS = ["hydra/sweeper=optuna", "optimize=val/loss:min", "model.code_channels=choice(2,4)"]
WORDS += ["hydra.sweeper.n_trials=5", "hydra.sweeper.batch=2"]
RATE = "optimizer.lr=tag(log,interval(1e-3,1e-2))"


def command(sweep):
    return sweep.command(*WORDS, losses=RATE)


def trials(sweep):
    found = optuna.load_study(study_name=STUDY, storage=open_storage(sweep.folder)).trials
    return [(trial.state.name, trial.params, trial.value, trial.user_attrs) for trial in found]


@pytest.fixture(scope="module")
def unhurt_search(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("unhurt"))
    done = sweep.run(command(sweep))
    assert done.returncode == 0, done.stderr
    return sweep


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_same_command_goes_on(tmp_path, unhurt_search, number):
    sweep = Sweep(tmp_path)
    process = sweep.held(20, command(sweep), done=2)  # in the midst of the second batch
    process.send_signal(number)
    sweep.pace(20, 0.5, done=2)
    _, errors = process.communicate()
    sweep.let_go()
    states = [trial[0] for trial in trials(sweep)]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING", "RUNNING"]
    if number == signal.SIGTERM:
        assert process.returncode == 143
        words = shlex.join(command(sweep)[1:])
        assert errors.splitlines()[-1] == f"interrupted: SIGTERM; go on with: python train.py {words}"
        assert sorted(statuses(sweep)) == ["done", "done", "interrupted", "interrupted"]
    again = sweep.run(command(sweep))
    assert again.returncode == 0, again.stderr
    assert "2 done, 2 interrupted from earlier on" in again.stdout
    assert trials(sweep) == trials(unhurt_search)
    assert statuses(sweep) == 5 * ["done"]
    sweep.whole()
    finished = sweep.run(command(sweep))  # once more, where nothing is left to do
    assert finished.returncode == 0
    assert finished.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert trials(sweep) == trials(unhurt_search)


@pytest.mark.parametrize("last", ['"op_code":6', '"op_code":4'])  # ends a trial, begins one
def test_killed_around_a_line_of_the_journal(tmp_path, unhurt_search, last):
    """The variant of its last trial is done: that is told what it came to, and not trained again."""
    shutil.copytree(unhurt_search.place, tmp_path, dirs_exist_ok=True)
    sweep = Sweep(tmp_path)
    journal = sweep.folder / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    cut = max(number for number, line in enumerate(lines) if last in line)
    journal.write_text("".join(lines[: cut + (last == '"op_code":4')]))
    assert [trial[0] for trial in trials(sweep)] == [*4 * ["COMPLETE"], "RUNNING"]
    again = sweep.run(command(sweep))
    assert again.returncode == 0, again.stderr
    assert "5 variants in outputs/sweeps/mine, 5 done from earlier on" in again.stdout
    assert trials(sweep) == trials(unhurt_search)


def test_a_second_process_is_refused(tmp_path):
    sweep = Sweep(tmp_path)
    process = sweep.held(1, command(sweep))
    second = sweep.run(command(sweep))
    assert second.returncode == 1
    assert "another process is at work on" in second.stderr
    kill(process)


def statuses(sweep):
    return [json.loads(path.read_text())["status"] for path in sweep.folder.glob("*/status.json")]
