"""The contract of arrays: what a variant learns does not depend on who trains beside it."""

import time
from typing import ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from variants import ADAM, CONFIG, DIFFERENT, MODEL, MSE, ONE_CYCLE, RED, SGD, TRAINER, assert_same_bits

from losslens.data import ImageDataModule
from losslens.models import Autoencoder
from losslens.training import LitAutoencoder
from losslens.training.metrics import METRICS, SUBSPACE_METRICS
from losslens.training.module import draw_module
from losslens.training.muon import Muon
from losslens.training.trainer import epoch_steps

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")


class Fragile(nn.Module):
    """L1, until it is called to train for the n-th time; then it raises, or is NaN, or runs out of memory."""

    def __init__(self, n: int, how: str) -> None:
        super().__init__()
        self.n, self.how, self.calls = n, how, 0

    def forward(self, input, target):
        self.calls += torch.is_grad_enabled()
        if self.calls == self.n and self.how == "raise":
            raise RuntimeError("torn")
        if self.calls == self.n and "memory" in self.how:
            time.sleep(self.how == "memory late")
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (input - target).abs().mean() * (float("nan") if self.calls == self.n and self.how == "nan" else 1)


class Forgetful(Autoencoder):
    """Draws random numbers at every step."""

    def encode(self, images):
        return nn.functional.dropout(super().encode(images), training=self.training)


class SeesSteps(Callback):
    seen: ClassVar[dict[str, list[tuple]]] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        row = (trainer.global_step, batch_idx, round(outputs["loss"].item(), 6), tuple(batch.shape))
        self.seen.setdefault(trainer.default_root_dir.rpartition("/")[2], []).append(row)


def target(thing, **arguments):
    return {"_target_": f"{thing.__module__}.{thing.__qualname__}", **arguments}


