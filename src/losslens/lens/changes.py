"""The bank of named changes of an image, all of the same size."""

import io
from collections.abc import Callable

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from PIL import Image
from torch import Tensor

from losslens.losses import Luma

RMS = 0.03  # size of a change over RGB; about 8 of 255 levels
FAINT = 0.1  # share of the wanted RMS below which a change counts as none
MAGENTA = (1.0, 0.0, 1.0)
NOISE, ISOLUMINANT = "white noise", "isoluminant recoloring"


def change_bank(image: Tensor, rms: float = RMS, seed: int = 0) -> tuple[dict[str, Tensor], float]:
    """Change an image in every named way, by the same root mean square over pixels and RGB.

    Each change is made in full, inside [0, 1], and then blended with the original down to `rms`, so that every changed
    image lies inside [0, 1] and a change at equal luma stays one. If a full change is smaller than `rms`, all are
    blended to its size; one below a tenth of `rms`, such as a shift of a flat image, is left out.

    Args:
        image: float `(1, 3, H, W)` in [0, 1].

    Returns:
        Changed images of the image's shape, by name, and the RMS that all of them have.

    Raises:
        ValueError: if `rms` is not in (0, 1).
    """
    if not 0 < rms < 1:
        raise ValueError(f"rms {rms} is not between 0 and 1: try rms={RMS}")
    differences = {name: make(image) - image for name, make in _changes(rms, seed).items()}
    sizes = {name: float(difference.square().mean().sqrt()) for name, difference in differences.items()}
    sizes = {name: size for name, size in sizes.items() if size > FAINT * rms}
    if NOISE not in sizes:
        raise ValueError(f"the image leaves no room for changes of rms {rms}: try a smaller one")
    common = min(rms, *sizes.values())
    return {name: image + common / size * differences[name] for name, size in sizes.items()}, common


def recolorings(images: Tensor) -> dict[str, Tensor]:
    """Recolor images in full, not blended to any size.

    Args:
        images: float `(N, 3, H, W)` in [0, 1].

    Returns:
        Of the same shape, by name: towards magenta at equal luma; hue turned by a quarter; red and blue swapped; gray
        of the same luma.
    """
    return {name: recolor(images) for name, recolor in _RECOLORINGS.items()}


def _changes(rms: float, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return functions from an image to a changed image inside [0, 1], by name."""
    return {
        NOISE: lambda image: _noise(image, seed),
        "noise, all channels alike": lambda image: (image + _noise_like(image[:, :1], seed)).clamp(0, 1),
        "brightness": lambda image: _offset(image, (1, 1, 1), rms),
        "contrast": lambda image: image + 0.5 * (image.mean() - image),
        "gamma": lambda image: image**1.6,
        "inversion": lambda image: 1 - image,
        "red offset": lambda image: _offset(image, (1, 0, 0), rms),
        "green offset": lambda image: _offset(image, (0, 1, 0), rms),
        "blue offset": lambda image: _offset(image, (0, 0, 1), rms),
        **_RECOLORINGS,
        "red and green swapped": lambda image: image[:, [1, 0, 2]],
        "green and blue swapped": lambda image: image[:, [0, 2, 1]],
        "one object recolored": _recolor_object,
        "Gaussian blur": _blur,
        "JPEG": _jpeg,
        "shift by 1 pixel": lambda image: _shift(image, 1),
        "shift by 2 pixels": lambda image: _shift(image, 2),
        "rotation by 2 degrees": _rotate,
        "mirror": lambda image: image.flip(-1),
    }


def isoluminant(image: Tensor) -> Tensor:
    """Move every pixel towards magenta at equal luma (Rec. 601), half as far as [0, 1] allows."""
    # The view's own weights, in float32: the change must be exactly zero for it.
    luma = Luma().weights[0].to(image)
    direction = torch.tensor(MAGENTA, dtype=image.dtype) - torch.dot(luma, torch.tensor(MAGENTA, dtype=image.dtype))
    direction = direction.view(1, 3, 1, 1)
    room = torch.where(direction > 0, (1 - image) / direction, -image / direction)
    return image + 0.5 * room.amin(1, keepdim=True) * direction


_RECOLORINGS: dict[str, Callable[[Tensor], Tensor]] = {
    ISOLUMINANT: isoluminant,
    "hue rotation": lambda image: transforms.adjust_hue(image, 0.25),
    "desaturation": lambda image: Luma()(image).expand_as(image),
    "blue and red swapped": lambda image: image[:, [2, 1, 0]],
}


def _noise_like(image: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)


def _noise(image: Tensor, seed: int) -> Tensor:
    return (image + _noise_like(image, seed)).clamp(0, 1)


def _offset(image: Tensor, channels: tuple[int, int, int], rms: float) -> Tensor:
    """Add or subtract a constant, towards the side that clips fewer values."""
    mask = torch.tensor(channels, dtype=image.dtype).view(1, 3, 1, 1)
    offset = min(0.5, 1.5 * rms * (3 / sum(channels)) ** 0.5) * mask
    sides = [(image + sign * offset).clamp(0, 1) for sign in (1, -1)]
    larger: Tensor = max(sides, key=lambda side: float((side - image).square().mean()))
    return larger


def _blur(image: Tensor) -> Tensor:
    side = min(9, 2 * ((min(image.shape[-2:]) - 1) // 2) + 1)  # odd, and no larger than the image
    blurred: Tensor = transforms.gaussian_blur(image, [side, side], [2.0, 2.0])
    return blurred


def _jpeg(image: Tensor) -> Tensor:
    pixels = (image[0] * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="JPEG", quality=8)
    decoded = np.array(Image.open(encoded))
    return torch.from_numpy(decoded).movedim(-1, 0)[None].to(image) / 255


def _shift(image: Tensor, pixels: int) -> Tensor:
    """Shift to the right; the left border is repeated."""
    places = (torch.arange(image.shape[-1]) - pixels).clamp(min=0)
    shifted: Tensor = image[..., places]
    return shifted


def _rotate(image: Tensor) -> Tensor:
    """Rotate about the center; the original fills the corners."""
    mask = torch.ones_like(image[:, :1])
    bilinear = transforms.InterpolationMode.BILINEAR
    turned = transforms.rotate(torch.cat([image, mask], 1), 2.0, interpolation=bilinear)
    inside: Tensor = turned[:, 3:]
    filled: Tensor = turned[:, :3] + (1 - inside) * image
    return filled.clamp(0, 1)


def _recolor_object(image: Tensor) -> Tensor:
    """Paint one object half way towards the complement of its mean color.

    The object is the largest segment (Felzenszwalb and Huttenlocher, 2004) that does not reach the border, or the
    largest of all.
    """
    from skimage.segmentation import felzenszwalb

    pixels = image[0].movedim(0, -1).double().cpu().numpy()
    labels = torch.from_numpy(felzenszwalb(pixels, scale=100, sigma=0.5, min_size=max(4, pixels[..., 0].size // 200)))
    border = torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).unique()
    sizes = labels.flatten().bincount()
    inner = sizes.clone()
    inner[border] = 0
    label = int((inner if inner.any() else sizes).argmax())
    inside = (labels == label).to(image.device)
    color = image[:, :, inside].mean(-1)[..., None, None]
    return torch.where(inside, 0.5 * image + 0.5 * (1 - color), image)
