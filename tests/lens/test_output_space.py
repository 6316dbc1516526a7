"""Output space, last layers and chance, against cases of which the answer is known."""

from math import pi

import pytest
import torch
from torch import nn

from losslens.lens.chance import chance, spread_maps
from losslens.lens.last_layer import moved, rows, swap_unseen
from losslens.lens.output_space import HUES, RINGS, between, color_wheel, draw_wheel, principal_axes, wheel_colors
from losslens.losses import LinearView, Luma
from losslens.models import Autoencoder

luma = Luma()
RED = LinearView([[1, 0, 0]])


def test_the_wheel_has_one_luma_and_fits():
    wheel = color_wheel(lambda images: images, (8, 8))
    assert wheel.given.shape == (RINGS, HUES, 3)
    assert wheel.given.min() >= 0
    assert wheel.given.max() <= 1
    torch.testing.assert_close(luma(wheel.given.view(-1, 3, 1, 1)), torch.full((RINGS * HUES, 1, 1, 1), 0.5))


@pytest.mark.parametrize(
    ("reconstruct", "kept"),
    [
        (lambda images: images, 1.0),
        (lambda images: 0.5 + 0.5 * (images - 0.5), 1.0),  # paler
        (lambda images: torch.full_like(images, 0.3) + torch.tensor([0.1, 0, 0]).view(1, 3, 1, 1), 0.0),  # one color
        (lambda images: images[:, [2, 1, 0]], 0.0),  # mirrored: the order is turned around
    ],
)
def test_hues_kept(reconstruct, kept):
    assert color_wheel(reconstruct, (8, 8)).hue_kept == pytest.approx(kept, abs=0.12)


def test_a_wheel_turned_as_a_whole_keeps_its_order():
    def turn(images):
        cb, cr = (
            LinearView([weights])(images) for weights in ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
        )
        colors = wheel_colors(torch.hypot(cb, cr), torch.atan2(cr, cb) + pi / 3)
        return colors[:, 0].movedim(-1, 1)

    assert color_wheel(turn, (4, 4)).hue_kept == pytest.approx(1, abs=1e-4)


def test_a_drawn_wheel_is_round():
    drawn = draw_wheel(color_wheel(lambda images: images, (4, 4)).given, 50)
    assert drawn.shape == (3, 50, 50)
    assert (drawn[:, 0, 0] == 1).all()
    right = wheel_colors(torch.tensor(0.28), torch.tensor(0.0))
    torch.testing.assert_close(drawn[:, 25, 48], right)


def test_principal_axes_of_two_colors():
    first, second = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.8, 0.3, 0.2])
    shares = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    axes = principal_axes(shares * first.view(1, 3, 1, 1) + (1 - shares) * second.view(1, 3, 1, 1))
    assert axes.two_color_index == pytest.approx(1, abs=1e-9)
    direction = (first - second).double() / (first - second).norm()
    assert abs(axes.directions[0] @ direction) == pytest.approx(1, abs=1e-6)
    assert principal_axes(torch.full((1, 3, 4, 4), 0.5)).two_color_index == 0


def test_principal_axes_agree_with_a_library(cat):
    from sklearn.decomposition import PCA

    axes = principal_axes(cat)
    theirs = PCA().fit(cat.movedim(1, -1).reshape(-1, 3).numpy())
    assert axes.shares.tolist() == pytest.approx(theirs.explained_variance_ratio_.tolist())


def test_between_two_codes():
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    line = between(lambda each: each, lambda each: each, images, 5)
    assert line[:, 0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]


def small_model(seed):
    torch.manual_seed(seed)
    return Autoencoder(stride=4, code_channels=2, width=4, depth=1, patch=2, activation=nn.ReLU)


def test_rows_of_the_last_layer_paint_their_channel():
    model, images = small_model(0), torch.rand(2, 3, 8, 8)
    before = model(images)
    with torch.no_grad():
        model.output_layer.weight.unflatten(0, (3, -1))[1] += 0.1
    changed = (model(images) - before).abs().amax((0, 2, 3))
    assert changed[1] > 0
    assert changed[0] == changed[2] == 0
    assert rows(model).shape == (3, 2 * 2 * ((2 + 4) * 9 + 1))
    assert rows(nn.Linear(3, 3)) is None


