import pytest

from losslens.report.cross_table import cross_table
from losslens.sweep.results import load_sweep, names_without_seeds


def test_seeds_are_averaged_with_their_spread(write_sweep):
    sweep = write_sweep(
        [
            {"name": "a", "loss": "l1", "seed": 0, "losses": {"l1": 0.1, "red": 0.20}, "psnr": 20},
            {"name": "b", "loss": "l1", "seed": 1, "losses": {"l1": 0.3, "red": 0.22}, "psnr": 22},
            {"name": "c", "loss": "red", "seed": 0, "losses": {"l1": 0.5, "red": 0.10}, "psnr": 10},
        ]
    )
    table = cross_table(sweep)
    first, second = table.rows
    assert (first.name, first.num_seeds, second.num_seeds) == ("loss=l1", 2, 1)
    assert first.cells["loss/l1"].mean == pytest.approx(0.2)
    assert first.cells["loss/l1"].spread == pytest.approx(0.02**0.5)
    assert second.cells["loss/l1"].spread is None
    assert [row.cells["loss/l1"].best for row in table.rows] == [True, False]
    assert [row.cells["loss/red"].best for row in table.rows] == [False, True]
    assert [row.cells["val/psnr"].best for row in table.rows] == [True, False]  # higher is better
    assert not any(row.cells["val/color_rank"].best for row in table.rows)
    assert second.cells["loss/red"].own
    assert second.cells["val/red"].own
    assert not second.cells["val/green"].own
    assert table.upsets == []


def test_where_the_diagonal_does_not_win_it_is_said(write_sweep):
    sweep = write_sweep(
        [
            {"name": "a", "loss": "l1", "losses": {"l1": 0.1, "red": 0.05}},
            {"name": "b", "loss": "red", "losses": {"l1": 0.2, "red": 0.07}},
        ]
    )
    (sentence,) = cross_table(sweep).upsets
    assert sentence == (
        "Measured with red, the best is loss=l1 at 0.05000, trained with l1, and not loss=red at 0.07000."
    )


def test_a_difference_within_the_spread_of_the_seeds_is_called_that(write_sweep):
    sweep = write_sweep(
        [
            {"name": "a", "loss": "l1", "losses": {"l1": 0.1, "red": 0.050}},
            {"name": "b", "loss": "red", "seed": 0, "losses": {"l1": 0.2, "red": 0.041}},
            {"name": "c", "loss": "red", "seed": 1, "losses": {"l1": 0.2, "red": 0.063}},
        ]
    )
    (sentence,) = cross_table(sweep).upsets
    assert sentence.endswith(", within the spread of the seeds.")


def test_what_cannot_be_measured_stays_empty(write_sweep):
    sweep = write_sweep(
        [
            {"name": "a", "loss": "l1", "losses": {"l1": 0.1, "red": None}},
            {"name": "b", "loss": "red", "losses": {"l1": None, "red": 0.2}},
            {"name": "c", "loss": "red", "seed": 1, "status": "failed"},
        ]
    )
    table = cross_table(sweep)
    assert [row.num_seeds for row in table.rows] == [1, 1]
    assert table.rows[0].cells["loss/red"].mean is None
    assert table.rows[1].cells["loss/red"].best


def test_variants_of_several_commands_that_differ_in_more_than_seeds_stay_apart(write_sweep):
    """Two mixes, say, with other weights, of which neither command varied anything."""
    sweep = write_sweep(
        [
            {"name": "loss=mix", "loss": "l1", "seed": 0, "losses": {"l1": 0.1}},
            {"name": "loss=mix-2", "loss": "l1", "seed": 0, "losses": {"l1": 0.3}},
            {"name": "waits", "loss": "l1", "seed": 0, "status": "pending"},
        ]
    )
    assert names_without_seeds(sweep) == {"loss=mix": "loss=l1", "loss=mix-2": "loss=l1"}
    path = sweep.variants["loss=mix-2"].folder / "config.yaml"
    path.write_text(path.read_text().replace("torch.nn.L1Loss", "torch.nn.MSELoss"))
    again = load_sweep(sweep.folder)
    assert names_without_seeds(again) == {"loss=mix": "loss=mix", "loss=mix-2": "loss=mix-2"}
    assert [row.num_seeds for row in cross_table(again).rows] == [1, 1]
    del again.variants["loss=mix"].values["loss"]
    assert names_without_seeds(again)["loss=mix"] == "loss=mix"
