"""Read the files of a sweep's folder, which may be damaged or somebody else's: bounded, checked, and within it."""

import csv
import json
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

MAX_BYTES = 64 * 2**20
MAX_CONFIG_BYTES = 2**20
MAX_DEPTH = 40

Number = (int, float)
Plain = (str, bool, int, float, type(None))
# A shape is a type, a tuple of types, `[shape]` of lists, `{...: shape}` of mappings with any names, or a mapping by
# name, in which a name that ends with `?` may be absent; further entries are allowed.
Shape = Any

STATUS: Shape = {"status": str, "reason": (str, type(None))}
SWEEP: Shape = {
    "variants": [{"name": str, "folder": str, "values": {...: Plain}, "own_loss": str, "threads?": int}],
    "losses": [str],
    "varied": [str],
}
_RECALL: Shape = {"at_1": Number, "at_5": Number, "median_rank": Number}
STUDY: Shape = {
    "codes": {
        "recall": {"euclidean": {...: _RECALL}},
        "sensitivity": {...: (*Number, type(None))},
        "probe": {"r2": (*Number, type(None))},
    },
    "two_color_index": {"reconstructions": (*Number, type(None))},
    "hue_kept": (*Number, type(None)),
}
METRICS: Shape = {
    "metrics": {...: (*Number, type(None))},
    "seen": [str],
    "losses": {...: (*Number, type(None))},
    "steps": int,
    "seconds": Number,
    "epochs?": Number,
    "num_parameters?": int,
    "compression_ratio?": Number,
    "code_shape?": [int],
    "study?": STUDY,
    "originals?": {"spread": {...: (*Number, type(None))}, "color_rank": (*Number, type(None))},
}
ENVIRONMENT: Shape = {
    "command": [str],
    "directory?": str,
    "python": str,
    "platform": str,
    "device": str,
    "cpu_count": (int, type(None)),
    "packages": {...: str},
    "git_commit": (str, type(None)),
}
HEARTBEAT: Shape = {
    "time": Number,
    "process": int,
    "host": str,
    "rate": (*Number, type(None)),
    "variants": {...: {"step": Number, "steps": (*Number, type(None)), "loss": (*Number, type(None))}},
}
ARRAY: Shape = {"variants": [str], "attempts": int, "progress": [Number]}
SETTINGS: Shape = {"report": bool, "fail_fast": bool}
BASELINES: Shape = {
    "measured": [
        {
            "name": str,
            "beside": [str],
            "metrics": {...: (*Number, type(None))},
            "losses": {...: (*Number, type(None))},
        }
    ],
    "left_out": [str],
}
CONFIG_PARTS = ("model", "loss", "optimizer", "schedule", "data", "trainer", "array", "checkpoint", "callbacks")


class Damaged(ValueError):
    """A stored file is not as it was written."""

    def __init__(self, file: Path, reason: str, remedy: str = "bring back a copy") -> None:
        self.reason = " ".join(reason.split())
        super().__init__(f"{file} is damaged ({self.reason}): {remedy}")


def read_object(file: Path, shape: Shape) -> dict[str, Any]:
    """Read a JSON file of one object.

    Raises:
        Damaged: if it is larger or deeper than any that losslens writes, no JSON, or of another shape.
        FileNotFoundError: if there is none.
    """
    try:
        contents = json.loads(_text(file, MAX_BYTES), parse_constant=_refuse)
    except RecursionError:
        raise Damaged(file, f"nested more than {MAX_DEPTH} times") from None
    except ValueError as error:
        raise Damaged(file, str(error) if str(error) else "no JSON") from error
    _check(file, contents, shape)
    assert isinstance(contents, dict)
    return contents


def read_settings_file(file: Path) -> dict[str, Any]:
    """Read a YAML file of a resolved configuration, plain values without anchors.

    Raises:
        Damaged: if it is larger or deeper than any that losslens writes, no YAML, or no configuration.
        FileNotFoundError: if there is none.
    """
    text = _text(file, MAX_CONFIG_BYTES)
    try:
        _check_events(text)
        contents = yaml.load(text, _yaml_loader())
    except RecursionError:
        raise Damaged(file, f"nested more than {MAX_DEPTH} times") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        raise Damaged(file, f"{reason}{f' in line {mark.line + 1}' if mark else ''}") from error
    parts = {part: (Mapping, type(None)) for part in CONFIG_PARTS}
    _check(file, contents, {f"{part}?": shape for part, shape in parts.items()} | {"loss": {}})
    assert isinstance(contents, dict)
    return contents


