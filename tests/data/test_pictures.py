"""How files become pictures: scales, what counts as a picture, bounds, and links."""

import errno
import os
import shutil
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin

from losslens.data import Folder
from losslens.data.cache import cache_folder
from losslens.data.folder import read_squares
from losslens.data.pictures import (
    MAX_PIXELS,
    Unreadable,
    as_images,
    list_pictures,
    open_picture,
    quiet_pillow,
    to_rgb,
)
from losslens.lens.picture import read_picture

WRITTEN = [
    "avif",
    "bmp",
    "dds",
    "dib",
    "gif",
    "ico",
    "jp2",
    "jpg",
    "mpo",
    "pcx",
    "png",
    "ppm",
    "qoi",
    "sgi",
    "tga",
    "tiff",
    "webp",
    "xbm",
]
RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))
SHADES = (RAMP * 255).round()  # what is to come out


def folder(root, **changes):
    settings = {"image_size": 16, "crops": 1, "val_fraction": 0.25, "on_error": "skip", "batch_size": 4, "flip": True}
    return Folder(root=str(root), **{**settings, "resident": "auto", "seed": 0, **changes})


def fill(root, count=4, make=lambda index: Image.new("RGB", (20, 20), (10 * index, 0, 0))):
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        make(index).save(root / f"{index:02}.png")
    return root


