"""Any picture can be asked about, and one that cannot says why."""

import pytest
import torch
from PIL import Image
from torch import nn

from losslens.lens import change_bank, metamers, recover, responses
from losslens.lens.look import Look
from losslens.lens.picture import read_picture
from losslens.lens.write import write_results
from losslens.losses.ssim import SSIM


def test_the_default_is_a_photograph():
    image, name = read_picture(None, 128)
    assert name == "chelsea.png"
    assert image.shape == (1, 3, 85, 128)
    assert image.dtype == torch.float64
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize(
    ("mode", "given", "read"),
    [("L", (40, 20), (16, 32)), ("RGB", (3, 5), (5, 3)), ("RGBA", (3000, 10), (1, 32)), ("P", (64, 64), (32, 32))],
)
def test_modes_and_sizes(tmp_path, mode, given, read):
    Image.new(mode, given, 7).save(tmp_path / "picture.png")
    image, _ = read_picture(str(tmp_path / "picture.png"), 32)
    assert image.shape == (1, 3, *read)


def test_unreadable_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"none.png cannot be read \(No such file or directory\): give another with"):
        read_picture("none.png", 32)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png cannot be read"):
        read_picture(str(tmp_path / "text.png"), 32)
    Image.new("RGB", (50, 50)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read"):
        read_picture(str(tmp_path / "cut.jpg"), 32)
    with pytest.raises(ValueError, match="size 0 is not 1 or more"):
        read_picture(None, 0)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (50, 50)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"large\.png cannot be read"):
        read_picture(str(tmp_path / "large.png"), 32)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 4)])
def test_tiny_images(size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = responses(nn.L1Loss(), image)
    assert found["white noise"].relative == 1
    assert metamers(nn.L1Loss(), image, steps=20)[0].loss <= 1e-4
    assert recover(nn.L1Loss(), image).error < 1e-2
    with pytest.raises(ValueError, match="too small for ssim"):
        responses(SSIM(), image)


@pytest.mark.parametrize("rms", [0.01, 0.03, 0.1])
def test_changes_have_one_size_and_stay_inside(cat, rms):
    bank, common = change_bank(cat, rms)
    assert common == pytest.approx(rms, rel=1e-9) or common < rms
    assert {"white noise", "isoluminant recoloring", "mirror", "JPEG", "one object recolored"} <= set(bank)
    for changed in bank.values():
        assert changed.min() >= -1e-12
        assert changed.max() <= 1 + 1e-12
        assert (changed - cat).square().mean().sqrt().item() == pytest.approx(common, rel=1e-6)


def test_changes_that_do_nothing_are_left_out():
    flat = torch.full((1, 3, 16, 16), 0.4, dtype=torch.float64)
    bank, _ = change_bank(flat)
    assert {"mirror", "hue rotation", "Gaussian blur", "shift by 1 pixel"}.isdisjoint(bank)
    assert {"white noise", "brightness", "isoluminant recoloring"} <= set(bank)


@pytest.mark.parametrize("rms", [0, -1, 1, 2])
def test_sizes_that_make_no_sense(cat, rms):
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        change_bank(cat, rms)


class Similarity(nn.Module):
    def forward(self, input, target):
        return 1 - (input - target).abs().mean()


class NaN(nn.Module):
    def forward(self, input, target):
        return (input - target).abs().mean() / (input - target).abs().max()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Similarity(), "it measures similarity; use its negative"),
        (NaN(), "of two equal images is nan: it must be finite, 0 at best"),
        (nn.L1Loss(reduction="none"), "expected a scalar tensor: take the mean"),
    ],
)
def test_losses_that_are_none(cat, loss, message):
    with pytest.raises(ValueError, match=message):
        responses(loss, cat)


def test_images_that_are_none(cat):
    with pytest.raises(ValueError, match="expected float"):
        responses(nn.L1Loss(), cat[:, :1])
    with pytest.raises(ValueError, match="expected \\[0, 1\\]"):
        responses(nn.L1Loss(), cat * 2)


def test_names_are_text_in_the_page(cat, tmp_path):
    evil = "<script>alert(1)</script>"
    look = Look(image=cat[..., :16, :16], losses={evil: nn.L1Loss()}, rms=0.03, steps=1, tolerance=1e-4)
    for _, ask in look.pieces():
        ask()
    page = write_results(look, tmp_path, picture_name=evil, command=evil).read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert all(path.resolve().is_relative_to(tmp_path) for path in tmp_path.rglob("*"))
