"""A sweep that version 0.1 made, of a variant that is done and one that was interrupted, is still of use."""

import json
import math
import tarfile
from pathlib import Path

import pytest
import torch
from commands import run

import losslens

ARCHIVE = Path(__file__).with_name("version-0.1.tar.xz")
SWEEP = Path("outputs/sweeps/before")
RECALL = "code/recall_at_1/isoluminant recoloring"


@pytest.fixture
def place(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_it_is_read(place):
    sweep = losslens.load_sweep(place / SWEEP)
    assert [variant.status["status"] for variant in sweep.variants.values()] == ["done", "interrupted"]
    assert sweep.table.loc["loss=l1", "steps"] == 560
    assert 0 < sweep.table.loc["loss=l1", RECALL] <= 1  # of a study that stands in metrics.json
    variant = losslens.load_variant(place / SWEEP / "loss=l1")
    assert variant(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_it_is_resumed_and_shown(place):
    done = run(["train.py", f"resume={SWEEP}"], place)
    assert done.returncode == 0, done.stderr
    assert "1 done, 1 interrupted from earlier on" in done.stdout
    assert "trains from step 7\n" in (place / SWEEP / "loss=red" / "log.txt").read_text()
    sweep = losslens.load_sweep(place / SWEEP)
    assert len(sweep.done) == 2
    assert sweep.table[RECALL].notna().all()
    assert (place / SWEEP / "report.html").is_file()
    anew = run(["train.py", *sweep["loss=red"].environment["command"][1:], "sweep=anew", "report=false"], place)
    assert anew.returncode == 0, anew.stderr
    resumed, whole = (json.loads((place / SWEEP.parent / name / "loss=red" / "metrics.json").read_text())
                      for name in ("before", "anew"))  # fmt: skip
    assert math.isclose(resumed["metrics"]["loss"], whole["metrics"]["loss"], rel_tol=0.01)  # another kind of CPU


def test_it_is_exported(place):
    done = run(["export.py", f"variant={SWEEP}/loss=l1", "format=torch_export"], place)
    assert done.returncode == 0, done.stderr
    assert (place / done.stdout.partition(": ")[0]).exists()
