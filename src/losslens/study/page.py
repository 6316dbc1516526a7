"""Studies as contents of a report: codes, colors, chance, output space."""

from collections.abc import Mapping
from typing import Any

import torch
from markupsafe import Markup
from PIL import Image

from losslens.files import numbered
from losslens.lens.chance import Chance, Spread, chance
from losslens.lens.changes import ISOLUMINANT
from losslens.pictures.page import NOTHING, picture
from losslens.study.pictures import neighbor_picture, output_picture, recall_picture, seed_picture, swap
from losslens.study.plots import code_sizes
from losslens.study.study import CodeStudy, Study
from losslens.sweep.results import SweepResult, names_without_seeds

VARIED = {
    ("seed",): "Initialization and data order vary",
    ("order_seed",): "The data order alone varies, the initialization is the same",
    ("seed", "order_seed"): "Initialization and data order vary, each for itself",
    ("initialization",): "The initialization alone varies, the data order is the same",
    (): "Neither seed varies",
}


def study_contents(sweep: SweepResult, studies: Mapping[str, Study]) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Return a page's contents on studies, and the pictures to write beside it, by file name."""
    pictures: dict[str, Image.Image] = {}

    def keep(name: str, drawn: Image.Image, alt: str) -> Any:
        number = sum(each.partition("-")[0] == name for each in pictures) + 1
        pictures[numbered(name, number)] = drawn
        return picture(drawn, alt)

    sets = [
        {
            "neighbors": keep("neighbors", neighbor_picture(group), "Images and their nearest ones, by each variant"),
            "recolored": keep("recolored", recall_picture(group), "Recolored images and what codes take for them"),
            "outputs": keep("outputs", output_picture(group), "Returned for a color wheel, noise, lines between codes"),
        }
        for group in by_data(studies)
    ]
    seeds = []
    for name, group in by_seeds(sweep, studies).items():
        outputs = torch.stack([study.reconstructions for study in group.values()])
        found = chance(outputs, next(iter(group.values())).view)
        exchanged = swap(group)
        seeds.append(
            {
                "name": name,
                "varied": VARIED[_varied_seeds(sweep, group)],
                "numbers": _chance(found),
                "picture": keep("seeds", seed_picture(group), f"Reconstructions of {name}, seed by seed"),
                "swap": exchanged
                and {
                    "picture": keep("swapped", exchanged.picture, "Two seeds, and both with the other's unseen part"),
                    "losses": exchanged.losses,
                },
            }
        )
    first = next(iter(studies.values())).exhibits
    contents = {
        "counts": {"val": len(first.val), "train": len(first.train), "kept": len(first.kept)},
        "sets": sets,
        "codes": _codes(studies),
        "sizes": [(title, Markup(svg)) for title, svg in code_sizes(sweep, studies).items()],
        "colors": _colors(studies),
        "seeds": seeds,
    }
    return contents, pictures


def by_data(studies: Mapping[str, Study]) -> list[dict[str, Study]]:
    """Group studies of variants that were shown the same images."""
    groups: dict[int, dict[str, Study]] = {}
    for name, study in studies.items():
        groups.setdefault(id(study.exhibits), {})[name] = study
    return list(groups.values())


def by_seeds(sweep: SweepResult, studies: Mapping[str, Study]) -> dict[str, dict[str, Study]]:
    """Group studies whose variants differ only in seeds, at least two each, by their names without seeds."""
    groups: dict[str, dict[str, Study]] = {}
    names = names_without_seeds(sweep)
    for name, study in studies.items():
        groups.setdefault(names[name], {})[name] = study
    return {name: group for name, group in groups.items() if len(group) > 1}


def _varied_seeds(sweep: SweepResult, group: Mapping[str, Study]) -> tuple[str, ...]:
    configs = [sweep.variants[name].config for name in group]
    seeds = {config["seed"] for config in configs}
    orders = {config.get("order_seed", config["seed"]) for config in configs}
    if len(seeds) == 1:
        return ("order_seed",) if len(orders) > 1 else ()
    together = all(config.get("order_seed", config["seed"]) == config["seed"] for config in configs)
    return ("seed",) if together else ("seed", "order_seed") if len(orders) > 1 else ("initialization",)


def _chance(found: Chance) -> dict[str, str]:
    parts = {**found.channels, "seen part": found.seen, "free part": found.free}
    numbers = {name: _spread(part) for name, part in parts.items() if part}
    return numbers | ({"free over seen": _spread(found.ratio, 1)} if found.ratio else {})


def _spread(spread: Spread, decimals: int = 4) -> str:
    low, value, high = (f"{each:.{decimals}f}" for each in (spread.low, spread.value, spread.high))
    return value if spread.high == float("inf") else f"{value} ({low} to {high})"


def _codes(studies: Mapping[str, Study]) -> dict[str, Any]:
    """Make the table of codes: one row per variant and per untrained encoder."""
    encoders: dict[str, CodeStudy] = {name: study.codes for name, study in studies.items()}
    untrained: dict[int, tuple[str, CodeStudy]] = {}
    for name, study in studies.items():
        untrained.setdefault(id(study.untrained_codes), (name, study.untrained_codes))
    encoders |= {f"untrained, as {name} began": codes for name, codes in untrained.values()}
    first = next(iter(encoders.values()), None)
    columns = list(first.recall["euclidean"]) if first else []
    rows = []
    for name, codes in encoders.items():
        recalls = codes.recall["euclidean"]
        cells = [(float(codes.size), str(codes.size))]
        for column in columns:
            cells.append((recalls[column].at_1, f"{recalls[column].at_1:.1%}"))
        hardest = recalls[ISOLUMINANT]
        cells += [
            (hardest.at_5, f"{hardest.at_5:.1%}"),
            (hardest.median_rank, f"{hardest.median_rank:g}"),
            (codes.recall["cosine"][ISOLUMINANT].at_1, f"{codes.recall['cosine'][ISOLUMINANT].at_1:.1%}"),
            (codes.probe.r2, f"{codes.probe.r2:.2f}"),
            (codes.probe.shuffled, f"{codes.probe.shuffled:.2f}"),
        ]
        rows.append((name, cells, f"{1 / hardest.count:.1%}"))
    return {"recolorings": columns, "rows": rows}


def _colors(studies: Mapping[str, Study]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "moved": [
                _moved(change)
                for change in ([*study.moved.channels.values(), study.moved.unseen] if study.moved else [None] * 4)
            ],
            "index": [
                (study.two_color_index[key], f"{study.two_color_index[key]:.1%}")
                for key in ("reconstructions", "originals", "untrained")
            ],
            "hue_kept": (study.wheel.hue_kept, f"{study.wheel.hue_kept:.2f}"),
        }
        for name, study in studies.items()
    ]


def _moved(change: float | None) -> tuple[float | None, str]:
    return change, NOTHING if change is None else "as drawn" if change == 0 else f"{change:.2g}"
