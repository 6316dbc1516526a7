"""Every conf/loss/*.yaml is held to the same contract; a new file is tested without writing a test."""

import itertools
import re

import numpy as np
import piq
import pytest
import torch
from by_other_means import differences, ms_ssim, seen_without_middle_cones, sobel, ssim
from conftest import ROOT, loss_config
from skimage.color import rgb2lab

from losslens.build import build_loss
from losslens.losses import LinearView, Loss, check_loss
from losslens.losses.color import COLOR_DIRECTIONS
from losslens.losses.loss import linear_view

pytestmark = pytest.mark.usefixtures("downloaded")
NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))


def make(name: str, *overrides: str) -> torch.nn.Module:
    return build_loss(loss_config(f"loss={name}", *overrides))


def luma(x):
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def color_differences(x):
    return np.concatenate([(x[:, 2:] - luma(x)) / 1.772, (x[:, :1] - luma(x)) / 1.402], axis=1)


def l1(input, target):
    return abs(input - target).mean()


def focal_frequency(input, target):
    sizes = abs(np.fft.fft2(input - target, norm="ortho"))
    return (sizes**3 / sizes.max((2, 3), keepdims=True)).mean()


def with_piq(function, of_channels=False):
    def value(input, target):
        pair = [torch.from_numpy(x) for x in (input, target)]
        return function(*(x.flatten(0, 1)[:, None] for x in pair) if of_channels else pair).item()

    return value


# Every loss once more, in numpy, or by another library. Luma is Pillow's to its rounding, tested in test_views.
REFERENCES = {
    "l1": l1,
    "mse": lambda a, b: ((a - b) ** 2).mean(),
    "red": lambda a, b: l1(a[:, 0], b[:, 0]),
    "green": lambda a, b: l1(a[:, 1], b[:, 1]),
    "blue": lambda a, b: l1(a[:, 2], b[:, 2]),
    "luma": lambda a, b: l1(luma(a), luma(b)),
    "chroma": lambda a, b: l1(color_differences(a), color_differences(b)),
    "lab": lambda a, b: l1(rgb2lab(a, channel_axis=1), rgb2lab(b, channel_axis=1)),
    "edges": lambda a, b: l1(sobel(a), sobel(b)),
    "color_blind": lambda a, b: l1(seen_without_middle_cones(a), seen_without_middle_cones(b)),
    "shape_only": lambda a, b: l1(differences(luma(a)), differences(luma(b))),
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "l1_ssim": lambda a, b: 0.84 * ms_ssim(a, b) + 0.16 * l1(a, b),
    "mix": lambda a, b: l1(a, b) + ssim(a, b),
    "vif": with_piq(lambda a, b: abs(1 - piq.vif_p(a, b)), of_channels=True),
    "gmsd": with_piq(piq.gmsd),
    "haarpsi": with_piq(lambda a, b: 1 - piq.haarpsi(a, b)),
    "focal_frequency": focal_frequency,
}
# As far as the reference goes: single precision of scikit-image's constants, epsilons of piq.
TOLERANCES = {"lab": 1e-5, "vif": 1e-5, "haarpsi": 1e-5, "ms_ssim": 1e-5, "l1_ssim": 1e-5}
ELSEWHERE = {"perceptual", "style", "lpips", "dists"}  # in test_networks
ROUNDING = {"vif": 1e-6, "ms_ssim": 1e-6, "l1_ssim": 1e-6, "style": 1e-9}  # at equality
ASYMMETRIC = {"vif"}


def pairs(photograph):
    random = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    yield random, random.flip(0)
    yield photograph, photograph.flip(-1)
    yield random, random.clone()
    for level in (0.0, 0.5, 1.0):
        yield torch.full_like(random, level), torch.full_like(random, level)
    yield torch.zeros_like(random), torch.ones_like(random)
    yield 1 - photograph, photograph
    yield 1 - random, random
    yield 3 * random - 1, random  # a reconstruction is not clamped