def tiff(path, values, bits=None, **tags):
    """A TIFF of numbers as the file says they are."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[getattr(TiffImagePlugin, name)] = value
    Image.fromarray(values).save(path, tiffinfo=info)


def shades(path):
    """The gray values that a file is read as, the same by all who read files."""
    gray = np.asarray(open_picture(path).image)
    assert (gray == gray[..., :1]).all()
    assert np.array_equal((as_images(path)[0, 0] * 255).round().numpy(), gray[..., 0])
    assert np.array_equal((read_picture(str(path), 16)[0][0, 0] * 255).round().numpy(), gray[..., 0])
    assert np.array_equal(read_squares(path, 16, 1).pixels[0, 0], gray[..., 0])
    return gray[..., 0]


class TestScale:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("16.png", (RAMP * 65535).round().astype(np.uint16)),
            ("16.tiff", (RAMP * 65535).round().astype(np.uint16)),
            ("32.tiff", (RAMP * 65535).round().astype(np.int32)),
            ("float.tiff", RAMP.astype(np.float32)),
            ("rounded.tiff", (RAMP * (1 + 1e-7)).astype(np.float32)),
            ("float.pfm", RAMP.astype(np.float32)),
            ("16.jp2", (RAMP * 65535).round().astype(np.uint16)),
        ],
    )
    def test_is_that_of_the_type(self, tmp_path, name, values):
        Image.fromarray(values).save(tmp_path / name)
        assert np.abs(shades(tmp_path / name) - SHADES).max() <= 1

    @pytest.mark.parametrize("share", [1, 0.5, 1 / 256, 1 / 65535])
    @pytest.mark.parametrize("kind", ["16.png", "32.tiff", "float.tiff"])
    def test_is_not_that_of_the_largest_value(self, tmp_path, kind, share):
        dtype, white = {"16.png": ("u2", 65535), "32.tiff": ("i4", 65535), "float.tiff": ("f4", 1)}[kind]
        values = RAMP * share * white
        values = values if dtype == "f4" else values.round()
        Image.fromarray(values.astype(dtype)).save(tmp_path / kind)
        assert np.abs(shades(tmp_path / kind) - SHADES * share).max() <= 0.51

    def test_is_that_of_the_bits_that_a_tiff_names(self, tmp_path):
        """Two numbers of 12 bits in three bytes."""
        values = (RAMP * 4095).round().astype(int)
        pairs = values.reshape(-1, 2)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
        whole = packed.astype(np.uint8).tobytes()
        entries = [
            (256, 16),
            (257, 16),
            (258, 12),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, 16),
            (279, len(whole)),
        ]
        directory = len(entries).to_bytes(2, "little")
        for tag, value in entries:
            directory += b"".join(
                number.to_bytes(size, "little") for number, size in ((tag, 2), (4, 2), (1, 4), (value, 4))
            )
        start = b"II*\0" + (8 + len(whole)).to_bytes(4, "little")
        (tmp_path / "a.tiff").write_bytes(start + whole + directory + bytes(4))
        assert np.abs(shades(tmp_path / "a.tiff") - SHADES).max() <= 1

    def test_of_portable_graymaps_is_their_largest_value(self, tmp_path):
        values = (RAMP * 1000).round().astype(">u2")
        (tmp_path / "a.pgm").write_bytes(b"P5 16 16 1000\n" + values.tobytes())
        assert np.abs(shades(tmp_path / "a.pgm") - SHADES).max() <= 1

    def test_of_signed_numbers_is_their_positive_half(self, tmp_path):
        tiff(tmp_path / "8.tiff", (RAMP * 127).round().astype(np.uint8), SAMPLEFORMAT=2)
        assert np.abs(shades(tmp_path / "8.tiff") - SHADES).max() <= 2
        tiff(tmp_path / "8.tiff", (RAMP * 255).round().astype(np.uint8), SAMPLEFORMAT=2)
        with pytest.raises(Unreadable, match="from 0 to 127 but from -1"):
            open_picture(tmp_path / "8.tiff")

    def test_white_may_be_zero(self, tmp_path):
        tiff(tmp_path / "a.tiff", (RAMP * 65535).round().astype(np.uint16), PHOTOMETRIC_INTERPRETATION=0)
        with Image.open(tmp_path / "a.tiff") as opened:
            assert opened.tag_v2[262] == 0
        assert np.abs(shades(tmp_path / "a.tiff") - SHADES[:, ::-1]).max() <= 1

    @pytest.mark.parametrize(
        ("value", "dtype", "message"),
        [
            (np.nan, "f4", "not finite"),
            (np.inf, "f4", "not finite"),
            (-np.inf, "f4", "not finite"),
            (-0.5, "f4", "floats are not all from 0 to 1 but from -0.5"),
            (1.5, "f4", "from 0 to 1.5"),
            (255, "f4", "from 0 to 255"),
            (-1, "i4", "integers are not all from 0 to 65535 but from -1"),
            (65536, "i4", "from 0 to 65536"),
        ],
    )
    def test_what_has_no_place_on_it_is_refused_by_all(self, tmp_path, value, dtype, message):
        values = np.zeros((16, 16), dtype)
        values[3, 5] = value
        path = tmp_path / "a.tiff"
        Image.fromarray(values).save(path)
        for read in (
            open_picture,
            as_images,
            lambda path: read_picture(str(path), 8),
            lambda path: read_squares(path, 8, 8),
        ):
            with pytest.raises(ValueError, match=message) as error:
                read(path)
            assert "a.tiff cannot be read" in str(error.value)
        with pytest.raises(ValueError, match=message):
            to_rgb(Image.fromarray(values))

    def test_a_folder_with_such_files_leaves_them_out_with_the_reason(self, tmp_path, capsys):
        root = fill(tmp_path / "photos")
        values = RAMP.astype(np.float32)
        values[1, 1] = np.nan
        Image.fromarray(values).save(root / "nan.tiff")
        assert sum(map(len, folder(root).decode())) == 4
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"({root / 'nan.tiff'}: some of its numbers are not finite)" in told
        with pytest.raises(ValueError, match=r"nan\.tiff: some of its numbers"):
            folder(root, on_error="raise").decode()

    def test_integers_of_fits_have_an_offset(self, tmp_path):
        cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2"]
        cards += ["NAXIS1  =                   16", "NAXIS2  =                   16", "END"]
        header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
        (tmp_path / "a.fits").write_bytes(header + bytes(2 * 16 * 16).ljust(2880, b"\0"))
        with pytest.raises(Unreadable, match="Pillow ignores the offset"):
            open_picture(tmp_path / "a.fits")


class TestNarrowFiles:
    """12 bits in files of 16."""

    @pytest.fixture
    def root(self, tmp_path):
        return fill(tmp_path / "scans", make=lambda index: Image.fromarray((RAMP * (4095 - index)).astype(np.uint16)))

    def test_are_told_of_in_one_line(self, root, capsys):
        for _ in range(2):  # from the cache too
            assert torch.cat(folder(root).decode()).max() == 16
            told = capsys.readouterr().err
            assert told.count("\n") == 1
            assert told.startswith(f"warning: the largest value in the 16-bit files in {root} is 4095 of 65535")
            assert told.endswith("data.max_value=4095 makes them bright\n")

    def test_are_told_of_once_where_folders_split_them(self, tmp_path, root, capsys):
        for name in ("train", "val"):
            shutil.copytree(root, tmp_path / "split" / name)
        folder(tmp_path / "split").decode()
        assert capsys.readouterr().err.count("\n") == 1

    def test_are_bright_on_request(self, root, capsys):
        images = torch.cat(folder(root, max_value=4095).decode())
        assert images.max() == 255
        assert capsys.readouterr().err == ""
        Image.fromarray(np.full((16, 16), 5000, np.uint16)).save(root / "05.png")
        folder(root, max_value=4095).decode()
        assert "integers are not all from 0 to 4095 but from 5000 to 5000" in capsys.readouterr().err

    def test_one_that_uses_the_range_settles_it(self, root, capsys):
        Image.fromarray(np.full((16, 16), 9000, np.uint16)).save(root / "05.png")
        folder(root).decode()
        assert capsys.readouterr().err == ""

    def test_other_files_are_as_they_are(self, root):
        Image.new("RGB", (16, 16), (100, 100, 100)).save(root / "05.png")
        images = torch.cat(folder(root, max_value=4095).decode())
        assert (images == 100).flatten(1).all(1).any()

    def test_in_color_are_told_of_too(self, tmp_path, capsys):
        """Pillow writes no such file: it is a gray one three times as wide, with another header."""
        root = fill(tmp_path / "colors")
        for path in root.iterdir():
            png_of_16_bit_colors(path, (np.tile(RAMP, (1, 3)) * 4095).astype(">u2"))
        assert torch.cat(folder(root).decode()).max() == 15
        assert "convert those in color to 8 bits" in capsys.readouterr().err
        with pytest.raises(ValueError, match="Pillow keeps 8 bits"):
            folder(root, max_value=4095).decode()

    @pytest.mark.parametrize("value", ["bright", 0, -1, float("nan"), float("inf"), True, None])
    def test_senseless_values(self, root, value):
        with pytest.raises(ValueError, match=r"use data\.max_value=auto, or data\.max_value=4095"):
            folder(root, max_value=value).decode()


def png_of_16_bit_colors(path, values):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width // 3, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


class TestWhatCounts:
    def test_is_what_a_person_sees_as_a_picture(self, tmp_path, capsys):
        root = fill(tmp_path / "photos")
        shutil.copy(root / "00.png", root / "._00.png")
        for name in (".ipynb_checkpoints", "__MACOSX", ".thumbnails"):
            fill(root / name)
        for name in ("paper.pdf", "table.h5", "film.mpg", "drawing.eps", "figure.ps", "old.wmf", "notes.txt"):
            (root / name).write_bytes(b"%PDF-1.4\n")
        shutil.copy(root / "00.png", root / "upper.PNG")
        assert sum(map(len, folder(root, on_error="raise").decode())) == 5
        assert capsys.readouterr().err == ""

    def test_a_hidden_folder_may_be_named(self, tmp_path):
        assert len(list_pictures(fill(tmp_path / ".photos")).files) == 4

    def test_a_file_is_what_it_holds(self, tmp_path):
        Image.new("RGB", (20, 20), "red").save(tmp_path / "a.jpg", format="PNG")
        assert open_picture(tmp_path / "a.jpg").image.getpixel((0, 0)) == (255, 0, 0)

    @pytest.mark.parametrize("ending", WRITTEN)
    def test_what_pillow_writes_is_read(self, tmp_path, ending):
        image = Image.new("1" if ending == "xbm" else "RGB", (32, 32), 1 if ending == "xbm" else "red")
        image.save(tmp_path / f"a.{ending}")
        assert list_pictures(tmp_path).files == [tmp_path / f"a.{ending}"]
        assert open_picture(tmp_path / f"a.{ending}").image.size == (32, 32)

    def test_noise_is_no_picture_of_a_format_without_a_mark(self, tmp_path):
        header = bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 24, 0])  # of a TGA
        (tmp_path / "a.png").write_bytes(header + bytes(48))
        with pytest.raises(Unreadable, match="its format is none that is read"):
            open_picture(tmp_path / "a.png")
        (tmp_path / "a.png").rename(tmp_path / "a.tga")
        assert open_picture(tmp_path / "a.tga").image.size == (4, 4)


class TestLinks:
    def test_to_folders_are_entered(self, tmp_path):
        store = fill(tmp_path / "store" / "cats")
        root = tmp_path / "photos"
        root.mkdir()
        (root / "cats").symlink_to(store)
        assert sum(map(len, folder(root).decode())) == 4
        assert list_pictures(root).files[0] == root / "cats" / "00.png"

    def test_loops_end(self, tmp_path):
        root = fill(tmp_path / "photos" / "inside").parent
        fill(tmp_path / "beside")
        (root / "loop").symlink_to(root)
        (root / "inside" / "up").symlink_to("..")
        (root / "above").symlink_to(tmp_path)
        (root / "self").symlink_to("self")
        assert [path.parent for path in list_pictures(root).files] == 4 * [root / "inside"]

    def test_no_folder_is_entered_twice(self, tmp_path):
        """Else one picture could be on both sides of training and validation."""
        root = fill(tmp_path / "photos" / "z").parent
        (root / "a").symlink_to("z")
        store = fill(tmp_path / "store")
        (root / "b").symlink_to(store)
        (root / "c").symlink_to(store)
        assert [path.parent.name for path in list_pictures(root).files] == 4 * ["b"] + 4 * ["z"]


class TestFailuresOfTheMoment:
    @pytest.fixture
    def root(self, tmp_path):
        return fill(tmp_path / "photos")

    @pytest.fixture
    def forbid(self, monkeypatch):
        """Files that cannot be opened, with a number of an error."""
        forbidden, opened = {}, Path.open

        def refuse(path, *arguments, **settings):
            if path.name in forbidden:
                raise OSError(forbidden[path.name], os.strerror(forbidden[path.name]), str(path))
            return opened(path, *arguments, **settings)

        monkeypatch.setattr(Path, "open", refuse)
        return forbidden

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ETIMEDOUT])
    @pytest.mark.parametrize("resident", [True, False])
    def test_are_forgotten(self, root, forbid, capsys, number, resident):
        forbid["01.png"] = number
        assert sum(map(len, folder(root, resident=resident).decode())) == 3
        assert f"{root / '01.png'}: {os.strerror(number)}" in capsys.readouterr().err
        with pytest.raises(ValueError, match="1 of 4 image files"):
            folder(root, on_error="raise").decode()
        forbid.clear()
        assert sum(map(len, folder(root, on_error="raise").decode())) == 4

    def test_of_the_memory_too(self, root, monkeypatch, capsys):
        def fail(*_, **__):
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr("losslens.data.folder.cut_crops", fail)
            Image.new("RGB", (64, 64)).save(root / "large.png")
            assert sum(map(len, folder(root, crops=2).decode())) == 4
        assert "large.png: it needs more memory than there is" in capsys.readouterr().err
        assert sum(map(len, folder(root, crops=2).decode())) == 6

    def test_lasting_ones_are_kept(self, root, monkeypatch, capsys):
        (root / "text.png").write_text("no picture")
        folder(root).decode()
        monkeypatch.setattr("losslens.data.folder.read_squares", lambda *_, **__: pytest.fail("decoded again"))
        folder(root).decode()
        assert capsys.readouterr().err.count("text.png: its format is none that is read") == 2

    @pytest.mark.parametrize("version", ["PIL.__version__", "losslens.data.folder.READER"])
    def test_another_version_reads_again(self, root, monkeypatch, version):
        folder(root).decode()
        monkeypatch.setattr(version, "another")
        folder(root).decode()
        assert len(list(cache_folder().glob("*.json"))) == 2

    def test_a_folder_that_cannot_be_listed_is_told_of(self, root, monkeypatch, capsys):
        below, scandir = fill(root / "below"), os.scandir

        def refuse(path):
            if Path(path) == below:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scandir(path)

        with monkeypatch.context() as patch:
            patch.setattr("os.scandir", refuse)
            assert sum(map(len, folder(root).decode())) == 4
            assert f"cannot look at {below}: Permission denied" in capsys.readouterr().err
            with pytest.raises(ValueError, match=r"cannot look at .*below: Permission denied"):
                folder(root, on_error="raise").decode()
        assert sum(map(len, folder(root).decode())) == 8


def large(path, width, height):
    """A file of a few kilobytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("L", (width, height)).save(path, compress_level=9)
    return path


