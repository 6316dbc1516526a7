"""Draw results as pictures and figures."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from PIL import Image
from torch import Tensor

from losslens.lens.look import Answers, Look
from losslens.lens.principal import PrincipalDistortions
from losslens.lens.responses import HEAT_TOP, Response, response_text
from losslens.losses import LinearView
from losslens.losses.loss import linear_view
from losslens.pictures.svg import COLORS, INK, STYLE

SHOWN_RMS = 0.1  # size of most and least noticed changes in pictures
ROOM_SIDE = 120  # pixels of a slice through the RGB cube
HEAT = "YlOrBr"
TINY = 1e-30  # smallest divisor


def to_pil(image: Tensor) -> Image.Image:
    """Make a Pillow image of one image `(1, 3, H, W)`, clamped to [0, 1] and never rescaled."""
    pixels = (image[0].detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1)
    return Image.fromarray(pixels.cpu().numpy())


def pictures(look: Look, answers: Answers) -> dict[str, Image.Image]:
    """Return the pictures of one loss by their titles; those that are missing are left out."""
    shown = {"original": to_pil(look.image)}
    if answers.metamers:
        shown["furthest metamer found" if answers.metamers[0].start != "exact" else "furthest metamer"] = to_pil(
            answers.metamers[0].image
        )
    if answers.recovery:
        shown["recovered from noise"] = to_pil(answers.recovery.image)
    for title, found in (("most noticed change", answers.most), ("least noticed change", answers.least)):
        if found:
            change = found.change.to(look.image)
            shown[title] = to_pil(look.image + SHOWN_RMS * change / change.square().mean().sqrt())
    return shown


def null_space_picture(view: LinearView, grays: Sequence[float]) -> Image.Image | None:
    """Draw the colors that a view cannot tell from each gray, on white; None if all or none are free.

    A view with two free directions gives a slice through the RGB cube for each gray, one with a single free direction
    a line, drawn as a bar.
    """
    axes = view.unseen_axes()
    if len(axes) not in (1, 2):
        return None
    reach = torch.linspace(-1, 1, ROOM_SIDE, dtype=torch.float64) * 1.05
    if len(axes) == 2:
        across, up = torch.meshgrid(reach, reach.flip(0), indexing="xy")
        steps = across[..., None] * axes[0] + up[..., None] * axes[1]
    else:
        steps = (reach.flip(0)[:, None, None] * axes[0]).expand(-1, ROOM_SIDE // 3, -1)
    panels = []
    for gray in grays:
        colors = gray + steps
        outside = ((colors < 0) | (colors > 1)).any(-1, keepdim=True)
        panels.append(torch.where(outside, 1.0, colors))
    picture = torch.cat(panels, dim=1)
    kept = (picture < 1).any(-1).any(1).nonzero().flatten()  # rows without any color are cut
    picture = picture[max(0, int(kept[0]) - 2) : int(kept[-1]) + 3]
    return to_pil(picture.movedim(-1, 0)[None])


def heat_map(columns: dict[str, dict[str, Response]], ink: str = "black") -> Figure:
    """Draw responses, rows changes, columns losses; every cell with its number."""
    changes = list(next(iter(columns.values())))
    with mpl.rc_context({**STYLE, "text.color": ink}):
        figure = Figure(figsize=(2.6 + 0.95 * len(columns), 0.6 + 0.27 * len(changes)), layout="constrained")
        _heat(figure, columns, changes)
    return figure


def axis_of_losses(found: PrincipalDistortions) -> Figure:
    """Draw every loss as a dot on the axis of the principal distortions."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.9 + 0.25 * len(found.places)), layout="constrained")
        axis = figure.subplots()
        for row, (name, place) in enumerate(sorted(found.places.items(), key=lambda item: item[1])):
            axis.plot(place, row, "o", color=COLORS[0])
            axis.annotate(name, (place, row), xytext=(8, -3), textcoords="offset points", color=INK)
        axis.margins(x=0.2, y=0.2)
        axis.set(xlabel="log ratio of the sensitivities to the first and the second change", yticks=[])
    return figure


