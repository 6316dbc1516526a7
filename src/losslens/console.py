"""What a user meets in a terminal: lines that can be copied, warnings, tables, durations and counts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MINUTE, HOUR, DAY = 60, 3600, 86400
WIDEST = 10_000  # columns of a table, which then is as wide as its cells are


def say(console: "Console", text: str, style: str | None = None) -> None:
    """Print a line as it is: a terminal that is too narrow breaks it for the eye, and it can still be copied whole."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error, on one line."""
    from rich.console import Console

    say(Console(stderr=True), f"warning: {text}", style="yellow")


def joined_lines(error: object) -> str:
    """Write what an error says on one line; several spaces in a row, as paths may have, stay."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def print_table(console: "Console", table: "Table") -> None:
    """Print a table with no cell broken or cut, however narrow the terminal is."""
    from rich.segment import Segments

    segments = console.render(table, console.options.update(width=WIDEST))
    console.print(Segments(segments), soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a duration, for instance `40 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < MINUTE:
        return f"{max(0, seconds):.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < DAY else f"{seconds / DAY:.1f} days"


def counted(number: int, word: str, plural: str | None = None) -> str:
    """Write a number and what it counts, for instance `1 array`, `2 processes`."""
    return f"{number} {word if number == 1 else plural or f'{word}s'}"
