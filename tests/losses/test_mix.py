import lightning as L
import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
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
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["loss=mix", *overrides]).loss
    return build_loss(OmegaConf.to_container(config, resolve=True))


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
        ({"l1": 0}, "all weights of l1 are 0"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Mix({"l1": torch.nn.L1Loss()}, weights)


@pytest.mark.parametrize("name", ["values", "a.b"])
def test_a_term_cannot_have_every_name(name):
    with pytest.raises(ValueError, match="a term cannot have this name"):
        Mix({name: torch.nn.L1Loss()}, {name: 1})


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
