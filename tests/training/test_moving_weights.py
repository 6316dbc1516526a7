"""Weights of a mix that move while it trains: by steps of training, or learned."""

import csv

import pytest
import torch
from test_array import SeesSteps, target
from test_cuda import RecordedEngine
from test_going_on import STOPS, assert_same_results, stopped, trained  # noqa: F401  # a fixture
from variants import MSE, RED, assert_same_bits

from losslens.losses import Mix
from losslens.training import array as array_module

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")

MIX = {"_target_": "losslens.losses.Mix", "terms": {"red": RED, "mse": MSE}}
MOVING = {
    "scheduled": {"loss": {**MIX, "weights": {"red": 1, "mse": [[0, 0], [0.5, 4]]}}},
    "learned": {"loss": {**MIX, "weights": {"red": 1, "mse": 2.0}, "uncertainty": True}},
    "still": {},
}


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights_logged(trained_array, name):
    return [{key: float(row[f"train/weight/{key}"]) for key in ("mse",)} for row in rows(trained_array.folder / name)]


def test_a_schedule_is_that_of_the_step(train_array):
    array = train_array(MOVING, max_epochs=4, log_every_n_steps=1)  # 40 steps
    (mix,) = (array.weights("scheduled")[key] for key in array.weights("scheduled") if key == "loss.step")
    assert mix.item() == 40
    # At the end of an epoch of 10 steps, the latest step had taken place with 9, 19, ... before it.
    expected = [4 * min(1, (10 * epoch - 1) / 20) for epoch in range(1, 5)]
    logged = [row["mse"] for row in weights_logged(array, "scheduled")]
    assert logged == pytest.approx(expected, rel=1e-5)


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
        for key, weight in threads.weights(name).items():
            assert torch.allclose(graphs.weights(name)[key], weight, atol=1e-5), key
    assert graphs.weights("scheduled")["loss.step"] == 40


@pytest.mark.parametrize(("where", "at"), [("step", 17), ("validation", 4), ("epoch", 5)])
def test_going_on_with_the_same_bits(trained, monkeypatch, where, at):  # noqa: F811
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    settings = {"max_epochs": 4, "callbacks": [STOPS]}
    whole = trained("whole", MOVING, **settings)
    stopped(trained, MOVING, where, at, **settings)
    assert_same_results(whole, trained("stopped", MOVING, **settings))


def test_training_without_an_end_is_named(train_array):
    array = train_array({"scheduled": {**MOVING["scheduled"], "schedule": None}}, max_epochs=-1, max_steps=-1)
    with pytest.raises(ValueError, match=r"the schedule of a weight needs the number of steps, .*trainer\.max_epochs"):
        array.weights("scheduled")


def test_a_callback_sees_the_mix_of_its_variant(train_array):
    SeesSteps.seen.clear()
    array = train_array({"learned": MOVING["learned"]}, callbacks=[target(SeesSteps)])
    assert len(SeesSteps.seen["learned"]) == 20
    assert not array.failures


def test_a_mix_in_a_mix_moves_too():
    inner = Mix({"l1": torch.nn.L1Loss()}, {"l1": [[0, 1], [1, 3]]})
    outer = Mix({"inner": inner, "mse": torch.nn.MSELoss()}, {"inner": 1, "mse": 0})
    inner.num_steps = 4
    inner.advance()
    input, target_ = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    assert outer(input, target_).item() == 1.5 * 0.5
    assert outer.eval()(input, target_).item() == 3 * 0.5
