"""The commands in interpreters of their own, with nothing imported beforehand; most other tests fork them."""

import shutil
import subprocess
import sys

import pytest
from commands import ROOT, run, start

PHOTOGRAPH = ROOT / "docs" / "photograph.jpg"
OUT = "hydra.run.dir=out"


@pytest.mark.slow("starts an interpreter for each command")
@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["train.py", "loss=red", "experiment=smoke", "hydra.run.dir=run"], "run/report.html"),
        (["lens.py", "loss=luma", "size=24", "steps=20", "hydra.run.dir=lens"], "lens/lens.html"),
        (["reconstruct.py", "variant=sweep", f"images={PHOTOGRAPH}", OUT], "out/sheet.png"),
        (
            ["export.py", "variant=sweep/loss=l1,seed=0", "format=safetensors", "hydra.run.dir=out"],
            "out/loss=l1,seed=0.md",
        ),
        (["-m", "losslens.report", "sweep"], "sweep/report.html"),
        (["-m", "losslens.status", "sweep"], "sweep/sweep.json"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_starts_by_itself(command, left, trained_sweep, tmp_path):
    shutil.copytree(trained_sweep, tmp_path / "sweep")
    done = run(command, tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / left).is_file()


def test_a_forked_command_is_like_one_of_its_own(tmp_path):
    """Of what tests look at: arguments, folder, path of imports, output, exit code, and death by a signal."""
    (tmp_path / "mine.py").write_text(
        "import os, sys\n"
        "import threading\n"
        "print(__name__, sys.argv[1:], os.getcwd(), sys.path[:2], threading.active_count(), os.environ['MINE'])\n"
        "print('wrong', file=sys.stderr)\n"
        "os.kill(os.getpid(), 9) if 'killed' in sys.argv else sys.exit(3)\n"
    )
    for fresh in (False, True):
        done = run(["-m", "mine", "a b"], tmp_path, fresh=fresh, MINE="1")
        assert done.stdout == f"__main__ ['a b'] {tmp_path} {[str(tmp_path)] * 2} 1 1\n"
        assert (done.returncode, done.stderr) == (3, "wrong\n")
        process = start(["-m", "mine", "killed"], tmp_path, fresh=fresh, MINE="1")
        process.communicate()
        assert process.returncode == -9


def test_what_only_reads_a_folder_loads_no_torch():
    code = "import sys, losslens.status, losslens; losslens.load_sweep; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
