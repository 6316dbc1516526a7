"""Trained variants loaded as users have them: folders, sweeps, checkpoint files, and what is none."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import losslens
from losslens.trained.load import find_variants


def test_a_loaded_variant_is_ready(trained_sweep):
    variant = losslens.load_variant(trained_sweep / "loss=l1,seed=0")
    assert not variant.training
    images = losslens.load_sweep(trained_sweep)["loss=l1,seed=0"].originals
    with torch.no_grad():
        assert variant.loss(variant(images), images) < 0.09
    again = losslens.load_variant(trained_sweep / "loss=l1,seed=0" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(variant.parameters(), again.parameters(), strict=True))


def test_pictures_in_any_form(trained_sweep, tmp_path):
    variant = losslens.load_variant(trained_sweep / "loss=l1,seed=0")
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(pixels).movedim(-1, 0)
    expected = variant.reconstruct(tmp_path / "picture.png")
    assert expected.shape == (1, 3, 37, 53)
    assert expected.min() >= 0
    assert expected.max() <= 1
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    forms = (
        bgr[..., ::-1],
        str(tmp_path / "picture.png"),
        Image.fromarray(pixels),
        pixels,
        tensor,
        tensor[None],
        tensor / 255,
    )
    for form in forms:
        torch.testing.assert_close(variant.reconstruct(form), expected)
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6  # to be turned by a quarter
    assert variant.reconstruct(turned).shape == (1, 3, 53, 37)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.rand(5, 5), "has shape"),
        (torch.rand(1, 3, 16, 16) * 2, "give uint8, or"),
        (torch.zeros(3, 16, 16, dtype=torch.int64), "give uint8, or"),
        (np.zeros((4, 4, 3), np.uint8), "smaller than the network's stride"),
        ("none.png", "none.png cannot be read"),
    ],
)
def test_pictures_that_are_none(trained_sweep, picture, message):
    with pytest.raises(ValueError, match=message):
        losslens.load_variant(trained_sweep / "loss=l1,seed=0").reconstruct(picture)


def test_find_variants(trained_sweep):
    assert len(find_variants([trained_sweep])) == 6
    place = trained_sweep / "loss=red,seed=1"
    found = find_variants([place, place / "checkpoints" / "best.ckpt"])
    assert {name: each.checkpoint for name, each in found.items()} == {
        "loss=red,seed=1": place / "checkpoints" / "last.ckpt",
        "loss=red,seed=1-2": place / "checkpoints" / "best.ckpt",
    }
    assert all(each.result.metrics for each in found.values())
    assert set(find_variants([f"{trained_sweep}/loss=red,*"])) == {f"loss=red,seed={seed}" for seed in range(2)}
    with pytest.raises(ValueError, match="holds several variants: give the folder of one"):
        losslens.load_variant(trained_sweep)


def test_a_checkpoint_alone(trained_sweep, tmp_path):
    shutil.copy(trained_sweep / "loss=red,seed=1" / "checkpoints" / "last.ckpt", tmp_path / "mine.ckpt")
    ((name, found),) = find_variants([tmp_path / "mine.ckpt"]).items()
    assert (name, found.result) == ("mine", None)
    assert found.load().reconstruct(torch.rand(3, 20, 20)).shape == (1, 3, 20, 20)


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


def test_settings_that_call_something_else(trained_sweep, tmp_path):
    """A checkpoint names what is made of it: networks, losses, optimizers, and nothing else."""
    checkpoint = torch.load(trained_sweep / "loss=red,seed=1" / "checkpoints" / "last.ckpt", weights_only=True)
    for target in ("os.mkdir", "torch.load", "logging.FileHandler"):
        checkpoint["hyper_parameters"]["loss"] = {"_target_": target, "path": str(tmp_path / "made")}
        torch.save(checkpoint, tmp_path / "evil.ckpt")
        with pytest.raises(ValueError, match=f"names {target}, which is no class of a network"):
            losslens.load_variant(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()


def test_what_is_no_variant(tmp_path, capsys):
    with pytest.raises(ValueError, match="holds no trained variant"):
        losslens.load_variant(tmp_path)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("text", "evil", "pickle"):
        with pytest.raises(ValueError, match=f"{name}.ckpt .*(nothing else is loaded|cannot be loaded)"):
            losslens.load_variant(tmp_path / f"{name}.ckpt")
    assert "it ran" not in capsys.readouterr().out