def test_alone_and_together_in_any_order_with_the_same_bits(train_array):
    alone = {name: train_array({name: changes}) for name, changes in DIFFERENT.items()}
    together = train_array(DIFFERENT)
    backwards = train_array(dict(reversed(DIFFERENT.items())), workers=1)
    for name in DIFFERENT:
        for array in (together, backwards):
            assert_same_bits(array.weights(name), alone[name].weights(name))
            assert array.outcomes[name].metrics == alone[name].outcomes[name].metrics
            assert array.picture(name) == alone[name].picture(name)
    assert together.picture("red") != together.picture("mse")  # they do differ


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"},
        {"limit_train_batches": 3, "limit_val_batches": 1},
        {"limit_train_batches": 0.5},
        {"max_steps": 13, "max_epochs": -1},
        {"val_check_interval": 4},
        {"check_val_every_n_epoch": 2},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"fast_dev_run": 3},
    ],
    ids=str,
)
def test_the_same_as_a_plain_trainer(train_array, images, tmp_path, settings):
    array = train_array({"red": {"seed": 3}, "mse": {"loss": MSE}}, **settings)

    L.seed_everything(3, verbose=False)
    module = LitAutoencoder(MODEL, RED, optimizer=ADAM, schedule=ONE_CYCLE)
    arguments = {**TRAINER, **settings, "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    arguments |= {"default_root_dir": tmp_path, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    del arguments["_target_"]
    arguments.pop("limit_train_batches", None)  # it is how many steps the data has
    trainer = L.Trainer(**arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    num_steps = epoch_steps({**TRAINER, **settings}, len(images.train), CONFIG["data"]["batch_size"])
    data = ImageDataModule(images, **CONFIG["data"], seed=3, num_steps=num_steps)
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    torch.set_num_threads(threads)

    assert_same_bits(array.weights("red"), {k: v for k, v in module.state_dict().items() if "val_metrics" not in k})
    assert array.outcomes["red"].facts["steps"] == trainer.global_step
    plain = {name: trainer.callback_metrics[f"val/{name}"].item() for name in (*METRICS, *SUBSPACE_METRICS)}
    assert array.outcomes["red"].metrics == plain


@pytest.mark.parametrize("workers", [1, 2])
def test_the_optimizer_computes_in_full_precision_as_in_a_plain_trainer(train_array, workers):
    """Muon multiplies matrices, which the Trainer's autocast would do in bf16."""
    muon = {"_target_": f"{SeesItsPrecision.__module__}.SeesItsPrecision", "_partial_": True}
    array = train_array(
        {name: {"optimizer": muon, "schedule": None} for name in "ab"}, precision="bf16-mixed", workers=workers
    )
    assert not array.failures


class SeesItsPrecision(Muon):
    def step(self, closure=None):
        weight = self.param_groups[0]["params"][0].detach().flatten()[:, None]
        assert (weight @ weight.T).dtype == torch.float32
        return super().step(closure)


def test_fused_optimizers_are_clipped_in_mixed_precision(train_array):
    changes = {"optimizer": SGD, "schedule": None}
    array = train_array({"red": changes}, precision="bf16-mixed", gradient_clip_val=1e-6)
    for name, weight in draw_module({**CONFIG, **changes}).state_dict().items():
        assert torch.allclose(array.weights("red")[name], weight, atol=1e-4)  # 20 steps of 1e-6 times 0.1


@pytest.mark.parametrize(("how", "message"), [("raise", "torn"), ("nan", "the loss is nan at step 6")])
def test_who_fails_leaves_and_the_others_go_on_with_the_same_bits(train_array, how, message):
    whole = train_array({"red": {}, "mse": {"loss": MSE}})
    # One call is the check before training.
    broken = train_array({"red": {}, "bad": {"loss": target(Fragile, n=7, how=how)}, "mse": {"loss": MSE}})
    assert list(broken.outcomes) == ["red", "mse"]
    assert message in str(broken.failures["bad"])
    for name in ("red", "mse"):
        assert_same_bits(broken.weights(name), whole.weights(name))


def test_who_cannot_start_does_not_hold_up_the_others(train_array):
    array = train_array({"bad": {"model": {**MODEL, "width": 0}}, "red": {}})
    assert list(array.outcomes) == ["red"]
    assert "use 1 or more for every number" in str(array.failures["bad"])
    array = train_array({"bad": {"optimizer": {**ADAM, "lr": -1}}, "red": {}})
    assert list(array.outcomes) == ["red"]
    assert "Invalid learning rate" in str(array.failures["bad"])


def test_when_all_fail_training_ends(train_array):
    array = train_array({name: {"loss": target(Fragile, n=4, how="raise")} for name in "ab"}, max_epochs=100000)
    assert not array.outcomes
    assert list(array.failures) in (["a", "b"], ["b", "a"])


def test_who_stops_early_leaves_and_the_others_go_on_with_the_same_bits(train_array):
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss", "patience": 1}
    settings = {"callbacks": [{**stop, "min_delta": 0.002}], "max_epochs": 8}
    variants = {"slow": {"optimizer": {**ADAM, "lr": 1e-6}, "schedule": None}, "red": {"schedule": None}}
    alone = {name: train_array({name: changes}, **settings) for name, changes in variants.items()}
    together = train_array(variants, **settings)
    steps = {name: together.outcomes[name].facts["steps"] for name in variants}
    assert steps["slow"] == 20 < steps["red"]
    for name in variants:
        assert alone[name].outcomes[name].facts["steps"] == steps[name]
        assert_same_bits(alone[name].weights(name), together.weights(name))
        assert alone[name].outcomes[name].metrics == together.outcomes[name].metrics


@pytest.mark.parametrize("how", ["memory", "memory late"])  # late: when the other has taken its steps
def test_out_of_memory_costs_nothing_but_time(train_array, how):
    whole = train_array({"a": {"loss": target(Fragile, n=0, how="none")}, "mse": {"loss": MSE}})
    short = train_array({"a": {"loss": target(Fragile, n=7, how=how)}, "mse": {"loss": MSE}})
    assert short.lines == ["out of memory: from here on 1 variants compute at once"]
    assert not short.failures
    for name in ("a", "mse"):
        assert_same_bits(short.weights(name), whole.weights(name))
    alone = train_array({"a": {"loss": target(Fragile, n=7, how=how)}})
    assert "smaller data.batch_size" in str(alone.failures["a"])


def test_random_numbers_of_a_step_are_the_variants_own(train_array):
    forgetful = {**MODEL, "_target_": f"{Forgetful.__module__}.Forgetful"}
    variants = {"a": {"model": forgetful}, "red": {}, "b": {"model": forgetful, "seed": 1}}
    alone = {name: train_array({name: changes}) for name, changes in variants.items()}
    together = train_array(variants)
    for name in variants:
        assert_same_bits(together.weights(name), alone[name].weights(name))


def test_callbacks_see_every_step_of_their_own_variant(train_array):
    SeesSteps.seen = {}
    monitor = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}
    array = train_array({"red": {}, "mse": {"loss": MSE}}, callbacks=[target(SeesSteps), monitor])
    assert not array.failures
    for rows in SeesSteps.seen.values():
        assert [row[0] for row in rows] == list(range(1, 21))
        assert [row[1] for row in rows] == [*range(10), *range(10)]
        assert {row[3] for row in rows} == {(8, 3, 12, 12)}
    assert [row[2] for row in SeesSteps.seen["red"]] != [row[2] for row in SeesSteps.seen["mse"]]


def test_checkpoints_of_lightning_hold_the_variant_at_its_step(train_array, images):
    keeper = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "every_n_train_steps": 7, "save_top_k": -1}
    array = train_array({"red": {}, "mse": {"loss": MSE}}, callbacks=[keeper])
    assert not array.failures
    paths = sorted((array.folder / "red" / "checkpoints").glob("epoch=*.ckpt"))
    assert [path.name for path in paths] == ["epoch=0-step=7.ckpt", "epoch=1-step=14.ckpt"]
    short = train_array({"red": {"schedule": None}}, max_steps=7, max_epochs=-1)
    long = train_array({"red": {"schedule": None}}, callbacks=[keeper])
    kept = torch.load(long.folder / "red" / "checkpoints" / "epoch=0-step=7.ckpt", weights_only=True)
    assert_same_bits(kept["state_dict"], short.weights("red"))
    assert LitAutoencoder.load_from_checkpoint(paths[0], weights_only=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate_grad_batches": 2}, r"use a larger data\.batch_size"),
        ({"precision": "16-mixed"}, "use trainer.precision=bf16-mixed"),
        ({"devices": 2}, "use trainer.devices=1"),
    ],
)
def test_what_an_array_cannot_do_is_said(train_array, settings, message):
    with pytest.raises(ValueError, match=message):
        train_array({"red": {}}, **settings)


