"""Weights of a mix that move while it trains: by steps of training, or learned."""

import csv
from typing import ClassVar

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_array import target
from test_cuda import RecordedEngine
from test_going_on import STOPS, assert_same_results, stopped, trained, whole  # noqa: F401  # fixtures
from torch.utils.data import DataLoader
from variants import MODEL, MSE, RED, assert_nearly_the_same, assert_same_bits

from losslens.losses import Mix
from losslens.training import LitAutoencoder
from losslens.training import array as array_module

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",
    "ignore:.*does not have many workers",
    "ignore:Checkpoint directory",
    "ignore:.*no `val_dataloader`",
)

MIX = {"_target_": "losslens.losses.Mix", "terms": {"red": RED, "mse": MSE}}
MOVING = {
    "scheduled": {"loss": {**MIX, "weights": {"red": 1, "mse": [[0, 0], [0.5, 4]]}}},
    "learned": {"loss": {**MIX, "weights": {"red": 1, "mse": 2.0}, "uncertainty": True}},
    "still": {},
}


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_schedule_is_that_of_the_step(train_array):
    array = train_array(MOVING, max_epochs=4, log_every_n_steps=1)  # 40 steps
    # At the end of an epoch of 10 steps, the latest step had taken place with 9, 19, ... before it.
    expected = [4 * min(1, (10 * epoch - 1) / 20) for epoch in range(1, 5)]
    logged = [float(row["train/weight/mse"]) for row in rows(array.folder / "scheduled")]
    assert logged == pytest.approx(expected, rel=1e-5)
    assert not any("loss" in key for key in array.weights("scheduled"))


def test_validation_keeps_the_last_weights(train_array):
    array = train_array(MOVING, max_epochs=4, log_every_n_steps=1)
    for name, weight in (("scheduled", 4), ("learned", 2)):
        for row in rows(array.folder / name):
            expected = float(row["val/loss/red"]) + weight * float(row["val/loss/mse"])
            assert float(row["val/loss"]) == pytest.approx(expected, rel=1e-5)


def test_uncertainty_finds_the_scale_of_each_term(train_array):
    """At the best `s`, `exp(-s) loss + s` has weights of 1 over the loss."""
    sgd = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.02}
    array = train_array({"learned": {**MOVING["learned"], "optimizer": sgd, "schedule": None}}, max_epochs=40)
    end = rows(array.folder / "learned")[-1]
    for term in ("red", "mse"):
        weight = array.weights("learned")[f"loss.log_variances.{term}"].neg().exp().item()
        assert weight == pytest.approx(1 / float(end[f"val/loss/{term}"]), rel=0.15)


def test_alone_and_together_with_the_same_bits(train_array):
    together = train_array(MOVING)
    for name, changes in MOVING.items():
        assert_same_bits(train_array({name: changes}).weights(name), together.weights(name))


def test_in_graphs_as_in_threads(train_array, monkeypatch):
    threads = train_array(MOVING, max_epochs=4)
    monkeypatch.setattr(array_module, "ThreadEngine", lambda w, t, say: RecordedEngine(torch.device("cpu"), say))
    graphs = train_array(MOVING, max_epochs=4)
    assert graphs.lines == []
    for name in MOVING:
        assert_nearly_the_same(threads.weights(name), graphs.weights(name))
    for first, second in zip(*(rows(array.folder / "scheduled") for array in (threads, graphs)), strict=True):
        assert float(first["train/weight/mse"]) == pytest.approx(float(second["train/weight/mse"]), rel=1e-5)


@pytest.mark.parametrize(("where", "at"), [("step", 17), ("validation", 4), ("epoch", 5)])
def test_going_on_with_the_same_bits(trained, whole, monkeypatch, where, at):  # noqa: F811
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    settings = {"max_epochs": 4, "callbacks": [STOPS]}
    expected = whole(MOVING, **settings)
    stopped(trained, MOVING, where, at, **settings)
    assert_same_results(expected, trained("stopped", MOVING, **settings))


def test_training_without_an_end_is_named(train_array):
    array = train_array({"scheduled": {**MOVING["scheduled"], "schedule": None}}, max_epochs=-1, max_steps=-1)
    with pytest.raises(ValueError, match=r"the schedule of a weight needs the number of steps, .*trainer\.max_epochs"):
        array.weights("scheduled")


class SeesWeights(Callback):
    seen: ClassVar[dict[str, list[float]]] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        moving = pl_module.loss.moving_weights()
        self.seen.setdefault(trainer.default_root_dir.rpartition("/")[2], []).append(moving["mse"].item())


def test_a_callback_sees_the_weights_of_its_variant(train_array):
    SeesWeights.seen.clear()
    variants = {name: MOVING[name] for name in ("scheduled", "learned")}
    array = train_array(variants, callbacks=[target(SeesWeights)])
    assert SeesWeights.seen["scheduled"] == pytest.approx([4 * min(1, step / 10) for step in range(1, 21)])
    learned = array.weights("learned")["loss.log_variances.mse"].neg().exp().item()
    assert len(SeesWeights.seen["learned"]) == 20
    assert SeesWeights.seen["learned"][-1] == pytest.approx(learned)
    assert learned != 2


def test_another_training_begins_the_schedule_again(images, tmp_path):
    def trainer():
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)

    module = LitAutoencoder(MODEL, {**MIX, "weights": {"red": 1, "mse": [[0, 0], [1, 8]]}})
    loader = DataLoader(images.train.float() / 255, batch_size=10)
    first, second = trainer(), trainer()
    first.fit(module, loader)
    assert first.callback_metrics["train/weight/mse"] == 7
    second.fit(module, loader)
    assert second.callback_metrics["train/weight/mse"] == 7
    first.fit_loop.max_epochs = 2
    first.save_checkpoint(tmp_path / "half.ckpt")
    longer = trainer()
    longer.fit_loop.max_epochs = 2
    longer.fit(module, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert longer.callback_metrics["train/weight/mse"] == 7.5  # 15 of 16 steps


def test_a_schedule_is_exact_in_half_precision():
    mix = Mix({"l1": torch.nn.L1Loss()}, {"l1": [[0, 0], [1, 1]]})
    mix.num_steps = 1000
    mix.step.fill_(999)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert mix.moving_weights()["l1"].item() == pytest.approx(0.999)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_mix_in_a_mix_moves_too():
    inner = Mix({"l1": torch.nn.L1Loss()}, {"l1": [[0, 1], [1, 3]]})
    outer = Mix({"inner": inner, "mse": torch.nn.MSELoss()}, {"inner": 1, "mse": 0})
    inner.num_steps = 4
    inner.advance()
    input, target_ = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    assert outer(input, target_).item() == 1.5 * 0.5
    assert outer.eval()(input, target_).item() == 3 * 0.5
