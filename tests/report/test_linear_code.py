import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from losslens.losses import LinearView, Luma
from losslens.report.linear_code import LinearCode, block_statistics


@pytest.fixture(scope="module")
def images():
    """Smooth random images, uint8 `(40, 3, 24, 16)`."""
    coarse = torch.rand(40, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=(24, 16), mode="bilinear") * 255).round().to(torch.uint8)


def blocks_of(images, side):
    """Rows of blocks, channel by channel, in numpy."""
    n, c, h, w = images.shape
    cut = np.asarray(images, np.float64).reshape(n, c, h // side, side, w // side, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, c * side * side)


def psnr(errors):
    return -10 * np.log10(np.mean(np.square(errors)))


@pytest.mark.parametrize("numbers", [1, 5, 16])
def test_is_the_pca_of_scikit_learn(images, numbers):
    train, val = images[:30], images[30:].float() / 255
    code = LinearCode(block_statistics(train, 8), numbers)
    pca = PCA(numbers, svd_solver="full").fit(blocks_of(train.double() / 255, 8))
    given = blocks_of(val, 8)
    expected = pca.inverse_transform(pca.transform(given))
    assert psnr(np.asarray(code(val) - val, np.float64)) == pytest.approx(psnr(expected - given), abs=1e-6)


@pytest.mark.parametrize("view", [Luma(), LinearView([[1, 0, 0]]), LinearView([[1, 0, 0], [0, 1, 1]])])
def test_under_a_view_it_is_that_of_what_the_view_sees(images, view):
    train, val = images[:30], images[30:].float() / 255
    code = LinearCode(block_statistics(train, 8), 3, view)
    with torch.no_grad():
        pca = PCA(3, svd_solver="full").fit(blocks_of(view(train.float() / 255), 8))
        given = blocks_of(view(val), 8)
        expected = pca.inverse_transform(pca.transform(given))
        found = blocks_of(view(code(val)), 8)
        assert psnr(found - given) == pytest.approx(psnr(expected - given), abs=1e-3)
        assert (view.unseen_axes().float() @ code(val).flatten(2)).abs().max() < 1e-4  # of least norm


def test_takes_any_size_and_a_code_that_holds_all(images):
    code = LinearCode(block_statistics(images, 8), 192)
    odd = torch.rand(2, 3, 19, 9)
    assert torch.allclose(code(odd), odd, atol=1e-4)