def test_best_checkpoint_is_that_of_the_lowest_loss(train_array):
    array = train_array({"red": {"optimizer": {**ADAM, "lr": 0.5}, "schedule": None}}, max_epochs=6)
    rows = (array.folder / "red" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    assert array.checkpoint("red", "best")["global_step"] == 10 * (losses.index(min(losses)) + 1)
    assert array.checkpoint("red")["global_step"] == 60


@pytest.mark.slow("compiles with a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled(train_array):
    plain = train_array({"red": {}})
    compiled = train_array(
        {name: {"seed": seed, "array": {**CONFIG["array"], "compile": True}} for seed, name in enumerate(["red", "b"])}
    )
    assert not compiled.failures
    for name, weight in plain.weights("red").items():
        assert torch.allclose(compiled.weights("red")[name], weight, atol=1e-4)


@pytest.mark.gpu
class TestOnGPU:
    settings: ClassVar[dict] = {"accelerator": "gpu", "precision": "bf16-mixed"}

    def test_alone_and_together_with_the_same_bits(self, train_array):
        settings = {**self.settings, "deterministic": True}
        together = train_array(DIFFERENT, **settings)
        assert not together.lines  # all captured
        for name, changes in DIFFERENT.items():
            assert_same_bits(together.weights(name), train_array({name: changes}, **settings).weights(name))

    def test_close_to_the_cpu(self, train_array):
        gpu = train_array(DIFFERENT, accelerator="gpu", precision="32-true")
        cpu = train_array(DIFFERENT)
        for name in DIFFERENT:
            assert gpu.outcomes[name].metrics["loss"] == pytest.approx(cpu.outcomes[name].metrics["loss"], rel=1e-2)

    def test_a_loss_that_looks_goes_on_step_by_step(self, train_array):
        settings = {**self.settings, "deterministic": True}
        array = train_array({"red": {}, "looks": {"loss": target(Looks)}}, **settings)
        assert len(array.lines) == 1
        assert array.lines[0].startswith("looks: trains one step at a time, without a CUDA graph: in its step the host")
        assert_same_bits(array.weights("red"), train_array({"red": {}}, **settings).weights("red"))

    def test_a_loss_that_breaks_a_capture_goes_on_step_by_step(self, train_array):
        settings = {**self.settings, "deterministic": True}
        array = train_array({"red": {}, "breaks": {"loss": target(BreaksCaptures)}, "mse": {"loss": MSE}}, **settings)
        assert len(array.lines) == 1
        assert array.lines[0].startswith("breaks: trains one step at a time, without a CUDA graph: ")
        assert_same_bits(array.weights("red"), train_array({"red": {}}, **settings).weights("red"))

    def test_step_by_step_and_replayed_with_the_same_bits(self, train_array, monkeypatch):
        settings = {**self.settings, "deterministic": True}
        replayed = train_array(DIFFERENT, **settings)
        monkeypatch.setattr("losslens.training.cuda.WARM_UP_STEPS", 1000)
        one_by_one = train_array(DIFFERENT, **settings)
        for name in DIFFERENT:
            assert_same_bits(replayed.weights(name), one_by_one.weights(name))

    def test_dropout_is_not_captured(self, train_array):
        forgetful = {"model": {**MODEL, "_target_": f"{Forgetful.__module__}.Forgetful"}}
        array = train_array({"red": {}, "odd": forgetful}, **self.settings)
        assert array.lines == [
            "odd: trains one step at a time, without a CUDA graph: it draws random numbers in its steps"
        ]

    def test_gradients_are_clipped(self, train_array):
        array = train_array({"red": {"optimizer": SGD, "schedule": None}}, **self.settings, gradient_clip_val=1e-6)
        assert array.lines == []
        for name, weight in draw_module(CONFIG).state_dict().items():
            assert torch.allclose(array.weights("red")[name].cpu(), weight, atol=1e-4)


class Looks(nn.Module):
    def forward(self, input, target):
        loss = (input - target).abs().mean()
        return loss * 2 if loss.item() > 100 else loss


class BreaksCaptures(nn.Module):
    """Raises in a capture what no eager step shows."""

    def forward(self, input, target):
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return (input - target).abs().mean()
