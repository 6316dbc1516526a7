"""Every conf/loss/distance/*.yaml is held to the same contract; each is computed once more in numpy or by a library."""

import itertools

import numpy as np
import pytest
import torch
from by_other_means import ms_ssim, ssim
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from losslens.build import build
from losslens.losses import LinearView, Loss, Luma, check_loss

FOLDER = ROOT / "conf" / "loss" / "distance"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ASYMMETRIC = {"bce"}
ROUNDING = {"ms_ssim": 1e-6, "bce": 1e-9, "gram": 1e-12}  # at equality
SMALLEST = {"ssim": 6, "ms_ssim": 11}


def make(name, **settings):
    return build({**OmegaConf.load(FOLDER / f"{name}.yaml"), **settings})


def bce(a, b):
    p, t = (1 / 510 + (1 - 1 / 255) * x for x in (a, b))
    return (rel_entr(t, p) + rel_entr(1 - t, 1 - p)).mean()


def huber(a, b):
    size = abs(a - b)
    return np.where(size < 0.1, size**2 / 2, 0.1 * (size - 0.05)).mean()


def cosine(a, b):
    angles = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return (1 - angles).mean()


def gram(a, b):
    grams = [
        np.einsum("ncp,ndp->ncd", x, x) / x[0].size for x in (a.reshape(*a.shape[:2], -1), b.reshape(*b.shape[:2], -1))
    ]
    return ((grams[0] - grams[1]) ** 2).mean()


