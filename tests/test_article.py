"""The article's result, from the command that users type, on real photographs."""

import json

import numpy as np
import pytest
import torch
from commands import run
from conftest import the_only
from PIL import Image

from losslens.trained.load import load_variant

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


STRIDE, CUT = 8, 16  # pixels
NO_ENERGY = 1e-4  # root mean square, in values of a pixel: a fortieth of what an 8-bit step is


@pytest.mark.parametrize("loss", ["luma", *COLORS])
@pytest.mark.parametrize("axis", [None, -1, -2])
def test_unseen_channels_of_plain_images_show_no_grid(sweep, loss, axis):
    """Of a flat image and of ramps: at the network's stride and its multiples there is nothing but a plane."""
    variant = load_variant(sweep / f"loss={loss}")
    image = torch.full((1, 3, 128, 128), 0.6)
    if axis is not None:
        image = torch.linspace(0.2, 0.8, 128).expand(1, 3, 128, 128).movedim(-1, axis)
    with torch.no_grad():
        pixels = torch.einsum("kc,nchw->khw", variant.loss.view.unseen_axes().float(), variant(image))
    pixels = pixels[:, CUT:-CUT, CUT:-CUT].double()
    side = pixels.shape[-1]
    down, across = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    plane = torch.stack([torch.ones(side, side), down, across], -1).reshape(-1, 3).double()
    rest = pixels.flatten(1).T - plane @ torch.linalg.lstsq(plane, pixels.flatten(1).T).solution
    spectrum = torch.fft.fft2(rest.T.reshape(-1, side, side)).abs().square() / side**4
    lines = [side * index // STRIDE for index in range(1, STRIDE)]
    energy = spectrum[:, lines].sum((1, 2)) + spectrum[:, :, lines].sum((1, 2))
    assert energy.sqrt().max() < NO_ENERGY


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
