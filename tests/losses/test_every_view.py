"""Every conf/loss/view/*.yaml is held to the same contract; each is computed once more in numpy or by a library."""

import numpy as np
import pytest
import torch
from by_other_means import differences, seen_without_middle_cones, sobel
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.ndimage import correlate1d, gaussian_filter, map_coordinates
from scipy.signal import correlate2d
from skimage.color import rgb2hsv, rgb2lab

from losslens.build import build
from losslens.losses import Loss, check_loss
from losslens.losses.networks import NETWORKS

pytestmark = pytest.mark.usefixtures("downloaded")
FOLDER = ROOT / "conf" / "loss" / "view"
ELSEWHERE = {"timm", "open_clip"}  # in test_backbones
NAMES = sorted({path.stem for path in FOLDER.glob("*.yaml")} - ELSEWHERE)
SMALLEST = {"laplacian": 8, **{name: known.smallest for name, known in NETWORKS.items()}}
NEARLY = {"hue": 0.02, "phase": 0.02}  # what is shorter than 1/255 is not made of length 1
LUMA = np.array([0.299, 0.587, 0.114])
WEIGHTS = {
    "rgb": np.eye(3),
    "red": [[1, 0, 0]],
    "green": [[0, 1, 0]],
    "blue": [[0, 0, 1]],
    "luma": [LUMA],
    "luma_709": [[0.2126, 0.7152, 0.0722]],
    "cb": [([0, 0, 1] - LUMA) / 1.772],
    "cr": [([1, 0, 0] - LUMA) / 1.402],
    "chroma": [([0, 0, 1] - LUMA) / 1.772, ([1, 0, 0] - LUMA) / 1.402],
}


def make(name, **settings):
    return build({**OmegaConf.load(FOLDER / f"{name}.yaml"), **settings})


def lab(x, parts=slice(None)):
    return rgb2lab(x, channel_axis=1)[:, parts]


def hue(x):
    red, green, blue = np.moveaxis(x, 1, 0)
    angles = np.arctan2(np.sqrt(3) / 2 * (green - blue), red - (green + blue) / 2)
    colored = x.max(1) - x.min(1) > 1e-6
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * colored[:, None]


def blur(x, sigma=2.0):
    return gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest", truncate=4)


def local_contrast(x):
    return np.sqrt(np.maximum(blur(x**2, 1.5) - blur(x, 1.5) ** 2, 0) + 1 / 255**2)


def laplacian(x):
    bands = []
    for level in range(3):
        coarse = x
        for axis in (2, 3):
            coarse = correlate1d(coarse, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="nearest")
        coarse = coarse[..., ::2, ::2]
        places = [np.arange(side) / 2 for side in x.shape[2:]]
        grid = np.meshgrid(*places, indexing="ij")
        up = [[map_coordinates(channel, grid, order=1, mode="nearest") for channel in image] for image in coarse]
        bands.append(4**level * (x - np.array(up)).reshape(len(x), -1))
        x = coarse
    return np.concatenate([*bands, 64 * x.reshape(len(x), -1)], axis=1)


def phase(x):
    waves = np.fft.fft2(x, norm="ortho")
    unit = waves / np.maximum(abs(waves), 1 / 255)
    return np.concatenate([unit.real, unit.imag], axis=1)


def patches(x):
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // 8, 8, width // 8, 8).swapaxes(3, 4)
    return np.sort(blocks.reshape(count, channels, -1, 64), axis=-1)


def random_features(x):
    view, features, answers = make("random_features"), x - 0.5, []
    for index in range(3):
        weights = getattr(view, f"weights{index}").double().numpy()
        padded = np.pad(features, ((0, 0), (0, 0), (1, 1), (1, 1)))
        features = np.array(
            [
                [
                    sum(correlate2d(c, k, "valid")[::2, ::2] for c, k in zip(image, kernels, strict=True))
                    for kernels in weights
                ]
                for image in padded
            ]
        ).clip(min=0)
        answers.append(features.reshape(len(x), -1))
    return np.concatenate([each * (answers[0].shape[1] / each.shape[1]) for each in answers], axis=1)


