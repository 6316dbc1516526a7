"""Write the results of a look: the page, the sheet, tables and pictures."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from losslens.files import write, write_json, write_text
from losslens.lens.changes import NOISE
from losslens.lens.draw import TINY, axis_of_losses, heat_map, null_space_picture, pictures, sheet, to_pil
from losslens.lens.look import Answers, Look
from losslens.lens.responses import BLIND, HEAT_TOP, WEAK, response_text
from losslens.lens.words import describe_loss
from losslens.losses.loss import linear_view
from losslens.pictures.grid import write_picture
from losslens.pictures.page import picture, render
from losslens.pictures.svg import to_svg

PRINCIPAL_RMS = 0.1  # size of principal distortions in pictures


def write_results(look: Look, folder: Path, *, picture_name: str, command: str) -> Path:
    """Write all results so far; returns the page.

    Args:
        look: may be incomplete.
        folder: must exist.
        command: shell command that repeats the run.
    """
    done = {name: answers for name, answers in look.answers.items() if answers.responses}
    write_json(folder / "blindspots.json", _numbers(look, picture_name))
    _save(look, folder)
    if done:
        write_text(folder / "responses.csv", _table(done))
        responses = {name: answers.responses for name, answers in done.items()}
        _write_figure(folder / "responses.png", heat_map(responses))
        _write_figure(folder / "responses.svg", heat_map(responses))
        _write_figure(folder / "lens.png", sheet(look))
    page = folder / "lens.html"
    write_text(page, render("losslens.lens", "lens.html.jinja", _contents(look, folder, picture_name, command)))
    return page


def write_tensorboard(look: Look, folder: Path) -> None:
    """Write the pictures of every loss for TensorBoard, each title a tag."""
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    for name, answers in look.answers.items():
        with SummaryWriter(str(folder / "tensorboard" / _file_name(name))) as writer:
            for title, shown in pictures(look, answers).items():
                writer.add_image(title, np.array(shown), dataformats="HWC")


def _save(look: Look, folder: Path) -> None:
    """Write every picture as a PNG, at its own size."""
    places: dict[Path, Image.Image] = {
        folder / "changes" / f"{_file_name(name)}.png": to_pil(changed) for name, changed in look.bank.items()
    }
    for name, answers in look.answers.items():
        for title, shown in pictures(look, answers).items():
            places[folder / "pictures" / _file_name(name) / f"{_file_name(title)}.png"] = shown
    for (held, other), found in look.competitions.items():
        start = f"{_file_name(other)}-at-equal-{_file_name(held)}"
        places[folder / "pictures" / f"{start}-least.png"] = to_pil(found.low_image)
        places[folder / "pictures" / f"{start}-most.png"] = to_pil(found.high_image)
    for path, shown in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, shown)


def _write_figure(path: Path, figure: Figure) -> None:
    write(path, lambda aside: figure.savefig(aside, format=path.suffix.removeprefix(".")))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_=." else "-" for letter in name)


def _table(done: Mapping[str, Answers]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["loss", "change", "value", "relative", "verdict"])
    for name, answers in done.items():
        for change, response in answers.responses.items():
            writer.writerow([name, change, response.value, response.relative, response.verdict])
    return text.getvalue()


def _numbers(look: Look, picture_name: str) -> dict[str, Any]:
    losses = {}
    for name, answers in look.answers.items():
        entry: dict[str, Any] = {
            "changes": {
                change: {"value": each.value, "relative": each.relative, "verdict": each.verdict}
                for change, each in answers.responses.items()
            },
            "differentiable": answers.differentiable,
            "notes": answers.notes,
        }
        if answers.equal_colors:
            entry["room"] = [
                {"gray": room.gray, "low": room.low.tolist(), "high": room.high.tolist()}
                for room in answers.equal_colors
            ]
        entry["metamers"] = [
            {"start": each.start, "distance": each.distance, "loss": each.loss, "pulled": each.pulled}
            for each in answers.metamers
        ]
        if answers.recovery:
            each = answers.recovery
            entry["recovery"] = {
                "error": each.error,
                "seen_error": each.seen_error,
                "unseen_change": each.unseen_change,
                "loss": each.losses[-1],
            }
        for what, found in (("most_noticed", answers.most), ("least_noticed", answers.least)):
            if found:
                bound = float(found.bound)
                entry[what] = {
                    "value": float(found.value),
                    "bound": bound if bound == bound else None,
                    "method": found.method,
                }
        losses[name] = entry
    pairs = [
        {
            "held": held,
            "other": other,
            "level": found.held,
            "start": found.start,
            "low": found.low,
            "high": found.high,
            "constraint_error": found.constraint_error,
            "zero_possible": found.zero_possible,
            "unbounded": found.unbounded,
            "found_blind": found.fooled,
        }
        for (held, other), found in look.competitions.items()
    ]
    axis = {"places": look.axis.places, "regularization": look.axis.regularization} if look.axis else None
    return {
        "image": picture_name,
        "size": list(look.image.shape[-2:]),
        "rms": look.common_rms,
        "thresholds": {"blind": BLIND, "weak": WEAK, "relative_to": NOISE},
        "losses": losses,
        "pairs": pairs,
        "principal": axis,
        "notes": look.notes,
    }


def _contents(look: Look, folder: Path, picture_name: str, command: str) -> dict[str, Any]:
    done = {name: answers for name, answers in look.answers.items() if answers.responses}
    return {
        "title": folder.resolve().name,
        "names": list(look.losses),
        "picture_name": picture_name,
        "width": look.image.shape[-1],
        "height": look.image.shape[-2],
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "notes": look.notes,
        "rms": look.common_rms,
        "blind": BLIND,
        "weak": WEAK,
        "changes": [_change(look, name, done) for name in look.bank],
        "losses": [_loss(look, name) for name in look.losses],
        "competitions": [_pair(look, held, other) for held, other in look.competitions],
        "axis": _axis(look),
        "command": command,
    }


def _change(look: Look, name: str, done: Mapping[str, Answers]) -> dict[str, Any]:
    relative = [answers.responses[name].relative for answers in done.values()]
    return {
        "name": name,
        "picture": picture(to_pil(look.bank[name]), f"The picture after: {name}"),
        "cells": [
            {"value": each, "text": response_text(each), "heat": round(min(abs(each) / HEAT_TOP, 1), 3)}
            for each in relative
        ],
    }


def _loss(look: Look, name: str) -> dict[str, Any]:
    answers = look.answers[name]
    view = linear_view(answers.loss)
    room = (
        null_space_picture(view, [each.gray for each in answers.equal_colors])
        if view and answers.equal_colors
        else None
    )
    return {
        "name": name,
        "sentences": describe_loss(answers) if answers.responses else [],
        "notes": answers.notes,
        "pictures": [
            (title, picture(shown, f"{title}, for {name}"))
            for title, shown in (pictures(look, answers).items() if answers.responses else ())
        ],
        "room": picture(room, f"Colors that look to {name} like each gray") if room else None,
        "rooms": [
            {
                "gray": each.gray,
                "bounds": [float(bound) for pair in zip(each.low, each.high, strict=True) for bound in pair],
            }
            for each in answers.equal_colors
        ],
        "metamers": answers.metamers,
    }


def _pair(look: Look, held: str, other: str) -> dict[str, Any]:
    found = look.competitions[held, other]
    known = {None: "not linear", True: "can be 0", False: "cannot be 0"}[found.zero_possible]
    start = max(found.start, TINY)
    return {
        "held": held,
        "other": other,
        "low": found.low / start,
        "high": found.high / start,
        "found": f"{other} is blind to what {held} sees" if found.fooled else "none found",
        "known": known,
        "error": found.constraint_error,
        "low_picture": picture(to_pil(found.low_image), f"Least for {other} at equal {held}"),
        "high_picture": picture(to_pil(found.high_image), f"Most for {other} at equal {held}"),
    }


def _axis(look: Look) -> dict[str, Any] | None:
    found = look.axis
    if found is None:
        return None
    shown = []
    for title, change in (("first change", found.first), ("second change", found.second)):
        change = change.to(look.image)
        image = look.image + PRINCIPAL_RMS * change / change.square().mean().sqrt()
        shown.append((title, picture(to_pil(image), f"The picture after the {title}")))
    return {
        "regularization": found.regularization,
        "places": sorted(found.places.items(), key=lambda item: item[1]),
        "drawing": Markup(to_svg(axis_of_losses(found), "principal")),
        "pictures": shown,
    }
