"""Views of color: every pixel by itself, in other color spaces."""

import torch
from torch import Tensor, nn

from losslens.losses.color import CONES_FROM_OTHERS, D65, LAB_BEND, RGB_TO_CONES, SRGB_TO_XYZ
from losslens.losses.views import LEVEL, check_images, precise, project, unit


def decode_srgb(encoded: Tensor) -> Tensor:
    """Return the linear light of gamma-encoded values; the linear part continues below 0 (IEC 61966-2-1)."""
    power = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded > 0.04045, power, encoded / 12.92)


def encode_srgb(linear: Tensor) -> Tensor:
    """Return the gamma-encoded values of linear light, the inverse of `decode_srgb`."""
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, power, linear * 12.92)


class Hue(nn.Module):
    """Two images are equal when the hues of their pixels are equal.

    Formula: `(a, b) / max(|(a, b)|, 1/255)` with `a = R' - (G' + B') / 2` and `b = sqrt(3) / 2 (G' - B')`: cosine and
    sine of the hue, as a circle, so that 359 degrees lie beside 1; exact for images of 8 bits. Gray has no hue: (0, 0).
    Images `(N, 3, H, W)` give `(N, 2, H, W)`. Blind to brightness and to saturation.
    Source: Hanbury, 2008, "Constructing cylindrical coordinate colour spaces", doi:10.1016/j.patrec.2007.11.002.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return `(N, 2, H, W)`, of length 1 except for gray."""
        check_images(images)
        red, green, blue = precise(images).unbind(1)
        axes = torch.stack([red - (green + blue) / 2, 3**0.5 / 2 * (green - blue)], dim=1)
        return unit(axes)


class Saturation(nn.Module):
    """Two images are equal when the saturations of their pixels are equal.

    Formula: that of HSV, `(max - min) / max(max, max - min, 1/255)` of R', G' and B'; exact for images of 8 bits, 0 for
    black, and at most 1 also for a reconstruction with values below 0.
    Images `(N, 3, H, W)` give `(N, 1, H, W)`. Blind to hue and to multiplied brightness.
    Source: Smith, 1978, "Color gamut transform pairs", doi:10.1145/965139.807361.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return `(N, 1, H, W)` in [0, 1]."""
        check_images(images)
        largest, smallest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
        spread = largest - smallest
        return spread / torch.maximum(largest, spread).clamp(min=LEVEL)


class Lab(nn.Module):
    """Two images are equal when the CIELAB coordinates of their pixels are equal.

    Formula: sRGB decoded to linear light (IEC 61966-2-1), XYZ (constants as in scikit-image), CIE 1976 L*a*b* with
    white D65, 2 degrees; in CIE's units: L* in [0, 100]. Below 0 the linear parts of both curves go on. Half precision
    is computed in float32.
    Images `(N, 3, H, W)` give `(N, K, H, W)`. Blind to what is left out of `parts`.
    Source: CIE 015:2018, 8.2.1.

    Args:
        parts: some of `l`, `a` and `b`.

    Raises:
        ValueError: for other parts.
    """

    matrix: Tensor

    def __init__(self, parts: str = "lab") -> None:
        super().__init__()
        if not parts or any(part not in "lab" for part in parts):
            raise ValueError(f"parts {parts} of Lab: use some of l, a and b")
        self.parts = parts
        table = torch.tensor(SRGB_TO_XYZ, dtype=torch.float64) / torch.tensor(D65, dtype=torch.float64)[:, None]
        self.register_buffer("matrix", table.float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the parts, `(N, K, H, W)`."""
        check_images(images)
        linear = decode_srgb(precise(images))
        shares = project(self.matrix, linear)
        roots = shares.clamp(min=LAB_BEND**3) ** (1 / 3)
        x, y, z = torch.where(shares > LAB_BEND**3, roots, shares / (3 * LAB_BEND**2) + 4 / 29).unbind(1)
        found = {"l": 116 * y - 16, "a": 500 * (x - y), "b": 200 * (y - z)}
        return torch.stack([found[part] for part in self.parts], dim=1)


class ColorBlind(nn.Module):
    """Two images are equal when a person without one kind of cones cannot tell them apart.

    Formula: sRGB decoded to linear light, cone responses of which the missing one is made from the other two, back to
    RGB and encoded. Half precision is computed in float32. `(N, 3, H, W)` gives features of that shape, of two
    dimensions in linear light. Blind to the direction of the missing cones.
    Source: Vienot, Brettel and Mollon, 1999, doi:10.1002/(SICI)1520-6378(199908)24:4<243::AID-COL5>3.0.CO;2-3.

    Args:
        missing: `l` (protanopes) or `m` (deuteranopes).

    Raises:
        ValueError: for another one.
    """

    matrix: Tensor

    def __init__(self, missing: str = "m") -> None:
        super().__init__()
        if missing not in ("l", "m"):
            raise ValueError(f"missing cones {missing}: use l (protanopes) or m (deuteranopes)")
        cones = torch.tensor(RGB_TO_CONES, dtype=torch.float64)
        replaced = torch.eye(3, dtype=torch.float64)
        index = "lm".index(missing)
        replaced[index] = torch.tensor(CONES_FROM_OTHERS[missing], dtype=torch.float64)
        matrix = torch.linalg.inv(cones) @ replaced @ cones
        self.register_buffer("matrix", matrix.float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the colors that are seen, `(N, 3, H, W)`, gamma-encoded."""
        check_images(images)
        linear = decode_srgb(precise(images))
        return encode_srgb(project(self.matrix, linear))
