import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from losslens.models import Autoencoder
from losslens.models.autoencoder import InterpolatingHead
from losslens.training.muon import Muon


def make(**arguments):
    torch.manual_seed(0)
    defaults = {"stride": 4, "code_channels": 4, "width": 8, "depth": 1, "patch": 2, "activation": nn.ReLU}
    return Autoencoder(**{**defaults, **arguments})


@given(st.integers(4, 21), st.integers(4, 21))
def test_any_size_is_reconstructed_in_its_size(height, width):
    model = make()
    images = torch.rand(2, 3, height, width)
    assert model.encode(images).shape == (2, 4, -(-height // 4), -(-width // 4))
    assert model(images).shape == images.shape


def test_configurable():
    model = make(stride=16, patch=4, depth=2, width=7, code_channels=5, activation=nn.SiLU)
    assert model.encode(torch.rand(1, 3, 32, 48)).shape == (1, 5, 2, 3)
    assert sum(isinstance(layer, nn.SiLU) for layer in model.modules()) == 2 * (2 * 2 + 1)


@pytest.mark.parametrize("bad", [{"stride": 0}, {"width": 0}, {"patch": 0}, {"patch": 3}, {"depth": -1}])
def test_refuses_impossible_sizes(bad):
    with pytest.raises(ValueError, match="use 1 or more for every number"):
        make(**bad)


@pytest.mark.parametrize("depth", [0, 1])
def test_starts_linear(depth):
    """What is not linear has no part in the code, nor in the reconstruction, until it has learned."""
    model = make(depth=depth)
    first, second = torch.rand(2, 1, 3, 8, 8)
    with torch.no_grad():
        both, each = model((first + second) / 2), (model(first) + model(second)) / 2
    assert torch.allclose(both, each, atol=1e-6)


def test_refuses_images_smaller_than_its_stride():
    with pytest.raises(ValueError, match="3x8 is smaller than the network's stride 4"):
        make()(torch.rand(1, 3, 3, 8))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_head_starts_as_bilinear_interpolation(scale):
    torch.manual_seed(0)
    head = InterpolatingHead(6, scale)
    features = torch.rand(1, 6, 5, 7)
    # A mixture first and an enlargement after, by torch: what the one convolution of the head starts as.
    kernel = head.convolution.weight.detach().reshape(3, scale**2, 6, 9).sum(-1)
    assert torch.allclose(kernel, kernel[:, :1].expand_as(kernel), atol=1e-6)
    mixed = torch.einsum("oc,nchw->nohw", kernel[:, 0], features) + head.convolution.bias[:: scale**2, None, None]
    expected = nn.functional.interpolate(mixed, scale_factor=scale, mode="bilinear")
    assert torch.allclose(head(features), expected, atol=1e-5)


def grid_energy(images, period):
    """Share of the spectrum's energy at the frequencies of a grid of that period in pixels, along both axes."""
    spectrum = torch.fft.fft2(images - images.mean((-2, -1), keepdim=True)).abs().square().sum((0, 1))
    size = len(spectrum)
    lines = torch.zeros(size, dtype=torch.bool)
    lines[[size * index // period for index in range(1, period)]] = True
    return (spectrum[lines].sum() + spectrum[:, lines].sum()) / spectrum.sum()


@pytest.mark.parametrize("size", [{"width": 16, "depth": 0, "patch": 8}, {"width": 16, "depth": 2, "patch": 2}])
def test_no_checkerboard_where_the_loss_is_blind(photograph, size):
    """Train red alone for a while: the unseen channels must not show the grid of the decoder."""
    model = make(stride=8, code_channels=16, **size, activation=nn.LeakyReLU)
    images = torch.cat([photograph, photograph.flip(-1), photograph.flip(-2), photograph.rot90(1, (-2, -1))])
    optimizer = Muon(model.parameters())
    for _ in range(60):
        optimizer.zero_grad()
        (model(images)[:, 0] - images[:, 0]).abs().mean().backward()
        optimizer.step()
    with torch.no_grad():
        flat = model(torch.full((1, 3, 64, 64), 0.6))
    unseen = flat[:, 1:, 8:-8, 8:-8]
    assert unseen.amax((-2, -1)).sub(unseen.amin((-2, -1))).max() < 0.02  # a plain image stays plain
    with torch.no_grad():
        reconstructions = model(images)
    assert grid_energy(reconstructions[:, 1:], 8) < 2 * grid_energy(images[:, 1:], 8)


@pytest.mark.parametrize("make_optimizer", [Muon, torch.optim.Adam, torch.optim.SGD])
def test_unseen_channels_keep_their_initial_weights(photograph, make_optimizer):
    model = make()
    head = model.output_layer
    before = head.weight.detach().clone()
    optimizer = make_optimizer(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(photograph)[:, 0] - photograph[:, 0]).abs().mean().backward()
        optimizer.step()
    per_channel = len(before) // 3
    assert not torch.equal(head.weight[:per_channel], before[:per_channel])
    assert torch.equal(head.weight[per_channel:], before[per_channel:])
