"""Variants of a command and those that a sweep's folder has."""

from pathlib import Path

import pytest

from losslens.sweep.variants import add_variants
from losslens.variant import Variant

OLD = {"data": {"root": "photos", "seed": 0}, "seed": 0}


def variant(**data):
    return Variant("loss=l1", {**OLD, "data": {**OLD["data"], **data}}, Path("sweep/loss=l1"), {"loss": "l1"})


def test_settings_that_an_older_sweep_lacks_are_what_it_trained_with():
    same, names = add_variants([variant()], [variant(max_pixels=89_478_485, max_value="auto")])
    assert names == ["loss=l1"]
    assert [each.name for each in same] == ["loss=l1"]
    with pytest.raises(ValueError, match=r"data\.max_value was None, now 4095"):
        add_variants([variant()], [variant(max_pixels=89_478_485, max_value=4095)])
