"""Losses against each other, and the changes that they notice most and least."""

import math
import warnings

import pytest
import torch
from torch import nn

from losslens.lens import compete, eigendistortions, principal_distortions
from losslens.losses import LinearView, Loss, Luma
from losslens.losses.ssim import SSIM

VIEWS = {
    "rgb": LinearView([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "luma": Luma(),
    "red": LinearView([[1, 0, 0]]),
    "two": LinearView([[1, 0, 0], [0, 1, 0]]),
}
# Whether the second can be 0 while the first is not: where it is blind to something that the first sees.
ZERO = {
    ("rgb", "luma"): True,
    ("rgb", "red"): True,
    ("rgb", "two"): True,
    ("luma", "rgb"): False,
    ("luma", "red"): True,
    ("luma", "two"): True,
    ("red", "rgb"): False,
    ("red", "luma"): True,
    ("red", "two"): False,
    ("two", "rgb"): False,
    ("two", "luma"): True,
    ("two", "red"): True,
}


@pytest.fixture(scope="module")
def crop(cat):
    return cat[..., 20:52, 40:72]


@pytest.mark.parametrize(("held", "other"), ZERO)
def test_the_pattern_of_linear_pairs(held, other, crop):
    found = compete(Loss(VIEWS[held], nn.L1Loss()), Loss(VIEWS[other], nn.L1Loss()), crop)
    assert found.constraint_error < 1e-3
    assert found.fooled == ZERO[held, other] == found.zero_possible
    assert found.low <= found.start <= found.high
    assert found.unbounded == ZERO[other, held]
    for image in (found.low_image, found.high_image):
        assert image.min() >= 0
        assert image.max() <= 1
    if (held, other) == ("red", "luma"):
        assert found.high > 10 * found.start  # green is free
    if (held, other) == ("rgb", "red"):
        assert found.high < 3.3 * found.start  # all of the error in red, and no more


def test_ssim_against_l1(crop):
    found = compete(nn.L1Loss(), SSIM(), crop.float(), steps=40)
    assert found.constraint_error < 1e-3
    assert found.low < 0.2 * found.start
    assert found.zero_possible is None


@pytest.fixture(scope="module")
def tiny(cat):
    return cat[..., 30:38, 60:68]


class Nonlinear(nn.Module):
    """A smooth view whose Jacobian differs from pixel to pixel."""

    def forward(self, images):
        return torch.stack([images[:, 0] * images[:, 1], images[:, 2] ** 2 + images[:, 0]], 1)


@pytest.mark.parametrize("view", [VIEWS["luma"], VIEWS["two"], Nonlinear()], ids=["luma", "two", "nonlinear"])
def test_eigendistortions_are_those_of_the_dense_matrix(view, tiny):
    most, least = eigendistortions(Loss(view, nn.MSELoss()), tiny, iterations=192)
    jacobian = torch.autograd.functional.jacobian(view, tiny).reshape(-1, tiny.numel())
    values = torch.linalg.eigvalsh(jacobian.T @ jacobian)
    assert most.method == "Jacobian of the view"
    assert most.value.item() == pytest.approx(values[-1].item(), rel=1e-9)
    assert least.value.item() == pytest.approx(values[0].item(), abs=1e-9)
    assert most.change.norm().item() == pytest.approx(1)
    residual = jacobian.T @ (jacobian @ most.change.flatten()) - most.value * most.change.flatten()
    assert residual.norm() < 1e-6


def test_luma_by_hand(tiny):
    most, least = eigendistortions(Loss(Luma(), nn.L1Loss()), tiny)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert most.value.item() == pytest.approx(weights.square().sum().item())
    direction = most.change[0].flatten(1)
    assert torch.allclose(
        direction, (weights / weights.norm())[:, None] @ ((weights / weights.norm()) @ direction)[None]
    )
    assert least.value.item() == pytest.approx(0, abs=1e-12)


def test_images_in_a_batch_are_analyzed_each_for_itself(cat):
    images = torch.cat([cat[..., 30:38, 60:68], cat[..., 5:13, 9:17]])
    loss = Loss(Nonlinear(), nn.MSELoss())
    together = eigendistortions(loss, images, iterations=192)
    for index, image in enumerate(images.split(1)):
        alone = eigendistortions(loss, image, iterations=192)
        for both, one in zip(together, alone, strict=True):
            assert both.value[index].item() == pytest.approx(one.value.item(), rel=1e-9, abs=1e-9)


def test_eigendistortions_agree_with_plenoptic(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import plenoptic

        model = Nonlinear().eval()
        theirs = plenoptic.Eigendistortion(tiny, model)
        theirs.synthesize(method="exact")
        values = theirs.eigenvalues
    most, least = eigendistortions(Loss(Nonlinear(), nn.MSELoss()), tiny, iterations=192)
    assert most.value.item() == pytest.approx(values.max().item(), rel=1e-6)
    assert least.value.item() == pytest.approx(values.min().item(), abs=1e-6)


def test_smooth_losses_have_a_hessian_and_others_finite_steps(tiny):
    most, _ = eigendistortions(nn.MSELoss(), tiny)
    assert most.method == "Hessian of the loss"
    assert most.value.item() == pytest.approx(2 / tiny.numel())
    most, least = eigendistortions(nn.L1Loss(), tiny)
    assert most.method == "finite steps"
    assert math.isnan(most.bound)
    # The mean absolute change per RMS is largest where it is even, and least where it is in one place.
    assert most.value.item() == pytest.approx(1, rel=0.02)
    assert least.value.item() < 0.5


def test_principal_distortions_of_red_and_green(tiny):
    losses = {name: Loss(LinearView([row]), nn.L1Loss()) for name, row in (("red", [1, 0, 0]), ("green", [0, 1, 0]))}
    found = principal_distortions(losses, tiny)
    backwards = principal_distortions(dict(reversed(losses.items())), tiny)
    assert abs(found.places["red"]) > 5
    assert found.places["red"] == pytest.approx(-found.places["green"])
    assert abs(backwards.places["red"]) == pytest.approx(abs(found.places["red"]), rel=0.1)
    shares = {change.square().sum((0, 2, 3)).argmax().item() for change in (found.first, found.second)}
    assert shares == {0, 1}  # one is red, the other green


def test_principal_distortions_need_two_losses(tiny):
    with pytest.raises(ValueError, match="give two or more"):
        principal_distortions({"l1": nn.L1Loss()}, tiny)
