"""The same sweep as one writes it without losslens: one Trainer per variant, a torchvision data set, a DataLoader."""

import json
import time
from pathlib import Path

import hydra
import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, RandomHorizontalFlip, ToTensor

from losslens.training.muon import Muon

CONF = Path(__file__).parent.parent / "conf"
CHANNELS = {"red": [0], "green": [1], "blue": [2], "l1": [0, 1, 2]}


class Plain(L.LightningModule):
    """An autoencoder under a loss that is known by its name."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = hydra.utils.instantiate(OmegaConf.load(CONF / "model" / "small.yaml"))
        self.autoencoder.to(memory_format=torch.contiguous_format)  # what models have by default

    def compare(self, images):
        input = self.autoencoder(images)
        if self.config.loss == "luma":
            weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(3, 1, 1)
            return F.l1_loss((weights * input).sum(1), (weights * images).sum(1))
        channels = CHANNELS[self.config.loss]
        return F.l1_loss(input[:, channels], images[:, channels])

    def training_step(self, batch, batch_idx):
        loss = self.compare(batch[0])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.compare(batch[0]))

    def configure_optimizers(self):
        optimizer = Muon(self.parameters(), lr=self.config.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.config.lr,
            total_steps=self.trainer.estimated_stepping_batches,
            pct_start=0.1,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Clock(L.Callback):
    """Takes the time after the first steps, 64 or a quarter of all, and after the last one."""

    def __init__(self) -> None:
        self.times = {}

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step in (min(64, trainer.max_steps // 4), trainer.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times[trainer.global_step] = time.perf_counter()


@hydra.main(version_base="1.3", config_path=".", config_name="plain")
def main(config: DictConfig) -> None:
    """Train one variant, and print when it began, when it ended and what it came to."""
    L.seed_everything(0, verbose=False)
    module = Plain(config)
    train = ImageFolder(f"{config.images}/train", Compose([RandomHorizontalFlip(), ToTensor()]))
    val = ImageFolder(f"{config.images}/val", ToTensor())
    loader = {"num_workers": config.workers, "persistent_workers": config.workers > 0}
    trainer = L.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,
        max_steps=config.steps,
        val_check_interval=config.steps,
        check_val_every_n_epoch=None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        callbacks=[clock := Clock()],
    )
    start = time.time()
    trainer.fit(
        module,
        DataLoader(train, config.batch_size, shuffle=True, drop_last=True, **loader),
        DataLoader(val, 128, **loader),
    )
    result = {"loss": config.loss, "start": start, "end": time.time()}
    (first, begin), (last, end) = clock.times.items()
    result["seconds_per_step"] = (end - begin) / (last - first)
    result["val_loss"] = trainer.callback_metrics["val/loss"].item()
    Path(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
