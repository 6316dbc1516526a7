"""The report: one HTML file that opens from disk and asks nobody for anything."""

import base64
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from losslens.files import write_text
from losslens.report.cross_table import HIGHER_IS_BETTER, NOT_A_QUALITY, cross_table
from losslens.report.plots import clouds, curves, line_styles
from losslens.report.results import SweepResult, VariantResult
from losslens.report.sheet import detail_rows, pages, sheet
from losslens.report.words import describe
from losslens.training.metrics import METRICS, SUBSPACE_METRICS

DECIMALS = {"psnr": 1, "color_rank": 2}
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Number:
    """A cell of a table.

    Args:
        value: None if it was not measured.
        text: as shown.
        heat: 0 for the best of its column, 1 for the worst; None where none is better.
        own: whether the variant's own loss sees it.
        best: whether it is marked as the best of its column.
    """

    value: float | None
    text: str
    heat: float | None = None
    own: bool = False
    best: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture inside of the page, with words for those who do not see it."""

    source: str
    alt: str
    width: int
    height: int


def write_page(sweep: SweepResult, folder: Path) -> Path:
    """Write `report.html`; returns its path."""
    environment = Environment(
        loader=PackageLoader("losslens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = folder / "report.html"
    write_text(path, environment.get_template("report.html.jinja").render(_contents(sweep)))
    return path


def _contents(sweep: SweepResult) -> dict[str, Any]:
    variants = list(sweep.variants.values())
    surroundings = [variant.environment for variant in variants if variant.environment]
    commands = dict.fromkeys(shlex.join(["python", *each["command"]]) for each in surroundings)
    pictured = [variant for variant in variants if variant.picture_steps]
    with_curves = [variant for variant in variants if variant.curves]
    return {
        "title": sweep.folder.resolve().name,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "variants": variants,
        "done": len(sweep.done),
        "sheets": [
            _picture(page, f"Sheet: originals above the reconstructions of {len(pictured)} variants")
            for page in (pages(sweep) if pictured else [])
        ],
        "cross": _cross(sweep),
        "table": _table(variants),
        "varied": sweep.varied,
        "curves": [(title, Markup(svg)) for title, svg in curves(with_curves).items()],
        "lines": [(variant.name, *style) for variant, style in zip(with_curves, line_styles(with_curves), strict=True)],
        "sections": [_section(variant) for variant in pictured],
        "differences": _differences(variants),
        "surroundings": surroundings[0] if surroundings else {},
        "commands": list(commands),
    }


def _section(variant: VariantResult) -> dict[str, Any]:
    last = variant.picture_steps[-1]
    originals, reconstructions = variant.originals, variant.reconstructions(last)
    assert originals is not None
    return {
        "variant": variant,
        "sentences": describe(variant) if variant.done else [],
        "details": _picture(
            sheet(originals, detail_rows(variant, last)),
            f"{variant.name} after {last} steps: originals, reconstructions, absolute errors per channel, "
            "and what the loss sees of originals and reconstructions, as far as it is a picture",
        ),
        "clouds": Markup(clouds(originals, reconstructions, variant.name)),
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
            others = [other.cells[column].mean for other in table.rows]
            numbers[column] = Number(cell.mean, text, _heat(metric, cell.mean, others), cell.own, cell.best)
        rows.append((row, numbers))
    return {"columns": table.columns, "rows": rows, "upsets": table.upsets}


def _table(variants: list[VariantResult]) -> dict[str, Any]:
    names = [name for name in (*METRICS, *SUBSPACE_METRICS) if any(name in each.metrics for each in variants)]
    rows = []
    for variant in variants:
        metrics, seen = variant.metrics, variant.results.get("seen", [])
        numbers: dict[str, Number] = {}
        for name in names:
            value = metrics.get(name)
            heat = (
                None
                if name in ("loss", "seen_error")
                else _heat(name, value, [each.metrics.get(name) for each in variants])
            )
            numbers[name] = Number(value, _text(name, value), heat, name in (*seen, "loss", "seen_error"))
        rows.append((variant, numbers))
    return {"columns": names, "rows": rows}


def _text(metric: str, value: float | None) -> str:
    return NOTHING if value is None else f"{value:.{DECIMALS.get(metric, 3)}f}"


def _heat(metric: str, value: float | None, column: list[float | None]) -> float | None:
    """Return where between the best (0) and the worst (1) of a column a value stands."""
    numbers = [number for number in column if number is not None]
    if value is None or metric in NOT_A_QUALITY or max(numbers) == min(numbers):
        return None
    share = (value - min(numbers)) / (max(numbers) - min(numbers))
    return round(1 - share if metric in HIGHER_IS_BETTER else share, 3)


def _differences(variants: list[VariantResult]) -> dict[str, Any]:
    """List the settings that differ between the configurations, and each variant's values."""
    flat = {variant.name: dict(_flatten(variant.config)) for variant in variants}
    keys = dict.fromkeys(key for config in flat.values() for key in config)
    different = [key for key in keys if len({repr(config.get(key)) for config in flat.values()}) > 1]
    rows = {name: [str(config.get(key, NOTHING)) for key in different] for name, config in flat.items()}
    return {"keys": different, "rows": rows}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            items += _flatten(value, f"{prefix}{key}.")
        else:
            items.append((f"{prefix}{key}", value))
    return items


def _picture(image: Image.Image, alt: str) -> Picture:
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", lossless=True, quality=0, method=0)  # a seventh larger, in a tenth of the time
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", alt, image.width, image.height)
