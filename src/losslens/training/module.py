"""An autoencoder and a loss as an ordinary LightningModule."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from losslens.build import build, build_loss
from losslens.console import joined_lines
from losslens.data.pictures import as_images
from losslens.losses import Mix
from losslens.losses.color import COLOR_DIRECTIONS
from losslens.losses.loss import linear_view
from losslens.training.metrics import reconstruction_metrics
from losslens.training.stop import is_out_of_memory
from losslens.training.trust import check_made, check_trusted
from losslens.variant import Settings, VariantConfig

MONITORED = "val/loss"  # by a schedule that waits for a plateau
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
        """Reconstruct images `(N, 3, H, W)`, as float32 whatever the precision of training; not clamped.

        Raises:
            ValueError: if the model gives fewer pixels than it got.
        """
        height, width = images.shape[-2:]
        reconstructions: Tensor = self.autoencoder.decode(self.encode(images))[..., :height, :width]
        if reconstructions.shape != images.shape:
            raise ValueError(
                f"model {type(self.autoencoder).__name__} turns images {tuple(images.shape)} into "
                f"{tuple(reconstructions.shape)}: decode(encode(images)) must have at least their size and 3 channels; "
                "let encode pad images to whole blocks (torch.nn.functional.pad), or give images of such a size"
            )
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
        images = as_images(picture).to(self.device)
        with torch.no_grad(), _reported(self, images):
            reconstructions: Tensor = self(images)
        return reconstructions.clamp(0, 1)

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
        """Make the optimizer and its schedule; `ReduceLROnPlateau` is stepped by `val/loss` at every validation.

        Raises:
            ValueError: if one of them cannot be made.
        """
        optimizer = self.build_optimizer(self.parameters())
        for mix in self._scheduled():
            mix.num_steps = self._num_steps("the schedule of a weight")
            optimizer.register_step_post_hook(mix.advance)
        if self.make_schedule is None:
            return optimizer
        check_arguments("schedule", self.make_schedule, 1)
        schedule = build_part("schedule", self.make_schedule, optimizer, **self._total_steps(self.make_schedule))
        if isinstance(schedule, ReduceLROnPlateau):
            every = self.trainer.check_val_every_n_epoch or 1
            plan: Any = {"scheduler": schedule, "monitor": MONITORED, "interval": "epoch", "frequency": every}
        else:
            _check_schedule(schedule)
            plan = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters.

        Raises:
            ValueError: if it cannot be made.
        """
        optimizer = build_part("optimizer", self.make_optimizer, parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"optimizer {_name(self.make_optimizer)} makes {type(optimizer).__name__}, expected a "
                "torch.optim.Optimizer"
            )
        return optimizer

    def _total_steps(self, schedule: Callable[..., Any]) -> dict[str, float]:
        """Return the number of steps under the schedule's name for it; empty if it is set or has no name."""
        given = schedule.keywords if isinstance(schedule, partial) else {}
        known = inspect.signature(schedule).parameters
        wanted = [name for name in known if name in TOTAL_STEPS_ARGUMENTS]
        found: dict[str, float] = {
            name: self._num_steps("the schedule") for name in wanted[:1] if given.get(name) is None
        }
        if "pct_start" in known and "total_steps" in known:
            rise, steps = known["pct_start"].default, found.get("total_steps", given.get("total_steps"))
            if steps and rise * steps == 1:  # OneCycleLR would divide by zero
                found["pct_start"] = rise * (1 + 1e-9 if rise < 1 else 1 - 1e-9)
        return found

    def _num_steps(self, who: str) -> int:
        """Return the number of steps of training; `who` needs it, as the error says."""
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(f"{who} needs the number of steps, and training has no end: set trainer.max_epochs")
        return int(steps)


