import pytest
import torch
from torch import nn

from losslens.training.muon import Muon, all_orthogonalized, orthogonalized


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 2, 3, 1), (5,), ()])
def test_singular_values_become_alike(shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    change = orthogonalized(gradient)
    assert change.shape == shape
    rows = shape[0] if shape else 1
    matrix, before = change.reshape(rows, -1), gradient.reshape(rows, -1)
    scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
    left, _, right = torch.linalg.svd(before, full_matrices=False)
    inside = left.T @ matrix @ right.T / scale  # in the basis of the gradient: a diagonal near to 1
    assert inside.diagonal().sub(1).abs().max() < 0.35
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-4


def test_many_at_once_as_one_by_one():
    """Of shapes that share products, padded or not, and of some that do not; a zero row stays zero exactly."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 3, 8, 8), (16, 16, 3, 3), (192, 16, 3, 3), (16, 3, 8, 8), (5,), (), (7, 40), (1, 3, 1, 1)]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients[0][3] = 0
    gradients[2] = gradients[2].to(memory_format=torch.channels_last)
    together = all_orthogonalized(gradients)
    for gradient, change in zip(gradients, together, strict=True):
        alone = orthogonalized(gradient)
        assert change.shape == gradient.shape
        assert change.stride() == alone.stride()
        assert torch.allclose(change, alone, atol=2e-5)
    assert not together[0][3].any()


def test_the_same_as_torch_where_it_takes_a_weight():
    """Of matrices, up to the bfloat16 in which torch computes."""
    ours, theirs = (nn.Parameter(torch.eye(8, 5)) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.1, momentum=0.9),
        torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0),
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradient = torch.randn(8, 5, generator=generator)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=0.02)


@pytest.mark.parametrize("shape", [(6, 2, 3, 3), (6,)])
def test_what_has_no_gradient_keeps_its_bits(shape):
    weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    optimizer = Muon([weight])
    for _ in range(3):
        weight.grad = torch.randn(shape)
        weight.grad[2:] = 0
        optimizer.step()
    assert torch.equal(weight[2:], before[2:])
    assert not torch.equal(weight[:2], before[:2])


def test_moves_in_the_span_of_the_gradients():
    """Rows that a loss weighs, as luma does, move together: what it does not see of them stays."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    weight = nn.Parameter(torch.randn(3, 8, 3, 3, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    optimizer = Muon([weight])
    for _ in range(20):
        weight.grad = weights[:, None, None, None] * torch.randn(8, 3, 3)
        optimizer.step()
    unseen = torch.linalg.svd(weights[None]).Vh[1:]
    moved = (weight.detach() - before).flatten(1)
    assert (unseen @ moved).abs().max() < 1e-5 < 0.01 < (weights @ moved).abs().max()


def test_a_rate_may_be_a_tensor():
    one, other = (nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    for weight, rate in ((one, 0.1), (other, torch.tensor(0.1))):
        weight.grad = torch.eye(3, 2)
        Muon([weight], lr=rate).step()
    assert torch.equal(one, other)


@pytest.mark.parametrize(("bad", "message"), [({"lr": -1}, "lr -1"), ({"momentum": 1}, "momentum 1")])
def test_refuses(bad, message):
    with pytest.raises(ValueError, match=message):
        Muon([nn.Parameter(torch.ones(1))], **bad)
