"""LitAutoencoder is an ordinary LightningModule."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from losslens.losses import LinearView, Loss
from losslens.models import Autoencoder
from losslens.training import LitAutoencoder

MODEL = {
    "_target_": "losslens.models.Autoencoder",
    "stride": 4,
    "code_channels": 2,
    "width": 4,
    "depth": 1,
    "patch": 2,
    "activation": {"_target_": "torch.nn.ReLU", "_partial_": True},
}
RED = {
    "_target_": "losslens.losses.Loss",
    "view": {"_target_": "losslens.losses.LinearView", "weights": [[1, 0, 0]]},
    "distance": {"_target_": "torch.nn.L1Loss"},
}


def fit(module, tmp_path, **arguments):
    """Train with a plain Trainer and a plain DataLoader of images with labels."""
    images = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.zeros(16)), batch_size=8)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    trainer.fit(module, loader, loader)
    return trainer


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")


def test_trains_in_anybodys_trainer_and_loads_as_data(tmp_path):
    torch.manual_seed(0)
    module = LitAutoencoder(MODEL, RED, optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1})
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    trainer = fit(module, tmp_path, enable_checkpointing=False)
    assert any(not torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert {"train/loss", "val/loss", "val/red", "val/ssim", "val/color_rank", "lr"} <= set(trainer.callback_metrics)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(trainer.callback_metrics["val/red"].item())

    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]["loss"] == RED
    loaded = LitAutoencoder.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    images = torch.rand(1, 3, 12, 12)
    assert torch.equal(loaded(images), module(images))


def test_takes_objects_too(tmp_path):
    autoencoder = Autoencoder(stride=2, code_channels=2, width=4, depth=0, patch=2, activation=nn.ReLU)
    loss = Loss(LinearView([[0, 0, 1]]), nn.MSELoss())
    module = LitAutoencoder(autoencoder, loss)
    trainer = fit(module, tmp_path, enable_checkpointing=False)
    assert isinstance(trainer.optimizers[0], torch.optim.Adam)
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = LitAutoencoder.load_from_checkpoint(
        tmp_path / "a.ckpt", weights_only=True, autoencoder=autoencoder, loss=loss
    )
    assert not loaded.hparams.get("loss")


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        ({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1}, 4e-7),
        ({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "pct_start": 0.25}, 4e-7),
        ({"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}, 0.0146447),
        ({"_target_": "torch.optim.lr_scheduler.LinearLR", "total_iters": 2, "start_factor": 0.5}, 0.1),
        (None, 0.1),
    ],
)
def test_schedules_get_the_number_of_steps(tmp_path, schedule, last):
    schedule = schedule and {**schedule, "_partial_": True}
    module = LitAutoencoder(
        MODEL, RED, optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}, schedule=schedule
    )
    trainer = fit(module, tmp_path, enable_checkpointing=False)
    assert trainer.global_step == 4
    assert trainer.callback_metrics["lr"].item() == pytest.approx(last, abs=1e-6)


def test_compares_in_float32_under_bf16(tmp_path):
    class Recorder(nn.Module):
        def forward(self, input, target):
            assert input.dtype == target.dtype == torch.float32
            assert (input @ target).dtype == torch.float32
            return (input - target).abs().mean()

    module = LitAutoencoder(MODEL, Recorder())
    fit(module, tmp_path, precision="bf16-mixed", enable_checkpointing=False)


@pytest.mark.parametrize("missing", ["encode", "decode"])
def test_refuses_a_model_without_its_halves(missing):
    class Half(nn.Module):
        pass

    setattr(Half, "decode" if missing == "encode" else "encode", lambda self, x: x)
    with pytest.raises(ValueError, match=f"Half has no method {missing}"):
        LitAutoencoder(Half(), RED)


def test_refuses_an_unknown_target():
    with pytest.raises(ValueError, match=r"cannot make losslens\.models\.Nothing"):
        LitAutoencoder({"_target_": "losslens.models.Nothing"}, RED)
