"""The numbers of a study, as columns of results."""

from collections.abc import Mapping
from typing import Any

CODE, COLOR = "code", "color"


def study_columns(study: Mapping[str, Any]) -> dict[str, float]:
    """Name the main numbers of a study as `metrics.json` keeps it; empty if there is none.

    Returns:
        `code/recall_at_1/...`, `code/recall_at_5/...` and `code/median_rank/...` by recoloring (Euclidean);
        `code/sensitivity/...` by change; `code/chroma_r2`; `color/two_color_index`; `color/hue_kept`.
    """
    if not study:
        return {}
    codes = study["codes"]
    recalls = codes["recall"]["euclidean"]
    return {
        **{
            f"{CODE}/{column}/{name}": recall[number]
            for column, number in (
                ("recall_at_1", "at_1"),
                ("recall_at_5", "at_5"),
                ("median_rank", "median_rank"),
            )
            for name, recall in recalls.items()
        },
        **{f"{CODE}/sensitivity/{change}": value for change, value in codes["sensitivity"].items()},
        f"{CODE}/chroma_r2": codes["probe"]["r2"],
        f"{COLOR}/two_color_index": study["two_color_index"]["reconstructions"],
        f"{COLOR}/hue_kept": study["hue_kept"],
    }
