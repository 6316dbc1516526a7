"""Asked to stop anywhere, an array goes on from its states and ends with the same bits, callbacks and all."""

import json
import threading

import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning, Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from test_array import Forgetful, target
from variants import CONFIG, DIFFERENT, MODEL, SGD, TRAINER, Heard, assert_same_bits

from losslens.data.store import PREFETCH
from losslens.training import array as array_module
from losslens.training import fit as fit_module
from losslens.training.fit import fit
from losslens.training.state import read_states
from losslens.training.stop import Interrupted, Stop
from losslens.training.variant_trainer import VariantTrainer
from losslens.variant import Variant

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",
    "ignore:Checkpoint directory",
    "ignore:.*ModelCheckpoint.*",
    "ignore:.*smaller than the logging",
)


class Awkward(Callback):
    def state_dict(self):
        return {"itself": self}


class Stops(Callback):
    """Asks to stop in the midst of something."""

    stop: Stop
    where = ""
    at = 0
    count = 0

    def _look(self, where):
        if where == type(self).where:
            type(self).count += 1
            if type(self).count == type(self).at:
                type(self).stop.request("test", 1)

    def on_train_batch_end(self, *_):
        self._look("step")

    def on_validation_batch_start(self, *_):
        self._look("validation")

    def on_train_epoch_end(self, *_):
        self._look("epoch")


@pytest.fixture
def trained(tmp_path, images):
    """Train variants in a folder of the test, perhaps from the states that an earlier call left there."""
    return lambda place, *arguments, **trainer: train(tmp_path / place, images, *arguments, **trainer)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, images):
    """Train variants with nothing in between: the same ones once for all tests."""
    known = {}

    def run(variants, **trainer):
        key = repr((variants, trainer))
        if key not in known:
            known[key] = train(tmp_path_factory.mktemp("whole"), images, variants, **trainer)
        return known[key]

    return run


