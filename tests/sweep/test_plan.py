"""Which variants train together."""

from pathlib import Path

import pytest
import torch

from losslens.data import Images
from losslens.sweep import plan
from losslens.sweep.plan import group_variants, share_cores, split_by_memory
from losslens.training.memory import Need
from losslens.variant import Variant

CONFIG = {"data": {"seed": 0}, "trainer": {"max_epochs": 1}, "array": {"max_variants": "auto"}, "seed": 0}


def variants(*changes):
    return [Variant(str(index), {**CONFIG, **change}, Path(), {}) for index, change in enumerate(changes)]


def test_variants_of_the_same_data_and_trainer_train_together():
    groups = group_variants(
        variants({}, {"data": {"seed": 1}}, {"seed": 1}, {"trainer": {"max_epochs": 2}}, {"loss": 1, "model": 2})
    )
    assert [[variant.name for variant in group] for group in groups] == [["0", "2", "4"], ["1"], ["3"]]


@pytest.mark.parametrize(
    ("cores", "num_variants", "threads", "expected"),
    [
        (2, 5, "auto", (2, 1)),
        (2, 1, "auto", (1, 2)),
        (16, 5, "auto", (5, 3)),
        (16, 100, "auto", (16, 1)),
        (16, 100, 4, (4, 4)),
        (2, 5, 4, (1, 4)),
        (16, 2, 1, (2, 1)),
    ],
)
def test_cores_are_divided(monkeypatch, cores, num_variants, threads, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert share_cores(num_variants, threads) == expected


def test_arrays_are_as_large_as_memory_allows(monkeypatch):
    images = Images(torch.zeros(1), torch.zeros(1))
    small, large = Need(10, 10), Need(30, 30)
    needs = dict(zip("012345", [small, small, large, small, small, small], strict=True))
    monkeypatch.setattr(plan, "make_trainer", lambda *_: pytest.importorskip("lightning").Trainer(accelerator="cpu"))
    monkeypatch.setattr(plan, "measure_kinds", lambda variants, *_: [needs[each.name] for each in variants])
    monkeypatch.setattr(plan, "free_memory", lambda device: 90)  # of which 72 are used
    arrays = split_by_memory(variants(*[{}] * 6), images, num_workers=1)
    assert [[variant.name for variant in array] for array in arrays] == [["0", "1"], ["2", "3"], ["4", "5"]]
    arrays = split_by_memory(variants(*[{"array": {"max_variants": 4}}] * 6), images, num_workers=1)
    assert [len(array) for array in arrays] == [4, 2]
