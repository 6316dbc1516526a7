import lightning as L
import pytest
import torch
from conftest import loss_config
from torch.utils.data import DataLoader

from losslens.build import build_loss
from losslens.losses import LinearView, Loss, Mix, check_loss
from losslens.losses.distances import BCE
from losslens.training.module import LitAutoencoder


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def encode(self, images):
        return images

    def decode(self, code):
        return self.layer(code)


def make(*overrides):
    return build_loss(loss_config("loss=mix", *overrides))


def test_a_term_more_and_one_less(photograph):
    mix = make("+loss@loss.terms.edges=edges", "+loss.weights.edges=2", "~loss.terms.ssim", "~loss.weights.ssim")
    parts = mix.parts(photograph.flip(-1), photograph)
    assert list(parts) == ["l1", "edges"]
    assert torch.equal(mix(photograph.flip(-1), photograph), parts["l1"] + 2 * parts["edges"])


def test_a_weight_of_zero_leaves_no_gradient(photograph):
    input = photograph.flip(-1).requires_grad_()
    make("loss.weights.ssim=0")(input, photograph).backward()
    expected = torch.sign(photograph.flip(-1) - photograph) / photograph.numel()
    assert torch.allclose(input.grad, expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "a mix has weights for nothing and terms l1: give each term a weight"),
        ({"l1": 1, "ssmi": 1}, "a mix has weights for l1, ssmi and terms l1: .*each weight a term"),
        ({"l1": -1}, "weight -1 of the term l1 is no number of 0 or more"),
        ({"l1": float("nan")}, "weight nan of the term l1 is no number of 0 or more"),
        ({"l1": "much"}, "weight much of the term l1 is no number of 0 or more"),
        ({"l1": True}, "weight True of the term l1 is no number of 0 or more"),
        ({"l1": []}, r"weights \[\] of the term l1 are no schedule: give points \[share, weight\]"),
        ({"l1": [[0.5, 1], [0.2, 1]]}, "of the term l1 are no schedule"),
        ({"l1": [[0, 1], [500, 2]]}, "of the term l1 are no schedule"),
        ({"l1": [[0, 1], [1, -2]]}, "of the term l1 are no schedule"),
        ({"l1": [0, 1]}, "of the term l1 are no schedule"),
        ({"l1": 0}, "all weights of l1 are 0: give"),
        ({"l1": [[0, 1], [1, 0]]}, "all weights of l1 are 0 at the end"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Mix({"l1": torch.nn.L1Loss()}, weights)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[0.5, 2]], [2, 2, 2, 2, 2]),
        ([[0, 0], [1, 4]], [0, 1, 2, 3, 4]),
        ([[0.25, 1], [0.5, 3], [0.75, 0.5]], [1, 1, 3, 0.5, 0.5]),
        ([[0, 1], [0.5, 1], [0.5, 2]], [1, 1, 2, 2, 2]),
    ],
)
def test_schedules_have_straight_lines_and_jumps(points, expected):
    mix = Mix({"l1": torch.nn.L1Loss()}, {"l1": points})
    assert mix.moving_weights() == {}
    mix.num_steps = 4
    found = []
    for _ in expected:
        found.append(mix.moving_weights()["l1"].item())
        mix.advance()
    assert found == expected
    assert mix.eval()(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)) == expected[-1]


def test_uncertainty_is_that_of_the_formula(photograph):
    mix = make("loss.weights.ssim=4", "loss.uncertainty=true")
    l1, ssim = mix.parts(photograph.flip(-1), photograph).values()
    with torch.no_grad():
        mix.log_variances["l1"].fill_(0.5)
    value = mix(photograph.flip(-1), photograph)
    expected = torch.exp(torch.tensor(-0.5)) * l1 + 0.5 + 4 * ssim - torch.log(torch.tensor(4.0))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    value.backward()
    assert mix.log_variances["l1"].grad.item() == pytest.approx(1 - 0.6065307 * l1.item(), rel=1e-5)
    assert mix.eval()(photograph.flip(-1), photograph).item() == pytest.approx((l1 + 4 * ssim).item())


@pytest.mark.parametrize("weight", [0, [[0, 1], [1, 2]]])
def test_uncertainty_begins_with_numbers_above_zero(weight):
    terms = {"l1": torch.nn.L1Loss(), "mse": torch.nn.MSELoss()}
    with pytest.raises(ValueError, match=r"weights by uncertainty begin at a number above 0, and mse does at"):
        Mix(terms, {"l1": 1, "mse": weight}, uncertainty=True)


@pytest.mark.parametrize("name", ["values", "a.b"])
def test_a_term_cannot_have_every_name(name):
    with pytest.raises(ValueError, match="a term cannot have this name"):
        Mix({name: torch.nn.L1Loss()}, {name: 1})


def test_arguments_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="uncertainty no of a mix is neither true nor false"):
        Mix({"l1": torch.nn.L1Loss()}, {"l1": 1}, uncertainty="no")
    with pytest.raises(ValueError, match=r"weights 3 of a mix are not given by name: loss\.weights\.NAME=1"):
        Mix({"l1": torch.nn.L1Loss()}, 3)


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a mix has weights for nothing and terms none"):
        Mix({}, {})


def test_what_does_not_fit_together_is_named_with_its_term(photograph):
    mix = Mix({"odd": Loss(LinearView([[1, -1, 0]]), BCE())}, {"odd": 1})
    with pytest.raises(ValueError, match=r"term odd: distance bce compares values in \[0, 1\]"):
        check_loss(mix, photograph)


def test_each_term_is_logged_by_itself(photograph, tmp_path):
    module = LitAutoencoder(Tiny(), make("loss.weights.ssim=0.5"))
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    images = DataLoader(photograph, batch_size=1)
    trainer.fit(module, images, images)
    logged = {name: value.item() for name, value in trainer.logged_metrics.items()}
    for stage in ("train", "val"):
        expected = logged[f"{stage}/loss/l1"] + 0.5 * logged[f"{stage}/loss/ssim"]
        assert logged[f"{stage}/loss"] == pytest.approx(expected, rel=1e-5)
