import json

import pandas as pd
import pytest
from conftest import the_only

import losslens
from losslens.report.make import write_results
from losslens.sweep.results import join_sweeps


@pytest.fixture
def sweep(write_sweep):
    return write_sweep(
        [
            {"name": "loss=l1", "loss": "l1", "red": 0.04, "losses": {"red": 0.04}},
            {"name": "loss=red", "loss": "red", "status": "failed"},
            {"name": "running", "loss": "red", "seed": 1, "status": "running", "luma": 0.3},
            {"name": "waiting", "loss": "red", "seed": 2, "status": "pending"},
        ]
    )


def test_a_sweep_that_still_runs_and_has_failures(sweep):
    loaded = losslens.load_sweep(str(sweep.folder))
    table = loaded.table
    assert list(table.index) == ["loss=l1", "loss=red", "running", "waiting"]
    assert list(table["status"]) == ["done", "failed", "running", "pending"]
    assert table.loc["loss=l1", "val/red"] == table.loc["loss=l1", "loss/red"] == 0.04
    assert table.loc["loss=l1", "steps_per_second"] == 5
    assert table.loc["running", "val/luma"] == 0.3  # of the last validation so far
    assert list(table["steps"]) == [20, 20, 20, 0]
    assert table.loc["loss=red", "reason"] == "<b>why</b>"
    assert pd.isna(table.loc["waiting", "val/loss"])
    assert [variant.name for variant in loaded.done] == ["loss=l1"]
    assert loaded["running"].config["seed"] == 1
    assert loaded["loss=l1"].picture_steps == [0, 10, 20]


def test_what_is_not_there_is_told(sweep, tmp_path):
    with pytest.raises(ValueError, match=r"has no sweep\.json: give the folder of a sweep"):
        losslens.load_sweep(tmp_path)
    with pytest.raises(KeyError, match="no variant luma: there are loss=l1, loss=red"):
        sweep["luma"]
    with pytest.raises(FileNotFoundError, match="waiting has no checkpoint yet: its status is pending"):
        sweep["waiting"].load()


def test_written_results_are_the_table(sweep, tmp_path):
    write_results(sweep, tmp_path)
    read = pd.read_csv(tmp_path / "results.csv", index_col="variant")
    assert list(read.columns) == list(sweep.table.columns)
    assert read.loc["loss=l1", "val/red"] == 0.04
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows == sweep.rows
    assert {row["folder"] for row in rows} == {"v0", "v1", "v2", "v3"}


def test_several_sweeps_side_by_side(sweep, write_sweep, tmp_path):
    other = write_sweep([{"name": "loss=l1", "loss": "l1"}], tmp_path / "other")
    joined = join_sweeps({"a": sweep, "b": other}, tmp_path)
    assert list(joined.variants)[-1] == "b/loss=l1"
    assert joined.varied == ["sweep", "loss", "seed"]
    assert list(joined.table["sweep"]) == 4 * ["a"] + ["b"]
    assert the_only(joined.table["folder"][-1:]) == "other/v0"
