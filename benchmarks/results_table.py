"""Tables of results, with the machine that they were measured on."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import lightning  # noqa: F401  # which decides at its import what it prints
import torch

from losslens.console import be_quiet
from losslens.machine import machine

be_quiet()

FOLDER = Path(__file__).parent / "results"


def write_table(
    script: str, head: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str], variety: str = ""
) -> None:
    """Print a table and keep it as `results/<script>--<machine>.md`, of a variety as `<script>-<variety>--...`."""
    title = "-".join(filter(None, (Path(script).stem, re.sub(r"[^\w]+", "-", variety))))
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [
        f"# {title}",
        "",
        f"{machine()}; torch {torch.__version__}, Python {platform.python_version()}; {datetime.now(UTC):%Y-%m-%d}.",
        "",
        *(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells]),
        "",
        *(f"- {note}" for note in notes),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    FOLDER.mkdir(exist_ok=True)
    name = re.sub(r"[^\w]+", "-", machine()).strip("-").lower()
    (FOLDER / f"{title}--{name}.md").write_text(text)


def environment() -> dict[str, str]:
    """Let a script of this folder be imported by a program that it starts."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
