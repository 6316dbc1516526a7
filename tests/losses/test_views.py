import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from losslens.losses import LinearView, Luma
from losslens.losses.color import CB_601, COLOR_DIRECTIONS, CR_601

weights = st.lists(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


def pillow(photograph, mode):
    pixels = (photograph[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return np.asarray(Image.fromarray(pixels).convert(mode), dtype=np.float64) / 255


def test_luma_is_pillows(photograph):
    luma = Luma(standard=601)(photograph)
    assert luma.shape == (1, 1, 64, 64)
    assert np.abs(luma[0, 0].numpy() - pillow(photograph, "L")).max() <= 1 / 255


def test_color_differences_are_those_of_jpeg(photograph):
    expected = pillow(photograph, "YCbCr")
    for channel, direction in ((1, CB_601), (2, CR_601)):
        values = LinearView([direction])(photograph)[0, 0].numpy() + 128 / 255
        assert np.abs(values - expected[..., channel]).max() <= 1.5 / 255


def test_luma_709():
    gray = torch.full((1, 3, 2, 2), 0.25)
    assert torch.allclose(Luma(standard=709)(gray), torch.tensor(0.25))
    assert torch.allclose(
        Luma(standard=709)(torch.eye(3).reshape(3, 3, 1, 1)).flatten(), torch.tensor([0.2126, 0.7152, 0.0722])
    )


def test_luma_refuses_other_standards():
    with pytest.raises(ValueError, match="use 601 or 709"):
        Luma(standard=2020)


@pytest.mark.parametrize("bad", [[], [[1, 0]], [[1, 0, 0, 0]], [[float("nan"), 0, 0]]])
def test_linear_view_refuses_other_tables(bad):
    with pytest.raises(ValueError, match="weights"):
        LinearView(bad)


def test_linear_view_refuses_gray_images():
    with pytest.raises(ValueError, match=r"expected \(N, 3, H, W\)"):
        LinearView([[1, 0, 0]])(torch.rand(1, 1, 4, 4))


@given(weights, st.integers(0, 2**31))
def test_linear_view_is_the_matrix_product(table, seed):
    images = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(seed))
    expected = torch.einsum("kc,nchw->nkhw", torch.tensor(table), images)
    assert torch.allclose(LinearView(table)(images), expected, atol=1e-5)


@given(weights)
def test_what_is_not_seen_can_change_unseen(table):
    view = LinearView(table)
    for direction in COLOR_DIRECTIONS.values():
        rows = np.asarray(table, dtype=np.float64)
        residual = np.asarray(direction) - np.linalg.pinv(rows, rcond=1e-5) @ rows @ np.asarray(direction)
        if np.linalg.norm(residual) > 0.01:
            assert not view.sees(direction)