REFERENCES = {
    **{name: lambda x, rows=rows: np.einsum("kc,nchw->nkhw", np.array(rows), x) for name, rows in WEIGHTS.items()},
    "hue": hue,
    "saturation": lambda x: rgb2hsv(x, channel_axis=1)[:, 1:2],
    "lab": lab,
    "lightness": lambda x: lab(x, slice(1)),
    "ab": lambda x: lab(x, slice(1, 3)),
    "color_blind": seen_without_middle_cones,
    "edges": sobel,
    "gradient": differences,
    "laplacian": laplacian,
    "lowpass": blur,
    "highpass": lambda x: x - blur(x),
    "spectrum": lambda x: abs(np.fft.fft2(x, norm="ortho")),
    "phase": phase,
    "local_contrast": local_contrast,
    "patches": patches,
    "random_features": random_features,
}


def shift(x):
    return x.roll((3, 5), dims=(2, 3))


def offset(x):
    return x + torch.tensor([0.05, -0.1, 0.02]).to(x).view(1, 3, 1, 1)


def shuffled_in_patches(x):
    blocks = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4).flatten(4)
    return blocks[..., torch.randperm(64)].unflatten(4, (8, 8)).transpose(3, 4).flatten(4).flatten(2, 3)


def gray_added(x):
    return x + 0.1


def saturated(x):
    mean = x.mean(1, keepdim=True)
    return mean + 0.5 * (x - mean)


# What each view is said to be blind to, on images whose values stay in [0, 1].
BLIND = {
    "chroma": gray_added,
    "cb": gray_added,
    "cr": gray_added,
    "hue": saturated,
    "saturation": lambda x: 0.5 * x,
    "edges": offset,
    "gradient": offset,
    "highpass": offset,
    "local_contrast": offset,
    "spectrum": shift,
    "phase": lambda x: 0.5 * x,
    "patches": shuffled_in_patches,
}


@pytest.mark.parametrize("name", NAMES)
class TestEveryView:
    def test_equals_the_formula(self, name, photograph):
        if name in NETWORKS:
            pytest.skip("compared with torchvision in test_networks")
        images = photograph.double()[..., :48, :]
        values = make(name)(images).numpy()
        expected = REFERENCES[name](images.numpy())
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() <= 1e-5 * max(1, np.abs(expected).max())

    @given(data=st.data())
    @settings(max_examples=15, deadline=None)
    def test_values_and_gradients_are_finite(self, name, data):
        sides = st.integers(SMALLEST.get(name, 1), SMALLEST.get(name, 1) + 23)
        shape = [data.draw(st.integers(1, 3)), 3, data.draw(sides), data.draw(sides)]
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
        levels = data.draw(st.sampled_from([1, 2, 255]))  # with one, all is black or white
        images = torch.randint(0, levels + 1, shape, generator=generator) / levels
        images = (
            images + data.draw(st.sampled_from([0.0, -0.3, 0.3]))
        ).requires_grad_()  # a reconstruction is not clamped
        features = make(name)(images)
        assert len(features) == len(images)
        features.sum().backward()
        assert features.isfinite().all()
        assert images.grad.isfinite().all()

    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_flat_images_have_finite_gradients(self, name, level, dtype):
        images = torch.full((1, 3, 32, 32), level, dtype=dtype, requires_grad=True)
        target = torch.full_like(images, 0.25).detach()
        for other in (target, images.detach().clone()):
            value = Loss(make(name), torch.nn.MSELoss())(images, other)
            value.backward()
            assert value.dtype == dtype
            assert value.isfinite()
            assert images.grad.isfinite().all()

    def test_gradient_is_that_of_differences(self, name):
        generator = torch.Generator().manual_seed(1)
        side = max(8, SMALLEST.get(name, 0))
        images = 0.1 + 0.8 * torch.rand(1, 3, side, side + 1, generator=generator, dtype=torch.float64)
        view = make(name).double()
        weights = torch.randn(view(images).shape, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: (weights * view(x)).sum(), images.requires_grad_(), fast_mode=True)

    def test_is_blind_to_what_it_says(self, name, photograph):
        if name not in BLIND:
            pytest.skip("said to be blind to nothing in particular, or a linear view, whose null space is tested")
        images = 0.2 + 0.6 * photograph.double()
        view = make(name)
        changed = view(BLIND[name](images)) - view(images)
        seen = view(images.flip(1, 3)) - view(images)
        assert changed.abs().mean() < NEARLY.get(name, 1e-6) * seen.abs().mean()

    def test_learns_photographs(self, name, photograph):
        target = photograph[..., :32, :32]
        input = (0.5 * target + 0.5 * target.flip(1, 3)).requires_grad_()
        loss = Loss(make(name), torch.nn.MSELoss())
        optimizer = torch.optim.Adam([input], lr=0.01)
        first = loss(input, target).item()
        for _ in range(20 if name in NETWORKS else 60):
            optimizer.zero_grad()
            loss(input, target).backward()
            optimizer.step()
        assert loss(input, target).item() < 0.5 * first

    def test_wrong_shapes_are_refused(self, name):
        with pytest.raises(ValueError, match="expected"):
            make(name)(torch.rand(3, 16, 16))

    def test_contract_and_first_line(self, name, photograph):
        loss = Loss(make(name), torch.nn.L1Loss())
        check_loss(loss, photograph)
        assert not loss.state_dict()
        assert all(buffer.dtype != torch.float64 for buffer in loss.buffers())  # which not every device has
        assert (FOLDER / f"{name}.yaml").read_text().startswith("# sees: ")


