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
from PIL import Image, ImageCms

from losslens.data import Folder
from losslens.data.cache import cache_folder
from losslens.data.folder import read_square, to_rgb


def folder(root, **arguments):
    defaults = {"image_size": 32, "val_fraction": 0.25, "on_error": "skip", "batch_size": 4, "flip": True}
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
    square = read_square(tmp_path / "a.png", 16)
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
            listed = ", ".join(str(damaged / name) for name in ("empty.jpg", "text.png", "truncated.png"))
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
        monkeypatch.setattr("losslens.data.folder.read_square", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(folder(root).decode().train, first.train)

    @pytest.mark.parametrize("resident", [True, False])
    @pytest.mark.parametrize("file", ["pixels", "json"])
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_made_again_when_damaged(self, root, monkeypatch, damage, file, resident):
        first = folder(root).decode()
        (stored,) = cache_folder().glob(f"*.{file}")
        DAMAGES[damage](stored)
        assert torch.equal(folder(root, resident=resident).decode().train[:], first.train)
        monkeypatch.setattr("losslens.data.folder.read_square", lambda *_: pytest.fail("decoded again"))
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


@pytest.mark.slow("decodes 300 photographs")
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the BSDS500 photographs")
def test_real_photographs():
    images = folder(SHARED_DATA / "bsds500", image_size=64).decode()
    assert (len(images.train), len(images.val)) == (200, 100)
    assert images.train.float().std() > 40
