"""Pages as single HTML files that open from disk and load nothing from elsewhere."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

NOTHING = "\N{EN DASH}"  # cell without a measurement


@dataclass(frozen=True)
class Picture:
    """A picture embedded in a page, with a text alternative."""

    source: str
    alt: str
    width: int
    height: int


def picture(image: Image.Image, alt: str) -> Picture:
    """Encode a picture for a page, losslessly."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", lossless=True, quality=0, method=0)  # a seventh larger, in a tenth of the time
    data = base64.b64encode(encoded.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", alt, image.width, image.height)


def render(package: str, template: str, contents: Mapping[str, Any]) -> str:
    """Fill a package's template, which may extend those of `losslens.pictures`; everything is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("losslens.pictures")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(contents)
