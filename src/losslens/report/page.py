"""The report: HTML that opens from disk and loads nothing from elsewhere."""

import os
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from losslens.build import flat_settings
from losslens.files import numbered, write_text
from losslens.lens.responses import HEAT_TOP, Response, response_text
from losslens.lens.words import blind_spots
from losslens.pictures.clouds import clouds_svg
from losslens.pictures.grid import write_picture
from losslens.pictures.page import NOTHING, picture, render
from losslens.pictures.sheet import sheet
from losslens.report.blind_spots import measure_responses
from losslens.report.cross_table import HIGHER_IS_BETTER, NOT_A_QUALITY, cross_table
from losslens.report.plots import curves, line_styles
from losslens.report.sheet import detail_rows, pages
from losslens.report.words import against_linear_code, describe_variant
from losslens.study.page import study_contents
from losslens.study.study import Study
from losslens.study.words import describe_study
from losslens.sweep.baseline import Baseline
from losslens.sweep.results import SweepResult, VariantResult
from losslens.training.metrics import METRICS, SUBSPACE_METRICS
from losslens.variant import config_key

DECIMALS = {"psnr": 1, "seen_psnr": 1, "color_rank": 2}
OF_OWN_LOSS = ("loss", "seen_error", "seen_psnr")  # not comparable between variants
VARIANTS_ON_A_PAGE = 40
SMALL = 0.01  # smaller values are shown with two digits instead of three decimals


@dataclass(frozen=True)
class Number:
    """A cell of a table.

    Args:
        value: None if it was not measured.
        heat: 0 for the best of its column, 1 for the worst; None if the column is not ranked.
        own: whether the variant's own loss sees it.
    """

    value: float | None
    text: str
    heat: float | None = None
    own: bool = False
    best: bool = False


def write_page(sweep: SweepResult, studies: Mapping[str, Study], notes: Sequence[str], folder: Path) -> Path:
    """Write `report.html`, the pictures of studies, and a further page for every 40 variants; return the first page.

    The first page has the tables of all variants; each page has the sheets, curves and sections of its own variants.

    Args:
        studies: by the variant's name; variants may lack one.
        notes: reasons why they do.
    """
    shown, pictures = None, {}
    try:
        shown, pictures = study_contents(sweep, studies) if studies else (None, {})
    except Exception as error:  # the rest of the page does not need it
        notes = [*notes, f"what was found of trained variants cannot be shown: {type(error).__name__}: {error}"]
    for name, drawn in pictures.items():
        write_picture(folder / f"{name}.png", drawn, compress_level=1)
    variants = list(sweep.variants.values())
    starts = range(0, max(len(variants), 1), VARIANTS_ON_A_PAGE)
    parts = [variants[start : start + VARIANTS_ON_A_PAGE] for start in starts]
    paths = [folder / f"{numbered('report', number)}.html" for number in range(1, len(parts) + 1)]
    answers = measure_responses([variant for variant in variants if variant.picture_steps])
    of_all = {
        "title": sweep.folder.resolve().name,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "total": len(variants),
        "done": len(sweep.done),
        "pages": [
            {"href": path.name, "first": start + 1, "last": start + len(part)}
            for path, start, part in zip(paths, starts, parts, strict=True)
        ],
    }
    table = {"table": _table(variants), "baselines": _baselines(sweep)}
    first = {"cross": _cross(sweep), **table, "study": shown, "notes": [*notes, *sweep.left_out]}
    for path, part in zip(paths, parts, strict=True):
        further: dict[str, Any] = {"cross": None, "table": _table(part), "baselines": [], "study": None, "notes": []}
        here = replace(sweep, variants={variant.name: variant for variant in part})
        contents = _contents(here, studies, answers) | (first if path == paths[0] else further)
        write_text(path, render("losslens.report", "report.html.jinja", of_all | contents | {"here": path.name}))
    return paths[0]


def _contents(
    sweep: SweepResult, studies: Mapping[str, Study], answers: Mapping[str, dict[str, Response]]
) -> dict[str, Any]:
    """Gather the contents of a page that concern only its own variants."""
    variants = list(sweep.variants.values())
    surroundings = [variant.environment for variant in variants if variant.environment]
    commands = dict.fromkeys(shlex.join(["python", *each["command"]]) for each in surroundings)
    pictured = [variant for variant in variants if variant.picture_steps]
    furthest = max((value for study in studies.values() for value in study.codes.sensitivity.values()), default=1.0)
    with_curves = [variant for variant in variants if variant.curves]

    def section(variant: VariantResult) -> dict[str, Any]:
        return _section(variant, answers[variant.name], studies.get(variant.name), furthest, sweep.baselines)

    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        sections = list(pool.map(section, pictured))
    return {
        "variants": variants,
        "sheets": [
            picture(page, f"Sheet: originals above the reconstructions of {', '.join(names)}")
            for page, names in (pages(sweep) if pictured else [])
        ],
        "varied": sweep.varied,
        "curves": [(title, Markup(svg)) for title, svg in curves(with_curves).items()],
        "lines": [(variant.name, *style) for variant, style in zip(with_curves, line_styles(with_curves), strict=True)],
        "sections": sections,
        "differences": _differences(variants),
        "surroundings": surroundings[0] if surroundings else {},
        "commands": list(commands),
    }


