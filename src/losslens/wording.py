"""Durations and counts as one says them."""

MINUTE, HOUR, DAY = 60, 3600, 86400


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
