"""A convolutional autoencoder whose architecture favors no color: what the loss leaves free stays free."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Last layer's weights relative to torch's initialization; at 1, free colors leave [0, 1] once features grow.
INITIAL_GAIN = 0.3


class Autoencoder(nn.Module):
    """Encode images to a small code and decode the code to images.

    A linear path leads from each block of `stride` x `stride` pixels to the code and back, so that a few hundred steps
    give recognizable pictures; nonlinear corrections of it are zero at the start. Sides that are not a multiple of the
    stride are padded by their edge pixels, and the reconstruction is cropped. The output is linear around mid-gray and
    not clamped: only the loss pulls it.

    Channels that the loss does not see keep their initial weights, which must not paint a checkerboard: these are
    mixtures of the code, enlarged by interpolation (`InterpolatingHead`).

    Args:
        stride: side in pixels of the block that one place of the code represents.
        code_channels: numbers per block.
        width: channels of the corrections.
        depth: residual blocks of the encoder's correction, and of the decoder's; without one, the decoder has none.
        patch: side in pixels of the patches at which the corrections see the image; divides the stride.

    Raises:
        ValueError: if a number is not positive, or the patch does not divide the stride.
    """

    def __init__(
        self,
        *,
        stride: int,
        code_channels: int,
        width: int,
        depth: int,
        patch: int,
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        if min(stride, code_channels, width, patch) < 1 or depth < 0 or stride % patch:
            raise ValueError(
                f"stride {stride}, code_channels {code_channels}, width {width}, depth {depth}, patch {patch}: "
                "use 1 or more for every number, 0 or more for depth, and a patch that divides the stride"
            )
        self.stride = stride
        scale = stride // patch
        self.linear = nn.Conv2d(3, code_channels, stride, stride=stride)
        self.correction = nn.Sequential(
            nn.Conv2d(3, width, patch, stride=patch),
            *[ResidualBlock(width, activation) for _ in range(depth)],
            activation(),
            _zeroed(nn.Conv2d(width, code_channels, scale + 2, stride=scale, padding=1, padding_mode="replicate")),
        )
        self.features = (
            nn.Sequential(
                _conv(code_channels, width * scale**2),
                nn.PixelShuffle(scale),
                *[ResidualBlock(width, activation) for _ in range(depth)],
                activation(),
            )
            if depth
            else None
        )
        self.head = (
            InterpolatingHead(code_channels, patch, width) if depth else InterpolatingHead(code_channels, stride)
        )
        self.to(memory_format=torch.channels_last)  # faster convolutions on CPU and GPU

    @property
    def output_layer(self) -> nn.Conv2d:
        """The last layer; its rows paint red, green and blue, a third each, in this order."""
        return self.head.convolution

    def encode(self, images: Tensor) -> Tensor:
        """Encode images `(N, 3, H, W)` in [0, 1] to codes `(N, code_channels, ceil(H / stride), ceil(W / stride))`.

        Raises:
            ValueError: if a side is smaller than the stride.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.stride:
            raise ValueError(
                f"image size {height}x{width} is smaller than the network's stride {self.stride}: "
                f"use images of at least {self.stride} pixels a side, or a model with a smaller stride"
            )
        # Not -width % stride, whose sign is unknown to an exporter with symbolic sizes.
        right, bottom = ((side + self.stride - 1) // self.stride * self.stride - side for side in (width, height))
        if torch.compiler.is_exporting() or right or bottom:  # exported networks take any size
            images = F.pad(images, (0, right, 0, bottom), mode="replicate")
        images = 2 * images - 1
        code: Tensor = self.linear(images) + self.correction(images)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Decode codes `(N, code_channels, h, w)` to images `(N, 3, h * stride, w * stride)` around [0, 1]."""
        if self.features is not None:
            smooth = F.interpolate(code, scale_factor=self.stride // self.head.scale, mode="bilinear")
            code = torch.cat([smooth, self.features(code)], dim=1)
        images: Tensor = self.head(code)
        return images + 0.5

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images `(N, 3, H, W)` of any size."""
        height, width = images.shape[-2:]
        return self.decode(self.encode(images))[..., :height, :width]


class ResidualBlock(nn.Module):
    """Add two 3x3 convolutions of features `(N, width, h, w)` to them, starting at zero."""

    def __init__(self, width: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(activation(), _conv(width, width), activation(), _zeroed(_conv(width, width)))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.layers(features)
        return features + change


class InterpolatingHead(nn.Module):
    """A sub-pixel convolution from features to RGB that starts out as a bilinear interpolation.

    `(N, width + unused, h, w)` gives `(N, 3, h * scale, w * scale)`. At the start each output channel is a random
    mixture of the first features, enlarged smoothly, and weak enough to stay inside [0, 1] around mid-gray. A channel
    that the loss does not see keeps these weights, and shows no grid; one that it sees learns a kernel for every
    sub-pixel. One convolution at low resolution is much cheaper than one over enlarged features. Aitken et al. 2017,
    arXiv:1707.02937, start sub-pixel kernels as nearest-neighbor interpolation; bilinear here.

    Args:
        width: channels of the features that are mixed at the start.
        unused: channels of further features, whose weights are zero at the start.
    """

    def __init__(self, width: int, scale: int, unused: int = 0) -> None:
        super().__init__()
        self.scale = scale
        self.convolution = _conv(width + unused, 3 * scale**2)
        mixture = nn.Conv2d(width, 3, 1)  # torch's initialization of a 1x1 convolution
        offsets = (torch.arange(scale) + 0.5) / scale - 0.5
        taps = torch.stack([(-offsets).clamp(min=0), 1 - offsets.abs(), offsets.clamp(min=0)], dim=1)
        with torch.no_grad():
            kernels = torch.einsum("oc,iy,jx->oijcyx", INITIAL_GAIN * mixture.weight[:, :, 0, 0], taps, taps)
            self.convolution.weight.zero_()
            self.convolution.weight[:, :width] = kernels.reshape(-1, width, 3, 3)
            assert self.convolution.bias is not None
            assert mixture.bias is not None
            self.convolution.bias.copy_(mixture.bias.repeat_interleave(scale**2))

    def forward(self, features: Tensor) -> Tensor:
        """Return images of `scale` times the size."""
        return F.pixel_shuffle(self.convolution(features), self.scale)


def _conv(before: int, after: int) -> nn.Conv2d:
    """Make a 3x3 convolution that repeats edge pixels, since zeros would frame every channel the loss does not see."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate")


def _zeroed(convolution: nn.Conv2d) -> nn.Conv2d:
    """Set a convolution's weights and biases to zero; returns it."""
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
