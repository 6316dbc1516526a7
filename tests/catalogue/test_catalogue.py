"""The catalogue of losses: that of this project is not old, and one that is, is named with what is old in it."""

import json
import re
import shutil

import numpy as np
import pytest
from commands import ROOT, run
from PIL import Image

from losslens.catalogue import make
from losslens.catalogue.page import page
from losslens.catalogue.record import differences, read_entries, read_record, train_settings
from losslens.catalogue.training import reconstruct

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")
FEW = {"l1", "red"}


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A project of two losses, two views and a distance, that trains in a second."""
    monkeypatch.setattr("losslens.catalogue.measure.ROUNDS", 1)
    return small_project(tmp_path / "small")


@pytest.fixture(scope="module")
def written_once(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("losslens.catalogue.measure.ROUNDS", 1)
        project = small_project(tmp_path_factory.mktemp("catalogue") / "small")
        make.write_catalogue(project)
    make.check(project)
    return project


@pytest.fixture
def written(written_once, tmp_path):
    """Such a project with its catalogue, to be changed."""
    return shutil.copytree(written_once, tmp_path / "written")


def small_project(folder):
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "photograph.jpg", folder / "docs")
    for part, few in (("", FEW), ("view", {"rgb", "red"}), ("distance", {"l1"})):
        for path in (folder / "conf" / "loss" / part).glob("*.yaml"):
            if path.stem not in few:
                path.unlink()
    change(folder / "conf" / "data" / "photos.yaml", "train_size: 1600", "train_size: 36")
    change(folder / "conf" / "data" / "photos.yaml", "val_size: 72", "val_size: 9")
    change(folder / "conf" / "trainer" / "auto.yaml", ",300}", ",9}")
    change(folder / "conf" / "trainer" / "auto.yaml", "accelerator: auto", "accelerator: cpu")
    return folder


@pytest.mark.slow("measures all losses")
def test_that_of_the_project_is_not_old(capsys):
    make.check(ROOT)
    assert capsys.readouterr().out.endswith("losses.md is as it would be written now\n")


@pytest.mark.slow("trains as `make sweep` does")
def test_its_pictures_come_from_that_training():
    """Last digits, which grow over 750 steps, are those of the machine."""
    entries = [entry for entry in read_entries(ROOT) if entry.key in FEW]
    made = reconstruct(entries, train_settings(ROOT), ROOT / "docs" / "photograph.jpg")
    for name in FEW:
        with Image.open(ROOT / "docs" / "losses" / f"{name}.webp") as picture:
            kept = picture.convert("RGB")
        difference = np.abs(np.asarray(kept, float) - np.asarray(made[name][0], float)).mean() / 255
        assert difference < 0.05  # a picture of another loss than l1 or red is twice as far


def test_all_that_is_needed_is_written(written):
    docs = written / "docs"
    text = (docs / "losses.md").read_text()
    assert {path.stem for path in (docs / "losses").iterdir()} == {
        "l1", "red", "view-red", "view-rgb", "distance-l1",
    }  # fmt: skip
    for target in re.findall(r'src="([^"]+)"|\]\(([^)]+)\)', text):
        link = "".join(target)
        assert link.startswith("https://") or (docs / link).is_file()
    row = next(line for line in text.splitlines() if "**red**" in line)
    assert "green offset, blue offset, green and blue swapped" in row
    assert "no&nbsp;gradient&nbsp;67%" in row
    low, high = json.loads((docs / "losses.json").read_text())["losses"]["red"]["values"]
    assert f"values {low:.2g} to {high:.2g}" in row
    with Image.open(docs / "losses" / "red.webp") as picture, Image.open(docs / "photograph.jpg") as photograph:
        assert picture.size == photograph.size


def test_equal_losses_are_trained_once(written):
    pictures = [(written / "docs" / "losses" / f"{name}.webp").read_bytes() for name in ("red", "view-red")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "conf/loss/red.yaml",
            "# range: 0 to 1",
            "# range: 0 to 2",
            r"red: facts\.range was 0 to 1, and is 0 to 2: write",
        ),
        ("conf/loss/view/red.yaml", "[[1, 0, 0]]", "[[0.9, 0, 0]]", r"red: config was .*; view-red: config .*: write"),
        ("conf/train.yaml", "seed: 0", "seed: 1", "training was"),
        ("docs/losses.md", "**red**", "**rot**", r"it is not what losses\.json and losses/ give"),
        ("docs/losses.json", '"values"', '"of before"', r"it is not what losses\.json and losses/ give"),
        ("docs/losses.json", "0.02", "0.03", r"measured\.noise was"),
    ],
)
def test_what_is_old_is_named(written, file, old, new, told):
    change(written / file, old, new)
    with pytest.raises(ValueError, match=rf"losses\.md is old, .*{told}") as error:
        make.check(written)
    assert str(error.value).endswith("write it anew with python -m losslens.catalogue")


def test_losses_that_come_and_go_are_named(written):
    shutil.copy(ROOT / "conf" / "loss" / "blue.yaml", written / "conf" / "loss")
    shutil.copy(ROOT / "conf" / "loss" / "view" / "blue.yaml", written / "conf" / "loss" / "view")
    (written / "conf" / "loss" / "red.yaml").unlink()
    with pytest.raises(ValueError, match="is old") as error:
        make.check(written)
    assert {"blue is new", "view-blue is new", "red is gone"} <= set(re.split("; |, |: ", str(error.value)))


def test_numbers_may_differ_in_their_last_digits():
    kept = read_record(ROOT / "docs" / "losses.json")
    near, far, scale, sees = (json.loads(json.dumps(kept)) for _ in range(4))
    near["losses"]["ssim"]["measured"]["gradients"]["far"] *= 1.01
    far["losses"]["ssim"]["measured"]["gradients"]["far"] *= 1.2
    scale["losses"]["distance-gram"]["measured"]["noise"] *= 2
    assert list(differences(kept, near)) == []
    sees["losses"]["luma"]["measured"]["responses"]["isoluminant recoloring"] = 1e-3  # no longer blind
    assert [line.partition(" was")[0] for line in differences(kept, far)] == ["ssim: measured.gradients.far"]
    assert [line.partition(" was")[0] for line in differences(kept, scale)] == ["distance-gram: measured.noise"]
    (told,) = differences(kept, sees)
    assert told.startswith("luma: measured.responses.isoluminant recoloring was ")


def test_what_was_not_measured_says_so():
    kept = read_record(ROOT / "docs" / "losses.json")
    kept["losses"] = {name: kept["losses"][name] for name in ("l1", "red")}
    kept["losses"]["red"]["measured"] = None
    kept["losses"]["red"]["sees"] = "a|b <c> *d*"
    row = page(kept, "a.jpg", "b.webp", {}).splitlines()[-15:]
    (told,) = [line for line in row if "**red**" in line]
    assert "| *not measured* |" in told
    assert "<img" not in told
    assert "a&#124;b &lt;c&gt; &#42;d&#42;" in told


def test_a_loss_that_cannot_be_measured_is_described(small, capsys):
    text = "# sees: angles; blind to: lengths\n# formula: cosine\n_target_: torch.nn.CosineSimilarity\n"
    (small / "conf" / "loss" / "mine.yaml").write_text(text)
    make.write_catalogue(small)
    assert "mine: not measured: loss CosineSimilarity returns shape" in capsys.readouterr().out
    assert "**mine**" in (small / "docs" / "losses.md").read_text()


def test_a_file_that_does_not_say_what_it_is_is_named(small):
    change(small / "conf" / "loss" / "red.yaml", "# formula: ", "# ")
    with pytest.raises(ValueError, match=r"red\.yaml does not say what it is: begin it with a line '# sees: "):
        read_entries(small)


def test_elsewhere_it_says_where_to_start(tmp_path):
    done = run(["-m", "losslens.catalogue", "--check"], tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: . has no conf/loss: start from the folder of the project\n"
