"""The article's result, from the command that users type, on real photographs."""

import json

import numpy as np
import pytest
from commands import run
from conftest import the_only
from PIL import Image

COLORS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    place = tmp_path_factory.mktemp("article")
    done = run(["train.py", "-m", "loss=l1,luma,red,green,blue"], place)
    assert done.returncode == 0, done.stderr
    return the_only((place / "outputs" / "sweeps").iterdir())


@pytest.fixture(scope="module")
def metrics(sweep):
    return {
        folder.name.removeprefix("loss="): json.loads((folder / "metrics.json").read_text())["metrics"]
        for folder in sweep.glob("loss=*")
    }


def test_every_loss_gets_what_it_asks_for(metrics):
    assert set(metrics) == {"l1", "luma", *COLORS}
    for name, values in metrics.items():
        assert values["loss"] <= (0.014 if name == "l1" else 0.0115), name
        if name != "l1":
            assert values["loss"] == pytest.approx(values[name], rel=1e-4)


def test_l1_keeps_colors_and_is_crisp(metrics):
    assert max(metrics["l1"][color] for color in COLORS) <= 0.015
    assert metrics["l1"]["psnr"] >= 30.5


@pytest.mark.parametrize("seen", COLORS)
def test_one_channel_leaves_the_others_to_chance(metrics, seen):
    for unseen in set(COLORS) - {seen}:
        assert metrics[seen][unseen] >= 3 * metrics[seen][seen]
    assert metrics[seen]["color_rank"] < 1.05 < metrics["l1"]["color_rank"]  # two colors: one line through RGB


def test_luma_keeps_shapes_and_not_colors(metrics):
    assert metrics["luma"]["color_rank"] < 1.05
    assert max(metrics["luma"][chroma] / metrics["l1"][chroma] for chroma in ("cb", "cr")) >= 2


def test_pictures_have_no_checkerboard(sweep):
    """Not more energy at the network's stride of 8 pixels and its multiples than the originals have."""
    for folder in sweep.glob("loss=*"):
        pixels = np.asarray(Image.open(folder / "grid.png"), dtype=float)
        side = (pixels.shape[0] - 6) // 2
        for column in range(9):
            left = 2 + column * (side + 2)
            energies = []
            for top in (2, 4 + side):
                image = pixels[top : top + side, left : left + side].copy()
                image -= image.mean((0, 1))
                spectrum = (np.abs(np.fft.fft2(image, axes=(0, 1))) ** 2).sum(-1)
                lines = [side * index // 8 for index in range(1, 8)]
                energies.append(spectrum[lines].sum() + spectrum[:, lines].sum())
            assert energies[1] < 2 * energies[0] + side**4, f"{folder.name}, column {column}"