def test_moved_says_which_bits_are_as_drawn():
    initial, trained = small_model(0), small_model(0)
    with torch.no_grad():
        trained.output_layer.weight.unflatten(0, (3, -1))[0] += 0.1
    found = moved(trained, initial, RED)
    assert found.frozen == ["green", "blue"]
    assert found.channels["red"] > 0 == found.unseen
    assert moved(trained, initial, luma).unseen > 0.1
    assert moved(trained, initial, LinearView(torch.eye(3).tolist())).unseen is None
    assert moved(trained, initial, None).unseen is None
    assert moved(nn.Identity(), nn.Identity(), RED) is None


def test_moved_along_what_the_loss_sees_leaves_the_rest():
    initial, trained = small_model(0), small_model(0)
    with torch.no_grad():
        for row, weight in zip(trained.output_layer.weight.unflatten(0, (3, -1)), (0.299, 0.587, 0.114), strict=True):
            row += weight
    found = moved(trained, initial, luma)
    assert found.unseen < 1e-5 < 0.1 < min(found.channels.values())


@pytest.mark.parametrize("view", [RED, luma], ids=["red", "luma"])
def test_swapping_the_unseen_part_keeps_the_seen_one(view):
    own, other, images = small_model(0), small_model(1), torch.rand(2, 3, 8, 8)
    seen, all_of_it = view(own(images)), own(images)
    swap_unseen(own, other, view)
    torch.testing.assert_close(view(own(images)), seen)
    assert (own(images) - all_of_it).abs().max() > 0.01
    axes = view.unseen_axes().float()
    torch.testing.assert_close(axes @ rows(own), axes @ rows(other))
    with pytest.raises(ValueError, match="has no output_layer"):
        swap_unseen(nn.Identity(), nn.Identity(), view)


def planted(seen, free, seeds=12, images=40):
    """Outputs whose red differs between seeds by `seen`, and whose green and blue by `free`."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([seen, free, free]).view(1, 1, 3, 1, 1)
    common = torch.rand(1, images, 3, 6, 6, generator=generator)
    return common + scale * torch.randn(seeds, images, 3, 6, 6, generator=generator)


def test_chance_finds_planted_spread():
    found = chance(planted(0.02, 0.2), RED)
    for spread, truth in ((found.seen, 0.02), (found.free, 0.2), (found.ratio, 10), (found.channels["blue"], 0.2)):
        assert spread.value == pytest.approx(truth, rel=0.05)
        assert spread.low <= spread.value <= spread.high


def test_chance_equals_the_plain_variance():
    outputs = planted(0.1, 0.3, seeds=5, images=20)
    found = chance(outputs, RED)
    variance = outputs.double().var(0)
    assert found.seen.value == pytest.approx(float(variance[:, 0].mean().sqrt()))
    assert found.free.value == pytest.approx(float(variance[:, 1:].mean().sqrt()))
    torch.testing.assert_close(spread_maps(outputs, RED.seen_axes())[:, 0].double(), variance[:, 0].sqrt())


def test_intervals_are_as_wide_as_few_seeds_make_them():
    """One color a seed: many images do not make three seeds more than three."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(12, 1, 3, 1, 1, generator=generator)
    few, many = (chance(colors[:count].expand(-1, 50, -1, 4, 4), RED).free for count in (3, 12))
    assert (few.high - few.low) / few.value > 1.5 * (many.high - many.low) / many.value


def test_two_seeds_give_no_interval():
    found = chance(planted(0.1, 0.3, seeds=2), RED)
    assert (found.free.low, found.free.high) == (0, float("inf"))
    assert found.free.value == pytest.approx(0.3, rel=0.1)
    three = chance(planted(0.1, 0.3, seeds=3), RED)
    assert 0 < three.free.low <= three.free.value <= three.free.high


def test_intervals_cover_the_truth():
    """Of 40 experiments of six seeds with one color a seed each, most intervals hold the true spread."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(40):
        colors = torch.randn(6, 1, 3, 1, 1, generator=generator)
        free = chance(colors.expand(-1, 8, -1, 2, 2), RED).free
        covered += free.low <= 1 <= free.high
    assert covered >= 28


def test_chance_without_a_free_part():
    found = chance(planted(0.1, 0.1), LinearView([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert found.free is None
    assert found.ratio is None
    assert found.seen.value == pytest.approx(0.1, rel=0.05)
    assert chance(planted(0.1, 0.1), None).seen is None
    with pytest.raises(ValueError, match="two seeds or more"):
        chance(planted(0.1, 0.1)[:1], RED)
