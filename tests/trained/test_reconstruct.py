"""reconstruct.py as a user meets it."""

import errno
import os
import re
import shutil

import numpy as np
import pytest
import torch
from commands import run as run_command
from conftest import SHARED_DATA, the_only
from PIL import Image

import losslens
from losslens.overrides import quote_texts
from losslens.pictures.sheet import side_by_side
from losslens.trained.load import find_variants
from losslens.trained.reconstruct import find_pictures, reconstruct_files


@pytest.fixture
def photographs(tmp_path):
    """A wide and a tall photograph, in a folder."""
    import skimage

    folder = tmp_path / "my photos"
    folder.mkdir()
    data = os.path.join(os.path.dirname(skimage.__file__), "data")
    Image.open(os.path.join(data, "chelsea.png")).crop((0, 0, 451, 300)).resize((241, 161)).save(folder / "cat.jpg")
    Image.open(os.path.join(data, "rocket.jpg")).crop((100, 0, 300, 400)).resize((90, 181)).save(folder / "rocket.png")
    return folder


@pytest.fixture
def reconstruct(tmp_path):
    def run(*arguments, check=True):
        done = run_command(["reconstruct.py", *arguments], tmp_path)
        assert not check or done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def results(tmp_path):
    return the_only((tmp_path / "outputs" / "reconstructions").iterdir())