def sliced_wasserstein(a, b):
    axes = torch.randn(32, a.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    rows = [np.einsum("kc,ncp->nkp", axes, x.reshape(*x.shape[:2], -1)).reshape(-1, x[0, 0].size) for x in (a, b)]
    return np.mean([wasserstein_distance(*pair) for pair in zip(*rows, strict=True)])


REFERENCES = {
    "l1": lambda a, b: abs(a - b).mean(),
    "mse": lambda a, b: ((a - b) ** 2).mean(),
    "rmse": lambda a, b: np.sqrt(((a - b) ** 2).reshape(len(a), -1).mean(1)).mean(),
    "huber": huber,
    "charbonnier": lambda a, b: (np.sqrt((a - b) ** 2 + 1e-6) - 1e-3).mean(),
    "log_cosh": lambda a, b: np.log(np.cosh(a - b)).mean(),
    "bce": bce,
    "cosine": cosine,
    "quantile": lambda a, b: abs(a - b).mean() / 2,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "gram": gram,
    "sliced_wasserstein": sliced_wasserstein,
}


@pytest.mark.parametrize("size", [(64, 64), (11, 40), (33, 12)])
def test_ssim_is_that_of_scikit_image(size, photograph):
    """No border is reflected: windows lie within the image."""
    target = photograph[..., : size[0], : size[1]]
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    input = (target + 0.1 * noise).clamp(0, 1)
    for dtype in (torch.float32, torch.float64):
        given = make("ssim")(input.to(dtype), target.to(dtype)).item()
        assert given == pytest.approx(ssim(input.double().numpy(), target.double().numpy()), abs=1e-6)


def test_ssim_is_deterministic_without_special_kernels(photograph):
    torch.use_deterministic_algorithms(True)
    try:
        input = photograph.flip(-1).requires_grad_()
        gradients = [torch.autograd.grad(make("ssim")(input, photograph), input)[0] for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", NAMES)
class TestEveryDistance:
    def test_equals_the_formula(self, name, photograph):
        target = 0.05 + 0.9 * photograph.double()
        input = 0.5 * target + 0.5 * target.flip(-1)
        expected = float(REFERENCES[name](input.numpy(), target.numpy()))
        assert make(name)(input, target).item() == pytest.approx(expected, rel=1e-6)

    @given(data=st.data())
    @settings(max_examples=20, deadline=None)
    def test_is_zero_at_equality_only_upwards_and_has_a_finite_gradient(self, name, data):
        sides = st.integers(SMALLEST.get(name, 1), 24)
        shape = [data.draw(st.integers(1, 3)), 3, data.draw(sides), data.draw(sides)]
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
        levels = data.draw(st.sampled_from([1, 2, 255]))  # with one, all is black or white
        input, target = torch.randint(0, levels + 1, [2, *shape], generator=generator) / levels
        distance, other = make(name), input.clone().requires_grad_()
        value = distance(other, target)
        value.backward()
        assert value.item() >= -ROUNDING.get(name, 0)
        assert other.grad.isfinite().all()
        equal = target.clone().requires_grad_()
        value = distance(equal, target)
        value.backward()
        assert abs(value.item()) <= ROUNDING.get(name, 0)
        assert equal.grad.isfinite().all()
        assert name in ASYMMETRIC or torch.allclose(distance(target, input), distance(input, target), atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_keeps_the_dtype_and_has_no_state(self, name, dtype, photograph):
        loss = Loss(Luma(), make(name))
        for input, target in itertools.product((torch.zeros_like(photograph), photograph), repeat=2):
            value = loss(input.to(dtype), target.to(dtype))
            assert value.dtype == dtype
            assert value.isfinite()
        assert not loss.state_dict()
        check_loss(loss, photograph)

    def test_gradient_is_that_of_differences(self, name):
        generator = torch.Generator().manual_seed(1)
        input, target = torch.rand(2, 1, 3, 12, 13, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(make(name), (input.requires_grad_(), target))

    def test_descends_to_the_target(self, name, photograph):
        target = photograph[..., :32, :32]
        input = (0.5 * target + 0.5 * target.flip(-1)).requires_grad_()
        distance = make(name)
        optimizer = torch.optim.Adam([input], lr=0.01)
        first = distance(input, target).item()
        for _ in range(30):
            optimizer.zero_grad()
            distance(input, target).backward()
            optimizer.step()
        assert distance(input, target).item() < 0.5 * first

    def test_first_line_says_what_it_is(self, name):
        assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")


def test_log_cosh_of_large_differences():
    input = torch.tensor([[1e4, -1e4, 200.0]], requires_grad=True)
    value = make("log_cosh")(input, torch.zeros(1, 3))
    value.backward()
    assert value.item() == pytest.approx((1e4 + 1e4 + 200) / 3 - np.log(2))
    assert torch.allclose(input.grad, torch.tensor([[1.0, -1.0, 1.0]]) / 3)


def test_bce_leads_back_what_is_outside():
    input = torch.tensor([[-0.3, 1.3, -1.0, 2.0]], requires_grad=True)
    make("bce")(input, torch.tensor([[0.0, 1.0, 0.5, 0.5]])).backward()
    assert (input.grad.sign() == torch.tensor([[-1, 1, -1, 1]])).all()


def test_bce_has_the_gradient_of_binary_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    input, target = torch.rand(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
    smoothed = [(1 / 510 + (1 - 1 / 255) * each).requires_grad_() for each in (input, target)]
    torch.nn.functional.binary_cross_entropy(*smoothed[:1], smoothed[1].detach()).backward()
    input.requires_grad_()
    make("bce")(input, target).backward()
    assert torch.allclose(input.grad, smoothed[0].grad * (1 - 1 / 255))


def test_quantile_weighs_both_sides():
    target = torch.zeros(1, 1)
    assert make("quantile", q=0.9)(torch.full((1, 1), 2.0), target).item() == pytest.approx(0.2)
    assert make("quantile", q=0.9)(torch.full((1, 1), -2.0), target).item() == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("quantile", {"q": 1}, "quantile 1 is not between 0 and 1"),
        ("charbonnier", {"epsilon": 0}, "epsilon 0 of charbonnier is not above 0"),
        ("sliced_wasserstein", {"directions": 0}, "directions 0 of sliced_wasserstein: use 1 or more"),
    ],
)
def test_wrong_settings_are_refused(name, setting, message):
    with pytest.raises(ValueError, match=message):
        make(name, **setting)


@pytest.mark.parametrize("name", ["gram", "sliced_wasserstein"])
def test_features_without_places_are_refused(name):
    with pytest.raises(
        ValueError, match=rf"distance {name} compares channels over places, and this view gives \(2, 5\)"
    ):
        make(name)(torch.zeros(2, 5), torch.zeros(2, 5))


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_features_that_are_no_images_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} compares images .*, and these have shape \(2, 50\)"):
        make(name)(torch.zeros(2, 50), torch.zeros(2, 50))


@pytest.mark.parametrize("name", ["bce", "ssim", "ms_ssim"])
def test_views_of_other_values_are_refused(name, photograph):
    loss = Loss(LinearView([[1, -1, 0]]), make(name))
    with pytest.raises(ValueError, match=rf"distance {name} compares values in \[0, 1\], and this view gives -"):
        check_loss(loss, photograph)
    check_loss(Loss(torch.nn.Identity(), make(name)), photograph)


def test_bce_takes_what_is_in_0_to_1_but_for_rounding():
    make("bce").check(torch.tensor([0.0, 1.0000001]))


def test_sliced_wasserstein_is_trained_after_a_validation():
    distance, images = make("sliced_wasserstein"), torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        distance(images, images)
    input = images.flip(0).requires_grad_()
    distance(input, images).backward()
    assert input.grad.any()