def test_hue_is_that_of_hsv_nearly(photograph):
    cosine, sine = make("hue")(photograph)[0].numpy()
    expected = 2 * np.pi * rgb2hsv(photograph[0].numpy(), channel_axis=0)[0]
    gray = (photograph[0].amax(0) - photograph[0].amin(0) < 1 / 510).numpy()
    difference = np.angle(np.exp(1j * (np.arctan2(sine, cosine) - expected)))
    assert np.degrees(abs(difference[~gray])).max() < 1.2  # of a hexagon's corners against a circle


def test_color_blind_people_confuse_along_one_direction(photograph):
    view = make("color_blind").double()
    seen = view(0.1 + 0.8 * photograph.double())
    assert torch.allclose(view(seen), seen, atol=1e-6)  # who looks again sees the same
    gray = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    assert torch.allclose(view(gray), gray, atol=0.01)
    assert torch.linalg.matrix_rank(make("color_blind").matrix) == 2  # in the precision that it is kept in


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("chroma", {"parts": ["y"]}, r"parts \['y'\] of chroma: use cb, cr or both"),
        ("lab", {"parts": "x"}, "parts x of Lab: use some of l, a and b"),
        ("color_blind", {"missing": "s"}, "missing cones s: use l"),
        ("spectrum", {"part": "power"}, "part power of a spectrum: use amplitude or phase"),
        ("lowpass", {"sigma": 0}, "sigma 0 is not above 0"),
        ("patches", {"size": 0}, "size 0 of a patch: use 1 pixel or more"),
        ("laplacian", {"levels": 0}, "levels 0 of a pyramid: use 1 or more"),
        ("random_features", {"widths": []}, "random features of no layer: give widths"),
    ],
)
def test_wrong_settings_are_refused(name, setting, message):
    with pytest.raises(ValueError, match=message):
        make(name, **setting)


def test_a_pyramid_names_the_size_it_needs():
    with pytest.raises(ValueError, match="images of 7x16 are too small for 3 levels of a pyramid: 8 pixels or more"):
        make("laplacian")(torch.rand(1, 3, 7, 16))


def test_a_pyramid_has_nothing_to_say_of_a_ramp():
    ramp = torch.linspace(0, 1, 65, dtype=torch.float64).expand(1, 3, 65, 65)
    band = make("laplacian").double()(ramp)[0, : 3 * 65 * 65].view(3, 65, 65)
    assert band[..., 4:-4].abs().max() < 1e-6


def test_saturation_of_what_is_out_of_range():
    images = torch.tensor([[0.0, -0.5, -1.0], [-0.2, -0.5, -1.0], [1.5, 0.5, -0.5]]).view(3, 3, 1, 1)
    assert make("saturation")(images).max() <= 1
