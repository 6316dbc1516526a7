import errno
import io
import os
import re
import shutil

import numpy as np
import pytest
import skimage
import torch
from conftest import SHARED_DATA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from losslens.data import Folder
from losslens.data.cache import cache_folder
from losslens.data.folder import read_squares
from losslens.data.pictures import to_rgb


def folder(root, **arguments):
    defaults = {"image_size": 32, "crops": 1, "val_fraction": 0.25, "on_error": "skip", "batch_size": 4, "flip": True}
    return Folder(**{"root": str(root), **defaults, "resident": "auto", "seed": 0, **arguments})


@pytest.fixture
def astronaut():
    return Image.open(os.path.join(skimage.__path__[0], "data", "astronaut.png")).resize((48, 48))


@pytest.fixture
def root(tmp_path, astronaut):
    """Eight different files, four in a folder below, and one that is no image file."""
    root = tmp_path / "images"
    (root / "below").mkdir(parents=True)
    for index in range(8):
        place = root / "below" if index % 2 else root
        astronaut.rotate(index * 40).resize((40 + index, 60 - index)).save(
            place / f"{index}.{('png', 'jpg')[index % 2]}"
        )
    (root / "notes.txt").write_text("no image")
    return root


def in_mode(image, mode):
    gray = image.convert("L")
    if mode in ("I", "I;16", "I;16B"):
        dtype = {"I": "i4", "I;16": "<u2", "I;16B": ">u2"}[mode]
        return Image.fromarray((np.asarray(gray, np.int32) * 257).astype(dtype))
    if mode == "F":
        return Image.fromarray(np.asarray(gray, np.float32) / 255)
    if mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    if mode == "PA":
        return image.convert("P").convert("PA")
    if mode == "La":
        return gray.convert("LA").convert("La")
    if mode == "RGBa":
        return image.convert("RGBA").convert("RGBa")
    return image.convert(mode)


MODES = [
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"),
    *("I", "I;16", "I;16B", "F"),
]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_the_same_picture_in_rgb(mode, astronaut):
    image = in_mode(astronaut, mode)
    assert image.mode == mode
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    gray = mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
    expected = astronaut.convert("1" if mode == "1" else "L").convert("RGB") if gray else astronaut
    difference = np.abs(np.asarray(rgb, float) - np.asarray(expected, float)).mean()
    # Palettes have 256 or fewer colors, the rest is rounding.
    assert difference < (25 if mode in ("P", "PA") else 3)


def test_transparent_pixels_are_white(astronaut):
    astronaut.putalpha(0)
    assert np.asarray(to_rgb(astronaut)).min() == 255


