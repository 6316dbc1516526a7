"""What holds for the project as a whole: configurations make objects, Hydra finds the plugins, a wheel has all."""

import subprocess
import sys
import zipfile

import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from losslens.build import build


def test_losses_depend_on_torch_alone():
    code = "import sys, losslens.losses; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"'lightning'", "'hydra'", "'torchvision'", "'torchmetrics'"} & set(
        done.stdout.strip("[]\n").split(", ")
    )


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("size", [32, 64, 96])
def test_models(model, size):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [f"model={model}"]).model)
    autoencoder = build(config)
    images = torch.rand(1, 3, size, size)
    assert autoencoder(images).shape == images.shape
    assert autoencoder.encode(images).numel() * 12 == images.numel()


@pytest.mark.parametrize("group", ["data", "optimizer", "schedule", "trainer"])
def test_every_configuration_names_a_real_target(group):
    from hydra.utils import get_object

    for path in (ROOT / "conf" / group).glob("*.yaml"):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("train", [f"{group}={path.stem}"])[group]
        assert callable(get_object(config._target_))


FIND = (
    "from hydra.core.plugins import Plugins; from hydra.plugins.plugin import Plugin;"
    "print([plugin.__name__ for plugin in Plugins.instance().discover(Plugin)])"
)


def test_plugins_are_found_in_this_install_without_torch():
    code = FIND + "; import sys; assert not {'torch', 'lightning', 'optuna'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ArrayLauncher" in done.stdout
    assert "OptunaSweeper" in done.stdout


@pytest.mark.slow("builds a wheel, for which it downloads the backend")
def test_plugin_is_found_in_a_wheel(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "hydra_plugins/losslens/launchers.py" in names
    assert "losslens/report/templates/report.html.jinja" in names
    assert "hydra_plugins/__init__.py" not in names
    # First on the path, so that it is the wheel's and not the checkout's.
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {FIND};"
    code += "import hydra_plugins.losslens as found; print(found.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "ArrayLauncher" in done.stdout
    assert "OptunaSweeper" in done.stdout
    assert str(tmp_path) in done.stdout
