"""Own models, optimizers and schedules are tried before training: each works, or is refused in one line."""

from functools import partial

import pytest
import torch
from conftest import TINY
from test_going_on import STOPS, assert_same_results, stopped, train
from torch import nn
from torch.optim import lr_scheduler
from variants import ADAM, MSE, SGD, assert_same_bits, train_plainly

from losslens.training import LitAutoencoder
from losslens.training import array as array_module
from losslens.training.module import check_autoencoder, check_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:Seems like")
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


class Patches(nn.Module):
    """Patches of 8x8 pixels, without padding; its weights are tied."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 8, stride=8)
        self.up = nn.ConvTranspose2d(6, 3, 8, stride=8)
        self.up.weight = self.down.weight

    def encode(self, images):
        return self.down(images)

    def decode(self, code):
        return self.up(code)


class Pair(Patches):
    def encode(self, images):
        return super().encode(images), None


class PairOut(Patches):
    def decode(self, code):
        return [super().decode(code)]


class OneNumber(Patches):
    def encode(self, images):
        return super().encode(images).mean()


class Sampling(Patches):
    def encode(self, images):
        code = super().encode(images)
        return code + torch.randn_like(code)


class OwnGenerator(Patches):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def decode(self, code):
        images = super().decode(code)
        return images + torch.rand(images.shape, generator=self.generator)


class InPlace(Patches):
    def encode(self, images):
        return super().encode(images.mul_(2).sub_(1))


class Fixed(nn.Module):
    def encode(self, images):
        return images[..., ::2, ::2]

    def decode(self, code):
        return code.repeat_interleave(2, -1).repeat_interleave(2, -2)


class Asserts(Patches):
    def encode(self, images):
        assert images.shape[-1] == 24, "24 only"
        return super().encode(images)


class Flat(Patches):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(10, 4)

    def encode(self, images):
        return self.dense(images.flatten(1))


class Smaller(Patches):
    def decode(self, code):
        return super().decode(code)[..., :12, :15]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Pair, r"encode of model Pair returns tuple, expected one tensor \(N, \.\.\.\), the code"),
        (PairOut, r"decode of model PairOut returns list, expected one tensor"),
        (OneNumber, r"encode of model OneNumber returns shape \(\), expected one tensor"),
        (Sampling, r"model Sampling reconstructs an image differently each time in evaluation.*self\.training"),
        (OwnGenerator, r"model OwnGenerator reconstructs an image differently each time in evaluation"),
        (InPlace, r"model InPlace changes the images that it is given"),
        (Fixed, r"model Fixed has no gradient: nothing in it can be trained"),
        (Asserts, r"model Asserts fails on images \(3, 3, 16, 16\): AssertionError: 24 only"),
        (Flat, r"model Flat fails on images \(3, 3, 16, 16\): RuntimeError: .*mat1 and mat2 shapes"),
        (Smaller, r"model Smaller turns images \(3, 3, 16, 16\) into \(3, 3, 12, 15\): .* pad images to whole blocks"),
    ],
)
def test_models_that_cannot_be_trained_say_so_in_one_line(model, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_autoencoder(LitAutoencoder(model(), nn.L1Loss()), IMAGES.clone())
    assert "\n" not in str(raised.value)


def test_a_check_changes_nothing():
    module, images = LitAutoencoder(Patches(), nn.L1Loss()), IMAGES.clone()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    assert check_autoencoder(module, images) == [6, 2, 2]
    check_optimizer(module, CPU)
    assert_same_bits(module.state_dict(), before)
    assert torch.equal(images, IMAGES)
    assert module.training
    assert all(weight.grad is None for weight in module.parameters())


def test_a_picture_that_its_model_would_cut_is_refused():
    module = LitAutoencoder(Patches(), nn.L1Loss()).eval()
    assert module.reconstruct(torch.rand(3, 80, 56)).shape == (1, 3, 80, 56)
    with pytest.raises(ValueError, match=r"model Patches turns images \(1, 3, 83, 57\) into \(1, 3, 80, 56\): .*pad"):
        module.reconstruct(torch.rand(3, 83, 57))
    with pytest.raises(ValueError, match=r"model Asserts fails on images \(1, 3, 83, 57\): AssertionError: 24 only"):
        LitAutoencoder(Asserts(), nn.L1Loss()).reconstruct(torch.rand(3, 83, 57))


class Sharpness(torch.optim.SGD):
    def step(self, closure=None):
        assert closure is not None, "needs a closure"


def makes_none(parameters):
    return None


def makes_three(optimizer):
    return 3


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (torch.optim.LBFGS, r"optimizer LBFGS cannot take a step \(.*'closure'\): .*use optimizer=muon, adam or sgd"),
        (torch.optim.SparseAdam, r"optimizer SparseAdam cannot take a step \(.*dense gradients"),
        (partial(Sharpness, lr=0.1), r"optimizer Sharpness cannot take a step \(needs a closure"),
        (partial(torch.optim.RMSprop, lr=0.1, fused=True), r"optimizer\.fused=True: RMSprop takes no fused: .*~optim"),
        (partial(torch.optim.Adam, lr=-1), "optimizer Adam cannot be made: Invalid learning rate"),
        (torch.optim.Muon, "optimizer Muon cannot be made: Muon only supports 2D parameters"),
        (dict, "optimizer dict "),
        (makes_none, "optimizer makes_none makes NoneType, expected a torch.optim.Optimizer"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_optimizers_that_cannot_train_say_so_in_one_line(optimizer, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_optimizer(LitAutoencoder(Patches(), nn.L1Loss(), optimizer), CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"])
def test_optimizers_of_torch_can_train(name):
    check_optimizer(LitAutoencoder(Patches(), nn.L1Loss(), getattr(torch.optim, name)), CPU)


class WantsMetric:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, metric):
        pass


class FewSteps:
    """Stands in for a Trainer."""

    check_val_every_n_epoch = 1

    def __init__(self, steps):
        self.estimated_stepping_batches = steps


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (partial(lr_scheduler.StepLR), r"schedule StepLR needs step_size: give it with \+schedule\.step_size=VALUE"),
        (partial(lr_scheduler.StepLR, step_size=3, pct=1), r"schedule\.pct=1: StepLR takes no pct: .*~schedule\.pct"),
        (partial(lr_scheduler.CyclicLR, base_lr=0.1, max_lr=0.2), "schedule CyclicLR cannot be made: .*momentum"),
        (partial(WantsMetric), "schedule WantsMetric wants metric at its steps: .*ReduceLROnPlateau"),
        (makes_three, "the schedule is a int, expected one of torch.optim.lr_scheduler"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_schedules_that_cannot_be_stepped_say_so_in_one_line(schedule, message):
    module = LitAutoencoder(Patches(), nn.L1Loss(), torch.optim.Adagrad, schedule)
    module.trainer = FewSteps(10)
    with pytest.raises(ValueError, match=message) as raised:
        module.configure_optimizers()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [{}, {"three_phase": True}, {"total_steps": "all"}], ids=str)
@pytest.mark.parametrize(("steps", "rise"), [(10, 0.1), (20, 0.05), (4, 0.25), (1, 1.0), (2, 0.5), (1, 0.1), (2, 0.3)])
def test_one_cycle_of_any_number_of_steps(steps, rise, given):
    given = {key: steps if value == "all" else value for key, value in given.items()}
    schedule = partial(lr_scheduler.OneCycleLR, max_lr=0.1, pct_start=rise, cycle_momentum=False, **given)
    module = LitAutoencoder(Patches(), nn.L1Loss(), torch.optim.Adam, schedule)
    module.trainer = FewSteps(steps)
    made = module.configure_optimizers()
    rates = []
    for _ in range(steps):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        if len(rates) < steps:
            made["lr_scheduler"]["scheduler"].step()
    assert all(0 < rate <= 0.1 for rate in rates)


PLATEAU = {
    "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
    "_partial_": True,
    "patience": 0,
    "factor": 0.5,
    "threshold": 0.2,
}
WAITS = {"schedule": PLATEAU, "optimizer": {**ADAM, "lr": 0.02}}


@pytest.mark.parametrize("settings", [{}, {"check_val_every_n_epoch": 2}], ids=str)
def test_a_plateau_is_seen_as_in_a_plain_trainer(train_array, images, tmp_path, settings):
    plain = train_plainly(images, tmp_path, WAITS, max_epochs=6, **settings)
    array = train_array(
        {"red": WAITS, "mse": {"loss": MSE, "schedule": PLATEAU, "optimizer": SGD}}, max_epochs=6, **settings
    )
    assert not array.failures
    assert_same_bits(array.weights("red"), plain.weights)
    (group,) = plain.trainer.optimizers[0].param_groups
    assert group["lr"] < 0.02
    assert array.checkpoint("red")["optimizer_states"][0]["param_groups"][0]["lr"] == group["lr"]


@pytest.mark.parametrize(("where", "at"), [("validation", 2), ("step", 60), ("epoch", 4)])
def test_a_plateau_is_remembered(tmp_path, images, monkeypatch, where, at):
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    variants, settings = {"red": WAITS, "mse": {**WAITS, "loss": MSE}}, {"max_epochs": 5, "callbacks": [STOPS]}
    trained = lambda place, *arguments, **trainer: train(tmp_path / place, images, *arguments, **trainer)  # noqa: E731
    expected = trained("whole", variants, **settings)
    stopped(trained, variants, where, at, **settings)
    assert_same_results(expected, trained("stopped", variants, **settings))


MINE = """
import torch
class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)
    def encode(self, images): return self.layer(images), 1
    def decode(self, code): return code[0]
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer=adam", "optimizer._target_=torch.optim.RMSprop"], "optimizer.fused=True: RMSprop takes no fused"),
        (["model=custom", "model._target_=mine.Pair"], "encode of model Pair returns tuple"),
        (["+trainer.logger={_target_:lightning.pytorch.loggers.CSVLogger}"], "trainer.logger="),
        (
            ["trainer.callbacks=[{_target_:lightning.pytorch.callbacks.StochasticWeightAveraging,swa_lrs:0.1}]"],
            "the callback StochasticWeightAveraging is not for variants",
        ),
    ],
    ids=str,
)
def test_a_command_ends_in_one_line(train, tmp_path, arguments, message):
    (tmp_path / "mine.py").write_text(MINE)
    done = train("loss=l1", *TINY, *arguments, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_a_training_of_ten_steps(train):
    train("loss=l1", *TINY[:-2], "trainer.max_steps=10", "report=false", "schedule=one_cycle")
