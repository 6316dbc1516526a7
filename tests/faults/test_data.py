"""Data that is not as it should be: broken files, folders that change, servers that are open."""

import os
import tarfile

import numpy as np
import pytest
import torch
from commands import kill
from PIL import Image
from sweeps import Sweep

from losslens.data import Folder

TINY = ["trainer=cpu", "trainer.max_epochs=2", "report=false", "data.image_size=16", "data.batch_size=4"]


def folder(root, **changes):
    settings = {"image_size": 16, "crops": 1, "val_fraction": 0.25, "on_error": "skip", "batch_size": 4, "flip": True}
    return Folder(root=str(root), **{**settings, "resident": "auto", "seed": 0, **changes})


@pytest.fixture
def photos(tmp_path):
    """Twelve good pictures."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.png")
    return root


def animated(path):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


# What is decoded all the same.
GOOD = {
    "animated.gif": animated,
    "sixteen.png": lambda path: Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(path),
    "cmyk.jpg": lambda path: Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(path),
    "palette.png": lambda path: Image.new("P", (20, 20), 3).save(path),
    "pixel.png": lambda path: Image.new("RGB", (1, 1), "red").save(path),
    "mislabelled.jpg": lambda path: Image.new("RGB", (20, 20), "red").save(path, format="PNG"),
}


def truncated(path):
    Image.new("RGB", (300, 300), "red").save(path)
    path.write_bytes(path.read_bytes()[:200])


def bomb(path):
    """A file of some kilobytes that says it has four thousand million pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


UNKNOWN = "its format is none that is read"

# What is left out, and told with a reason.
BAD = {
    "truncated.jpg": (truncated, "Truncated File Read"),
    "empty.png": (lambda path: path.touch(), UNKNOWN),
    "text.png": (lambda path: path.write_text("no picture"), UNKNOWN),
    "bomb.png": (bomb, "it has more than 89,478,485 pixels: reduce it first"),
    "dangling.png": (lambda path: path.symlink_to("nowhere.png"), None),  # what leads nowhere is no file
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_pictures_are_decoded(photos, name):
    GOOD[name](photos / name)
    images = folder(photos).decode()
    assert len(images.train) + len(images.val) == 13


@pytest.mark.parametrize("name", BAD)
def test_broken_pictures_are_left_out(photos, name, capsys):
    make, reason = BAD[name]
    make(photos / name)
    images = folder(photos).decode()
    assert len(images.train) + len(images.val) == 12
    if reason:
        told = f"1 of 13 image files in {photos} cannot be read ({photos / name}: {reason})"
        told = f"warning: {told}; they are left out\n"
        assert capsys.readouterr().err == told


def test_links_in_a_loop(photos):
    (photos / "loop").symlink_to(photos)
    images = folder(photos).decode()
    assert len(images.train) + len(images.val) == 12


def test_a_file_that_vanishes_between_listing_and_reading(photos, monkeypatch, capsys):
    from losslens.data import folder as module

    read = module.read_squares

    def vanishing(file, size, crops, **limits):
        if file.name == "03.png":
            file.unlink(missing_ok=True)
        return read(file, size, crops, **limits)

    monkeypatch.setattr(module, "read_squares", vanishing)
    images = folder(photos).decode()
    assert len(images.train) + len(images.val) == 11
    assert f"({photos / '03.png'}: No such file or directory); they are left out" in capsys.readouterr().err


def test_a_stale_cache_is_made_again(photos):
    before = folder(photos).decode()
    Image.new("RGB", (20, 24), "red").save(photos / "03.png")
    after = folder(photos).decode()
    assert not torch.equal(torch.cat(before), torch.cat(after))
    assert torch.cat(after)[:, 0].eq(255).flatten(1).all(1).any()


def test_a_folder_that_changes_between_runs(tmp_path, photos):
    sweep = Sweep(tmp_path)
    size = [*TINY, "data=folder", f"data.root={photos}", "trainer.max_epochs=100000", "checkpoint.every=3steps"]
    process = sweep.start(sweep.command(size=size))
    sweep.wait_for(lambda: sweep.saved_step() >= 6, process)
    kill(process)
    added = photos / "more.png"
    Image.new("RGB", (20, 24), "red").save(added)
    done = sweep.run(sweep.resumption("retry_failed=true"))
    assert done.returncode == 1
    assert "the data has changed since loss=l1 began: 11 images to train on and 1 to validate on were 12 and 1 now" in (
        done.stderr
    )
    added.unlink()
    process = sweep.start(sweep.resumption("retry_failed=true"))  # brought back, it goes on
    step = sweep.saved_step()
    sweep.wait_for(lambda: sweep.saved_step() > step, process)
    kill(process)
    assert sweep.saved_step() > step


def test_archives_do_not_write_outside(tmp_path):
    """What torchvision downloads is extracted by a filter that refuses this."""
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        (tmp_path / "file").write_text("outside")
        archive.add(tmp_path / "file", arcname="../outside")
    from torchvision.datasets.utils import extract_archive

    with pytest.raises(tarfile.OutsideDestinationError):
        extract_archive(str(evil), str(tmp_path / "inside"))
    assert not os.path.exists(tmp_path / "outside")
