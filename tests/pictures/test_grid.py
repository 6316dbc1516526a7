import pytest
import torch

from losslens.pictures.grid import grid, png_summary, read_grid, to_pil
from losslens.training.callbacks import logged_validations


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


@pytest.mark.parametrize("count", [1, 5])
def test_a_grid_keeps_images_exactly(tmp_path, count):
    originals, reconstructions = torch.randint(0, 256, (2, count, 3, 7, 9)) / 255
    picture = to_pil(grid([originals, reconstructions]))
    (tmp_path / "grid.png").write_bytes(png_summary(picture, count).encoded_image_string)
    read = read_grid(tmp_path / "grid.png")
    assert torch.equal(read[0], originals)
    assert torch.equal(read[1], reconstructions)
    picture.save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="does not say how many images it holds"):
        read_grid(tmp_path / "other.png")
