import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# Two crops' worth of training on 16x16 drawn shapes: all of the machinery in a second.
TINY = [
    "data=shapes",
    "data.image_size=16",
    "data.train_size=32",
    "data.val_size=8",
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "report=false",
]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the tests' cache apart from the user's."""
    monkeypatch.setenv("LOSSLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def train(tmp_path) -> Command:
    """Run train.py in a process of its own, in an empty folder, as a user does."""

    def run(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def trained_sweep(tmp_path_factory) -> Path:
    """The folder of a real small sweep: five losses, three seeds each, on drawn shapes; half a minute."""
    place = tmp_path_factory.mktemp("trained")
    size = ["data=shapes", "data.image_size=32", "data.train_size=1600", "trainer=cpu", "trainer.max_epochs=6"]
    command = [sys.executable, ROOT / "train.py", "-m", "loss=l1,luma,red,green,blue", "seed=range(3)", *size]
    subprocess.run(command, cwd=place, check=True, timeout=1500, capture_output=True)
    return the_only((place / "outputs" / "sweeps").iterdir())


@pytest.fixture(scope="session")
def unhurt(tmp_path_factory) -> dict[str, dict]:
    """What the sweep of the tests of faults comes to if nothing happens to it."""
    from sweeps import VARIANTS, Sweep

    sweep = Sweep(tmp_path_factory.mktemp("unhurt"))
    assert sweep.run().returncode == 0
    return {name: sweep.results(name) for name in VARIANTS}


@pytest.fixture(scope="session")
def photograph() -> torch.Tensor:
    """A real photograph, float (1, 3, 64, 64)."""
    import skimage

    pixels = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB").resize((64, 64))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def cat() -> torch.Tensor:
    """A photograph of midtones, float64 (1, 3, 64, 96)."""
    import skimage

    pixels = Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png").convert("RGB").resize((96, 64))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].double() / 255


@pytest.fixture(scope="session")
def images():
    """Random images, uint8, 80 to train on and 16 to validate on."""
    from losslens.data import Images

    generator = torch.Generator().manual_seed(0)
    train, val = (torch.randint(0, 256, (n, 3, 12, 12), generator=generator, dtype=torch.uint8) for n in (80, 16))
    return Images(train, val)


@pytest.fixture
def train_array(tmp_path, images):
    """Train variants together, given as changes of one configuration, and return what they left."""

    from variants import Trained

    def run(variants: dict[str, dict], workers: int = 2, **trainer) -> Trained:
        folder = tmp_path / f"array{len(list(tmp_path.glob('array*')))}"
        return Trained(folder, images, variants, trainer, workers)

    return run


@pytest.fixture
def write_sweep(tmp_path, photograph):
    """Write the folders of a sweep by hand, with invented numbers, and read them."""
    from folders_by_hand import write_sweep

    return lambda variants, folder=tmp_path / "a sweep": write_sweep(variants, folder, photograph)


@pytest.fixture(scope="module")
def browser():
    """Chromium; without it, tests that need it are skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("needs Chromium: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def loss_config(*choices: str) -> dict:
    """The resolved configuration of the loss that choices of `train.py` make."""
    from hydra import compose, initialize_config_dir

    from losslens.build import plain_settings

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return plain_settings(compose("train", list(choices)).loss)


@contextmanager
def quiet_page(browser, path: Path, width: int):
    """A page in Chromium; afterwards, nothing was asked of anybody, and nothing went wrong."""
    troubles = []
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append("alert"), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith(("data:", "file:")) or troubles.append(asked.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert troubles == []


def the_only(paths) -> Path:
    (path,) = paths
    return path


def random_weights(name):
    """Weights as a new network has them, of the layers that are used; torchvision's own file has the others, too."""
    from losslens.losses.networks import NETWORKS

    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.device("meta"):
            features = NETWORKS[name].make().features
        features = features.to_empty(device="cpu")
        for module in features.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.normal_(module.bias, std=0.1)
    return {f"features.{key}": value for key, value in features.state_dict().items()}


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory):
    """Where torch keeps what it downloaded: networks with random weights, under the names of the trained ones."""
    from losslens.losses.networks import NETWORKS

    home = tmp_path_factory.mktemp("torch")
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name, known in NETWORKS.items():
        torch.save(random_weights(name), checkpoints / known.weights.url.rpartition("/")[2])
    return home


@pytest.fixture
def downloaded(torch_home, monkeypatch):
    """Let torch find these networks as if it had downloaded them."""
    monkeypatch.setenv("TORCH_HOME", str(torch_home))


@pytest.fixture
def published(tmp_path):
    """A file of weights as one is published: its name ends on its checksum."""
    path = tmp_path / "published.pth"
    torch.save(random_weights("squeezenet"), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(tmp_path / f"squeezenet-{digest[:8]}.pth")
