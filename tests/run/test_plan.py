"""Which variants train together."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losslens.data import Images
from losslens.run import plan
from losslens.run.plan import MAX_SHARE_OF_FREE_MEMORY, group_variants, share_cores, split_by_memory
from losslens.training.costs import StepBytes, VariantCost
from losslens.variant import Variant

TRAINER = {"_target_": "lightning.Trainer", "accelerator": "cpu"}
CONFIG = {"data": {"seed": 0}, "trainer": {**TRAINER, "max_epochs": 1}, "array": {"max_variants": "auto"}, "seed": 0}


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
    small, large = StepBytes(10, 10), StepBytes(30, 30)
    costs = [VariantCost(each, 0.0) for each in [small, small, large, small, small, small]]
    monkeypatch.setattr(plan, "variant_costs", lambda *_, **__: costs)
    monkeypatch.setattr(plan, "count_workers", lambda variants: 1)
    monkeypatch.setattr(plan, "free_memory", lambda device: 90)  # of which 72 are used
    arrays = split_by_memory(variants(*[{}] * 6), images)
    assert [[variant.name for variant in array] for array in arrays] == [["0", "1"], ["2", "3"], ["4", "5"]]
    arrays = split_by_memory(variants(*[{"array": {"max_variants": 4}}] * 6), images)
    assert [len(array) for array in arrays] == [4, 2]


STEPS = st.lists(st.builds(StepBytes, st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=20)


@settings(deadline=None)
@given(steps=STEPS, free=st.integers(0, 40000), num_workers=st.integers(1, 30))
def test_as_many_as_fit_and_one_at_least(steps, free, num_workers):
    def needed(count, first):
        here = steps[first : first + count]
        at_once = min(sum(each.step for each in here), num_workers * max(each.step for each in here))
        return sum(each.state for each in here) + at_once

    with mock.patch.multiple(
        plan,
        variant_costs=lambda *_, **__: [VariantCost(each, 0.0) for each in steps],
        count_workers=lambda variants: num_workers,
        free_memory=lambda device: free,
    ):
        arrays = split_by_memory(variants(*[{}] * len(steps)), Images(torch.zeros(1), torch.zeros(1)))
    assert [variant.name for array in arrays for variant in array] == [str(index) for index in range(len(steps))]
    first = 0
    for array in arrays:
        assert len(array) == 1 or needed(len(array), first) <= MAX_SHARE_OF_FREE_MEMORY * free
        last = first + len(array) == len(steps)
        assert last or needed(len(array) + 1, first) > MAX_SHARE_OF_FREE_MEMORY * free
        first += len(array)
