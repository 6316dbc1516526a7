"""lens.py as a user meets it."""

import csv
import json
import signal
import time

import pytest
from commands import run as run_command
from commands import start
from conftest import the_only
from PIL import Image

QUICK = ["size=24", "steps=20"]


@pytest.fixture
def lens(tmp_path):
    """Run lens.py in a process of its own, in an empty folder."""

    def run(*arguments, check=True, **settings):
        done = run_command(["lens.py", *arguments], tmp_path, **settings)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_one_loss(lens, tmp_path):
    done = lens("loss=luma", *QUICK, fresh=True)
    folder = the_only((tmp_path / "outputs" / "lens").iterdir())
    assert folder.name.endswith("-loss=luma")
    assert str(folder) in done.stdout
    numbers = json.loads((folder / "blindspots.json").read_text())
    found = numbers["losses"]["luma"]
    assert found["changes"]["isoluminant recoloring"]["verdict"] == "blind"
    assert found["metamers"][0]["start"] == "exact"
    assert found["most_noticed"]["method"] == "Jacobian of the view"
    with (folder / "responses.csv").open() as file:
        rows = {row["change"]: row for row in csv.DictReader(file)}
    assert {change: float(row["value"]) for change, row in rows.items()} == {
        change: each["value"] for change, each in found["changes"].items()
    }
    page = (folder / "lens.html").read_text()
    assert "Blind to (below 0.0001 of the response to noise): isoluminant recoloring, desaturation." in page
    for name in ("lens.png", "responses.png", "pictures/luma/furthest-metamer.png", "changes/mirror.png"):
        with Image.open(folder / name) as picture:
            picture.load()
    assert "<svg" in (folder / "responses.svg").read_text()


def test_several_losses_and_a_picture(lens, tmp_path):
    Image.new("L", (40, 10), 90).save(tmp_path / "gray.png")  # one gray: most changes have nothing to change
    lens("losses=[l1,red]", "image=gray.png", "principal=true", "tensorboard=true", *QUICK)
    folder = the_only((tmp_path / "outputs" / "lens").iterdir())
    assert folder.name.endswith("-losses=l1,red")
    numbers = json.loads((folder / "blindspots.json").read_text())
    assert numbers["size"] == [6, 24]
    assert "mirror" not in numbers["losses"]["red"]["changes"]
    assert {(pair["held"], pair["other"]): pair["found_blind"] for pair in numbers["pairs"]} == {
        ("l1", "red"): True,
        ("red", "l1"): False,
    }
    assert set(numbers["principal"]["places"]) == {"l1", "red"}
    assert {path.name for path in (folder / "tensorboard").iterdir()} == {"l1", "red"}


def test_against_another(lens, tmp_path):
    lens("loss=ssim", "against=l1", *QUICK)
    folder = the_only((tmp_path / "outputs" / "lens").iterdir())
    numbers = json.loads((folder / "blindspots.json").read_text())
    assert [(pair["held"], pair["other"]) for pair in numbers["pairs"]] == [("ssim", "l1"), ("l1", "ssim")]
    assert all(pair["constraint_error"] < 1e-3 for pair in numbers["pairs"])
    assert "none found" in (folder / "lens.html").read_text()


MINE = """
import torch
class Levels(torch.nn.Module):
    def forward(self, input, target):
        return (((input * 8).round() - (target * 8).round()).abs() > 0).double().mean()
class Watched(torch.nn.Module):
    calls = 0
    def forward(self, input, target):
        self.calls += input.requires_grad
        if self.calls == 100:  # well into the first search
            open("searching", "w").close()
        return (input - target).abs().mean()
class NaNAtEquality(torch.nn.Module):
    def forward(self, input, target):
        return (input - target).abs().mean() / (input - target).abs().max()
"""


def test_a_loss_without_gradient_gets_its_responses(lens, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    lens("loss._target_=mine.Levels", *QUICK)
    folder = the_only((tmp_path / "outputs" / "lens").iterdir())
    found = json.loads((folder / "blindspots.json").read_text())["losses"]["Levels"]
    assert found["changes"]["white noise"]["relative"] == 1
    assert found["metamers"] == []
    assert "is not differentiable" in found["notes"][0]
    assert "is not differentiable" in (folder / "lens.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss._target_=mine.NaNAtEquality"], "of two equal images is nan: it must be finite, 0 at best"),
        (["losses=[l1,none]"], "none"),
        (["losses=l1"], "losses l1 is no list of names: try 'losses=[l1,luma]'"),
        (["loss=luma", "losses=[l1]"], "loss=luma and losses= are both given: use one of them"),
    ],
)
def test_bad_input_gets_one_line(lens, tmp_path, arguments, message):
    (tmp_path / "mine.py").write_text(MINE)
    done = lens(*arguments, *QUICK, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not any(path.is_dir() and not list(path.iterdir()) for path in tmp_path.glob("outputs/lens/*"))


def test_an_interruption_keeps_what_is_done(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    process = start(["lens.py", "loss._target_=mine.Watched", "steps=1000000", "size=16"], tmp_path)
    while not (tmp_path / "searching").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "interrupted\n"
    folder = the_only((tmp_path / "outputs" / "lens").iterdir())
    found = json.loads((folder / "blindspots.json").read_text())["losses"]["Watched"]
    assert found["changes"]
    assert found["metamers"] == []
    assert (folder / "lens.html").is_file()
