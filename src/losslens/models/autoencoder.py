"""A convolutional autoencoder whose architecture favors no color: what the loss leaves free stays free."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of the last layer's weights, relative to torch's initialization: at 1, free colors leave [0, 1] once features grow.
INITIAL_GAIN = 0.3


class Autoencoder(nn.Module):
    """Encode images to a small code and decode the code to images.

    The first convolution takes patches; every further width halves the resolution once more, so the stride of the
    whole network is `patch * 2 ** (len(widths) - 1)`. Sides that are not a multiple of it are padded by their edge
    pixels, and the reconstruction is cropped back. The output is linear around mid-gray and not clamped: nothing but
    the loss pulls it anywhere.

    The decoder must not paint a checkerboard into channels that the loss does not see, whose weights stay at their
    initialization. So it enlarges features by interpolation and ends in `InterpolatingHead`.

    Args:
        widths: channels at each resolution, from the image's to the code's.
        patch: side in pixels of the patches that the first layer takes and the last one paints.
        depth: residual blocks of the decoder at the code's resolution, where they are cheap.
        code_channels: channels of the code.
        activation: makes the activation module, for instance `torch.nn.ReLU`.

    Raises:
        ValueError: if a number is not positive or `widths` is empty.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        patch: int,
        depth: int,
        code_channels: int,
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        if not widths or min(*widths, patch, code_channels) < 1 or depth < 0:
            raise ValueError(
                f"widths {list(widths)}, patch {patch}, depth {depth}, code_channels {code_channels}: "
                "use at least one width, 1 or more for every number, 0 or more for depth"
            )
        self.stride = patch * 2 ** (len(widths) - 1)

        encoder: list[nn.Module] = [nn.Conv2d(3, widths[0], patch, stride=patch), activation()]
        for before, after in pairwise(widths):
            encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1), activation()]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(widths[-1], code_channels, 1))

        decoder: list[nn.Module] = [_conv(code_channels, widths[-1])]
        decoder += [ResidualBlock(widths[-1], activation) for _ in range(depth)]
        for before, after in pairwise(reversed(widths)):
            decoder += [activation(), nn.Upsample(scale_factor=2, mode="bilinear"), _conv(before, after)]
        self.decoder = nn.Sequential(*decoder, activation(), InterpolatingHead(widths[0], patch))
        self.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPU and GPU

    @property
    def output_layer(self) -> nn.Conv2d:
        """The last layer; its rows paint red, green and blue, a third each, in this order."""
        head = self.decoder[-1]
        assert isinstance(head, InterpolatingHead)
        return head.convolution

    def encode(self, images: Tensor) -> Tensor:
        """Encode images `(N, 3, H, W)` in [0, 1] to codes `(N, code_channels, ceil(H / stride), ceil(W / stride))`.

        Raises:
            ValueError: if a side is smaller than the stride.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.stride:
            raise ValueError(
                f"image size {height}x{width} is smaller than the network's stride {self.stride}: "
                f"use images of at least {self.stride} pixels a side, or a model with fewer widths or a smaller patch"
            )
        # In this form, since an exporter that does not know the size yet cannot tell the sign of -width % stride.
        right, bottom = ((side + self.stride - 1) // self.stride * self.stride - side for side in (width, height))
        if torch.compiler.is_exporting() or right or bottom:  # an exported network takes every size
            images = F.pad(images, (0, right, 0, bottom), mode="replicate")
        code: Tensor = self.encoder(2 * images - 1)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Decode codes `(N, code_channels, h, w)` to images `(N, 3, h * stride, w * stride)` around [0, 1]."""
        images: Tensor = self.decoder(code)
        return images + 0.5

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images `(N, 3, H, W)`, whatever their size."""
        height, width = images.shape[-2:]
        return self.decode(self.encode(images))[..., :height, :width]


class ResidualBlock(nn.Module):
    """Add to features `(N, width, h, w)` what two 3x3 convolutions make of them.

    Args:
        width: channels.
        activation: makes the activation module.
    """

    def __init__(self, width: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(activation(), _conv(width, width), activation(), _conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.layers(features)
        return features + change


class InterpolatingHead(nn.Module):
    """A sub-pixel convolution from features to RGB that starts out as a bilinear interpolation.

    `(N, width, h, w)` gives `(N, 3, h * scale, w * scale)`. At the start each output channel is a random mixture of
    the features, enlarged smoothly, and weak enough to stay inside [0, 1] around mid-gray. A channel that the loss
    does not see keeps these weights, and shows no grid; a channel that it sees learns a kernel for every sub-pixel.
    One convolution at low resolution is much cheaper than one over enlarged features. Aitken et al. 2017,
    arXiv:1707.02937, start sub-pixel kernels as nearest-neighbor interpolation; bilinear here.

    Args:
        width: channels of the features.
        scale: factor of enlargement.
    """

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convolution = _conv(width, 3 * scale**2)
        mixture = nn.Conv2d(width, 3, 1)  # torch's own initialization of a mixture without neighborhood
        offsets = (torch.arange(scale) + 0.5) / scale - 0.5
        taps = torch.stack([(-offsets).clamp(min=0), 1 - offsets.abs(), offsets.clamp(min=0)], dim=1)
        with torch.no_grad():
            kernels = torch.einsum("oc,iy,jx->oijcyx", INITIAL_GAIN * mixture.weight[:, :, 0, 0], taps, taps)
            self.convolution.weight.copy_(kernels.reshape_as(self.convolution.weight))
            assert self.convolution.bias is not None
            assert mixture.bias is not None
            self.convolution.bias.copy_(mixture.bias.repeat_interleave(scale**2))

    def forward(self, features: Tensor) -> Tensor:
        """Return images of `scale` times the size."""
        return F.pixel_shuffle(self.convolution(features), self.scale)


def _conv(before: int, after: int) -> nn.Conv2d:
    """Make a 3x3 convolution that repeats edge pixels, since zeros would frame every channel the loss does not see."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate")
