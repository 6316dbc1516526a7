"""Losses of trained networks, whose weights are random here: what is computed from them is what counts."""

from types import SimpleNamespace

import piq
import pytest
import torch
import torchvision
from torchmetrics.functional.image.dists import DISTSNetwork
from torchmetrics.functional.image.lpips import _LPIPS

from losslens.losses.distances import Gram
from losslens.losses.judged import DISTS, LPIPS
from losslens.losses.networks import NETWORKS, Network, NetworkFeatures, NetworkLoss

pytestmark = pytest.mark.usefixtures("downloaded")


@pytest.fixture
def images():
    return torch.rand(2, 3, 48, 56, generator=torch.Generator().manual_seed(0))


def torchvisions(name, torch_home):
    file = torch_home / "hub" / "checkpoints" / NETWORKS[name].weights.url.rpartition("/")[2]
    features = NETWORKS[name].make().features
    features.load_state_dict({key.removeprefix("features."): value for key, value in torch.load(file).items()})
    return features.eval()


@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_answers_are_torchvisions(self, name, images, torch_home):
        features = torchvisions(name, torch_home)
        prepared = torchvision.transforms.functional.normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        expected = []
        with torch.no_grad():
            for layer in features[: NETWORKS[name].ends[-1]]:
                prepared = layer(prepared)
                expected.append(prepared.clone())
        answers = Network(name)(images)
        assert len(answers) == len(NETWORKS[name].ends)
        for end, answer in zip(NETWORKS[name].ends, answers, strict=True):
            assert torch.allclose(answer, expected[end - 1].clamp(min=0), atol=1e-5)

    def test_the_smallest_image_is_the_smallest(self, name):
        smallest = NETWORKS[name].smallest
        network = Network(name)
        network(torch.rand(1, 3, smallest, smallest))
        with pytest.raises(
            ValueError, match=f"images of {smallest - 1}x90 are too small for {name}: {smallest} pixels"
        ):
            network(torch.rand(1, 3, smallest - 1, 90))
        features = torch.nn.Sequential(*network.layers)
        with pytest.raises(RuntimeError):
            features(torch.rand(1, 3, smallest - 1, smallest - 1))

    def test_nothing_is_trained_or_saved(self, name):
        network = Network(name)
        assert not list(network.parameters())
        assert not network.state_dict()


@pytest.mark.parametrize(("name", "theirs"), [("alexnet", "alex"), ("vgg16", "vgg"), ("squeezenet", "squeeze")])
def test_lpips_is_torchmetrics(name, theirs, images, torch_home):
    expected = _LPIPS(net=theirs, pnet_rand=True)
    layers = [layer for slice_ in expected.net.children() for layer in slice_.modules() if not list(layer.children())]
    own = [layer for layer in torchvisions(name, torch_home).modules() if not list(layer.children())]
    for layer, other in zip(layers, own, strict=False):
        layer.load_state_dict(other.state_dict())
    with torch.no_grad():
        value = expected(images, images.flip(0), normalize=True).mean()
    assert LPIPS(name)(images, images.flip(0)).item() == pytest.approx(value.item(), rel=1e-5)


def test_dists_is_torchmetrics(images, torch_home, monkeypatch):
    features = torchvisions("vgg16", torch_home)
    made = SimpleNamespace(features=features)
    monkeypatch.setattr("torchmetrics.functional.image.dists.vgg16", lambda weights: made)
    with torch.no_grad():
        value = DISTSNetwork()(images, images.flip(0)).mean()
    assert DISTS()(images, images.flip(0)).item() == pytest.approx(value.item(), rel=1e-5)


def test_style_is_that_of_piq(images):
    (first,), (second,) = ([Network("vgg16")(each)[1]] for each in (images, images.flip(0)))
    grams = [piq.perceptual.StyleLoss.gram_matrix(each) for each in (first, second)]
    channels, places = first.shape[1], first[0, 0].numel()
    expected = ((grams[0] - grams[1]) / (channels * places)).square().mean()
    assert NetworkLoss("vgg16", Gram(), [2])(images, images.flip(0)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_perceptual_is_the_sum_of_its_layers(images):
    loss = NetworkLoss("alexnet", torch.nn.MSELoss(), [1, 3])
    pairs = zip(Network("alexnet")(images), Network("alexnet")(images.flip(0)), strict=True)
    errors = [(a - b).square().mean().item() for a, b in pairs]
    assert loss(images, images.flip(0)).item() == pytest.approx(errors[0] + errors[2], rel=1e-5)


def test_every_layer_weighs_the_same(images):
    answers = Network("squeezenet")(images)
    features = NetworkFeatures("squeezenet", [1, 4])(images)
    expected = answers[0].abs().mean() + answers[3].abs().mean()
    assert features.abs().mean() * features.shape[1] / answers[0][0].numel() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_are_downloaded_once_and_checked(published, images, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    first = Network("squeezenet", published.as_uri())(images)[0]
    published.unlink()
    again = Network("squeezenet", published.as_uri())(images)[0]
    assert torch.equal(first, again)


def test_changed_weights_are_refused(published, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    published.write_bytes(published.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"the weights of squeezenet from file:.* are not .* be: invalid hash"):
        Network("squeezenet", published.as_uri())


def test_offline_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"the weights of vgg16 are not in .*home.* from file:.*put the file there"):
        Network("vgg16", (tmp_path / "nowhere-01234567.pth").as_uri())


def test_a_file_is_read_as_it_is_now(published, images):
    first = Network("squeezenet", str(published))(images)[0]
    torch.save({key: 2 * value for key, value in torch.load(published).items()}, published)
    assert not torch.equal(first, Network("squeezenet", str(published))(images)[0])


def test_a_url_without_a_checksum_is_refused():
    with pytest.raises(ValueError, match=r"weights https://there/my\.pth have no checksum in their name: it ends on"):
        Network("squeezenet", "https://there/my.pth")


def test_files_that_are_no_weights_are_named(published, tmp_path):
    with pytest.raises(ValueError, match=r"the weights of vgg16 cannot be read from .*nowhere\.pth"):
        Network("vgg16", str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"the weights of vgg16 from .*text\.pth are not what they should be"):
        Network("vgg16", str(tmp_path / "text.pth"))
    with pytest.raises(ValueError, match="does not hold the weights of vgg16"):
        Network("vgg16", str(published))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Network("resnet"), "network resnet is unknown: use vgg16, vgg19, alexnet, squeezenet"),
        (lambda: LPIPS("vgg19"), "network vgg19 has no weights of LPIPS: use alexnet, vgg16, squeezenet"),
        (lambda: NetworkFeatures("alexnet", [6]), r"layers \[6\] of alexnet: use numbers from 1 to 5"),
    ],
)
def test_what_there_is_not_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
