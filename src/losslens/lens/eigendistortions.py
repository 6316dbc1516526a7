"""The changes of one size that a loss notices most and least: extreme eigenvectors at equality."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from losslens.lens.subject import prepare
from losslens.losses import Loss

VIEW, HESSIAN, FINITE = "Jacobian of the view", "Hessian of the loss", "finite steps"
STEP = 1e-2  # RMS of finite steps
SMOOTH = 0.2  # relative deviation from quadratic growth up to which a loss counts as smooth
BREAKDOWN = 1e-10  # Lanczos' off-diagonal relative to the diagonal, below which the subspace is invariant


@dataclass(frozen=True)
class Eigendistortion:
    """A change of unit length and how strongly a loss notices it.

    Args:
        change: `(N, 3, H, W)`, of Euclidean length 1 each.
        value: `(N,)`, Rayleigh quotient of the matrix that `method` names; for finite steps the loss per RMS.
        bound: `(N,)`, an eigenvalue lies within `value` plus or minus it (the norm of the residual); NaN for finite
            steps.
        method: `VIEW`, `HESSIAN` or `FINITE`.
    """

    change: Tensor
    value: Tensor
    bound: Tensor
    method: str


def eigendistortions(
    loss: nn.Module, images: Tensor, *, iterations: int = 60, seed: int = 0
) -> tuple[Eigendistortion, Eigendistortion]:
    """Find the changes of one size that a loss notices most and least (Berardino et al., 2017).

    For a `Loss` these are the extreme eigenvectors of `J^T J`, J the view's Jacobian: a distance like L1 has no Hessian
    at equality. For any other loss that grows quadratically they are those of its Hessian at equality; for the rest
    they come from gradient ascent and descent on the sphere of steps of RMS 0.01. Eigenvectors come from Lanczos'
    method with full reorthogonalization, for all images at once.

    Args:
        loss: any differentiable module of `(input, target)`; one that is no `Loss` must take the mean over the
            batch and is evaluated image by image.
        images: float `(N, 3, H, W)` in [0, 1], computed in their precision.
        iterations: products with the matrix; also steps on the sphere.

    Raises:
        ValueError: as `prepare`.
    """
    images = images[None] if images.ndim == 3 else images
    ready, first = prepare(loss, images[:1], images.dtype)
    images = images.to(first)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images)
    if isinstance(ready, Loss):
        return _extremes(jacobian_product(ready.view, images), start, iterations, VIEW)
    if _is_smooth(ready, first, start[:1]):
        return _extremes(hessian_product(ready, images), start, iterations, HESSIAN)
    most, least = (_on_sphere(ready, images, start, iterations, sign) for sign in (1, -1))
    return most, least


def jacobian_product(view: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product of `J^T J` with vectors `(N, 3, H, W)`, for the view's Jacobian J at each image."""
    with torch.enable_grad():
        input = images.detach().requires_grad_()
        features = view(input)
        # J^T u is linear in u, so that its gradient with respect to u gives J v: no forward mode is needed.
        pushed = torch.zeros_like(features, requires_grad=True)
        (pulled,) = torch.autograd.grad(features, input, pushed, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        (forward,) = torch.autograd.grad(pulled, pushed, vectors, retain_graph=True)
        (result,) = torch.autograd.grad(features, input, forward, retain_graph=True)
        return result

    return product


def hessian_product(loss: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product of the loss's Hessian at equality with vectors `(N, 3, H, W)`, image by image."""

    def product(vectors: Tensor) -> Tensor:
        rows = []
        for image, vector in zip(images.split(1), vectors.split(1), strict=True):
            input = image.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(input, image), input, create_graph=True)
            rows.append(torch.autograd.grad(gradient, input, vector)[0])
        return torch.cat(rows)

    return product


def _is_smooth(loss: nn.Module, image: Tensor, direction: Tensor) -> bool:
    """Return whether the loss grows fourfold when a small step is doubled."""
    step = STEP * direction / direction.square().mean().sqrt()
    with torch.no_grad():
        zero, once, twice = (loss(image + scale * step, image) for scale in (0, 0.25, 0.5))
    return bool(((twice - zero) / (once - zero) / 4 - 1).abs() < SMOOTH)


def _extremes(
    product: Callable[[Tensor], Tensor], start: Tensor, iterations: int, method: str
) -> tuple[Eigendistortion, Eigendistortion]:
    """Return the largest and smallest Ritz pairs of a symmetric matrix, from one Krylov basis per image."""
    shape, count = start.shape, len(start)
    size = start[0].numel()
    rows = start.flatten(1)
    basis = [rows / rows.norm(dim=1, keepdim=True)]
    diagonal: list[Tensor] = []
    below: list[Tensor] = []
    generator = torch.Generator().manual_seed(1)
    for _ in range(min(iterations, size)):
        image = product(basis[-1].view(shape)).flatten(1).detach()
        diagonal.append((image * basis[-1]).sum(1))
        stacked = torch.stack(basis, 1)  # (N, k, size)
        for _ in range(2):  # twice, against rounding
            image = image - torch.einsum("nk,nks->ns", torch.einsum("nks,ns->nk", stacked, image), stacked)
        length = image.norm(dim=1)
        broken = length <= BREAKDOWN * torch.stack(diagonal).abs().amax(0).clamp(min=1e-30)
        if broken.all() or len(basis) == size:
            break
        if broken.any():  # continue with a random vector orthogonal to the basis
            fresh = torch.randn(count, size, generator=generator, dtype=torch.float64).to(image)
            for _ in range(2):
                fresh = fresh - torch.einsum("nk,nks->ns", torch.einsum("nks,ns->nk", stacked, fresh), stacked)
            image = torch.where(broken[:, None], fresh, image)
        below.append(torch.where(broken, 0, length))
        basis.append(image / image.norm(dim=1, keepdim=True))
    stacked = torch.stack(basis[: len(diagonal)], 1)
    matrix = torch.diag_embed(torch.stack(diagonal, 1))
    if len(diagonal) > 1:
        side = torch.stack(below[: len(diagonal) - 1], 1)
        matrix = matrix + torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
    _, ritz = torch.linalg.eigh(matrix)
    found = []
    for index in (-1, 0):
        vectors = torch.einsum("nk,nks->ns", ritz[..., index], stacked)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        image = product(vectors.view(shape)).flatten(1).detach()
        value = (vectors * image).sum(1)
        bound = (image - value[:, None] * vectors).norm(dim=1)
        found.append(Eigendistortion(vectors.view(shape), value, bound, method))
    return found[0], found[1]


def _on_sphere(loss: nn.Module, images: Tensor, start: Tensor, steps: int, sign: int) -> Eigendistortion:
    """Maximize, or for `sign` -1 minimize, the loss over changes of one RMS."""
    changes, values = [], []
    for image, change in zip(images.split(1), start.split(1), strict=True):
        change = change / change.square().mean().sqrt()
        for step in range(steps):
            input = (image + STEP * change).requires_grad_()
            (gradient,) = torch.autograd.grad(loss(input, image), input)
            gradient = gradient - (gradient * change).mean() * change  # along the sphere
            size = gradient.square().mean().sqrt()
            if not size.isfinite() or size == 0:
                break
            change = change + sign * 0.5 * 0.01 ** (step / steps) * gradient / size
            change = change / change.square().mean().sqrt()
        with torch.no_grad():
            values.append((loss(image + STEP * change, image) - loss(image, image)) / STEP)
        changes.append(change / change.norm())
    value = torch.stack(values)
    return Eigendistortion(torch.cat(changes), value, torch.full_like(value, torch.nan), FINITE)
