"""What is told can be copied: no line, path or number is broken, however narrow the terminal is."""

import io

import pytest
from rich.console import Console

from losslens.console import duration, joined_lines, say
from losslens.report.table import print_results
from losslens.status import show

PATH = "outputs/my  photos/" + 12 * "long name-of-a-folder/" + "3.png"


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=20)


def told(console):
    return console.file.getvalue().splitlines()


def test_a_line_stays_a_line(console):
    say(console, f"[red] {PATH} [0.5]")
    assert told(console) == [f"[red] {PATH} [0.5]"]


def test_an_error_of_several_lines_becomes_one_with_its_paths_as_they_are():
    assert joined_lines(f" of {PATH}:\n\n\tnone  of it\n") == f"of {PATH}: none  of it"


def test_results_of_variants_with_long_names(console, write_sweep):
    name = "loss=l1,data.root=" + 20 * "a-b"
    sweep = write_sweep([{"name": name, "loss": "l1", "psnr": 12.3}, {"name": "b", "loss": "red", "status": "failed"}])
    print_results(console, sweep, [f"tensorboard --logdir {PATH}"])
    (row,) = (line.split() for line in told(console) if line.split()[:1] == [name])
    assert row[1:] == ["0.100*", "0.100*", "0.100*", "0.100*", "0.100*", "0.100*", "0.100*", "12.3", "0.100", "0.10"]
    assert told(console)[-2:] == ["b: failed: <b>why</b>", f"tensorboard --logdir {PATH}"]


def test_status_of_variants_with_long_names(console, write_sweep):
    name = "loss=l1,data.root=" + 20 * "a-b"
    sweep = write_sweep([{"name": name, "loss": "l1"}, {"name": "b", "loss": "red", "status": "failed"}])
    show(sweep.folder, console)
    rows = [line.split() for line in told(console)]
    assert [name, "done", "20", "0.1000"] in rows
    assert told(console)[-2] == "b: failed: <b>why</b>"
    assert told(console)[-1].endswith(f"go on with: python train.py resume={sweep.folder}")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (90, "2 min"), (3600, "1.0 h"), (90000, "1.0 days")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
