import pytest
import torch

from losslens.training.grid import grid, logged_validations, read_strip, to_pil, write_strip


@pytest.mark.parametrize("planned", [1, 2, 5, 9, 10, 11, 37, 1000, None])
def test_at_most_ten_pictures_with_the_first_and_the_last(planned):
    """The untrained network's picture and the last one are always logged besides these."""
    chosen = logged_validations(planned)
    total = planned or 500
    steps = {0, *(step for step in chosen if step <= total), total}
    assert len(steps) <= 10
    assert min(chosen) >= 1
    if planned and planned <= 9:
        assert steps == set(range(planned + 1))


def test_grid_clamps_and_never_rescales():
    dark = torch.full((2, 3, 4, 4), 0.25)
    picture = grid([dark, dark * 8])
    assert picture.shape == (3, 2 * 4 + 3 * 2, 2 * 4 + 3 * 2)
    assert torch.equal(picture[:, 2:6, 2:6], dark[0])
    assert (picture[:, 8:12, 2:6] == 1).all()
    assert to_pil(picture).getpixel((3, 3)) == (64, 64, 64)


def test_a_strip_keeps_images_exactly(tmp_path):
    images = torch.randint(0, 256, (5, 3, 7, 9)) / 255
    write_strip(tmp_path / "strip.png", images)
    assert torch.equal(read_strip(tmp_path / "strip.png"), images)
    to_pil(images[0]).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="does not hold images side by side"):
        read_strip(tmp_path / "other.png")
