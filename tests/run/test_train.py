"""Who trains with whom when memory runs out, or states differ; training is only pretended."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from losslens.data import Images
from losslens.run import train as train_module
from losslens.run.train import SweepTraining
from losslens.study.shared import decoded
from losslens.training.stop import Stop
from losslens.training.variant_trainer import Stage
from losslens.variant import Outcome, Variant

FACTS = {"steps": 1, "seconds": 1.0, "num_parameters": 1, "code_shape": [1], "compression_ratio": 1.0}


@pytest.fixture
def arrays(monkeypatch, tmp_path):
    """Run a sweep of some variants with a stand-in for training; returns the arrays and the steps they went on from."""
    images = Images(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3, 2, 2, dtype=torch.uint8))
    monkeypatch.setattr(train_module, "build", lambda config: SimpleNamespace(decode=lambda: images))
    monkeypatch.setattr(train_module, "split_by_memory", lambda variants, *_: [list(variants)])

    def run(names, fit, saved):
        trained = []

        def pretended(array, images, listener, *, states, **_):
            trained.append(([each.name for each in array], {name: state.step for name, state in states.items()}))
            fit(array)
            for each in array:
                listener.done(each.name, Outcome({"loss": 0.1}, [], FACTS))
            return dict.fromkeys(each.name for each in array)

        monkeypatch.setattr(train_module, "fit", pretended)
        monkeypatch.setattr(
            train_module,
            "read_states",
            lambda folder, say: [
                SimpleNamespace(step=int(step), place=(int(step), Stage(round(step % 1 * 10))))
                for step in saved(folder.name)
            ],
        )
        variants = []
        for name in names:
            (tmp_path / name).mkdir()
            config = {"loss": {"_target_": name}, "data": {}, "trainer": {}, "array": {"threads": 1}}
            variants.append(Variant(name, config, tmp_path / name, {"loss": name}))
        sweep = SweepTraining(
            variants,
            tmp_path,
            Console(file=io.StringIO()),
            lambda share: None,
            Stop(),
            losses={},
            heartbeat=tmp_path / "heartbeat",
        )
        sweep.train(names)
        return trained, sweep

    return run


def test_an_array_that_runs_out_of_memory_is_split_and_goes_on_from_its_latest_states(arrays):
    saved = {"now": []}

    def fit(array):
        if len(array) > 2:
            saved["now"] = [7, 5]
            raise torch.OutOfMemoryError("CUDA out of memory")

    trained, sweep = arrays("abcd", fit, lambda name: saved["now"])
    assert trained == [
        (["a", "b", "c", "d"], {}),
        (["a", "b"], {"a": 7, "b": 7}),
        (["c", "d"], {"c": 7, "d": 7}),
    ]
    assert set(sweep.outcomes) == set("abcd")


def test_one_variant_that_is_too_large_fails(arrays, tmp_path):
    def fit(array):
        if any(each.name == "b" for each in array):
            raise torch.OutOfMemoryError("CUDA out of memory")

    _, sweep = arrays("ab", fit, lambda name: [])
    assert set(sweep.outcomes) == {"a"}
    assert "CUDA out of memory" in json.loads((tmp_path / "b" / "status.json").read_text())["reason"]


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"a": [9, 5], "b": [5, 2]}, [(["a", "b"], {"a": 5, "b": 5})]),
        ({"a": [9, 5], "b": [9, 5]}, [(["a", "b"], {"a": 9, "b": 9})]),
        ({"a": [9], "b": [5]}, [(["a"], {"a": 9}), (["b"], {"b": 5})]),
        ({"a": [9, 5], "b": []}, [(["a"], {"a": 9}), (["b"], {})]),
        ({"a": [], "b": []}, [(["a", "b"], {})]),
        # The first digit is the stage: killed between the states of two variants at the end of an epoch.
        ({"a": [5.1, 5.0], "b": [5.0, 2.0]}, [(["a", "b"], {"a": 5, "b": 5})]),
        ({"a": [5.1], "b": [5.0]}, [(["a"], {"a": 5}), (["b"], {"b": 5})]),
    ],
)
def test_variants_of_one_array_go_on_from_one_step(arrays, saved, expected):
    trained, _ = arrays("ab", lambda array: None, saved.get)
    assert trained == expected


def test_the_report_need_not_decode_what_was_trained_on(arrays):
    _, sweep = arrays("ab", lambda array: None, lambda name: [])
    assert decoded({}, sweep.shared).train.shape == (4, 3, 2, 2)  # of which there is no source
