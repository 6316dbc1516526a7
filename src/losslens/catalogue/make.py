"""Write the catalogue, or check whether it is up to date."""

from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console

from losslens.catalogue.page import page
from losslens.catalogue.record import add_costs, differences, new_record, read_entries, read_record, train_settings
from losslens.catalogue.training import reconstruct
from losslens.console import be_quiet, say
from losslens.files import write_json, write_text
from losslens.pictures.grid import write_picture
from losslens.pictures.sheet import side_by_side

PAGE, NUMBERS, OVERVIEW, PICTURES = "losses.md", "losses.json", "losses.webp", "losses"
PHOTOGRAPH = "photograph.jpg"
QUALITY = 85  # WebP
THUMBNAIL = (240, 240)
MOST_TOLD = 3  # differences in an error message


def write_catalogue(project: Path) -> None:
    """Measure all losses, train under each, and write page, numbers and pictures into `docs`.

    Args:
        project: folder that holds `conf` and `docs`.

    Raises:
        ValueError: if it does not.
    """
    be_quiet()
    console = Console()
    docs = project / "docs"
    entries, settings = read_entries(project), train_settings(project)
    record = new_record(entries, settings, docs / PHOTOGRAPH, console)
    add_costs(record, entries)
    measured = [entry for entry in entries if record["losses"][entry.key]["measured"]]
    made = reconstruct(measured, settings, docs / PHOTOGRAPH)
    pictures = {key: picture for key, (picture, _) in made.items()}
    for key, (_, values) in made.items():
        record["losses"][key]["values"] = values
    (docs / PICTURES).mkdir(exist_ok=True)
    for old in (docs / PICTURES).glob("*.webp"):
        if old.stem not in pictures:
            old.unlink()
    for key, picture in pictures.items():
        write_picture(docs / PICTURES / f"{key}.webp", picture, quality=QUALITY)
    shown = {"original": Image.open(docs / PHOTOGRAPH).convert("RGB")}
    shown |= {entry.name: pictures[entry.key] for entry in measured if entry.kind == "loss" and entry.key in pictures}
    small = {name: ImageOps.contain(picture, THUMBNAIL) for name, picture in shown.items()}
    write_picture(docs / OVERVIEW, side_by_side(small), quality=QUALITY)
    write_json(docs / NUMBERS, record)
    write_text(docs / PAGE, _page(docs))
    say(console, f"{docs / PAGE}")


def check(project: Path) -> None:
    """Compare the page with its numbers and pictures, and the numbers with what is measured now.

    Raises:
        ValueError: if they differ.
    """
    be_quiet()
    docs = project / "docs"
    entries, settings = read_entries(project), train_settings(project)
    kept = read_record(docs / NUMBERS)
    wanted = [key for key, each in kept["losses"].items() if each["measured"]]  # others may need a download
    found: list[str] = []
    for keys in ([], wanted):  # names and configurations first, which take no time
        found = found or list(
            differences(kept, new_record(entries, settings, docs / PHOTOGRAPH, Console(quiet=True), keys))
        )
    if not found and not _is_page(docs):
        found = [f"it is not what {NUMBERS} and {PICTURES}/ give"]
    if found:
        more = f"; and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
        raise ValueError(
            f"{docs / PAGE} is old, {'; '.join(found[:MOST_TOLD])}{more}: write it anew with "
            "python -m losslens.catalogue"
        )
    say(Console(), f"{docs / PAGE} is as it would be written now")


def _page(docs: Path) -> str:
    pictures = {path.stem: f"{PICTURES}/{path.name}" for path in (docs / PICTURES).glob("*.webp")}
    return page(read_record(docs / NUMBERS), PHOTOGRAPH, OVERVIEW, pictures)


def _is_page(docs: Path) -> bool:
    """Return whether the page exists and agrees with its numbers; False if those have another form."""
    try:
        return (docs / PAGE).read_text(encoding="utf-8") == _page(docs)
    except (OSError, KeyError):
        return False
