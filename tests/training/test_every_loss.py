"""Every loss trains beside any other, and none keeps a GPU waiting for the host."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT, loss_config
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from variants import Trained, assert_same_bits

from losslens.build import build_loss
from losslens.data import Images
from losslens.losses import Loss, Mix

pytestmark = [pytest.mark.usefixtures("downloaded"), pytest.mark.filterwarnings("ignore:.*LeafSpec")]
LOSSES, VIEWS, DISTANCES = (
    sorted(path.stem for path in (ROOT / "conf" / "loss" / part).glob("*.yaml")) for part in ("", "view", "distance")
)
CHOICES = [
    *([f"loss={name}"] for name in LOSSES),
    *([f"loss/view={name}"] for name in VIEWS if name not in ("timm", "open_clip")),  # in test_backbones
    *([f"loss/distance={name}"] for name in DISTANCES),
    ["loss=mix", "loss.weights.l1=[[0,0],[1,1]]"],
    ["loss=mix", "loss.uncertainty=true"],
]


class Waits(TorchDispatchMode):
    """Lists what in a forward pass takes tensors between GPU and host: in a CUDA graph that is not permitted."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        # Elsewhere a tensor of the host without dimensions stands for a number.
        if len({tensor.device.type for tensor in tensors if tensor.ndim or copies}) > 1:
            self.found.append(str(func))
        return out


def waits(loss):
    """Compare images that are on a GPU as far as their shapes go, the second time, and list what would wait."""
    mode, watch = FakeTensorMode(), Waits()
    with mode:
        for module in loss.modules():
            for held in (module._buffers, module._parameters):
                for name, value in held.items():
                    held[name] = mode.from_tensor(value).detach().to("cuda")
        images = torch.empty(2, 2, 3, 64, 64, device="cuda").unbind()
        try:
            loss(*images)
            with watch:
                assert loss(*images).device.type == "cuda"
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            watch.found.append(str(error.func))
    return watch.found


@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_none_waits_for_the_host(choices):
    loss = build_loss(loss_config(*choices))
    for mix in loss.modules():
        if isinstance(mix, Mix):
            mix.num_steps = 10
    assert waits(loss) == []


class LooksAtAValue(nn.Module):
    def forward(self, input, target):
        difference = (input - target).abs().mean()
        return difference * 2 if difference.item() > 1 else difference


class AsksTheHost(nn.Module):
    def forward(self, input, target):
        difference = (input - target).abs().mean()
        return difference.cpu().clamp(max=1).to(difference.device)


class PicksPixels(nn.Module):
    def forward(self, input, target):
        return (input - target)[target > 0.5].abs().mean()


class BringsItsWeights(nn.Module):
    def forward(self, input, target):
        return (torch.tensor([0.3, 0.6, 0.1]).view(3, 1, 1).to(input.device) * (input - target)).abs().mean()


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (LooksAtAValue(), "aten._local_scalar_dense.default"),
        (AsksTheHost(), "aten._to_copy.default"),
        (PicksPixels(), "aten.nonzero.default"),
        (BringsItsWeights(), "aten._to_copy.default"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_who_waits_is_found(loss, found):
    assert found in waits(loss)
    assert waits(Loss(nn.Identity(), nn.L1Loss())) == []


# Of one channel, of edges, of statistics, of waves, of a network, of several terms.
KINDS = ["red", "edges", "ssim", "focal_frequency", "lpips", "mix"]


@pytest.mark.parametrize(
    "losses", [KINDS, pytest.param(LOSSES, marks=pytest.mark.slow("trains each loss twice"))], ids=["kinds", "all"]
)
def test_losses_in_one_array_as_each_alone(tmp_path, losses):
    """Weights, metrics, and every term of a mix."""
    generator = torch.Generator().manual_seed(0)
    images = Images(*(torch.randint(0, 256, (n, 3, 44, 44), generator=generator, dtype=torch.uint8) for n in (16, 4)))
    variants = {name: {"loss": loss_config(f"loss={name}")} for name in losses}
    settings = {"max_epochs": 2}

    def train(folder: Path, changes):
        return Trained(folder, images, changes, settings, workers=2)

    together = train(tmp_path / "together", variants)
    assert together.failures == {}
    for name, changes in variants.items():
        alone = train(tmp_path / f"{name} alone", {name: changes})
        assert_same_bits(alone.weights(name), together.weights(name))
        assert alone.outcomes[name].metrics == together.outcomes[name].metrics