class TestBound:
    def test_holds_before_decoding(self, tmp_path, monkeypatch):
        path = large(tmp_path / "a.png", 30000, 3000)  # more than MAX_PIXELS, less than what Pillow refuses
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
        for read in (as_images, lambda path: read_picture(str(path), 64)):
            with pytest.raises(ValueError, match=r"its 30000x3000 pixels are more than 89,478,485: reduce it first"):
                read(path)
        with quiet_pillow(), pytest.raises(Unreadable, match="30000x3000"):
            read_squares(path, 16, 8)

    def test_of_a_folder_is_a_setting(self, tmp_path, capsys):
        root = fill(tmp_path / "photos")
        Image.new("RGB", (30, 30)).save(root / "large.png")
        assert sum(map(len, folder(root, max_pixels=899).decode())) == 4
        told = capsys.readouterr().err
        assert "large.png: its 30x30 pixels are more than 899: reduce it first, or set data.max_pixels=NUMBER)" in told
        assert sum(map(len, folder(root, max_pixels=900).decode())) == 5

    @pytest.mark.parametrize("value", [0, -1, 10**9, "many", 1.5])
    def test_senseless_ones(self, tmp_path, value):
        with pytest.raises(ValueError, match=f"try data.max_pixels={MAX_PIXELS}"):
            folder(fill(tmp_path / "photos"), max_pixels=value).decode()

    def test_large_pictures_are_reduced_as_whole_ones_would_be(self, tmp_path, monkeypatch):
        rng = np.random.default_rng(0)
        for mode, channels in (("RGB", 3), ("RGBA", 4), ("LA", 2)):
            image = Image.fromarray(rng.integers(0, 256, (203, 301, channels), dtype=np.uint8))
            assert image.mode == mode
            image.save(tmp_path / "a.png")
            whole = open_picture(tmp_path / "a.png").image
            with monkeypatch.context() as patch:
                patch.setattr("losslens.data.pictures.LARGE", 0)
                patch.setattr("losslens.data.pictures.STRIP", 2000)
                part = open_picture(tmp_path / "a.png", 50).image
            assert np.array_equal(part, whole.reduce(4))

    def test_memory_is_shared_by_the_workers(self, tmp_path, monkeypatch):
        """Of pictures that take all of it, one at a time is decoded."""
        root = fill(tmp_path / "photos", count=12)
        monkeypatch.setattr("losslens.data.folder.free_memory", lambda _: 4 * 20 * 400)
        monkeypatch.setattr("os.cpu_count", lambda: 6)
        at_work, most, lock = 0, 0, threading.Lock()
        decode = Image.Image.crop

        def watched(image, box):
            nonlocal at_work, most
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.005)
            with lock:
                at_work -= 1
            return decode(image, box)

        monkeypatch.setattr("losslens.data.pictures.Image.Image.crop", watched)
        monkeypatch.setattr("losslens.data.folder.ImageOps.fit", lambda image, size, _: image.resize(size))
        assert sum(map(len, folder(root).decode())) == 12
        assert most == 1


