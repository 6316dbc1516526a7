"""What variants can use of Lightning: the same as in a plain Trainer, or refused; and no way to the neighbors."""

import csv
import inspect
from typing import ClassVar

import lightning as L
import pytest
import torch
from conftest import ROOT, TINY
from lightning.pytorch import callbacks as of_lightning
from lightning.pytorch.callbacks import BaseFinetuning, Callback, LambdaCallback
from lightning.pytorch.loggers import Logger
from test_array import target
from variants import MSE, SGD, assert_same_bits, train_plainly

from losslens.training.logger import RunLogger
from losslens.training.supported import REFUSED_CALLBACKS, REFUSED_SETTINGS, check_trainer
from losslens.training.trainer import determinism_as_before

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:Checkpoint directory", "ignore:.*ModelCheckpoint.*", "ignore:.*same group"
)
PACKAGE = "lightning.pytorch.callbacks."
DOCUMENTED = (ROOT / "docs" / "callbacks.md").read_text()
LAMBDAS: list[tuple] = []


def made_by_functions() -> LambdaCallback:
    return LambdaCallback(
        on_train_batch_end=lambda trainer, module, outputs, batch, index: LAMBDAS.append((trainer.global_step, index)),
        on_train_epoch_start=lambda trainer, module: module.autoencoder.linear.bias.data.add_(0.01),
    )