def load_module(path: Path | str, *, trust: bool = False) -> LitAutoencoder:
    """Load a checkpoint; of what it names, only classes of networks, losses, optimizers and schedules are called.

    Args:
        trust: whether also of packages other than losslens, torch and torchmetrics, which is to run code of others.

    Raises:
        Untrusted: if its settings name such a class, and are not trusted; nothing of it was imported.
        ValueError: if its settings name anything else.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    settings = checkpoint[LitAutoencoder.CHECKPOINT_HYPER_PARAMS_KEY]
    if not trust:
        check_trusted(settings, path)
    check_made(settings, path)
    module = LitAutoencoder(**settings)
    module.load_state_dict(checkpoint["state_dict"])
    return module


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
    """Check that a model reconstructs these images in their own shape, always alike, and can learn.

    Returns:
        The shape of one code.

    Raises:
        ValueError: naming what is wrong.
    """
    name, training = f"model {type(module.autoencoder).__name__}", module.training
    given = images.clone()
    module.eval()
    with torch.no_grad(), _reported(module, images):
        code = module.encode(given)
        _check_tensor(f"encode of {name}", code, "one tensor (N, ...), the code")
        decoded = module.autoencoder.decode(module.encode(given[:1]))
        _check_tensor(f"decode of {name}", decoded, "one tensor (N, 3, H, W), the reconstructions")
        module(given)
        once = module(given[:1])
    with torch.enable_grad(), _reported(module, images):
        again = module(given[:1])
    module.train(training)
    if not torch.equal(given, images):
        raise ValueError(
            f"{name} changes the images that it is given: compute from a copy, without in-place operations"
        )
    if not torch.allclose(once, again.detach(), rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            f"{name} reconstructs an image differently each time in evaluation, so that nothing measured of it could "
            "be repeated: draw random numbers only where self.training is true"
        )
    if not again.requires_grad:
        raise ValueError(
            f"{name} has no gradient: nothing in it can be trained; give it parameters that require gradients, and "
            "compute with differentiable operations"
        )
    return list(code.shape[1:])


def _check_tensor(what: str, given: object, expected: str) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{what} returns {type(given).__name__}, expected {expected}")
    if given.ndim < 2:
        raise ValueError(f"{what} returns shape {tuple(given.shape)}, expected {expected}")


@contextmanager
def _reported(module: LitAutoencoder, images: Tensor) -> Iterator[None]:
    """Report errors of a model's own code, which may be of any type, as ValueErrors; memory may run out inside."""
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"model {type(module.autoencoder).__name__} fails on images {tuple(images.shape)}: "
            f"{type(error).__name__}: {joined_lines(error)}".rstrip(": ")
        ) from error


def check_optimizer(module: LitAutoencoder, device: torch.device) -> None:
    """Check with copies of the weights that the optimizer can be made, and takes a step as training asks it to.

    Args:
        device: on which it will train.

    Raises:
        ValueError: if not.
    """
    copies = [nn.Parameter(each.detach().to(device, copy=True), each.requires_grad) for each in module.parameters()]
    optimizer = module.build_optimizer(copies)
    for each in copies:
        each.grad = torch.ones_like(each) if each.requires_grad else None
    try:
        optimizer.step()
    except Exception as error:
        raise ValueError(
            f"optimizer {_name(module.make_optimizer)} cannot take a step ({joined_lines(error)}): training gives "
            "dense gradients, and calls step() without a closure; use optimizer=muon, adam or sgd"
        ) from error


def _check_schedule(schedule: object) -> None:
    """Raise a ValueError if a schedule cannot be stepped at every step."""
    step = getattr(schedule, "step", None)
    if not callable(step):
        raise ValueError(f"the schedule is a {type(schedule).__name__}, expected one of torch.optim.lr_scheduler")
    needed = [
        each.name
        for each in inspect.signature(step).parameters.values()
        if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"schedule {type(schedule).__name__} wants {', '.join(needed)} at its steps: of these, only "
            "torch.optim.lr_scheduler.ReduceLROnPlateau and what derives from it are stepped, with val/loss"
        )


def build_part(kind: str, make: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Make an optimizer or a schedule.

    Args:
        kind: name of its group of settings.

    Raises:
        ValueError: naming the setting that is not taken, or else with the reason.
    """
    check_arguments(kind, make, len(arguments))
    try:
        return make(*arguments, **more)
    except Exception as error:  # of any type, since anything may be named as a target
        raise ValueError(
            f"{kind} {_name(make)} cannot be made: {joined_lines(error) or type(error).__name__}"
        ) from error


def check_arguments(kind: str, make: Callable[..., Any], num_given: int) -> None:
    """Raise a ValueError that names a setting which a class or function does not take, or lacks.

    Args:
        num_given: its first arguments, which are no settings.
    """
    if not isinstance(make, partial):
        return
    parameters = list(inspect.signature(make.func).parameters.values())
    names = {each.name for each in parameters}
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        for key in make.keywords.keys() - names:
            raise ValueError(
                f"{kind}.{key}={make.keywords[key]}: {_name(make)} takes no {key}: leave it out with ~{kind}.{key}"
            )
    for each in parameters[num_given:]:
        is_set = each.name in make.keywords or each.name in TOTAL_STEPS_ARGUMENTS
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty and not is_set:
            raise ValueError(f"{kind} {_name(make)} needs {each.name}: give it with +{kind}.{each.name}=VALUE")


def _name(make: Callable[..., Any]) -> str:
    """Return the name of what makes a part."""
    made = make.func if isinstance(make, partial) else make
    return str(getattr(made, "__name__", type(made).__name__))


def seen_directions(loss: nn.Module) -> list[str]:
    """Name the color directions that determine the value of a loss; empty if its view is not linear."""
    view = linear_view(loss)
    if view is None:
        return []
    return [name for name, direction in COLOR_DIRECTIONS.items() if view.sees(direction)]
