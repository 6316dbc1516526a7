import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from losslens.losses import LinearView
from losslens.losses.ssim import SSIM
from losslens.training.metrics import METRICS, ColorRank, describe_colors, reconstruction_metrics


def measure(input, target):
    metrics = reconstruction_metrics()
    for batch in zip(input.split(2), target.split(2), strict=True):
        metrics.update(*batch)
    return {name.removeprefix("val/"): value.item() for name, value in metrics.compute().items()}


@pytest.fixture
def pair(photograph):
    target = torch.cat([photograph, photograph.flip(-1), photograph.flip(-2)])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return (target + 0.1 * noise).clamp(0, 1), target


def test_names(pair):
    assert set(measure(*pair)) == set(METRICS) - {"loss"}


def test_errors_are_mean_absolute_differences(pair):
    measured = measure(*pair)
    red, green, blue = (np.asarray(pair[0] - pair[1], np.float64)[:, channel] for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = {"red": red, "green": green, "blue": blue, "luma": luma}
    expected |= {"cb": (blue - luma) / 1.772, "cr": (red - luma) / 1.402}
    for name, difference in expected.items():
        assert measured[name] == pytest.approx(np.abs(difference).mean(), rel=1e-5)


def test_psnr_and_ssim_are_those_of_scikit_image(pair):
    measured = measure(*pair)
    input, target = (np.asarray(images, np.float64) for images in pair)
    assert measured["psnr"] == pytest.approx(peak_signal_noise_ratio(target, input, data_range=1), abs=1e-3)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [
        structural_similarity(x, y, data_range=1, channel_axis=0, **gaussian)
        for x, y in zip(input, target, strict=True)
    ]
    assert measured["ssim"] == pytest.approx(np.mean(ssim), abs=5e-6)


@pytest.mark.parametrize("side", [1, 4, 8, 10, 11])
def test_small_images_have_an_ssim_too(side):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert measure(images, images)["ssim"] == pytest.approx(1)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (11, 29), (8, 64), (6, 7)])
def test_the_metric_and_the_loss_ssim_are_one(pair, height, width):
    input, target = (images[..., :height, :width] for images in pair)
    assert measure(input, target)["ssim"] == pytest.approx(1 - SSIM()(input, target).item(), abs=1e-6)


@pytest.mark.parametrize(("directions", "rank"), [(1, 1), (2, 2), (3, 3)])
def test_color_rank_counts_dimensions(directions, rank):
    """Independent noise of one size along orthogonal directions."""
    basis = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0][:directions]
    noise = torch.randn(4, directions, 64, 64, generator=torch.Generator().manual_seed(0))
    images = 0.5 + 0.1 * torch.einsum("kc,nkhw->nchw", basis, noise)
    metric = ColorRank()
    for batch in images.split(3):
        metric.update(batch, batch)
    assert metric.compute().item() == pytest.approx(rank, rel=0.01)


def test_color_rank_of_a_plain_picture_is_0():
    metric = ColorRank()
    metric.update(torch.full((2, 3, 8, 8), 0.9), torch.zeros(2, 3, 8, 8))
    assert metric.compute().item() == 0


def test_seen_and_unseen_errors(pair):
    """For one channel its mean absolute error, for several per dimension; together all of the error."""
    difference = np.asarray(pair[0] - pair[1], np.float64)
    red = LinearView([[2, 0, 0]])
    metrics = reconstruction_metrics(red)
    metrics.update(*pair)
    measured = metrics.compute()
    assert measured["val/seen_error"] == pytest.approx(np.abs(difference[:, 0]).mean(), rel=1e-5)
    rest = np.sqrt((difference[:, 1] ** 2 + difference[:, 2] ** 2) / 2).mean()
    assert measured["val/unseen_error"] == pytest.approx(rest, rel=1e-5)
    assert "val/unseen_error" not in reconstruction_metrics(LinearView([[1, 0, 0], [0, 1, 0], [0, 1, 1]]))
    assert "val/seen_error" not in reconstruction_metrics()


def test_colors_are_described(photograph):
    described = describe_colors(photograph)
    pixels = np.asarray(photograph, np.float64)
    assert described["spread"]["green"] == pytest.approx(np.abs(pixels[0, 1] - pixels[0, 1].mean()).mean(), rel=1e-5)
    scales = np.linalg.eigvalsh(np.cov(pixels[0].reshape(3, -1)))
    assert described["color_rank"] == pytest.approx(scales.sum() ** 2 / (scales**2).sum(), rel=1e-3)