def read_table(file: Path) -> list[dict[str, float]]:
    """Read a CSV file of numbers; those that are not finite are absent.

    Raises:
        Damaged: if something in it is no number.
    """
    rows = csv.DictReader(_text(file, MAX_BYTES).splitlines())
    try:
        numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise Damaged(file, str(error)) from error
    if any("step" not in row for row in numbers):
        raise Damaged(file, "a row has no step")
    return [{name: value for name, value in row.items() if math.isfinite(value)} for row in numbers]


def check_name(name: str, file: Path) -> None:
    """Check a name that becomes a part of paths.

    Raises:
        Damaged: if it is empty, leads elsewhere, or cannot be printed.
    """
    ways = PurePosixPath(name), PureWindowsPath(name)
    leads_out = any(way.is_absolute() or way.drive or way.root or ".." in way.parts for way in ways)
    if not name.strip(" .") or leads_out or not name.isprintable():
        raise Damaged(file, f"a variant has the name {name!r}, which is no name of a file")


def printable(text: str) -> str:
    """Replace characters that would move the cursor or change colors of a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)


def inside(folder: Path, path: str, file: Path) -> Path:
    """Return a folder that a file of a sweep names, by its path from the sweep's folder.

    Raises:
        Damaged: if it is not within the sweep's folder, wherever links lead.
    """
    place = folder / path
    if Path(path).is_absolute() or not is_inside(folder, place):
        raise Damaged(file, f"it names {path!r}, which is not within {folder}", "nothing there is read or written")
    return place


def check_links(folder: Path, *places: str) -> None:
    """Check that no link in these places of a sweep's folder leads out of it, so that nothing is written elsewhere.

    Raises:
        ValueError: if one does.
    """
    for place in places:
        if not (folder / place).is_dir():
            continue
        with os.scandir(folder / place) as entries:
            links = [Path(entry.path) for entry in entries if entry.is_symlink()]
        for link in links:
            if not is_inside(folder, link):
                raise ValueError(
                    f"{link} is a link that leads out of {folder}, where nothing is read or written: "
                    "put what it leads to in its place"
                )


def is_inside(folder: Path, place: Path) -> bool:
    """Return whether a path is within a folder, wherever links lead."""
    try:
        return place.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # of links in a circle, or a null character
        return False


def _text(file: Path, most: int) -> str:
    """Read a text file, of bounded size."""
    if not file.is_file():
        if file.exists():
            raise Damaged(file, "it is no file")
        raise FileNotFoundError(2, "there is no such file", str(file))
    with file.open("rb") as opened:
        contents = opened.read(most + 1)
    if len(contents) > most:
        raise Damaged(file, f"it has more than {most // 2**20} MiB")
    try:
        return contents.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(file, "it is no text") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _check(file: Path, contents: Any, shape: Shape) -> None:
    """Check the shape of what was read, and its depth."""
    level, depth = [contents], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Damaged(file, f"nested more than {MAX_DEPTH} times")
        level = [
            each
            for outer in level
            if isinstance(outer, dict | list)
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if problem := _mismatch(contents, shape, ""):
        raise Damaged(file, problem)


def _mismatch(value: Any, shape: Shape, where: str) -> str:
    """Say where a value differs from its shape; empty if it does not."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where or 'it'} is no mapping of names to values"
        if ... in shape:
            return _first(_mismatch(each, shape[...], f"{where}.{name}".lstrip(".")) for name, each in value.items())
        for name, wanted in shape.items():
            key, place = name.rstrip("?"), f"{where}.{name.rstrip('?')}".lstrip(".")
            if key in value and (problem := _mismatch(value[key], wanted, place)):
                return problem
            if key not in value and not name.endswith("?"):
                return f"it has no {place}"
        return ""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        return _first(_mismatch(each, shape[0], f"{where}[{place}]") for place, each in enumerate(value))
    wanted = shape if isinstance(shape, tuple) else (shape,)
    fits = bool in wanted if isinstance(value, bool) else isinstance(value, wanted)  # True is an int, too
    return "" if fits else f"{where} is {str(value)[:40]!r}"


def _first(problems: Any) -> str:
    return next((problem for problem in problems if problem), "")


@cache
def _yaml_loader() -> Any:
    """Return OmegaConf's rules of what is a number, in libyaml where it is there."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

    return Loader


def _check_events(text: str) -> None:
    """Check YAML before anything is made of it: libyaml recurses, and aliases of aliases grow without bound."""
    depth = 0
    for event in yaml.parse(text, _yaml_loader()):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError
