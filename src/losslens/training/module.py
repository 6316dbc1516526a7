"""An autoencoder and a loss as an ordinary LightningModule."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import get_object
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MetricCollection

from losslens.build import build, build_loss
from losslens.data.pictures import as_images
from losslens.losses import Mix
from losslens.losses.color import COLOR_DIRECTIONS
from losslens.losses.loss import linear_view
from losslens.training.metrics import reconstruction_metrics
from losslens.variant import Settings, VariantConfig

BUILT = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
# Names of the number of steps in torch's schedules.
TOTAL_STEPS_ARGUMENTS = ("total_steps", "T_max", "total_iters")


class LitAutoencoder(L.LightningModule):
    """Train an autoencoder under a loss, in any Trainer; batches are images `(N, 3, H, W)` in [0, 1].

    Every part is given as an object or as a configuration with `_target_`. Parts given as configurations are saved in
    checkpoints, so that `LitAutoencoder.load_from_checkpoint(path, weights_only=True)` needs nothing else.

    Args:
        autoencoder: has `encode(images)` and `decode(code)`.
        loss: module of `(input, target)`, reconstruction and original, to a scalar.
        optimizer: makes the optimizer from the parameters. Give it no weight decay: decay would decide the colors
            that the loss leaves free.
        schedule: makes the learning rate schedule from the optimizer, stepped at every step; where it has an argument
            `total_steps`, `T_max` or `total_iters` that is not set, it gets the number of steps. None: constant.

    Raises:
        ValueError: if the autoencoder has no `encode` or `decode`.
    """

    def __init__(
        self,
        autoencoder: nn.Module | Settings,
        loss: nn.Module | Settings,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | Settings = torch.optim.Adam,
        schedule: Callable[..., Any] | Settings | None = None,
    ) -> None:
        super().__init__()
        parts = {"autoencoder": autoencoder, "loss": loss, "optimizer": optimizer, "schedule": schedule}
        objects = [name for name, part in parts.items() if not isinstance(part, Mapping | None)]
        self.save_hyperparameters(ignore=objects, logger=False)
        self.autoencoder: Any = build(autoencoder) if isinstance(autoencoder, Mapping) else autoencoder
        self.loss: Any = build_loss(loss) if isinstance(loss, Mapping) else loss
        self.make_optimizer = build(optimizer) if isinstance(optimizer, Mapping) else optimizer
        self.make_schedule = build(schedule) if isinstance(schedule, Mapping) else schedule
        for method in ("encode", "decode"):
            if not callable(getattr(self.autoencoder, method, None)):
                raise ValueError(
                    f"autoencoder {type(self.autoencoder).__name__} has no method {method}: "
                    "a model needs encode(images) and decode(code)"
                )
        self.val_metrics: MetricCollection | None = None

    def encode(self, images: Tensor) -> Tensor:
        """Encode images `(N, 3, H, W)` to codes."""
        code: Tensor = self.autoencoder.encode(images)
        return code

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images `(N, 3, H, W)`, as float32 whatever the precision of training; not clamped."""
        height, width = images.shape[-2:]
        reconstructions: Tensor = self.autoencoder.decode(self.encode(images))[..., :height, :width]
        return reconstructions.float().contiguous()

    def reconstruct(self, picture: Path | str | Image.Image | np.ndarray | Tensor) -> Tensor:
        """Reconstruct a picture in any usual form, whole and in its own size.

        Args:
            picture: a file; a Pillow image; an array `(H, W, 3)`; or a tensor `(3, H, W)` or `(N, 3, H, W)`. Arrays
                and tensors are uint8, or float in [0, 1].

        Returns:
            Float32 `(N, 3, H, W)`, clamped to [0, 1].

        Raises:
            ValueError: if the picture cannot be read, or is smaller than the network allows.
        """
        with torch.no_grad():
            reconstructions: Tensor = self(as_images(picture).to(self.device)).clamp(0, 1)
        return reconstructions

    def on_train_start(self) -> None:
        """Start schedules of weights at the step at which training starts or resumes."""
        for mix in self._scheduled():
            mix.step.fill_(self.trainer.global_step)

    def _scheduled(self) -> list[Mix]:
        """List the mixes whose weights follow a schedule."""
        return [mix for mix in self.modules() if isinstance(mix, Mix) and mix.schedules]

    def training_step(self, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        images = _images(batch)
        reconstructions = self(images)
        with _full_precision(images):
            loss = self._compare(reconstructions, images, "train")
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(images))
        return loss

    def _compare(self, reconstructions: Tensor, images: Tensor, stage: str) -> Tensor:
        """Return the loss of a batch and log it; of a mix, each term as well."""
        if isinstance(self.loss, Mix):
            parts, moving = self.loss.parts(reconstructions, images), self.loss.moving_weights()
            loss = self.loss.total(parts, moving)
            for name, value in parts.items():
                self.log(f"{stage}/loss/{name}", value, batch_size=len(images))
            for name, weight in moving.items():
                self.log(f"{stage}/weight/{name}", weight, batch_size=len(images))
        else:
            loss = self.loss(reconstructions, images)
        self.log(f"{stage}/loss", loss, batch_size=len(images))
        return loss

    def validation_step(self, batch: Any) -> None:
        """Add a batch to the metrics."""
        images = _images(batch)
        if self.val_metrics is None:
            self.val_metrics = reconstruction_metrics(linear_view(self.loss)).to(self.device)
        reconstructions = self(images)
        with _full_precision(images):
            self._compare(reconstructions, images, "val")
            self.val_metrics.update(reconstructions, images)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all validation images."""
        assert self.val_metrics is not None
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule."""
        optimizer = self.make_optimizer(self.parameters())
        for mix in self._scheduled():
            mix.num_steps = self._num_steps("the schedule of a weight")
            optimizer.register_step_post_hook(mix.advance)
        if self.make_schedule is None:
            return optimizer
        schedule = self.make_schedule(optimizer, **self._total_steps(self.make_schedule))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _total_steps(self, schedule: Callable[..., Any]) -> dict[str, float]:
        """Return the number of steps under the schedule's name for it; empty if it is set or has no name."""
        given = schedule.keywords if isinstance(schedule, partial) else {}
        wanted = [name for name in inspect.signature(schedule).parameters if name in TOTAL_STEPS_ARGUMENTS]
        found: dict[str, float] = {
            name: self._num_steps("the schedule") for name in wanted[:1] if given.get(name) is None
        }
        if given.get("pct_start", 0) * found.get("total_steps", 0) == 1:  # OneCycleLR would divide by zero
            found["pct_start"] = given["pct_start"] * (1 + 1e-9)
        return found

    def _num_steps(self, who: str) -> int:
        """Return the number of steps of training; `who` needs it, as the error says."""
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(f"{who} needs the number of steps, and training has no end: set trainer.max_epochs")
        return int(steps)