def _section(
    variant: VariantResult,
    answers: dict[str, Response],
    study: Study | None,
    furthest: float,
    baselines: Sequence[Baseline],
) -> dict[str, Any]:
    last = variant.picture_steps[-1]
    moves_code = study.codes.sensitivity if study else {}
    originals, reconstructions = variant.originals, variant.reconstructions(last)
    assert originals is not None
    return {
        "variant": variant,
        "sentences": (describe_variant(variant) + against_linear_code(variant, baselines) if variant.done else [])
        + (describe_study(study, variant.config["seed"]) if study else []),
        "moves_code": bool(moves_code),
        "details": picture(
            sheet(originals, detail_rows(variant, last)),
            f"{variant.name} after {last} steps: originals, reconstructions, absolute errors per channel, "
            "and what the loss sees of originals and reconstructions, as far as it is a picture",
        ),
        "clouds": Markup(clouds_svg(originals, reconstructions, variant.name)),
        "blind_spots": blind_spots(answers) if answers else None,
        "answers": [
            {
                "change": change,
                "text": response_text(answer.relative),
                "share": round(min(abs(answer.relative) / HEAT_TOP, 1), 3),
                "code_share": round(moves_code.get(change, 0.0) / max(furthest, 1e-30), 3),
                "code_text": f"{moves_code[change]:.2f}" if change in moves_code else NOTHING,
            }
            for change, answer in answers.items()
        ],
    }


def _cross(sweep: SweepResult) -> dict[str, Any]:
    table = cross_table(sweep)
    rows = []
    for row in table.rows:
        numbers = {}
        for column, cell in row.cells.items():
            metric = column.removeprefix("val/")
            text = _text(metric, cell.mean)
            if cell.spread is not None:
                text += f" \N{PLUS-MINUS SIGN} {_text(metric, cell.spread)}"
            others = [other.cells[column].mean for other in table.rows if other.data == row.data]
            numbers[column] = Number(cell.mean, text, _heat(metric, cell.mean, others), cell.own, cell.best)
        rows.append((row, numbers))
    return {"columns": table.columns, "rows": rows, "upsets": table.upsets, "contests": list(table.contests)}


def _table(variants: list[VariantResult]) -> dict[str, Any]:
    measured = [variant.metrics for variant in variants]
    names = [name for name in (*METRICS, *SUBSPACE_METRICS) if any(name in metrics for metrics in measured)]
    data_sets = [config_key(variant.config.get("data")) for variant in variants]
    columns = {
        data: {name: [m.get(name) for m, its in zip(measured, data_sets, strict=True) if its == data] for name in names}
        for data in dict.fromkeys(data_sets)
    }
    rows = []
    for variant, metrics, data in zip(variants, measured, data_sets, strict=True):
        seen = variant.results.get("seen", [])
        numbers: dict[str, Number] = {}
        for name in names:
            value, column = metrics.get(name), columns[data][name]
            heat = None if name in OF_OWN_LOSS else _heat(name, value, column)
            own = value is not None and name in (*seen, *OF_OWN_LOSS)
            numbers[name] = Number(value, _text(name, value), heat, own)
        rows.append((variant, numbers))
    return {"columns": names, "rows": rows}


def _baselines(sweep: SweepResult) -> list[tuple[Baseline, dict[str, Number]]]:
    """Return the cells of baselines, by the columns of both tables; they are not ranked."""
    rows = []
    for baseline in sweep.baselines:
        values = {f"loss/{name}": value for name, value in baseline.losses.items()}
        for name, value in baseline.metrics.items():
            values |= {name: value, f"val/{name}": value}
        numbers: dict[str, Number] = defaultdict(lambda: Number(None, NOTHING))
        numbers |= {name: Number(value, _text(name.removeprefix("val/"), value)) for name, value in values.items()}
        rows.append((baseline, numbers))
    return rows


def _text(metric: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    decimals = DECIMALS.get(metric, 3)
    return f"{value:.2g}" if decimals == 3 and 0 < abs(value) < SMALL else f"{value:.{decimals}f}"


def _heat(metric: str, value: float | None, column: list[float | None]) -> float | None:
    """Return the position of a value between the best (0) and the worst (1) of its column."""
    numbers = [number for number in column if number is not None]
    if value is None or metric in NOT_A_QUALITY or max(numbers) == min(numbers):
        return None
    share = (value - min(numbers)) / (max(numbers) - min(numbers))
    return round(1 - share if metric in HIGHER_IS_BETTER else share, 3)


def _differences(variants: list[VariantResult]) -> dict[str, Any]:
    """List the settings that differ between the configurations, and each variant's values."""
    flat = {variant.name: flat_settings(variant.config) for variant in variants}
    keys = dict.fromkeys(key for config in flat.values() for key in config)
    different = [key for key in keys if len({repr(config.get(key)) for config in flat.values()}) > 1]
    rows = {name: [str(config.get(key, NOTHING)) for key in different] for name, config in flat.items()}
    return {"keys": different, "rows": rows}
