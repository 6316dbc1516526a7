"""The words follow the numbers: other numbers, other words."""

from losslens.report.words import describe_variant


def words(write_sweep, **metrics) -> str:
    sweep = write_sweep([{"name": "v", "loss": "red", **metrics}])
    variant = sweep["v"]
    variant.results["metrics"] |= {name: value for name, value in metrics.items() if name.endswith("_error")}
    return " ".join(describe_variant(variant))


def test_two_colors(write_sweep):
    text = words(
        write_sweep,
        **{"red": 0.03, "green": 0.25, "blue": 0.15, "luma": 0.25, "cb": 0.25, "cr": 0.25},
        **{"color_rank": 1.004, "seen_error": 0.03, "unseen_error": 0.3},
    )
    assert "the loss sees, the error is 0.030; in the part that it does not see it is 0.300, 10.0 times" in text
    assert "Determined: red (error 0.030, 15% of the variation)." in text
    assert "In part, as far as it goes along with the rest: blue (error 0.150, 75% of the variation)." in text
    assert "Left to chance, further off than one constant color: green (error 0.250, 125% of the variation), " in text
    assert "is 1.00, that of the originals 1.40: they lie on one line through RGB" in text


def test_all_colors(write_sweep):
    text = words(write_sweep, **dict.fromkeys(("red", "green", "blue", "luma", "cb", "cr"), 0.02), color_rank=1.39)
    assert "No color direction was left to chance." in text
    assert "Left to chance" not in text
    assert "no dimension was lost" in text
    assert "no linear view" in text  # it has no errors within subspaces


def test_some_colors_lost(write_sweep):
    assert "a part of the colors was lost" in words(write_sweep, color_rank=1.2, seen_error=0.1)