def load_module(path: Path | str) -> LitAutoencoder:
    """Load a checkpoint; of what it names, only classes of networks, losses, optimizers and schedules are called.

    Raises:
        ValueError: if its settings name anything else.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    settings = checkpoint[LitAutoencoder.CHECKPOINT_HYPER_PARAMS_KEY]
    for target in _targets(settings):
        found = get_object(target)
        if not (isinstance(found, type) and issubclass(found, BUILT)):
            raise ValueError(
                f"{path} names {target}, which is no class of a network, a loss, an optimizer or a schedule: "
                "it is not called"
            )
    module = LitAutoencoder(**settings)
    module.load_state_dict(checkpoint["state_dict"])
    return module


def _targets(settings: Any) -> Iterator[str]:
    """Yield all that nested settings name by `_target_`."""
    if isinstance(settings, Mapping):
        yield from (str(value) for key, value in settings.items() if key == "_target_")
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for each in settings:
            yield from _targets(each)


def draw_module(config: VariantConfig) -> LitAutoencoder:
    """Make the untrained module of a variant; all global generators are seeded with the variant's seed."""
    L.seed_everything(config["seed"], verbose=False)
    return LitAutoencoder(config["model"], config["loss"], config["optimizer"], config["schedule"])


def compile_halves(autoencoder: nn.Module) -> None:
    """Compile both halves of an autoencoder."""
    # In torch 2.15 the compiler fails on channels-last gradients of edge padding.
    autoencoder.to(memory_format=torch.contiguous_format)
    for method in ("encode", "decode"):
        function = getattr(autoencoder, method)
        setattr(autoencoder, method, torch.compile(function, options={"layout_optimization": False}))


def _images(batch: Any) -> Tensor:
    """Return the images of a batch, which may have labels, too."""
    images: Tensor = batch[0] if isinstance(batch, list | tuple) else batch
    return images


def _full_precision(images: Tensor) -> torch.autocast:
    """Compare images in float32 even if the network runs in bf16, whose steps are as coarse as 1/256."""
    return torch.autocast(images.device.type, enabled=False)


def check_autoencoder(module: LitAutoencoder, images: Tensor) -> list[int]:
    """Check that a model reconstructs these images in their own shape.

    Returns:
        The shape of one code.

    Raises:
        ValueError: if the reconstructions' shape is not that of the images.
    """
    training = module.training
    module.eval()
    with torch.no_grad():
        code, reconstructions = module.encode(images), module(images)
    module.train(training)
    if reconstructions.shape != images.shape:
        raise ValueError(
            f"model {type(module.autoencoder).__name__} turns images {tuple(images.shape)} into "
            f"{tuple(reconstructions.shape)}: decode(encode(images)) must have at least their size and 3 channels"
        )
    return list(code.shape[1:])


def seen_directions(loss: nn.Module) -> list[str]:
    """Name the color directions that determine the value of a loss; empty if its view is not linear."""
    view = linear_view(loss)
    if view is None:
        return []
    return [name for name, direction in COLOR_DIRECTIONS.items() if view.sees(direction)]
