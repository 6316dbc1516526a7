import numpy as np
import torch
from PIL import Image

from losslens.pictures.sheet import MARGIN, ROWS_ON_A_PAGE, sheet
from losslens.report.sheet import detail_rows, films, pages, picture_of_view, write_progress, write_sheets


def test_same_images_in_the_same_columns(photograph):
    originals = torch.cat([photograph, photograph.flip(-1), photograph.flip(-2)])
    page = sheet(originals, {"loss=inverted": 1 - originals, "loss=same": originals})
    pixels = np.asarray(page).astype(int)
    left = page.width - MARGIN - (3 * 128 + 4 * 2)
    rows = [pixels[MARGIN + 2 + 130 * row :][:128, left + 2 :][:, : 3 * 130] for row in range(3)]
    assert np.array_equal(rows[0], rows[2])
    assert np.abs(rows[0][:, :128] + rows[1][:, :128] - 255).max() <= 1
    expected = (photograph[0].permute(1, 2, 0) * 255).round().int().numpy()
    assert np.array_equal(rows[0][:128:2, :128:2], expected)
    assert (pixels[:, :left] < 128).any()  # the names are written


def test_twenty_rows_on_a_page(write_sweep, tmp_path):
    sweep = write_sweep([{"name": f"seed={seed}", "loss": "red", "seed": seed} for seed in range(23)])
    (first, _), (second, _) = pages(sweep)
    assert first.height == (ROWS_ON_A_PAGE + 1) * 130 + 2 + 2 * MARGIN
    assert second.height == (3 + 1) * 130 + 2 + 2 * MARGIN
    paths = write_sheets(sweep, tmp_path)
    assert [path.name for path in paths] == ["sheet.png", "sheet-2.png"]
    with Image.open(tmp_path / "sheet-2.webp") as small:
        assert small.size == second.size


def test_progress_shows_every_kept_step(write_sweep, tmp_path):
    sweep = write_sweep([{"name": "a", "loss": "red"}, {"name": "b", "loss": "l1"}])
    (tmp_path / "a sweep" / "v1" / "pictures" / "00000010.png").unlink()
    (shown,) = films(sweep)
    assert list(shown) == [0, 10, 20]
    last_row = (slice(2 * 130 + MARGIN + 2, None), slice(-300, None))
    assert np.array_equal(np.asarray(shown[10])[last_row], np.asarray(shown[0])[last_row])  # as it was last before
    write_progress([shown], tmp_path)
    with Image.open(tmp_path / "progress.webp") as moving:
        assert moving.n_frames == 3


def test_what_the_loss_sees(write_sweep, photograph):
    red, cb, rgb = (
        each for each in write_sweep([{"name": n, "loss": n} for n in ("red", "cb", "l1")]).variants.values()
    )
    seen = picture_of_view(red.config["loss"], photograph)
    assert torch.equal(seen, photograph[:, :1].expand(-1, 3, -1, -1))
    gray = torch.full((1, 3, 4, 4), 0.7)
    assert torch.allclose(picture_of_view(cb.config["loss"], gray), torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(picture_of_view(rgb.config["loss"], photograph), photograph)
    assert picture_of_view({"_target_": "torch.nn.MSELoss"}, photograph) is None
    assert picture_of_view({"_target_": "somewhere.Else"}, photograph) is None
    rows = detail_rows(red, 20)
    assert list(rows) == ["reconstructions", "absolute errors", "seen of originals", "seen of reconstructions"]
    assert torch.allclose(rows["absolute errors"], (red.originals - rows["reconstructions"]).abs())
