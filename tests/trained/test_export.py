"""export.py as a user meets it; what it writes is read by the programs that it is for."""

import json

import numpy as np
import pytest
import torch
from commands import run as run_command
from conftest import TINY, the_only
from PIL import Image
from torch import nn

import losslens
from losslens import build as build_module
from losslens.trained import export as export_module
from losslens.trained.export import export_variant

pytestmark = pytest.mark.slow("compiles and runs each export; needs the extra `export`")
NAME = "loss=luma,seed=0"


@pytest.fixture
def variant(trained_sweep):
    return losslens.load_variant(trained_sweep / NAME)


@pytest.fixture
def export(tmp_path, trained_sweep):
    def run(*arguments, check=True):
        done = run_command(["export.py", f"variant={trained_sweep}/{NAME}", *arguments], tmp_path)
        assert not check or done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def folder(tmp_path):
    return the_only((tmp_path / "outputs" / "exports").iterdir())


@pytest.mark.parametrize("size", [(1, 16, 16), (2, 33, 70), (1, 321, 481)])
def test_onnx(export, tmp_path, variant, size):
    import onnx
    import onnxruntime

    done = export("format=onnx")
    assert "1x3x64x64, 3x3x83x57, 2x3x321x481, 1x3x32x32, it differs by" in done.stdout
    file = folder(tmp_path) / f"{NAME}.onnx"
    onnx.checker.check_model(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [axis if isinstance(axis, int) else str(axis) for axis in session.get_inputs()[0].shape] == [
        *("batch", 3, "height", "width")
    ]
    images = torch.rand(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(0))
    reconstructions, codes = session.run(["reconstructions", "codes"], {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(reconstructions, variant(images).numpy(), atol=1e-4)
        np.testing.assert_allclose(codes, variant.encode(images).numpy(), atol=1e-3)


def test_torch_export(export, tmp_path, variant):
    export("format=torch_export")
    program = torch.export.load(folder(tmp_path) / f"{NAME}.pt2").module()
    images = torch.rand(3, 3, 41, 29)
    with torch.no_grad():
        torch.testing.assert_close(program(images)[0], variant(images))


def test_safetensors(export, tmp_path, variant):
    from safetensors import safe_open

    export("format=safetensors")
    with safe_open(folder(tmp_path) / f"{NAME}.safetensors", framework="pt") as file:
        settings = json.loads(file.metadata()["losslens"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert settings["loss"]["view"]["_target_"] == "losslens.losses.Luma"
    assert weights.keys() == variant.state_dict().keys()
    assert all(torch.equal(weights[name], weight) for name, weight in variant.state_dict().items())


def test_the_card_says_what_it_is(export, tmp_path, trained_sweep):
    export("format=safetensors")
    card = (folder(tmp_path) / f"{NAME}.md").read_text()
    metrics = json.loads((trained_sweep / NAME / "metrics.json").read_text())["metrics"]
    for text in (f"# {NAME}", "losslens.losses.Luma", "blind to", "isoluminant recoloring", "losslens.data.Shapes"):
        assert text in card
    assert f"| luma | {metrics['luma']:.4g} |" in card


def test_unknown_formats(export, tmp_path):
    done = export("format=tflite", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: format is tflite: use onnx, torch_export or safetensors\n"
    assert not list((tmp_path / "outputs" / "exports").iterdir())


def test_a_missing_package_is_named(trained_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "is_there", lambda package: package != "onnxscript")
    with pytest.raises(ValueError, match=r"format=onnx needs onnxscript: pip install 'losslens\[export\]'"):
        export_variant(trained_sweep / NAME, "onnx", tmp_path)


def test_an_export_that_differs_is_dropped(trained_sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(
        export_module.SAVE, "onnx", lambda module, *_: (lambda images: (images, module.encode(images)), True)
    )
    with pytest.raises(ValueError, match="the export was dropped"):
        export_variant(trained_sweep / NAME, "onnx", tmp_path)
    assert not list(tmp_path.iterdir())


class OneSize(nn.Module):
    """Takes images of 16x16 only, as a network with a dense layer does."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3 * 256, 8)
        self.back = nn.Linear(8, 3 * 256)

    def encode(self, images):
        return self.dense(images.reshape(len(images), 768))

    def decode(self, code):
        return self.back(code).reshape(len(code), 3, 16, 16)


class Undecided(OneSize):
    def encode(self, images):
        return super().encode(images) * (2 if images.mean().item() > 0.5 else 1)


@pytest.mark.parametrize("name", ["onnx", "torch_export"])
def test_a_model_of_one_size_is_exported_for_it(tmp_path, name):
    from losslens.training.module import LitAutoencoder

    module = LitAutoencoder(OneSize(), nn.L1Loss()).eval()
    run, any_size = export_module.SAVE[name](module, tmp_path / "file", (16, 16))
    assert not any_size
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(run(images)[0], module(images))
        torch.testing.assert_close(run(images)[1], module.encode(images))


def test_codes_and_nan_count(trained_sweep, tmp_path, monkeypatch, variant):
    for change in (lambda r, c: (r, c + 1), lambda r, c: (r * float("nan"), c)):
        run = lambda images, change=change: change(variant(images), variant.encode(images))  # noqa: E731
        monkeypatch.setitem(export_module.SAVE, "onnx", lambda module, path, size, run=run: (run, True))
        with pytest.raises(ValueError, match="the export was dropped"):
            export_variant(trained_sweep / NAME, "onnx", tmp_path)


def test_a_model_that_cannot_be_exported_says_so(tmp_path):
    from losslens.training.module import LitAutoencoder

    with pytest.raises(ValueError, match="model Undecided cannot be exported so"):
        export_module.SAVE["torch_export"](LitAutoencoder(Undecided(), nn.L1Loss()).eval(), tmp_path / "f", (16, 16))


OWN = """
import torch
class Patches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(3, 6, 8, stride=8)
        self.up = torch.nn.ConvTranspose2d(6, 3, 8, stride=8)
        self.up.weight = self.down.weight
    def encode(self, images): return self.down(images)
    def decode(self, code): return self.up(code)
"""


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """A variant of a model with tied weights, which cuts what is no whole patch of 8x8 pixels."""
    place = tmp_path_factory.mktemp("own")
    (place / "mine.py").write_text(OWN)
    chosen = ["model=custom", "model._target_=mine.Patches", "hydra.run.dir=run"]
    done = run_command(["train.py", "loss=l1", *TINY, *chosen], place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("wanted", ["onnx", "torch_export", "safetensors"])
def test_an_own_model_with_tied_weights_that_does_not_pad(own_model, wanted):
    done = run_command(
        ["export.py", "variant=run", "trust=true", f"format={wanted}", f"hydra.run.dir={wanted}"], own_model
    )
    assert done.returncode == 0, done.stderr
    assert "run back on images of 1x3x64x64, 1x3x16x16, it differs by" in done.stdout
    (card,) = (own_model / wanted).glob("*.md")
    assert "The model does not take images of 83x57, 321x481." in card.read_text()


def test_a_picture_that_an_own_model_would_cut(own_model):
    Image.new("RGB", (57, 83)).save(own_model / "a.png")
    done = run_command(["reconstruct.py", "variant=run", "trust=true", "images=a.png"], own_model)
    assert done.returncode == 1
    assert "model Patches turns images (1, 3, 83, 57) into (1, 3, 80, 56)" in done.stderr
    assert "Traceback" not in done.stderr