class FreezesFirst(BaseFinetuning):
    """Trains the linear path from the second epoch on, and gives the optimizer another group."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.autoencoder.linear)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.make_trainable(pl_module.autoencoder.linear)
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5})

    def _store(self, *_):  # the parameter is none of the module's
        pass


class AddsNoise(Callback):
    """Draws random numbers in hooks that are neither of steps nor of validations."""

    def on_train_start(self, trainer, pl_module):
        self._add(pl_module)

    def on_train_epoch_start(self, trainer, pl_module):
        self._add(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 < trainer.max_epochs:  # after the last validation, which writes the weights
            self._add(pl_module)

    def _add(self, module):
        with torch.no_grad():
            module.autoencoder.linear.weight.add_(0.01 * torch.randn_like(module.autoencoder.linear.weight))


SAME = {
    "BaseFinetuning": target(FreezesFirst),
    "EarlyStopping": {"_target_": f"{PACKAGE}EarlyStopping", "monitor": "val/loss", "patience": 1, "min_delta": 1.0},
    "EMAWeightAveraging": {"_target_": f"{PACKAGE}EMAWeightAveraging", "decay": 0.9},
    "LambdaCallback": target(made_by_functions),
    "Timer": {"_target_": f"{PACKAGE}Timer", "duration": {"seconds": 0}},
    "WeightAveraging": {"_target_": f"{PACKAGE}WeightAveraging"},
    "Callback": target(AddsNoise),
}
TESTED_OTHERWISE = {"Checkpoint", "ModelCheckpoint", "LearningRateMonitor", "DeviceStatsMonitor"}
SHOWN = {"ModelSummary", "RichModelSummary"}


@pytest.mark.parametrize("name", SAME)
def test_the_same_as_in_a_plain_trainer_beside_a_neighbor_without_it(train_array, images, tmp_path, name):
    changes = {"schedule": None, "seed": 3, "callbacks": {"one": SAME[name]}}
    plain = train_plainly(images, tmp_path, changes, max_epochs=4)
    LAMBDAS.clear()
    array = train_array({"red": changes, "mse": {"loss": MSE}}, max_epochs=4)
    assert not array.failures
    assert_same_bits(array.weights("red"), plain.weights)
    assert array.checkpoint("red")["global_step"] == plain.trainer.global_step
    assert_same_bits(array.weights("mse"), train_array({"mse": {"loss": MSE}}, max_epochs=4).weights("mse"))


def test_hooks_given_as_functions_are_called_at_every_step(train_array):
    LAMBDAS.clear()
    train_array({"red": {"callbacks": {"one": SAME["LambdaCallback"]}}})
    assert [(step, (step - 1) % 10) for step in range(1, 21)] == LAMBDAS


class Recorded(Logger):
    """Keeps what is logged."""

    name = version = "recorded"

    def __init__(self):
        self.rows = []

    def log_hyperparams(self, *_, **__):
        pass

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, sorted(metrics), metrics))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_target_": f"{PACKAGE}LearningRateMonitor"}, "lr-"),
        ({"_target_": f"{PACKAGE}LearningRateMonitor", "logging_interval": "step"}, "lr-"),
        ({"_target_": f"{PACKAGE}LearningRateMonitor", "logging_interval": "epoch"}, "lr-"),
        ({"_target_": f"{PACKAGE}DeviceStatsMonitor"}, "DeviceStats"),
    ],
)
def test_monitors_log_at_the_steps_at_which_they_do_in_a_plain_trainer(
    train_array, images, tmp_path, monkeypatch, config, key
):
    plain, mine = Recorded(), Recorded()
    changes = {"callbacks": {"one": config}}
    train_plainly(images, tmp_path, changes, logger=plain, validate=False)
    monkeypatch.setattr(RunLogger, "log_metrics", lambda self, *values, **more: mine.log_metrics(*values, **more))
    assert not train_array({"red": changes}).failures
    expected, found = (
        [
            (step, metrics if key == "lr-" else names)
            for step, names, metrics in each.rows
            if any(name.startswith(key) for name in names)
        ]
        for each in (plain, mine)
    )
    assert expected
    assert found == expected


@pytest.mark.parametrize(
    "options",
    [
        {"every_n_train_steps": 7, "save_top_k": -1},
        {"monitor": "val/loss", "save_top_k": 2, "save_last": True},
        {"every_n_epochs": 1, "save_top_k": -1, "save_on_train_epoch_end": True},
    ],
    ids=str,
)
def test_lightnings_checkpoints_are_those_of_a_plain_trainer(train_array, images, tmp_path, options):
    changes = {"callbacks": {"one": {"_target_": f"{PACKAGE}ModelCheckpoint", **options}}}
    train_plainly(images, tmp_path / "plain", changes, max_epochs=3, enable_checkpointing=True)
    array = train_array({"red": changes, "mse": {"loss": MSE, **changes}}, max_epochs=3)
    assert not array.failures
    plain = {file.name: file for file in (tmp_path / "plain" / "checkpoints").iterdir()}
    own = {file.name: file for file in (array.folder / "red" / "checkpoints").iterdir()}
    assert len(plain) >= 2
    assert plain.keys() <= own.keys()
    for name, file in plain.items():
        if name != "last.ckpt":  # which every variant has
            first, second = (torch.load(each, weights_only=True) for each in (file, own[name]))
            assert_same_bits(first["state_dict"], second["state_dict"])
            assert [first[key] for key in ("epoch", "global_step")] == [second[key] for key in ("epoch", "global_step")]


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_summary_is_shown_for_each_variant(train, name):
    done = train("-m", "loss=l1,mse", *TINY, f"trainer.callbacks=[{{_target_:{PACKAGE}{name}}}]")
    assert (done.stdout + done.stderr).count("autoencoder") == 2


def test_every_callback_of_lightning_works_or_is_refused():
    refused = {
        name for name in of_lightning.__all__ if issubclass(getattr(of_lightning, name), tuple(REFUSED_CALLBACKS))
    }
    assert set(of_lightning.__all__) == refused | SAME.keys() | TESTED_OTHERWISE | SHOWN
    for name in of_lightning.__all__:
        assert f"`{name}`" in DOCUMENTED


@pytest.mark.parametrize("refused", REFUSED_CALLBACKS, ids=lambda refused: refused.__name__)
def test_what_would_reach_beyond_its_variant_is_refused_before_anything_is_made(refused):
    config = {"_target_": f"{PACKAGE}{refused.__name__}"}
    for given in ([config], config, {"mine": config}):
        with pytest.raises(ValueError, match=f"the callback {refused.__name__} is not for variants: .*"):
            check_trainer({"callbacks": given})


class Derived(of_lightning.StochasticWeightAveraging):
    pass


class AtTheTest(Callback):
    def on_test_end(self, trainer, pl_module):
        raise AssertionError


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (target(Derived, swa_lrs=0.1), "the callback Derived is not for variants"),
        (target(AtTheTest), "AtTheTest does something in on_test_end alone, which a sweep never calls"),
        (target(Recorded), "makes Recorded, which is no lightning.Callback"),
        ({"_target_": f"{PACKAGE}ModelCheckpoint", "dirpath": "kept"}, "dirpath=.*kept of ModelCheckpoint would be"),
    ],
)
def test_what_one_variant_asks_for_in_vain_is_refused_and_its_neighbor_trains(train_array, config, message):
    array = train_array({"red": {"callbacks": {"one": config}}, "mse": {"loss": MSE}})
    with pytest.raises(ValueError, match=message):
        raise array.failures["red"]
    assert list(array.outcomes) == ["mse"]


@pytest.mark.parametrize("given", ["lightning.pytorch.callbacks.Timer", ["Timer"], [{"patience": 3}], 3])
def test_callbacks_that_are_none_say_how_they_are_given(given):
    with pytest.raises(ValueError, match=r"which is no callback: give a list such as 'trainer\.callbacks=\["):
        check_trainer({"callbacks": given})


def test_every_setting_of_the_trainer_is_told():
    names = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert names >= REFUSED_SETTINGS.keys()
    for name in names:
        assert f"`{name}`" in DOCUMENTED


OTHERS = {
    "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "."},
    "plugins": [{"_target_": "lightning.pytorch.plugins.io.AsyncCheckpointIO"}],
    "num_nodes": 2,
    "sync_batchnorm": True,
    "use_distributed_sampler": False,
    "accumulate_grad_batches": 2,
    "overfit_batches": 1,
    "limit_test_batches": 3,
    "limit_predict_batches": 3,
    "num_sanity_val_steps": 2,
    "enable_checkpointing": False,
    "barebones": True,
    "reload_dataloaders_every_n_epochs": 1,
    "default_root_dir": "here",
    "enable_autolog_hparams": False,
    "model_registry": "mine",
}


@pytest.mark.parametrize("key", REFUSED_SETTINGS)
def test_a_setting_in_vain_is_refused(key):
    check_trainer({key: None})
    with pytest.raises(ValueError, match=rf"trainer\.{key}=.* is not for variants: \w+"):
        check_trainer({key: OTHERS[key]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"logger": False}, "log elsewhere with a callback"),
        ({"max_steps": 300, "check_val_every_n_epoch": 2}, r"say with trainer\.val_check_interval"),
        ({"max_steps": 300, "limit_train_batches": 2}, r"set fewer steps with trainer\.max_steps"),
        ({"max_epochs": 3, "val_check_interval": "00:00:10:00"}, "give a number of steps"),
        ({"gradient_clip_val": 1, "gradient_clip_algorithm": "value2"}, "use value or norm"),
        ({"gradient_clip_algorithm": "value"}, r"add trainer\.gradient_clip_val=1"),
        ({"strategy": "ddp"}, "a variant trains on one device"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_trainer(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"val_check_interval": 7, "check_val_every_n_epoch": None},
        {"precision": "bf16-true"},
        {"detect_anomaly": True, "inference_mode": False, "deterministic": True},
        {"benchmark": True},
        {"log_every_n_steps": 0},
        {"max_epochs": 4, "min_epochs": 3, "callbacks": [SAME["EarlyStopping"]]},
        {"max_epochs": 4, "min_steps": 25, "callbacks": [SAME["EarlyStopping"]]},
        {"max_time": {"seconds": 0}},
    ],
    ids=str,
)
def test_settings_have_the_effect_that_they_have_in_a_plain_trainer(train_array, images, tmp_path, settings):
    with determinism_as_before():
        plain = train_plainly(images, tmp_path, {"seed": 3, "schedule": None}, **settings)
    array = train_array({"red": {"seed": 3, "schedule": None}, "mse": {"loss": MSE}}, **settings)
    assert not array.failures
    assert array.checkpoint("red")["global_step"] == plain.trainer.global_step
    assert_same_bits(array.weights("red"), plain.weights)


class Hostile(Callback):
    """Does something with its trainer once, in the second epoch."""

    def __init__(self, act: str) -> None:
        self.act = act

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            exec(self.act, {"trainer": trainer, "module": pl_module, "torch": torch})


@pytest.mark.parametrize(
    "act",
    [
        "trainer.fit_loop.max_epochs += 1",
        "trainer.fit_loop.max_epochs = 5",
        "trainer.fit_loop._skip_backward = True",
        "trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True",
        "trainer.fit_loop.epoch_progress.reset()",
        "trainer.accumulate_grad_batches = 4",
        "trainer.limit_val_batches = 0",
        "trainer.strategy.optimizers = []",
        "trainer.strategy._lightning_module",
        "trainer.validate_loop",
        "trainer.validate()",
        "trainer.fit(module)",
        "trainer.train_dataloader",
        "trainer.datamodule.images",
        "trainer.lr_scheduler_configs.append(1)",
        "trainer.optimizers[0] = None",
        "trainer.callbacks.append(1)",
        "trainer.callbacks = []",
        "trainer._checkpoint_connector",
        "trainer._signal_connector",
        "del trainer.fit_loop",
    ],
)
def test_a_callback_cannot_reach_its_neighbors(train_array, whole_mse, act):
    array = train_array({"red": {"callbacks": {"one": target(Hostile, act=act)}}, "mse": {"loss": MSE}})
    assert isinstance(array.failures["red"], AttributeError | TypeError)
    if act.startswith("trainer.fit_loop") or "=" in act:
        assert not isinstance(array.failures["red"], AttributeError) or "share" in str(array.failures["red"])
    assert_same_bits(array.weights("mse"), whole_mse)


@pytest.mark.parametrize(
    "act",
    [
        "trainer.should_stop = True",
        "trainer.state.fn = None",
        "trainer.callback_metrics['mine'] = torch.tensor(1.0)",
        "trainer.mine = 3",
        "trainer.optimizers[0].param_groups[0]['lr'] = 0.5",
        "torch.manual_seed(7), torch.rand(3)",
        "[each.zero_() for each in trainer.val_dataloaders]",
        "[each.zero_() for each in trainer.datamodule.val_dataloader()]",
        "trainer.log_dir, trainer.is_last_batch, trainer.logged_metrics, trainer.early_stopping_callback",
        "assert trainer.strategy.model is module and trainer.model is module and trainer.lightning_module is module",
    ],
)
def test_what_a_callback_may_do_is_its_own(train_array, whole_mse, act):
    array = train_array({"red": {"callbacks": {"one": target(Hostile, act=act)}}, "mse": {"loss": MSE}})
    assert not array.failures
    assert_same_bits(array.weights("mse"), whole_mse)


@pytest.fixture(scope="module")
def whole_mse(tmp_path_factory, images):
    from variants import Trained

    return Trained(tmp_path_factory.mktemp("whole") / "a", images, {"mse": {"loss": MSE}}, {}, 1).weights("mse")


class BlackensBatches(Callback):
    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        batch.zero_()


def test_a_batch_of_a_validation_is_the_variants_own(train_array):
    alone = train_array({"mse": {"loss": MSE}})
    array = train_array({"red": {"callbacks": {"one": target(BlackensBatches)}}, "mse": {"loss": MSE}}, workers=1)
    assert array.outcomes["mse"].metrics == alone.outcomes["mse"].metrics
    assert array.outcomes["red"].metrics != train_array({"red": {}}).outcomes["red"].metrics


class Logs(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        self.log("mine", float(trainer.current_epoch))
        pl_module.log_dict({"theirs": 2.0})

    def on_validation_epoch_end(self, trainer, pl_module):
        self.log("val/mine", 7.0)


def test_what_a_callback_logs_can_be_monitored(train_array):
    stop = {"_target_": f"{PACKAGE}EarlyStopping", "monitor": "mine", "patience": 1}
    array = train_array({"red": {"callbacks": {"one": target(Logs), "stop": stop}}}, max_epochs=5)
    assert array.checkpoint("red")["global_step"] == 20
    with (array.folder / "red" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["val/mine"] for row in rows] == ["7.0", "7.0"]
    assert rows[1]["mine"] == "0.0"


class SeesEpochs(Callback):
    seen: ClassVar[dict[str, list]] = {}

    def on_validation_end(self, trainer, pl_module):
        self.seen.setdefault(trainer.default_root_dir.rpartition("/")[2], []).append(trainer.current_epoch)

    on_train_end = on_fit_end = on_validation_end


@pytest.mark.parametrize("settings", [{}, {"check_val_every_n_epoch": 3}, {"val_check_interval": 4}], ids=str)
def test_who_stopped_sees_the_epoch_of_its_own_end(train_array, settings):
    class_path = f"{StopsAt.__module__}.StopsAt"
    early = {"callbacks": {"one": {"_target_": class_path, "step": 13}, "two": target(SeesEpochs)}, "optimizer": SGD}
    early["schedule"] = None
    tables = []
    for variants in ({"early": early}, {"early": early, "mse": {"loss": MSE}}):
        SeesEpochs.seen.clear()
        array = train_array(variants, max_epochs=6, **settings)
        assert not array.failures
        tables.append((SeesEpochs.seen["early"], (array.folder / "early" / "metrics.csv").read_text()))
    assert tables[0] == tables[1]


class StopsAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop |= trainer.global_step == self.step
