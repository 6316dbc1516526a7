"""Arrays of tiny variants, made as a sweep makes them; and one trained by a plain Trainer, to compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from losslens.build import build
from losslens.data import ImageDataModule, Images
from losslens.training import LitAutoencoder
from losslens.training.fit import fit
from losslens.training.listener import Listener
from losslens.training.stop import Stop
from losslens.training.trainer import epoch_steps
from losslens.variant import Variant

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
MSE = {"_target_": "torch.nn.MSELoss"}
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.002, "fused": True}
SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9, "fused": True}
ONE_CYCLE = {
    "_target_": "torch.optim.lr_scheduler.OneCycleLR",
    "_partial_": True,
    "max_lr": 0.002,
    "cycle_momentum": False,
}
CONFIG = {
    "model": MODEL,
    "loss": RED,
    "optimizer": ADAM,
    "schedule": ONE_CYCLE,
    "seed": 0,
    "data": {"batch_size": 8, "flip": True, "resident": "auto"},
    "checkpoint": {"every": "60s"},
    "array": {"max_variants": "auto", "threads": 1, "compile": False},
}
TRAINER = {"_target_": "lightning.Trainer", "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 5}
# Variants that differ in everything that may differ.
DIFFERENT = {
    "red": {},
    "mse": {"loss": MSE, "optimizer": SGD, "schedule": None},
    "wide": {"model": {**MODEL, "width": 6, "code_channels": 3}, "seed": 1},
}


class Heard(Listener):
    """Keeps failures and lines."""

    def __init__(self, stop: Stop | None = None) -> None:
        super().__init__(stop)
        self.failures: dict[str, Exception] = {}
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def failed(self, name: str, error: Exception) -> None:
        self.failures[name] = error


class Trained:
    """What an array left: weights, metrics, failures and lines."""

    def __init__(self, folder: Path, images: Images, variants: dict[str, dict], trainer: dict, workers: int) -> None:
        self.folder = folder
        heard = Heard()
        self.failures, self.lines = heard.failures, heard.lines
        made = []
        for name, changes in variants.items():
            (folder / name).mkdir(parents=True)
            config = {"order_seed": changes.get("seed", 0), **CONFIG, "trainer": {**TRAINER, **trainer}, **changes}
            made.append(Variant(name, config, folder / name, {"loss": name}))
        workers = min(workers, len(made))
        self.outcomes = fit(made, images, heard, num_workers=workers, num_threads=1)

    def checkpoint(self, name: str, which: str = "last") -> dict:
        if name in self.failures:
            raise self.failures[name]
        return torch.load(self.folder / name / "checkpoints" / f"{which}.ckpt", weights_only=True)

    def picture(self, name: str) -> bytes:
        return (self.folder / name / "grid.png").read_bytes()

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return self.checkpoint(name)["state_dict"]


@dataclass
class Plain:
    """What a plain Trainer left."""

    trainer: L.Trainer
    weights: dict[str, torch.Tensor]


def train_plainly(
    images: Images, folder: Path, changes: dict, *, logger: Any = False, validate: bool = True, **settings: Any
) -> Plain:
    """Train one variant by `lightning.Trainer.fit`, with one thread and the batches that it gets in an array."""
    config = {**CONFIG, **changes}
    L.seed_everything(config["seed"], verbose=False)
    module = LitAutoencoder(config["model"], config["loss"], config["optimizer"], config["schedule"])
    arguments = {"enable_checkpointing": False, **TRAINER, **settings, "num_sanity_val_steps": 0}
    configs = [*arguments.pop("callbacks", []), *changes.get("callbacks", {}).values()]
    del arguments["_target_"]
    num_steps = epoch_steps({**TRAINER, **settings}, len(images.train), config["data"]["batch_size"])
    arguments.pop("limit_train_batches", None)  # it is how many steps the data has
    trainer = L.Trainer(
        **arguments,
        callbacks=[build(each) for each in configs],
        logger=logger,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = ImageDataModule(images, **config["data"], seed=config["seed"], num_steps=num_steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer.fit(module, datamodule=data)
        if validate:
            trainer.validate(module, datamodule=data, verbose=False)
    finally:
        torch.set_num_threads(threads)
    return Plain(trainer, {key: value for key, value in module.state_dict().items() if "val_metrics" not in key})


def assert_nearly_the_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Weights of two engines: learning rates on the device are float32."""
    for name, weight in first.items():
        assert torch.allclose(second[name], weight, atol=1e-5), name


def assert_same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name, weight in first.items() if not torch.equal(weight, second[name])]
    assert not different
