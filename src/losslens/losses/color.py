"""Every color constant, once, with its standard. All apply to gamma-encoded R'G'B' in [0, 1]."""

import torch
from torch import Tensor

Direction = tuple[float, float, float]

# Luma weights: ITU-R BT.601-7, 2.5.1 (JPEG, Pillow's "L") and ITU-R BT.709-6, 3.2 (HDTV).
LUMA_601: Direction = (0.299, 0.587, 0.114)
LUMA_709: Direction = (0.2126, 0.7152, 0.0722)

# Linear light to XYZ, rows X, Y and Z, from the primaries and white D65 of ITU-R BT.709, which sRGB shares; white point
# D65 of the 2 degree observer, rounded as usual.
SRGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
D65 = (0.95047, 1.0, 1.08883)
LAB_BEND = 6 / 29  # where the cube root of CIELAB becomes a line

# Linear light to the responses of long, middle and short cones, and a missing cone's response from the other two
# (Vienot, Brettel and Mollon, 1999, equations 4, 5 and 6).
RGB_TO_CONES = ((17.8824, 43.5161, 4.11935), (3.45565, 27.1554, 3.86714), (0.0299566, 0.184309, 1.46709))
CONES_FROM_OTHERS = {"l": (0.0, 2.02344, -2.52581), "m": (0.494207, 0.0, 1.24827)}


def color_difference(luma: Direction, channel: int) -> Direction:
    """Return three weights, with sum 0, of `(channel - luma)` scaled to the range [-0.5, 0.5].

    Args:
        luma: weights of red, green and blue in luma; they sum to 1.
        channel: 2 gives Cb, 0 gives Cr (ITU-R BT.601-7, 2.5.2).
    """
    scale = 2 * (1 - luma[channel])
    red, green, blue = ((float(index == channel) - weight) / scale for index, weight in enumerate(luma))
    return red, green, blue


def ycbcr_601_to_rgb(luma: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """Return the gamma-encoded colors of a luma and two color differences, not clamped (ITU-R BT.601-7, 2.5).

    Args:
        luma: of any shape.
        cb: in [-0.5, 0.5], broadcast with luma.
        cr: in [-0.5, 0.5], broadcast with luma.

    Returns:
        Red, green and blue along a new last dimension.
    """
    red_weight, green_weight, blue_weight = LUMA_601
    red, blue = luma + 2 * (1 - red_weight) * cr, luma + 2 * (1 - blue_weight) * cb
    green = (luma - red_weight * red - blue_weight * blue) / green_weight
    return torch.stack([red, green, blue], dim=-1)


CB_601 = color_difference(LUMA_601, 2)
CR_601 = color_difference(LUMA_601, 0)

# The linear color directions in which every variant is measured, whatever its loss.
COLOR_DIRECTIONS: dict[str, Direction] = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "luma": LUMA_601,
    "cb": CB_601,
    "cr": CR_601,
}
