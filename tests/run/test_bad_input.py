"""Each mistake ends in one line that says what to do, exit code 1 and no traceback."""

import json
import signal
import time

import numpy as np
import pytest
from commands import HANGS, start
from conftest import TINY, the_only

from losslens.sweep.results import load_sweep

MINE = """
import torch
class NoEncode(torch.nn.Module):
    def decode(self, code): return code
class Crooked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)
    def encode(self, images): return self.layer(images)
    def decode(self, code): return code[..., :8]
class PerImage(torch.nn.Module):
    def forward(self, input, target): return (input - target).abs().mean((1, 2, 3))
class NaNLater(torch.nn.Module):
    calls = 0
    def forward(self, input, target):
        self.calls += torch.is_grad_enabled()
        loss = (input - target).abs().mean()
        return loss * float("nan") if self.calls == 4 else loss
"""

CASES = {
    "unknown loss": (["loss=l3"], "Could not find 'loss/l3' Available options in 'loss': blue chroma color_blind"),
    "unknown data": (
        ["data=imagenet"],
        "Available options in 'data': arrays cifar10 folder more_photos photos shapes stl10",
    ),
    "unknown key": (["optimizer.learning_rate=1"], "Could not override 'optimizer.learning_rate'"),
    "missing value": (["data=folder"], "data.root has no value: give it one with data.root=VALUE"),
    "missing folder": (["data=folder", "data.root=nowhere"], "nowhere is not a folder: give a folder of images"),
    "empty folder": (["data=folder", "data.root=empty"], "empty has no image files"),
    "unreadable files": (["data=folder", "data.root=damaged", "data.on_error=raise"], "1 of 3 image files in damaged"),
    "none readable": (["data=folder", "data.root=noise"], "none is left"),
    "missing array": (["data=arrays", "data.path=a.npy"], "a.npy is not a file"),
    "image smaller than stride": (["data=shapes", "data.image_size=4"], "4x4 is smaller than the network's stride 8"),
    "batch larger than data": ([*TINY, "data.batch_size=64"], "batch_size 64 is more than the 32"),
    "no encode": ([*TINY, "model=custom", "model._target_=mine.NoEncode"], "NoEncode has no method encode"),
    "wrong size": ([*TINY, "model=custom", "model._target_=mine.Crooked"], "Crooked turns images (8, 3, 16, 16) into"),
    "model of no module": ([*TINY, "model=custom", "model._target_=mine.Absent"], "cannot make mine.Absent"),
    "loss per image": ([*TINY, "loss._target_=mine.PerImage"], "PerImage returns shape (8,), expected a scalar"),
    "nan": (
        [*TINY, "loss._target_=mine.NaNLater"],
        "loss=NaNLater: the loss is nan at step 3: lower",
    ),
    "no write permission": ([*TINY, "hydra.run.dir=${claim:file/run}"], "cannot write file/run"),
    "bad threads": ([*TINY, "array.threads=0"], "array.threads is 0: use auto, or a whole number of 1 or more"),
    "bad size": ([*TINY, "array.max_variants=some"], "array.max_variants is some: use auto, or a whole number"),
    "bad seed": ([*TINY, "seed=-1"], "-1"),
}


@pytest.fixture
def place(tmp_path):
    from PIL import Image

    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "file").write_text("in the way")
    for folder in ("empty", "damaged", "noise"):
        (tmp_path / folder).mkdir()
    (tmp_path / "noise" / "a.png").write_text("not an image")
    (tmp_path / "damaged" / "a.png").write_text("not an image")
    for name in "bc":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "damaged" / f"{name}.png")


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_to_do(case, place, train):
    arguments, message = CASES[case]
    done = train(*arguments, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_setting_leaves_no_folder(train, tmp_path):
    done = train(*TINY, "seed=-1", check=False)
    assert done.stderr == "error: seed is -1: use a whole number of 0 or more, up to 9223372036854775807\n"
    assert not list(tmp_path.glob("outputs/*/*"))


def test_traceback_on_request(place, train):
    done = train(*TINY, "loss._target_=mine.PerImage", check=False, fresh=True, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "check_loss" in done.stderr


def test_a_failing_variant_does_not_stop_the_others(place, train, tmp_path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "bad.yaml").write_text("_target_: mine.NaNLater\n")
    done = train("-m", "loss=bad,l1", *TINY, "report=true", "hydra.searchpath=[file://conf]", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 1 of 2 variants failed: loss=bad: the loss is nan at step 3")
    folder = the_only((tmp_path / "outputs" / "sweeps").iterdir())
    assert json.loads((folder / "loss=l1" / "status.json").read_text())["status"] == "done"
    status = json.loads((folder / "loss=bad" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "nan at step 3" in status["reason"]
    assert (folder / "sheet.png").is_file()
    sweep = load_sweep(folder)
    assert [variant.name for variant in sweep.done] == ["loss=l1"]
    assert "nan at step 3" in sweep.table.loc["loss=bad", "reason"]
    assert "loss=bad: failed: the loss is nan at step 3" in (folder / "report.html").read_text()


def test_a_report_that_fails_leaves_the_results(train, tmp_path):
    (tmp_path / "run" / "report.html").mkdir(parents=True)  # in the way
    done = train("loss=l1", *TINY, "report=true", "hydra.run.dir=run")
    assert "no report.html: IsADirectoryError" in done.stdout
    assert f"make the rest with: python -m losslens.report {tmp_path / 'run'}" in done.stdout
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "done"
    assert (tmp_path / "run" / "results.csv").is_file()


def test_an_interruption_is_told_in_the_status(tmp_path):
    process = start(["train.py", "-m", "loss=l1,luma", *TINY, "trainer.max_epochs=100000"], tmp_path)
    while not list(tmp_path.glob("outputs/sweeps/*/loss=l1/metrics.csv")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 130
    folder = the_only((tmp_path / "outputs" / "sweeps").iterdir())
    resume = f"python train.py resume={folder.relative_to(tmp_path)}"
    assert errors.splitlines()[-1] == f"interrupted: SIGINT; go on with: {resume}"
    states = [json.loads((folder / name / "status.json").read_text()) for name in ("loss=l1", "loss=luma")]
    assert states == 2 * [{"status": "interrupted", "reason": "SIGINT"}]


def test_an_unknown_loss_in_a_sweep_costs_nothing(place, train, tmp_path):
    done = train("-m", "loss=l1,l3", *TINY, check=False)
    assert done.returncode == 1
    assert "Available options in 'loss'" in done.stderr
    assert not list(tmp_path.glob("outputs/sweeps/*/loss=*"))