def train(folder, images, variants, stop=None, **trainer):
    made, states, heard = [], {}, Heard(stop)
    for name, changes in variants.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        config = {"order_seed": changes.get("seed", 0), **CONFIG, **changes, "trainer": {**TRAINER, **trainer}}
        made.append(Variant(name, config, folder / name, {"loss": name}))
        found = read_states(folder / name, heard.say)
        states |= {name: found[0]} if found else {}
    fit(made, images, heard, num_workers=2, num_threads=1, states=states)
    assert not heard.failures, heard.failures
    return {
        name: (
            torch.load(folder / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"],
            (folder / name / "metrics.csv").read_text(),
            (folder / name / "grid.png").read_bytes(),
        )
        for name in variants
    }


def stopped(trained, variants, where, at, **trainer):
    Stops.stop, Stops.where, Stops.at, Stops.count = Stop(), where, at, 0
    with pytest.raises(Interrupted):
        trained("stopped", variants, Stops.stop, **trainer)
    Stops.where = ""


def assert_same_results(first, second):
    for name, (weights, table, grid) in first.items():
        assert_same_bits(weights, second[name][0])
        assert table == second[name][1]
        assert grid == second[name][2]


class Pairs(Callback):
    """Opens something at the beginning of training, and closes it at the end: once each in a process that trains."""

    def on_train_start(self, trainer, pl_module):
        self.opened = True

    def on_train_end(self, trainer, pl_module):
        assert self.opened
        self.opened = False


class Thaws(BaseFinetuning):
    """Trains the linear path from the third epoch on, in a group of its own."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.autoencoder.linear)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 0:  # Lightning's optimizers would be given those that train only
            own = set(pl_module.autoencoder.linear.parameters())
            (group,) = optimizer.param_groups
            group["params"] = [weight for weight in group["params"] if weight not in own]
        if epoch == 2:
            self.unfreeze_and_add_param_group(pl_module.autoencoder.linear, optimizer, lr=0.001)


STOPS = target(Stops)
KEPT = {
    "none": [],
    "averages": [target(EMAWeightAveraging, decay=0.9)],
    "early": [target(EarlyStopping, monitor="val/loss", patience=1, min_delta=1.0)],
    "averages of epochs": [target(EMAWeightAveraging, decay=0.9, update_every_n_steps=0, update_starting_at_epoch=0)],
    "pairs": [target(Pairs)],
    "checkpoints": [target(ModelCheckpoint, monitor="val/red", save_top_k=2, filename="{step}")],
}


PLACES = [("step", 9), ("step", 60), ("validation", 2), ("validation", 5), ("epoch", 4)]
REPEATED = pytest.mark.slow(
    "every callback at every place; each at two of them, and each place with two or more, is not"
)


@pytest.mark.parametrize(
    ("callbacks", "where", "at"),
    [
        pytest.param(callbacks, *place, marks=[] if (number + position) % len(PLACES) < 2 else [REPEATED])
        for number, callbacks in enumerate(KEPT)
        for position, place in enumerate(PLACES)
    ],
)
def test_the_same_bits(trained, whole, monkeypatch, callbacks, where, at):
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)  # no validation is waited for
    settings = {"max_epochs": 4, "callbacks": [*KEPT[callbacks], STOPS]}
    expected = whole(DIFFERENT, **settings)
    stopped(trained, DIFFERENT, where, at, **settings)
    assert_same_results(expected, trained("stopped", DIFFERENT, **settings))


@pytest.mark.parametrize(("where", "at"), [("step", 15), ("step", 33), ("validation", 3)])
def test_the_same_bits_with_a_group_of_weights_that_a_callback_added(trained, whole, monkeypatch, where, at):
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    variants = {"red": {"schedule": None, "optimizer": SGD}}
    settings = {"max_epochs": 4, "callbacks": [target(Thaws), STOPS]}
    expected = whole(variants, **settings)
    stopped(trained, variants, where, at, **settings)
    assert_same_results(expected, trained("stopped", variants, **settings))


@pytest.mark.parametrize(("where", "at"), PLACES)
def test_the_same_bits_with_streamed_images(trained, whole, monkeypatch, where, at):
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    streamed = {**CONFIG["data"], "resident": False}
    variants = {name: {**changes, "data": streamed} for name, changes in DIFFERENT.items()}
    settings = {"max_epochs": 4, "callbacks": [STOPS]}
    expected = whole(DIFFERENT, **settings)
    stopped(trained, variants, where, at, **settings)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(PREFETCH)]
    assert_same_results(expected, trained("stopped", variants, **settings))


def test_an_average_is_of_all_steps(trained):
    """What the callback keeps outside of its `state_dict` matters: without it the result would be another one."""
    plain = trained("plain", {"red": {}})
    averaged = trained("averaged", {"red": {}}, callbacks=KEPT["averages"])
    assert any(not torch.equal(weight, averaged["red"][0][key]) for key, weight in plain["red"][0].items())


@pytest.mark.parametrize("settings", [{"max_steps": 13, "max_epochs": -1}, {"val_check_interval": 4}])
@pytest.mark.parametrize(("where", "at"), [("step", 11), ("validation", 1), ("validation", 2), ("epoch", 2)])
def test_validations_in_the_midst_of_an_epoch(trained, whole, monkeypatch, settings, where, at):
    monkeypatch.setattr(array_module, "PATIENCE", -1.0)
    variants = {"drawing": {"model": {**MODEL, "_target_": f"{Forgetful.__module__}.Forgetful"}}, "red": {}}
    expected = whole(variants, **settings, callbacks=[STOPS])
    stopped(trained, variants, where, at, **settings, callbacks=[STOPS])
    assert_same_results(expected, trained("stopped", variants, **settings, callbacks=[STOPS]))


def test_an_epoch_that_max_steps_cuts_short_ends_once(trained, whole):
    settings = {"max_steps": 13, "max_epochs": -1, "callbacks": [*KEPT["averages of epochs"], STOPS]}
    expected = whole(DIFFERENT, **settings)
    stopped(trained, DIFFERENT, "epoch", 4, **settings)  # of the second epoch, with two of three variants
    assert_same_results(expected, trained("stopped", DIFFERENT, **settings))


@pytest.mark.parametrize("callbacks", ["none", "averages", "pairs"])
def test_interrupted_while_results_are_written(trained, whole, monkeypatch, callbacks):
    settings = {"callbacks": KEPT[callbacks]}
    expected = whole(DIFFERENT, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "measure_losses", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained("stopped", DIFFERENT, **settings)
        patch.setattr(fit_module.VariantArray, "training_step", None)  # nothing is trained again
    assert_same_results(expected, trained("stopped", DIFFERENT, **settings))


def test_asked_to_stop_at_the_very_end_of_training(trained, whole, monkeypatch):
    expected = whole(DIFFERENT)
    stop = Stop()
    with monkeypatch.context() as patch:
        patch.setattr(Callback, "on_fit_end", lambda *_: stop.request("test", 1))
        with pytest.raises(KeyboardInterrupt):
            trained("stopped", DIFFERENT, stop)
    with monkeypatch.context() as patch:
        patch.setattr(VariantTrainer, "train", None)  # nothing is trained again
        assert_same_results(expected, trained("stopped", DIFFERENT))


def test_a_validation_that_is_short_is_waited_for(trained, tmp_path):
    """The second one: nobody knows how long the first one takes."""
    stopped(trained, {"red": {}}, "validation", 2, max_epochs=4, callbacks=[STOPS])
    assert len((tmp_path / "stopped" / "red" / "metrics.csv").read_text().splitlines()) == 3


def test_a_callback_that_cannot_be_kept_is_named_at_once(trained, tmp_path):
    variants = {"red": {}, "awkward": {}}
    with pytest.raises(AssertionError, match="the callback Awkward keeps more than tensors and plain values"):
        trained("refused", variants, callbacks=[target(Awkward)], max_epochs=1)


def test_the_size_of_an_array_is_that_of_its_start(tmp_path, trained):
    settings = {"max_epochs": 4, "callbacks": [STOPS]}
    stopped(trained, DIFFERENT, "step", 9, **settings)
    first = next(iter(DIFFERENT))
    trained("stopped", {first: DIFFERENT[first]}, **settings)
    results = json.loads((tmp_path / "stopped" / first / "metrics.json").read_text())
    assert results["array"] == {"variants": len(DIFFERENT), "threads": 1}
