"""Pages as single HTML files that open from disk and ask nobody for anything."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

NOTHING = "\N{EN DASH}"  # in a cell of what was not measured


@dataclass(frozen=True)
class Picture:
    """A picture inside of a page, with words for those who do not see it."""

    source: str
    alt: str
    width: int
    height: int


def picture(image: Image.Image, alt: str) -> Picture:
    """Put a picture into a page, without loss."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", lossless=True, quality=0, method=0)  # a seventh larger, in a tenth of the time
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", alt, image.width, image.height)


def render(package: str, template: str, contents: Mapping[str, Any]) -> str:
    """Fill a template of a package, which may extend those of this one; everything is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("losslens.page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(contents)