def test_one_variant(reconstruct, tmp_path, photographs, trained_sweep):
    place = trained_sweep / "loss=luma,seed=0"
    reconstruct(f"variant={place}", f"images={photographs}", "codes=true")
    folder = results(tmp_path)
    variant = losslens.load_variant(place)
    for name, file, size in (("cat", "cat.jpg", (241, 161)), ("rocket", "rocket.png", (90, 181))):
        with Image.open(folder / "loss=luma,seed=0" / f"{name}.png") as picture:
            assert picture.size == size
            pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)
        expected = (variant.reconstruct(photographs / file)[0] * 255).round()
        torch.testing.assert_close(pixels.float(), expected, atol=1, rtol=0)
        code = np.load(folder / "loss=luma,seed=0" / f"{name}.npy", allow_pickle=False)
        assert code.shape == (16, -(-size[1] // 8), -(-size[0] // 8))
        assert code.dtype == np.float32
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 2 * size[0]
    assert (folder / "sheet.png").is_file()


def test_a_sweep_gives_a_sheet(reconstruct, tmp_path, photographs, trained_sweep):
    done = reconstruct(f"variant={trained_sweep}", f"images={photographs}/*.jpg")
    folder = results(tmp_path)
    assert f"1 of 1 pictures in {folder}" in done.stdout
    assert len(list(folder.glob("loss=*/cat.png"))) == 6
    assert (folder / "sheet.png").is_file()
    assert not list(folder.rglob("*.npy"))


def test_what_cannot_be_read_does_not_stop_the_rest(reconstruct, tmp_path, photographs, trained_sweep):
    (photographs / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (5, 5)).save(photographs / "tiny.png")
    variants = f"variant=[{trained_sweep}/loss=red,seed=0,{trained_sweep}/loss=l1,seed=1]"
    done = reconstruct(variants, f"images=[{photographs}]", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "broken.jpg cannot be read" in done.stderr
    assert "tiny.png: image size 5x5 is smaller than the network's stride" in done.stderr
    assert {path.name for path in results(tmp_path).glob("*.png")} == {"cat.png", "rocket.png", "sheet.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["variant=nothing", "images=."], "nothing holds no trained variant"),
        (["images=."], "variant has no value"),
        (["variant=SWEEP", "images=none*.png"], "none*.png leads to no picture"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(reconstruct, tmp_path, trained_sweep, arguments, message):
    done = reconstruct(*(each.replace("SWEEP", str(trained_sweep)) for each in arguments), check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not list(tmp_path.glob("outputs/reconstructions/*"))


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs photographs beside the checkout")
def test_a_photograph_comes_back_in_its_size(reconstruct, tmp_path, trained_sweep):
    file = SHARED_DATA / "bsds500" / "test" / "100007.jpg"
    reconstruct(f"variant={trained_sweep}/loss=l1,seed=0", f"images={file}")
    with Image.open(file) as original, Image.open(results(tmp_path) / "loss=l1,seed=0" / "100007.png") as picture:
        assert picture.size == original.size == (481, 321)


def test_whole_pictures_have_no_seams(trained_sweep):
    """The middle of a large picture is that of the picture cut close around it, as far as the network sees."""
    variant = losslens.load_variant(trained_sweep / "loss=l1,seed=0")
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    whole, part = variant.reconstruct(images), variant.reconstruct(images[..., 32:128, 32:128])
    torch.testing.assert_close(whole[..., 72:88, 72:88], part[..., 40:56, 40:56], atol=1e-5, rtol=0)


def test_find_pictures_by_unique_names(tmp_path):
    for path in ("a/one.png", "b/One.jpg", "b/text.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    found = find_pictures([str(tmp_path)]).files
    assert {name: file.name for name, file in found.items()} == {"one": "one.png", "One-2": "One.jpg"}


def test_pictures_stand_four_in_a_row():
    pictures = {f"picture number {number}": Image.new("RGB", (60, 40), "red") for number in range(6)}
    page = side_by_side(pictures)
    assert page.height > 2 * 40
    red = sum(np.all(np.array(page) == (255, 0, 0), axis=-1).flatten())
    assert red == 6 * 60 * 40


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("variant=loss=a,seed=1", "loss=a,seed=1"),
        ("variant=[loss=a,seed=1, b]", ["loss=a,seed=1", "b"]),
        ("variant='c d'", "c d"),
        ("variant=['x','y']", ["x", "y"]),
        ("variant=C:\\x\\y", "C:\\x\\y"),
        ("variant=C:\\x\\", "C:\\x\\"),
        ("variant=O'Brien", "O'Brien"),
        ("codes=true", True),
    ],
)
def test_paths_are_quoted_as_hydra_reads_them(tmp_path, monkeypatch, argument, value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    monkeypatch.chdir(tmp_path)
    (tmp_path / "loss=a,seed=1").mkdir()
    (quoted,) = quote_texts([argument])
    parsed = OverridesParser.create().parse_override(quoted).value()
    texts = [getattr(each, "text", each) for each in parsed] if isinstance(parsed, list) else [parsed]
    texts = [getattr(each, "text", each) for each in texts]
    assert (texts if isinstance(value, list) else texts[0]) == value


def test_pictures_named_sheet_do_not_lose_to_the_sheet(tmp_path):
    (tmp_path / "Sheet.png").touch()
    assert list(find_pictures([str(tmp_path)]).files) == ["Sheet-2"]


def red(path, size=(24, 24)):
    Image.new("RGB", size, "red").save(path)


def test_no_file_ends_the_batch(reconstruct, tmp_path, photographs, trained_sweep):
    """What is odd is written, what cannot be is listed, and what comes after them is there."""
    Image.new("RGB", (24, 40)).save(photographs / "a.jpg", exif=b"Exif\0\0XX*\0damaged")
    for name in ("b" * 251 + ".png", "c" * 250 + ".jpeg", "é" * 125 + ".png"):
        red(photographs / name)
    red(photographs / "d.png", (4000, 8))  # a thumbnail of no height
    Image.fromarray(np.full((24, 24), np.nan, np.float32)).save(photographs / "e.tiff")
    (photographs / "f.png").write_text("no picture")
    os.mkfifo(photographs / "g.png")
    red(photographs / "z.png")
    images = f"images=[{photographs},{photographs}/g.png,/dev/zero]"
    done = reconstruct(f"variant={trained_sweep}/loss=l1,seed=0", images, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    failed = {
        "e.tiff": "not finite",
        "f.png": "its format is none",
        "g.png": "no regular file",
        "zero": "no regular file",
    }
    assert done.stderr.count(" cannot be read (") == len(failed)
    for name, reason in failed.items():
        assert re.search(rf"{name} cannot be read \([^)]*{reason}", done.stderr)
    folder = results(tmp_path)
    assert f"8 of 12 pictures in {folder}" in done.stdout
    names = {"a", "b" * 240, "c" * 240, "é" * 120, "cat", "rocket", "d", "z"}
    assert {path.stem for path in folder.glob("*.png")} == {*names, "sheet"}
    assert {path.stem for path in folder.glob("loss=*/*.png")} == names


def test_a_picture_too_large_for_the_memory_is_listed(trained_sweep, photographs, tmp_path, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr("losslens.trained.reconstruct.free_memory", lambda _: 112 * 30_000)
    with pytest.raises(ValueError, match=r"cat\.jpg needs more memory than there is: reduce it first$"):
        reconstruct_files(
            [str(trained_sweep / "loss=l1,seed=0")], [str(photographs)], tmp_path, codes=False, console=Console()
        )
    assert (tmp_path / "rocket.png").is_file()


def test_a_full_disk_ends_it_at_once(trained_sweep, photographs, tmp_path, monkeypatch):
    from rich.console import Console

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("losslens.trained.reconstruct.write_picture", fail)
    with pytest.raises(OSError, match="No space left"):
        reconstruct_files(
            [str(trained_sweep / "loss=l1,seed=0")], [str(photographs)], tmp_path, codes=False, console=Console()
        )


class TestPatterns:
    def test_take_pictures_and_say_what_they_leave(self, tmp_path, capsys):
        (tmp_path / "below").mkdir()
        red(tmp_path / "below" / "b.png")
        red(tmp_path / "a.png")
        (tmp_path / "notes.txt").touch()
        assert list(find_pictures([f"{tmp_path}/*"]).files) == ["a"]
        told = capsys.readouterr().err
        left = f"{tmp_path}/below, {tmp_path}/notes.txt"
        assert told == f"warning: {tmp_path}/* leads to 2 that are no picture and are left out: {left}\n"
        assert list(find_pictures([f"{tmp_path}/**/*.png"]).files) == ["a", "b"]
        assert capsys.readouterr().err == ""

    def test_that_lead_to_no_picture_are_refused(self, tmp_path):
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ValueError, match="leads to no picture: give files or folders with images=PATH"):
            find_pictures([f"{tmp_path}/*"])

    def test_take_trained_variants(self, trained_sweep, tmp_path, capsys):
        sweep = tmp_path / "sweep"
        shutil.copytree(trained_sweep, sweep)
        (sweep / "loss=red,seed=1" / "status.json").write_text('{"status": "failed", "reason": "nan"}')
        (sweep / "baselines").mkdir(exist_ok=True)
        named = set(find_variants([str(sweep)]))
        assert len(named) == 5
        assert set(find_variants([f"{sweep}/*"])) == named
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "that are no trained variant and are left out" in told
        assert set(find_variants([f"{sweep}/loss=l1*/checkpoints/*"])) == {"loss=l1,seed=0", "loss=l1,seed=1"} | {
            f"loss=l1,seed={seed}-2" for seed in (0, 1)
        }
        with pytest.raises(ValueError, match="holds no trained variant"):
            find_variants([f"{sweep}/*.json"])

    def test_links_to_folders_are_entered(self, tmp_path):
        (tmp_path / "store").mkdir()
        red(tmp_path / "store" / "a.png")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cats").symlink_to("../store")
        (tmp_path / "photos" / "loop").symlink_to(".")
        found = find_pictures([str(tmp_path / "photos")])
        assert found.files == {"a": tmp_path / "photos" / "cats" / "a.png"}
