"""What is reached without training stands beside the variants, in everything that a sweep shows."""

import csv
import io
import json

import numpy as np
import pytest
from commands import run
from conftest import TINY, the_only
from PIL import Image

from losslens.build import build
from losslens.pictures.grid import to_pil
from losslens.report.baselines import block_side, jpeg
from losslens.sweep.results import load_sweep

SIZE = [*(each for each in TINY if each != "report=false"), "data.image_size=32"]
NAMES = ["mean", "klt", "klt of luma"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("baselines")
    done = run(["train.py", "-m", "loss=l1,luma,ssim", "baselines=[mean,klt,jpeg]", *SIZE], place)
    assert done.returncode == 0, done.stderr
    return done, load_sweep(the_only((place / "outputs" / "sweeps").iterdir()))


def test_each_is_in_table_results_sheet_and_report(trained):
    done, sweep = trained
    assert [each.name for each in sweep.baselines] == NAMES
    lines = done.stdout.splitlines()
    places = [next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name} ")) for name in NAMES]
    assert places == sorted(places)
    assert places[0] > max(i for i, line in enumerate(lines) if line.strip().startswith("loss=ssim "))
    rows = list(csv.DictReader(io.StringIO((sweep.folder / "results.csv").read_text())))
    assert [row["variant"] for row in rows if row["status"] == "baseline"] == [each.name for each in sweep.baselines]
    assert len(sweep.rows) == 3  # it is no variant
    page = (sweep.folder / "report.html").read_text()
    for each in sweep.baselines:
        assert page.count(f'<th scope="row" data-value="{each.name}">') == 2
        assert each.reconstructions.shape == sweep["loss=l1"].originals.shape
    reason = "no jpeg: no quality gives 256 bytes, as many as the code has numbers"
    assert reason in done.stdout
    assert reason in page
    with Image.open(sweep.folder / "sheet.png") as sheet:
        assert sheet.height > (1 + 3 + len(sweep.baselines)) * 128


def test_the_report_says_how_far_each_variant_is_from_the_linear_code(trained):
    _, sweep = trained
    page = (sweep.folder / "report.html").read_text()
    klt, luma = (next(each for each in sweep.baselines if each.name == name) for name in ("klt", "klt of luma"))
    for name, code in (("loss=l1", klt), ("loss=luma", luma)):
        own, linear = sweep[name].metrics["seen_psnr"], code.metrics["seen_psnr"]
        assert own < linear  # after so few steps
        assert f"{linear - own:.1f} dB below the best linear code of the same size" in page
    assert "Train longer (more than trainer.max_steps=4)" in page
    own, linear = sweep["loss=ssim"].results["losses"]["ssim"], klt.losses["ssim"]
    assert f"Its loss is {own:.3g}, that of the best linear code of the same size {linear:.3g}." in page
    assert sweep["loss=l1"].metrics["seen_psnr"] == pytest.approx(sweep["loss=l1"].metrics["psnr"], abs=1e-4)


def test_mean_is_one_color_for_each_image(trained):
    _, sweep = trained
    val = np.asarray(build(sweep["loss=l1"].config["data"]).decode().val, np.float64) / 255
    errors = np.abs(val - val.mean((2, 3), keepdims=True))
    mean = next(each for each in sweep.baselines if each.name == "mean")
    for channel, name in enumerate(("red", "green", "blue")):
        assert mean.metrics[name] == pytest.approx(errors[:, channel].mean(), rel=1e-4)
    assert mean.losses["l1"] == pytest.approx(errors.mean(), rel=1e-4)


@pytest.mark.parametrize("most", [1000, 3000])
def test_jpeg_takes_as_many_bytes_as_it_may(photograph, most):
    given = photograph[0]
    found = to_pil(jpeg(given, most))

    def encoded(quality):
        file = io.BytesIO()
        to_pil(given).save(file, format="JPEG", quality=quality, optimize=True)
        return file

    sizes = {quality: encoded(quality).tell() for quality in range(1, 96)}
    best = max(quality for quality, size in sizes.items() if size <= most)
    assert np.array_equal(np.asarray(found), np.asarray(Image.open(encoded(best))))


def test_jpeg_that_never_fits_says_so(photograph):
    with pytest.raises(ValueError, match="no quality gives 10 bytes"):
        jpeg(photograph[0], 10)


@pytest.mark.parametrize(
    ("code", "image", "side"), [([16, 16, 16], (128, 128), 8), ([4, 5, 3], (33, 20), 7), ([1, 1, 1], (9, 9), 9)]
)
def test_side_of_blocks(code, image, side):
    assert block_side(code, image) == side


@pytest.mark.parametrize("code", [[32], [4, 16, 8]])
def test_codes_without_places_have_no_linear_code(code):
    with pytest.raises(ValueError, match="has no place for each square block"):
        block_side(code, (128, 128))


def test_none(train, tmp_path):
    done = train("loss=l1", "baselines=[]", *SIZE)
    assert "below the line" not in done.stdout
    (folder,) = tmp_path.glob("outputs/*/*-loss=l1")
    assert json.loads((folder / "baselines" / "baselines.json").read_text())["measured"] == []


@pytest.mark.parametrize("wrong", ["baselines=[pca]", "baselines=klt"])
def test_another_one_is_refused(train, wrong):
    done = train(wrong, *TINY, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: baselines ")
    assert done.stderr.count("\n") == 1