def extreme_images():
    """The corners of RGB, flat; chessboards, a half in black and white, and noise of two values."""
    for corner in itertools.product((0.0, 1.0), repeat=3):
        yield torch.tensor(corner).view(1, 3, 1, 1).repeat(1, 1, 48, 48)
    places = torch.arange(48)
    patterns = [(places[:, None] // side + places // side) % 2 for side in (1, 2, 8)]
    patterns += [(places >= 24).expand(48, 48), torch.rand(48, 48, generator=torch.Generator().manual_seed(0)) > 0.5]
    for pattern in patterns:
        for image in (pattern.float(), 1 - pattern.float()):
            yield image.repeat(1, 3, 1, 1)


@pytest.mark.parametrize("name", NAMES)
class TestEveryLoss:
    def test_is_zero_at_equality_and_positive_elsewhere(self, name, photograph):
        loss = make(name)
        assert abs(loss(photograph, photograph.clone()).item()) <= ROUNDING.get(name, 0)
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
        assert name in ASYMMETRIC or torch.allclose(loss(mirrored, photograph), value)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_keeps_the_dtype(self, name, dtype, photograph):
        value = make(name)(photograph.to(dtype), photograph.to(dtype).flip(-1))
        assert value.dtype == dtype
        assert value.ndim == 0
        assert value.isfinite()

    def test_equals_the_formula(self, name, photograph):
        if name in ELSEWHERE:
            pytest.skip("compared with torchmetrics and piq in test_networks")
        assert name in REFERENCES, "write the loss once more, by other means, in REFERENCES"
        target = photograph.double()
        input = 0.5 * target + 0.5 * target.flip(-1)
        expected = float(REFERENCES[name](input.numpy(), target.numpy()))
        assert make(name)(input, target).item() == pytest.approx(expected, rel=TOLERANCES.get(name, 1e-6))

    def test_descends_to_a_photograph(self, name, photograph):
        target = photograph[..., :48, :48]
        input = (0.5 * target + 0.5 * target.flip(1, 3)).requires_grad_()
        loss = make(name)
        optimizer = torch.optim.Adam([input], lr=0.01)
        first = loss(input, target).item()
        for _ in range(30):
            optimizer.zero_grad()
            loss(input, target).backward()
            optimizer.step()
        assert loss(input, target).item() < 0.7 * first

    def test_gradient_is_that_of_differences(self, name):
        generator = torch.Generator().manual_seed(1)
        input, target = torch.rand(2, 1, 3, 44, 45, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(make(name).double(), (input.requires_grad_(), target), fast_mode=True)

    def test_odd_sizes_and_single_images(self, name):
        images = torch.rand(1, 3, 45, 61, generator=torch.Generator().manual_seed(2))
        assert make(name)(images, images.flip(-1)).isfinite()

    def test_tiny_images_are_compared_or_refused(self, name):
        images = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(2))
        try:
            value = make(name)(images, images.flip(-1))
        except ValueError as error:
            refusal = str(error)
            value = None
        if value is None:
            assert re.fullmatch(r"images of 3x3 are too small for \w+: \d+ pixels or more", refusal)
        else:
            assert value.isfinite()

    def test_has_no_state_and_passes_the_check(self, name, photograph):
        loss = make(name)
        assert not loss.state_dict()
        assert all(buffer.dtype != torch.float64 for buffer in loss.buffers())  # which not every device has
        check_loss(loss, photograph)

    def test_first_lines_say_what_it_is(self, name):
        first, *others = (ROOT / "conf" / "loss" / f"{name}.yaml").read_text().splitlines()
        assert first.startswith("# sees: ")
        assert "blind to: " in first
        assert others[0].startswith("# formula: ")
        assert others[1].startswith("# range: 0 ")

    def test_values_stay_in_the_range(self, name):
        (text,) = re.findall(
            r"^# range: 0 (?:or more|to (.+))$", (ROOT / "conf" / "loss" / f"{name}.yaml").read_text(), re.M
        )
        loss, largest = make(name), float(text or "inf")
        images = list(extreme_images())[:: 2 if name in ELSEWHERE else 1]  # of networks, which take long, every other
        with torch.no_grad():
            values = [loss(*pair).item() for pair in itertools.product(images, repeat=2)]
        assert min(values) + ROUNDING.get(name, 0) >= 0
        assert max(values) <= largest + 1e-6
        if largest < float("inf") and name not in {"edges", "gmsd", "dists"}:  # bounds that no image reaches everywhere
            assert max(values) > 0.9 * largest


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
