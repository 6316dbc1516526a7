"""Every conf/loss/*.yaml is held to the same contract; a new file is tested without writing a test."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from skimage.metrics import structural_similarity

from losslens.build import build_loss
from losslens.lens.subject import linear_view
from losslens.losses import LinearView, Loss, check_loss
from losslens.losses.color import COLOR_DIRECTIONS

NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))


def make(name: str, *overrides: str) -> torch.nn.Module:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [f"loss={name}", *overrides]).loss
    return build_loss(OmegaConf.to_container(config, resolve=True))


def independent_value(name: str, input: torch.Tensor, target: torch.Tensor) -> float:
    """The formula written out in numpy; luma is Pillow's to its rounding, tested in test_views."""
    input, target = input.double().numpy(), target.double().numpy()
    if name == "ssim":
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        pads = ((0, 0), (0, 0), (5, 5), (5, 5))  # scikit-image leaves out the border, torchmetrics reflects it
        pairs = zip(*(np.pad(x, pads, mode="reflect") for x in (input, target)), strict=True)
        return 1 - np.mean([structural_similarity(a, b, channel_axis=0, **settings) for a, b in pairs])
    weights = {"luma": [0.299, 0.587, 0.114], "red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
    if name in weights:
        input, target = (sum(w * x[:, c] for c, w in enumerate(weights[name])) for x in (input, target))
    difference = abs(input - target)
    return float((difference**2 if name == "mse" else difference).mean())


def pairs(photograph):
    random = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    yield random, random.flip(0)
    yield photograph, photograph.flip(-1)
    yield random, random.clone()
    for level in (0.0, 0.5, 1.0):
        yield torch.full_like(random, level), torch.full_like(random, level)
    yield torch.zeros_like(random), torch.ones_like(random)


@pytest.mark.parametrize("name", NAMES)
class TestEveryLoss:
    def test_is_zero_at_equality_and_positive_elsewhere(self, name, photograph):
        loss = make(name)
        assert loss(photograph, photograph.clone()).item() == 0
        assert loss(photograph, photograph.flip(-1)).item() > 0

    def test_gradients_are_finite(self, name, photograph):
        loss = make(name)
        for input, target in pairs(photograph):
            input = input.clone().requires_grad_()
            loss(input, target).backward()
            assert input.grad.isfinite().all()

    def test_gradient_is_zero_along_blind_directions_only(self, name, photograph):
        loss = make(name)
        if linear_view(loss) is None:
            pytest.skip("no linear view, so that no direction is known to be blind")
        seen = torch.linalg.qr(loss.view.weights.double().T)[0]
        blind = torch.eye(3, dtype=torch.double) - seen @ seen.T
        input = photograph.double().flip(-1).requires_grad_()
        loss.double()(input, photograph.double()).backward()
        gradients = input.grad.movedim(1, -1).reshape(-1, 3)
        assert (gradients @ blind).abs().max() < 1e-9 * gradients.abs().max()
        assert (gradients @ seen).abs().max() > 0
        if name in ("red", "green", "blue"):
            unseen = [channel for channel, color in enumerate(("red", "green", "blue")) if color != name]
            assert (input.grad[:, unseen] == 0).all()

    def test_is_a_batch_mean_and_symmetric(self, name, photograph):
        loss, mirrored = make(name), photograph.flip(-1)
        value = loss(photograph, mirrored)
        assert torch.allclose(loss(photograph.repeat(3, 1, 1, 1), mirrored.repeat(3, 1, 1, 1)), value)
        assert torch.allclose(loss(mirrored, photograph), value)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_keeps_the_dtype(self, name, dtype, photograph):
        value = make(name)(photograph.to(dtype), photograph.to(dtype).flip(-1))
        assert value.dtype == dtype
        assert value.ndim == 0
        assert value.isfinite()

    def test_equals_the_formula(self, name, photograph):
        value = make(name)(photograph.double(), photograph.double().flip(-1)).item()
        assert value == pytest.approx(independent_value(name, photograph, photograph.flip(-1)), rel=1e-6)

    def test_has_no_state_and_passes_the_check(self, name, photograph):
        loss = make(name)
        assert not loss.state_dict()
        check_loss(loss, photograph)

    def test_first_line_says_what_it_sees(self, name):
        first = (ROOT / "conf" / "loss" / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith("# sees: ")
        assert "blind to: " in first


def test_any_view_composes_with_any_distance(photograph):
    loss = make("l1", "loss/view=blue", "loss/distance=mse")
    expected = (photograph[:, 2] - photograph.flip(-1)[:, 2]).square().mean()
    assert torch.allclose(loss(photograph, photograph.flip(-1)), expected)


def test_any_module_by_target_gets_neither_view_nor_distance(photograph):
    loss = make("l1", "loss._target_=torch.nn.SmoothL1Loss", "+loss.beta=0.5")
    assert isinstance(loss, torch.nn.SmoothL1Loss)
    assert loss.beta == 0.5


def test_loss_refuses_images_of_different_shapes(photograph):
    with pytest.raises(ValueError, match="differ in shape"):
        make("l1")(photograph, photograph[..., :32])


class Scalarless(torch.nn.Module):
    def forward(self, input, target):
        return (input - target).abs()


class Detached(torch.nn.Module):
    def forward(self, input, target):
        return (input - target).abs().mean().detach()


class Infinite(torch.nn.Module):
    def forward(self, input, target):
        return (input - target).abs().mean() / 0


class BlindToInput(torch.nn.Module):
    def forward(self, input, target):
        return target.mean() * torch.ones((), requires_grad=True)


class NaNGradient(torch.nn.Module):
    def forward(self, input, target):
        return (input - input).sqrt().mean()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Scalarless(), r"shape \(1, 3, 64, 64\), expected a scalar"),
        (Detached(), "no gradient: compute it from its input"),
        (Infinite(), "is inf on images"),
        (BlindToInput(), "no gradient at its input"),
        (NaNGradient(), "gradient that is not finite"),
    ],
)
def test_check_refuses_with_the_reason(loss, message, photograph):
    with pytest.raises(ValueError, match=message):
        check_loss(loss, photograph)


def test_seen_directions():
    assert all(LinearView([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).sees(d) for d in COLOR_DIRECTIONS.values())
    luma = Loss(LinearView([COLOR_DIRECTIONS["luma"]]), torch.nn.L1Loss()).view
    assert [name for name, direction in COLOR_DIRECTIONS.items() if luma.sees(direction)] == ["luma"]
