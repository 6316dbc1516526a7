"""What is known of linear views by algebra is what the lens finds."""

import pytest
import torch
from torch import nn

from losslens.lens import furthest_metamer, metamers, null_space, recover, responses
from losslens.losses import LinearView, Loss, Luma
from losslens.losses.ssim import SSIM

RGB = LinearView([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
RED = LinearView([[1, 0, 0]])
TWO = LinearView([[1, 0, 0], [0, 1, 0]])
VIEWS = {"rgb": RGB, "red": RED, "luma": Luma(), "two": TWO}


def l1(view):
    return Loss(view, nn.L1Loss())


def test_red_responds_to_nothing_but_red(cat):
    found = responses(l1(RED), cat)
    for change in ("green offset", "blue offset", "green and blue swapped"):
        assert found[change].value == 0
        assert found[change].verdict == "blind"
    assert found["red offset"].verdict == "sees"
    assert found["white noise"].relative == 1


def test_luma_does_not_respond_to_isoluminant_recoloring(cat):
    found = responses(l1(Luma()), cat)
    assert abs(found["isoluminant recoloring"].relative) < 1e-6
    assert abs(found["desaturation"].relative) < 1e-6
    assert found["brightness"].relative > 1


def test_l1_responds_to_everything(cat):
    assert all(response.verdict == "sees" for response in responses(l1(RGB), cat).values())


def test_mse_responds_to_equal_sizes_alike(cat):
    found = responses(nn.MSELoss(), cat)
    assert all(response.relative == pytest.approx(1, rel=1e-4) for response in found.values())


def test_ssim_hardly_responds_to_brightness(cat):
    assert responses(SSIM(), cat)["brightness"].relative < 0.1


def test_room_of_luma():
    """Computed by hand: at a gray of 0.5 red and blue are free, green is not."""
    rooms = {round(room.gray, 1): room for room in null_space(Luma())}
    assert rooms[0.5].low.tolist() == pytest.approx([0, 0.5 - 0.413 + 0.0613, 0], abs=1e-3)
    assert rooms[0.5].high.tolist() == pytest.approx([1, 0.852, 1], abs=1e-3)
    assert rooms[0.1].high.tolist() == pytest.approx([0.1 / 0.299, 0.1 / 0.587, 0.1 / 0.114], abs=1e-6)
    assert rooms[0.9].low.tolist() == pytest.approx([1 - 0.1 / 0.299, 1 - 0.1 / 0.587, 1 - 0.1 / 0.114], abs=1e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_corners_have_the_same_view(name):
    view = VIEWS[name]
    for room in null_space(view):
        grays = torch.full((1, 3, 1, 1), room.gray, dtype=torch.float64)
        for corner in room.corners:
            assert torch.allclose(view(corner.view(1, 3, 1, 1)), view(grays), atol=1e-7)
    if name == "rgb":
        assert all(len(room.corners) == 1 for room in null_space(view))


@pytest.mark.parametrize("name", ["red", "luma", "two"])
def test_no_random_feasible_image_is_further_than_the_exact_metamer(name, cat):
    """Random colors on the plane of equal view inside [0, 1], pixel by pixel."""
    view = VIEWS[name]
    found = furthest_metamer(view, cat)
    assert found.min() >= 0
    assert found.max() <= 1
    assert l1(view)(found, cat).item() < 1e-6
    distances = (found - cat).abs().sum(1)
    axes = view.unseen_axes()
    generator = torch.Generator().manual_seed(0)
    tried = 0
    for _ in range(200):
        amounts = 2 * torch.rand(len(axes), *cat.shape[-2:], generator=generator, dtype=torch.float64) - 1
        random = cat + torch.einsum("khw,kc->chw", amounts, axes)[None]
        inside = ((random >= 0) & (random <= 1)).all(1)
        tried += int(inside.sum())
        assert ((random - cat).abs().sum(1)[inside] <= distances[inside] + 1e-9).all()
    assert tried > 10_000


def test_the_luma_metamer_is_far(cat):
    (best,) = metamers(l1(Luma()), cat)
    assert best.distance > 0.4
    assert best.loss < 1e-6


@pytest.mark.parametrize("name", ["luma", "red"])
def test_the_search_reaches_what_is_known(name, cat):
    exact = metamers(l1(VIEWS[name]), cat)[0].distance
    found = metamers(l1(VIEWS[name]), cat, starts={"recolored copy": cat[:, [1, 2, 0]]}, exact=False)
    assert found[0].distance >= 0.95 * exact
    for metamer in found:
        assert metamer.loss <= 1e-4
        assert metamer.image.min() >= 0
        assert metamer.image.max() <= 1


def test_a_loss_that_sees_everything_has_no_far_metamer(cat):
    assert metamers(nn.MSELoss(), cat.float())[0].distance < 0.011  # at most the root of the tolerance


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.MSELoss()], ids=["l1", "mse"])
def test_recovery_of_what_is_seen(loss, cat):
    assert recover(loss, cat).error < 1e-2


def test_recovery_leaves_the_starts_color_where_luma_is_asked_for(cat):
    found = recover(l1(Luma()), cat)
    assert found.seen_error < 1e-3
    assert found.unseen_change < 1e-9
    assert found.error > 0.1
    unseen = Luma().unseen_axes() @ (found.image - found.start).flatten(2)
    assert unseen.abs().max() < 1e-9