class TestNoFiles:
    def test_a_pipe_is_refused_at_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        for path in (tmp_path / "pipe.png", Path("/dev/zero")):
            for read in (open_picture, as_images, lambda path: read_picture(str(path), 8)):
                with pytest.raises(ValueError, match=r"cannot be read \(it is no regular file"):
                    read(path)
        assert list_pictures(tmp_path).files == []

    def test_folders_and_what_is_absent(self, tmp_path):
        with pytest.raises(Unreadable, match="it is a folder"):
            open_picture(tmp_path)
        with pytest.raises(Unreadable, match="No such file"):
            open_picture(tmp_path / "a.png")


def test_a_damaged_exif_spoils_nothing(tmp_path):
    """Pillow cannot write these entries again, which its own `exif_transpose` does."""
    wide = np.zeros((16, 32, 3), np.uint8)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    exif += b"\x01\x1a\0\x03\0\0\0\x01\xff\xff\0\0\0\0\0\0"
    for index, damaged in enumerate((exif, exif.replace(b"\x01\x1a\0\x03", b"\x01\x1a\0\x05"))):
        Image.fromarray(wide).save(tmp_path / f"{index}.jpg", exif=damaged)
        with quiet_pillow():
            assert open_picture(tmp_path / f"{index}.jpg").image.size == (16, 32)
    Image.fromarray(wide).save(tmp_path / "a.jpg", exif=b"Exif\0\0XX")
    with quiet_pillow():
        assert open_picture(tmp_path / "a.jpg").image.size == (32, 16)


def test_any_error_of_a_decoder_becomes_one_line(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for error in (KeyError("a\nb"), RuntimeError(), AssertionError(), RecursionError("deep"), OverflowError("x")):

        def fail(_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(PngImagePlugin.PngImageFile, "load", fail)
            with pytest.raises(
                Unreadable, match=rf"a.png cannot be read \(it is damaged: {type(error).__name__}"
            ) as told:
                open_picture(tmp_path / "a.png")
            assert "\n" not in str(told.value)


def test_a_name_that_is_no_text(tmp_path):
    root = fill(tmp_path / "photos", make=lambda index: Image.new("RGB", (64, 64), (index, 0, 0)))
    os.rename(os.fsencode(root / "00.png"), os.fsencode(root) + b"/\xff.png")
    assert sum(map(len, folder(root, crops=2).decode())) == 8
    image, name = read_picture(os.fsdecode(os.fsencode(root) + b"/\xff.png"), 8)
    assert image.shape == (1, 3, 8, 8)
    name.encode()


def test_the_first_frame_of_several_is_read(tmp_path):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "a.gif").image.getpixel((0, 0)) == (255, 0, 0)
