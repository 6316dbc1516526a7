"""Train an array of variants from their configurations, and write their results into their folders."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from losslens.data.datamodule import ArrayDataModule, fixed_images
from losslens.data.source import Images
from losslens.files import write_json
from losslens.losses import check_loss
from losslens.training.array import VariantArray
from losslens.training.callbacks import Checkpoints, ImageGrid, MetricsTable, StepReport
from losslens.training.cuda import threads_of
from losslens.training.finish import measure_losses, show, some
from losslens.training.listener import Listener
from losslens.training.logger import RunLogger
from losslens.training.metrics import METRICS, describe_colors
from losslens.training.module import check_autoencoder, check_optimizer, compile_halves, draw_module, seen_directions
from losslens.training.state import SavedState, parse_interval
from losslens.training.supported import callback_settings, make_callbacks
from losslens.training.trainer import (
    clipping,
    determinism_as_before,
    epoch_steps,
    make_trainer,
    resume_at,
    trainer_settings,
)
from losslens.training.variant_trainer import Stage, VariantTrainer
from losslens.variant import Outcome, Variant

NUM_FIXED_IMAGES = 9  # columns of every grid: one from each photograph of the default data
MAX_DESCRIBED = 2000  # originals whose colors are described
# Steps per chunk: enough to keep all cores busy, or on a GPU to hide the Trainer's overhead.
CHUNK = {"cpu": 8, "cuda": 128}
MEASURING = Lock()  # one variant at a time, so that memory suffices
# With other values the Trainer counts batches itself, so that a batch must be one step.
COUNTED_IN_BATCHES = {"val_check_interval": 1.0, "overfit_batches": 0.0, "fast_dev_run": False}


@dataclass
class _Part:
    """The objects of one variant: its trainer, logger, callbacks and facts."""

    variant: Variant
    member: VariantTrainer
    logger: RunLogger
    table: MetricsTable
    pictures: ImageGrid
    facts: dict[str, Any]
    seconds_before: float  # of training, in earlier processes


@determinism_as_before()
def fit(
    variants: Sequence[Variant],
    images: Images,
    listener: Listener,
    *,
    num_workers: int,
    num_threads: int,
    losses: Mapping[str, Mapping[str, Any]] | None = None,
    states: Mapping[str, SavedState] | None = None,
) -> dict[str, Outcome]:
    """Train variants together that share data and Trainer settings.

    Args:
        num_workers: on the CPU, variants that compute at once.
        num_threads: on the CPU, PyTorch's threads per variant.
        losses: configurations by name: every variant is measured with all of them at the end.
        states: from which variants resume, by name, all at the same place; without one they start.

    Returns:
        Outcomes of the variants that did not fail, by name.

    Raises:
        ValueError: if the settings that they share are wrong.
        Interrupted: if it was asked to stop; states are on disk.
    """
    states = states or {}
    latest = next(iter(states.values()), None)  # any of them: all are at the same place
    start = time.perf_counter()
    settings, data_settings = trainer_settings(variants[0].config), variants[0].config["data"]
    trainer = make_trainer(settings, variants[0].folder, [StepReport(listener.progress)])
    device = trainer.strategy.root_device
    if device.type == "cuda":
        torch.cuda.init()  # so that random draws there are noticed from the first step on
    chunk = CHUNK.get(device.type, 1)
    if any(getattr(trainer, key) != plain for key, plain in COUNTED_IN_BATCHES.items()):
        chunk = 1
    num_steps = epoch_steps(settings, len(images.train), data_settings["batch_size"])
    originals = fixed_images(images, NUM_FIXED_IMAGES)
    parts: dict[str, _Part] = {}
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for variant in variants:
            try:
                parts[variant.name] = _prepare(variant, originals, listener, states.get(variant.name), device)
            except Exception as error:
                listener.failed(variant.name, error)
        members = [part.member for part in parts.values()]
        if not members:
            return {}
        for member in members:
            member.began_with = member.began_with or len(variants)
        data = ArrayDataModule(
            images,
            batch_size=data_settings["batch_size"],
            flip=data_settings["flip"],
            resident=data_settings["resident"],
            streams=[member.order for member in members],
            chunk=chunk,
            num_steps=num_steps,
        )
        array = VariantArray(
            members,
            num_workers=num_workers,
            num_threads=num_threads,
            clip=clipping(settings),
            listener=listener,
            save_interval=parse_interval(variants[0].config["checkpoint"]["every"]),
            stage=latest.stage if latest else Stage.STEP,
        )
        if latest:
            resume_at(trainer, data, latest, max(member.seconds for member in members))
        with listener.stop.awaited():
            trainer.fit(array, datamodule=data)
            if any(member.failure is None and member.validated_step != member.global_step for member in members):
                trainer.validate(array, datamodule=data, verbose=False)
        facts = {
            "epochs": round(trainer.global_step * data.batch_size / len(images.train), 2),
            "seconds": time.perf_counter() - start,
            "array": {"threads": num_threads},
            "originals": describe_colors(some(data.images.val, MAX_DESCRIBED)),
        }
    except BaseException:
        for part in parts.values():
            part.logger.experiment.close()
        raise
    finally:
        torch.set_num_threads(threads_before)
    return _finish_all(parts, array, data, losses or {}, facts, listener)


def _finish_all(
    parts: Mapping[str, _Part],
    array: VariantArray,
    data: ArrayDataModule,
    losses: Mapping[str, Mapping[str, Any]],
    facts: dict[str, Any],
    listener: Listener,
) -> dict[str, Outcome]:
    """Measure and show all trained variants; on a request to stop, write the states of those left."""
    outcomes: dict[str, Outcome] = {}

    def finish(part: _Part) -> None:
        if listener.stop:
            raise KeyboardInterrupt
        if part.member.failure is None:
            try:
                outcome = _finish(part, data, losses, facts, listener.say)
                listener.done(part.variant.name, outcome)
                outcomes[part.variant.name] = outcome
            except Exception as error:
                part.member.fail(error)
        part.logger.experiment.close()

    strategy, precision = array.trainer.strategy, array.trainer.precision_plugin
    try:
        if strategy.root_device.type == "cuda":  # mostly work of the host
            # The default dtype, which some precisions change, is shared by all threads.
            with precision.forward_context(), threads_of(strategy.root_device) as pool:
                list(pool.map(finish, parts.values()))
        else:
            for part in parts.values():
                finish(part)
    except KeyboardInterrupt:  # so that trained variants are not trained again
        array.members = [part.member for name, part in parts.items() if name not in outcomes]
        array.save(Stage.END)
        raise
    return {name: outcomes[name] for name in parts if name in outcomes}


def _prepare(
    variant: Variant,
    originals: Tensor,
    listener: Listener,
    state: SavedState | None,
    device: torch.device,
) -> _Part:
    """Make the objects of one variant, and check that it can be trained."""
    config, folder = variant.config, variant.folder
    module = draw_module(config)
    logger = RunLogger(folder, state.step if state else 0)
    table, pictures = MetricsTable(folder), ImageGrid(originals, folder)
    callbacks = [*callback_settings(config["trainer"]), *(config.get("callbacks") or {}).values()]
    member = VariantTrainer(
        variant.name,
        module,
        seed=config["order_seed"],
        folder=folder,
        logger=logger,
        callbacks=[*make_callbacks(callbacks, folder), table, pictures, Checkpoints(folder)],
        listener=listener,
    )
    code_shape = check_autoencoder(module, originals)
    check_loss(module.loss, originals.clone())
    check_optimizer(module, device)
    if state is not None:
        member.restore(state.load())
    if config["array"]["compile"]:
        compile_halves(module.autoencoder)
    facts: dict[str, Any] = {
        "code_shape": code_shape,
        "compression_ratio": originals[0].numel() / torch.Size(code_shape).numel(),
        "num_parameters": sum(parameter.numel() for parameter in module.autoencoder.parameters()),
    }
    logger.open_session({**variant.values}, [f"val/{name}" for name in METRICS])
    if state is None:
        logger.log_metrics({"compression_ratio": facts["compression_ratio"]}, step=0)
    return _Part(variant, member, logger, table, pictures, facts, member.seconds)


def _finish(
    part: _Part,
    data: ArrayDataModule,
    losses: Mapping[str, Mapping[str, Any]],
    facts: dict[str, Any],
    say: Callable[[str], None],
) -> Outcome:
    """Measure a variant with all losses, and write its results."""
    member, metrics = part.member, part.table.final
    others = {name: config for name, config in losses.items() if config != part.variant.config["loss"]}
    if part.variant.config["trainer"].get("limit_val_batches") is not None:
        others = dict(losses)  # the last validation saw some of the images only
    member.module.to(member.strategy.root_device)  # the Trainer moves it to the CPU at its end
    with MEASURING:
        measured = measure_losses(member, data, others)
    try:
        part.pictures.finish(member)  # type: ignore[arg-type]
        show(member, data, part.logger, part.pictures)
    except Exception as error:  # only pictures or codes are lost
        say(f"{member.name}: TensorBoard lacks pictures or codes: {type(error).__name__}: {error}")
    member.module.cpu()
    part.logger.close_session()
    facts = {
        **part.facts,
        "steps": member.global_step,
        **facts,
        "array": {"variants": member.began_with, **facts["array"]},
        "seconds": round(facts["seconds"] + part.seconds_before, 1),
        "losses": {name: measured.get(name) if name in others else metrics["loss"] for name in losses},
    }
    seen = seen_directions(member.module.loss)
    write_json(member.folder / "metrics.json", {"metrics": metrics, "seen": seen, **facts})
    return Outcome(metrics, seen, facts)
