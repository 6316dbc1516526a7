"""What codes keep, against encoders made by hand, of which the answer is known."""

import pytest
import torch

from losslens.data.shapes import Shapes
from losslens.lens.changes import recolorings
from losslens.lens.codes import (
    change_all,
    codes_of,
    mean_chroma,
    nearest,
    neighbors,
    probe_chroma,
    recall,
    recall_of_recolored,
    sensitivity,
    standardize,
)
from losslens.losses import Luma

luma = Luma()


@pytest.fixture(scope="module")
def shapes():
    source = Shapes(image_size=24, train_size=80, val_size=40, batch_size=8, flip=False, resident="auto", seed=0)
    return [part.float() / 255 for part in source.decode()]


def test_codes_of_luma_find_every_isoluminant_copy(shapes):
    _, val = shapes
    found = recall_of_recolored(luma, val, recolorings(val))
    for metric in ("euclidean", "cosine"):
        for name in ("isoluminant recoloring", "desaturation"):
            assert found[metric][name].at_1 == 1
            assert found[metric][name].median_rank == 1
        assert found[metric]["blue and red swapped"].at_1 < 1
    assert found["euclidean"]["desaturation"].count == 40


def test_codes_of_colors_alone_do_not(shapes):
    _, val = shapes
    found = recall_of_recolored(lambda images: images - luma(images), val, recolorings(val))["euclidean"]
    assert found["isoluminant recoloring"].at_1 < 0.5
    assert found["desaturation"].at_1 <= 0.1  # no color is left to find by


def test_ranks_by_hand():
    gallery = torch.tensor([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    copies = torch.tensor([[0.1, 0], [1.9, 0], [2.1, 0], [0.2, 0]])  # of ranks 1, 2, 1, 4
    found = recall(gallery, copies)
    assert (found.at_1, found.at_5, found.median_rank, found.count) == (0.5, 1.0, 1.5, 4)


def test_equal_codes_find_nothing():
    found = recall(torch.ones(10, 3), torch.ones(10, 3))
    assert (found.at_1, found.median_rank) == (0, 5.5)  # the mean rank of all


def test_standardized_codes_leave_out_what_does_not_vary():
    codes = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100, 0, 3])
    (standard,) = standardize(codes)
    assert standard.shape == (50, 3)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(3))


def test_neighbors_are_those_of_brute_force():
    codes = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    (standard,) = standardize(codes)
    for metric in ("euclidean", "cosine"):
        found = neighbors(codes, [0, 7], 4, metric)
        for query, places in zip((0, 7), found, strict=True):
            if metric == "euclidean":
                distances = (standard - standard[query]).norm(dim=1)
            else:
                distances = 1 - torch.cosine_similarity(standard, standard[query][None])
            distances[query] = float("inf")
            assert places == distances.argsort()[:4].tolist()
    assert nearest(codes, codes[[3, 9]]) == [3, 9]


def test_equal_images_are_found_as_neighbors():
    codes = torch.tensor([[0.0, 1], [0, 1], [5, 2], [7, 3]])
    assert neighbors(codes, [0, 1], 2) == [[1, 2], [0, 2]]


def test_a_code_ignores_what_its_encoder_ignores(shapes):
    _, val = shapes
    moved = sensitivity(luma, val[:8])
    assert moved["isoluminant recoloring"] < 1e-5
    assert moved["desaturation"] < 1e-5
    assert moved["brightness"] > 0.01
    assert moved["white noise"] > 0.01


def test_sensitivity_is_relative_to_other_images(shapes):
    _, val = shapes
    copies = change_all(val[:8])
    rgb, scaled = (
        sensitivity(encode, val[:8], copies) for encode in (lambda images: images, lambda images: 9 * images)
    )
    assert rgb == pytest.approx(scaled, rel=1e-4)
    assert all(0 < value < 1 for value in rgb.values())  # a small change is nearer than another image
    assert 2 * rgb["white noise"] == pytest.approx(
        sensitivity(lambda images: images, val[:8], change_all(val[:8], 0.06))["white noise"], rel=0.05
    )


def test_the_probe_reads_color_from_colors_and_not_from_luma(shapes):
    train, val = shapes

    def probe(encode):
        codes = (codes_of(encode, images) for images in (train, val))
        chroma = (mean_chroma(images) for images in (train, val))
        fit, held_out = codes
        labels, held_out_labels = chroma
        return probe_chroma(fit, labels, held_out, held_out_labels, seed=0)

    colors = probe(lambda images: images.mean((2, 3)))
    assert colors.r2 > 0.99
    assert abs(colors.shuffled) < 0.3
    assert probe(luma).r2 < 0.2
    assert probe(lambda images: torch.zeros(len(images), 3)).r2 == 0


def test_mean_chroma_of_a_color():
    blue = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(2, -1, 4, 4)
    torch.testing.assert_close(mean_chroma(blue)[0], torch.tensor([0.5, -0.081312]), atol=1e-5, rtol=0)