def sheet(look: Look) -> Figure:
    """Draw the sheet: the pictures of each loss, and below them the responses of all."""
    done = {name: answers for name, answers in look.answers.items() if answers.responses}
    rows = {name: pictures(look, answers) for name, answers in done.items()}
    rooms = {name: picture for name in done if (picture := _room_picture(look.answers[name])) is not None}
    columns = max(len(shown) for shown in rows.values())
    width = 2.1 * max(5, columns)
    height, breadth = look.image.shape[-2:]
    held, others = (
        [name for name in look.losses if any(pair[end] == name for pair in look.competitions)] for end in (0, 1)
    )
    heights = [
        len(rows) * (width / columns * height / breadth + 0.3),
        0.75 * len(rooms) + 0.3 if rooms else 0.01,
        0.6 + 0.26 * len(look.bank),
        len(held) * (width / max(columns, len(others)) * height / breadth + 0.3) + 0.3 if held else 0.01,
    ]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained", dpi=110)
    parts: Any = figure.subfigures(4, 1, height_ratios=heights)
    above, between, below, last = parts
    grid = above.subplots(len(rows), columns, squeeze=False)
    for line, (name, shown) in zip(grid, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, (title, picture) in zip(line, shown.items(), strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(f"{name}: {title}" if title == "original" else title, fontsize=8)
    if rooms:
        between.suptitle("what looks the same as each gray, from dark to light", fontsize=9)
        for axis, (name, picture) in zip(
            between.subplots(len(rooms), 1, squeeze=False)[:, 0], rooms.items(), strict=True
        ):
            axis.imshow(picture, aspect="auto")
            axis.set(xticks=[], yticks=[])
            axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    share = min(1.0, (2.5 + len(done)) / width)
    left = below.subfigures(1, 2, width_ratios=(share, 1 - share))[0] if share < 1 else below
    _heat(left, {name: answers.responses for name, answers in done.items()}, list(look.bank))
    if held:
        _pairs(last, look, held, others, max(columns, len(others)))
    return figure


def _pairs(figure: SubFigure, look: Look, held: Sequence[str], others: Sequence[str], columns: int) -> None:
    """Draw for each pair the image of the other loss's largest value, while the first is held."""
    figure.suptitle("as different as was found for one loss, while another stays at its value for noise", fontsize=9)
    for name, line in zip(held, figure.subplots(len(held), columns, squeeze=False), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, other in zip(line, others, strict=False):
            found = look.competitions.get((name, other))
            if found:
                axis.imshow(to_pil(found.high_image), interpolation="nearest")
                times = found.high / max(found.start, TINY)
                axis.set_title(f"{other} {times:.3g} times, {name} the same", fontsize=8)


def _room_picture(answers: Answers) -> Image.Image | None:
    view = linear_view(answers.loss)
    return (
        null_space_picture(view, [room.gray for room in answers.equal_colors])
        if view and answers.equal_colors
        else None
    )


def _heat(figure: Figure | SubFigure, columns: dict[str, dict[str, Response]], changes: list[str]) -> None:
    axis = figure.subplots()
    values = np.array([[abs(column[change].relative) for column in columns.values()] for change in changes])
    axis.imshow(values, cmap=HEAT, vmin=0, vmax=HEAT_TOP, aspect="auto")
    axis.set_xticks(range(len(columns)), list(columns))
    axis.set_yticks(range(len(changes)), changes)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.spines[:].set_visible(False)
    for row, column in np.ndindex(*values.shape):
        value = float(values[row, column])
        color = "white" if value > 0.7 * HEAT_TOP else "black"
        axis.text(column, row, response_text(value), ha="center", va="center", color=color, fontsize=8)
