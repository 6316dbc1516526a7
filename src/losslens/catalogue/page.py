"""The catalogue as a page of Markdown."""

import re
from collections.abc import Iterator, Mapping

from losslens.catalogue.record import Record
from losslens.lens.changes import NOISE
from losslens.lens.responses import BLIND, WEAK

HEAD = """\
# Losses

Every loss, view and distance that losslens brings: what it compares, what it was found to be blind to, how its
gradients are, what it costs, and what a network makes of [this photograph]({photograph}) that was trained under it.

![The photograph, and its reconstructions under the losses that have a name]({overview})

`python -m losslens.catalogue` wrote this page. What a loss sees, its formula, range and source are what its file says,
and the tests check values and ranges; all else is measured. All networks are the default autoencoder, trained as
`make sweep` trains it, with the same seed; the photograph is skimage's `coffee`, of which the training saw crops.
Pictures are clamped to [0, 1] and never rescaled. Below each is the range of its values: a loss that is blind to
offsets, or to contrast, lets them go anywhere, and what is far outside is black or white. The numbers are of the
photograph at {width}x{height} pixels ([losses.json](losses.json) has all of them):

- **blind to**: changes that the loss answers with less than {blind:g} of its answer to white noise of the same root
  mean square, {rms:g}; **nearly**, in parentheses, with less than {weak:g}. There are {changes} changes: {names}.
  Each is blended with the photograph until its size is that one, and stays inside [0, 1]. So an offset is cut where the
  photograph is black or white, a mirror image shines through the photograph and is no rearrangement of it, and the
  isoluminant recoloring keeps the luma of Rec. 601: what first lines say is said of such changes in full.
- **at noise**: its value at that noise, which is what a weight in a `mix` has to make up for.
- its gradient: **no gradient**, the share of values of the reconstruction that get none; **far**, its size for noise in
  place of the reconstruction over that for a faintly noisy one, 1 for L1 (where it is far below, what is far off learns
  slowly); **towards**, the cosine between the way that descent takes from noise and the way to the original; **peak**,
  the largest over the root mean square. It is finite for equal photographs, for black, gray and white images, and for
  black against white, {finite}.
- **cost**: of a forward and a backward pass on one core for a batch of 16 images of 64x64, as a multiple of `l1`.

Measured on {made}. *Not measured*: the weights of a trained network were not at hand; where they are, the command fills
them in.
"""
SECTIONS = {
    "loss": (
        "By name",
        "`loss=NAME`. x is the reconstruction, y the original, R' G' B' are gamma-encoded values; the range is that of "
        "images in [0, 1].",
    ),
    "view": (
        "Views",
        "`loss/view=NAME` composes one with a distance, `loss/distance=NAME`: what is compared. Here it is compared by "
        "`l1`.",
    ),
    "distance": (
        "Distances",
        "`loss/distance=NAME` composes one with a view V: how it is compared. Here the view is `rgb`.",
    ),
}
COLUMNS = ("loss", "formula", "blind to (nearly)", "measured")
PICTURE_WIDTH = 180


def page(record: Record, photograph: str, overview: str, pictures: Mapping[str, str]) -> str:
    """Write the page.

    Args:
        record: with costs.
        photograph: path, relative to the page; so are the others.
        overview: path of the sheet.
        pictures: paths of reconstructions, by key of the loss.
    """
    losses = record["losses"]
    measured = [each["measured"] for each in losses.values() if each["measured"]]
    bad = {key: each["measured"]["gradients"]["bad"] for key, each in losses.items() if each["measured"]}
    exceptions = [f"not that of {key} for {', '.join(pairs)}" for key, pairs in bad.items() if pairs]
    names = [name for name in measured[0]["responses"] if name != NOISE]
    parts = [
        HEAD.format(
            photograph=photograph,
            overview=overview,
            height=record["size"][0],
            width=record["size"][1],
            rms=record["rms"],
            blind=BLIND,
            weak=WEAK,
            changes=len(names),
            names=", ".join(names),
            finite="but " + "; ".join(exceptions) if exceptions else "of every loss here",
            made=record["made"],
        )
    ]
    for kind, (title, text) in SECTIONS.items():
        rows = [_row(key, each, pictures.get(key)) for key, each in losses.items() if each["kind"] == kind]
        table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
        parts.append("\n".join([f"## {title}", "", text, "", *(f"| {' | '.join(row)} |" for row in table), ""]))
    return "\n".join(parts)


def _row(key: str, loss: Record, picture: str | None) -> list[str]:
    lines = [f"**{loss['name']}**<br>{_cell(loss['sees'])}"]
    if picture:
        low, high = loss["values"]
        lines.append(f'<img src="{picture}" width="{PICTURE_WIDTH}" alt="reconstructed under {key}">')
        lines.append(f"values {low:.2g} to {high:.2g}")
    facts = loss["facts"]
    told = [f"<code>{_cell(facts['formula'])}</code>"]
    if "range" in facts:
        told.append(f"range: {facts['range']}")
    if "source" in facts:
        told.append(_linked(_cell(facts["source"])))
    measured = loss["measured"]
    blind = _blind(measured["responses"]) if measured else "*not measured*"
    return ["<br>".join(lines), "<br>".join(told), blind, "<br>".join(_numbers(loss)) if measured else ""]


def _blind(responses: Mapping[str, float]) -> str:
    blind = [name for name, value in responses.items() if abs(value) < BLIND]
    weak = [name for name, value in responses.items() if BLIND <= abs(value) < WEAK]
    said = [", ".join(blind) or ("" if weak else "none of them"), f"({', '.join(weak)})" if weak else ""]
    return " ".join(part for part in said if part)


def _numbers(loss: Record) -> Iterator[str]:
    """Yield numbers with their names, without breaking spaces."""
    measured, cost = loss["measured"], loss["cost"]
    gradients = measured["gradients"]
    numbers = {
        "at noise": f"{measured['noise']:.2g}",
        "no gradient": f"{gradients['none']:.0%}",
        "far": f"{gradients['far']:.2g}",
        "towards": f"{gradients['towards']:.2f}",
        "peak": f"{gradients['peak']:.2g}",
        "cost": f"{cost:.0f}" if cost >= 10 else f"{cost:.2g}",
    }
    for name, number in numbers.items():
        yield f"{name} {number}".replace(" ", "&nbsp;")


def _cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table, and for HTML."""
    for plain, written in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("*", "&#42;"),
        ("_", "&#95;"),
    ):
        text = text.replace(plain, written)
    return text


def _linked(source: str) -> str:
    """Link a DOI or an arXiv number."""
    source = re.sub(r"doi:(\S+)", r"[doi:\1](https://doi.org/\1)", source)
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
