import numpy as np
import torch

from losslens.report.sheet import MARGIN, sheet


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