def test_upright_square_from_any_shape(tmp_path):
    """A wide image, red at its left, stored lying on its side with an EXIF note of it."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40, 1] = 255
    pixels[:10, :, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    (square,) = read_squares(tmp_path / "a.png", 16, crops=1).pixels
    assert square.shape == (3, 16, 16)
    assert square[1].min() > 200  # the center is kept
    assert square[0, :6].min() > 200  # the top is red
    assert square[0, 10:].max() < 50


def test_split_by_seed_is_the_same_for_the_same_seed(root):
    first, again, other = folder(root).decode(), folder(root).decode(), folder(root, seed=1).decode()
    assert first.train.shape == (6, 3, 32, 32)
    assert first.val.shape == (2, 3, 32, 32)
    assert torch.equal(first.val, again.val)
    assert not torch.equal(first.val, other.val)
    assert len(torch.cat(first).flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("names", [("train", "val"), ("train", "test"), ("training", "validation")])
def test_split_by_subfolders(tmp_path, root, names):
    for name in names:
        shutil.copytree(root / "below", tmp_path / "split" / name)
    (tmp_path / "split" / names[1] / "1.jpg").unlink()
    images = folder(tmp_path / "split").decode()
    assert (len(images.train), len(images.val)) == (4, 3)


class TestUnreadable:
    @pytest.fixture
    def damaged(self, root):
        whole = io.BytesIO()
        Image.open(root / "0.png").save(whole, format="PNG")
        (root / "truncated.png").write_bytes(whole.getvalue()[:-200])
        (root / "empty.jpg").write_bytes(b"")
        (root / "text.png").write_text("not an image")
        return root

    def test_are_skipped_and_listed_with_a_count(self, damaged, capsys):
        for _ in range(2):  # from the cache too
            images = folder(damaged).decode()
            assert sum(len(part) for part in images) == 8
            unknown = "its format is none that is read"
            reasons = {
                "empty.jpg": unknown,
                "text.png": unknown,
                "truncated.png": "image file is truncated",
            }
            listed = "; ".join(f"{damaged / name}: {reason}" for name, reason in reasons.items())
            told = f"warning: 3 of 11 image files in {damaged} cannot be read ({listed}); they are left out\n"
            assert capsys.readouterr().err == told

    def test_are_refused_on_request(self, damaged):
        with pytest.raises(ValueError, match=r"3 of 11 .* data.on_error=skip"):
            folder(damaged, on_error="raise").decode()

    def test_none_left(self, tmp_path):
        (tmp_path / "a.png").write_text("not an image")
        with pytest.raises(ValueError, match="none is left"):
            folder(tmp_path).decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "missing"}, "missing is not a folder: .* data.root=FOLDER"),
        ({"root": "."}, "has no image files"),
        ({"crops": 0}, "crops 0 must be 1 or more"),
        ({"on_error": "ignore"}, "use data.on_error=skip or data.on_error=raise"),
    ],
)
def test_refuses(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        folder(**{"root": ".", **arguments}).decode()


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(3 * 32 * 32)),
    "a bit": flip_a_bit,
    "gone": lambda path: path.unlink(),
}


class TestCache:
    def test_is_used(self, root, monkeypatch):
        first = folder(root).decode()
        monkeypatch.setattr("losslens.data.folder.read_squares", lambda *_, **__: pytest.fail("decoded again"))
        assert torch.equal(folder(root).decode().train, first.train)

    @pytest.mark.parametrize("resident", [True, False])
    @pytest.mark.parametrize("file", ["pixels", "json"])
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_made_again_when_damaged(self, root, monkeypatch, damage, file, resident):
        first = folder(root).decode()
        (stored,) = cache_folder().glob(f"*.{file}")
        DAMAGES[damage](stored)
        assert torch.equal(folder(root, resident=resident).decode().train[:], first.train)
        monkeypatch.setattr("losslens.data.folder.read_squares", lambda *_, **__: pytest.fail("decoded again"))
        assert torch.equal(folder(root, resident=resident).decode().train[:], first.train)

    def test_follows_changes(self, root):
        folder(root).decode()
        (root / "0.png").unlink()
        assert sum(len(part) for part in folder(root).decode()) == 7
        assert folder(root, image_size=16).decode().train.shape[-1] == 16

    @pytest.mark.parametrize("resident", [True, False])
    def test_that_cannot_be_written_is_done_without(self, root, monkeypatch, tmp_path, resident, capsys):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("LOSSLENS_CACHE", str(tmp_path / "file" / "cache"))
        assert len(folder(root, resident=resident).decode().train) == 6
        assert f"warning: decoded images are not cached in {tmp_path}/file/cache: " in capsys.readouterr().err

    def test_on_a_disk_that_fills_up_leaves_nothing_behind(self, root, monkeypatch, capsys):
        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        whole = folder(root).decode().train
        for file in cache_folder().iterdir():
            file.unlink()
        monkeypatch.setattr("losslens.data.cache.crc32", fail)
        assert torch.equal(folder(root, resident=False).decode().train[:], whole)
        assert re.search("warning: .* are not cached in .*No space left", capsys.readouterr().err)
        assert list(cache_folder().iterdir()) == []


class TestCrops:
    """Each photograph is of one color, so that a crop tells which it is of."""

    @pytest.fixture
    def colors(self, tmp_path):
        for index, size in enumerate([(64, 80), (200, 64), (63, 300), (32, 32), (100, 100), (31, 90)]):
            Image.new("RGB", size, (10 * index, 0, 0)).save(tmp_path / f"{index}.png")
        return tmp_path

    def test_several_of_each_photograph_twice_as_large_and_one_of_each_other(self, colors):
        images = torch.cat(folder(colors, crops=7).decode())
        counts = images[:, 0, 0, 0].unique(return_counts=True)[1]
        assert counts.tolist() == [7, 7, 1, 1, 7, 1]

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 50), st.sampled_from([0.2, 0.5, 0.8]), st.integers(1, 5))
    def test_no_photograph_is_on_both_sides(self, colors, seed, val_fraction, crops):
        images = folder(colors, seed=seed, val_fraction=val_fraction, crops=crops).decode()
        train, val = (set(part[:, 0, 0, 0].tolist()) for part in images)
        assert not train & val
        assert len(train | val) == 6
        assert len(val) == round(6 * val_fraction)

    def test_are_at_several_scales_inside_of_the_photograph(self, tmp_path):
        """On a ramp from left to right, the slope of a crop tells its scale, and its values its place."""
        ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
        Image.fromarray(np.stack([ramp] * 3, -1)).save(tmp_path / "ramp.png")
        squares, enlarged, _ = read_squares(tmp_path / "ramp.png", 32, crops=8)
        slopes = squares[:, 0, 0].astype(float)[:, [2, -3]] @ [-1, 1] / 27
        assert np.allclose(slopes, [1, 1, 2, 2, 4, 4, 8, 8], rtol=0.05)
        assert not enlarged
        again = read_squares(tmp_path / "ramp.png", 32, crops=8).pixels
        assert np.array_equal(squares, again)

    def test_the_line_says_what_was_found(self, colors):
        source = folder(colors, crops=7)
        images = source.decode()
        assert source.found == (
            f"6 image files: {len(images.train)} squares of 32 pixels to train on, {len(images.val)} to validate on"
        )

    def test_smaller_images_are_enlarged_with_a_warning(self, colors, capsys):
        for _ in range(2):  # from the cache too
            folder(colors, image_size=40).decode()
            assert f"warning: 2 of 6 images in {colors} are smaller than image_size 40" in capsys.readouterr().err

    def test_one_photograph_cannot_be_split(self, tmp_path):
        Image.new("RGB", (200, 200)).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"val_fraction 0\.25 of 1 images leaves a part empty"):
            folder(tmp_path, crops=8).decode()


@pytest.mark.slow("decodes 300 photographs")
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the BSDS500 photographs")
def test_real_photographs():
    images = folder(SHARED_DATA / "bsds500", image_size=64, crops=8).decode()
    assert (len(images.train), len(images.val)) == (1600, 800)
    assert images.train.float().std() > 40
