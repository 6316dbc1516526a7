import copy
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from commands import ROOT, SHORT
from commands import run as run_command
from filelock import FileLock
from PIL import Image

# As many processes as cores run the tests: one thread for each. The commands that they start divide the cores as ever.
torch.set_num_threads(1)

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


FIRST = ("test_article.py", "test_going_on.py")  # of the files, so that none is alone at work at the end


def pytest_configure(config):
    """Keep what programs store for later, or leave when killed, in a folder that all processes of this run share."""
    if not hasattr(config, "workerinput"):  # those get it from the first one
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.gettempdir()  # where the folders of tests stay
        folder = tempfile.mkdtemp(prefix="tests-of-losslens-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        stored = ("TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCHINDUCTOR_CACHE_DIR")
        os.environ |= dict.fromkeys(stored, folder)


def pytest_collection_modifyitems(items):
    """Put long files first; refuse a test that is in the second tier without a reason, skip what the machine lacks."""
    items.sort(key=lambda item: item.path.name not in FIRST)
    for item in items:
        if any(not mark.args for mark in item.iter_markers("slow")):
            raise pytest.UsageError(f"{item.nodeid} does not say why it is slow: pytest.mark.slow('why')")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(autouse=True)
def nothing_is_left():
    """A test leaves neither a process nor a changed environment behind."""
    before = _settings()
    with mock.patch.dict(os.environ):  # which Lightning changes, for instance
        yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert left == []
    assert _settings() == before


def _settings():
    deterministic = torch.are_deterministic_algorithms_enabled()
    return (
        Path.cwd(),
        signal.getsignal(signal.SIGINT),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        deterministic,
    )


@pytest.fixture(autouse=True)
def surroundings(nothing_is_left, tmp_path, monkeypatch):
    """A cache apart from the user's, and a terminal that is too narrow for a path."""
    monkeypatch.setenv("LOSSLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "30")


@pytest.fixture
def train(tmp_path) -> Command:
    """Run train.py in a process of its own, in an empty folder, as a user does."""

    def run(*arguments: str, check: bool = True, **settings) -> subprocess.CompletedProcess[str]:
        done = run_command(["train.py", *arguments], tmp_path, **settings)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Fill a folder, once for all the processes that run the tests."""

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "filled").exists():
                folder.mkdir()
                fill(folder)
                (folder / "filled").touch()
        return folder

    return make


def _train_sweep(place: Path, *arguments: str) -> None:
    size = ["data=shapes", "data.image_size=32", "data.batch_size=16", "data.val_size=252", "trainer=cpu"]
    size += ["hydra.sweep.dir=sweep"]
    done = run_command(["train.py", "-m", *arguments, *size], place)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def trained_sweep(made_once) -> Path:
    """The folder of a small sweep on drawn shapes: three losses, two seeds each; some seconds."""
    arguments = ["loss=l1,luma,red", "seed=0,1", "trainer.max_epochs=1", "report=false"]
    return made_once("trained", lambda place: _train_sweep(place, *arguments)) / "sweep"


@pytest.fixture(scope="session")
def studied_sweep(made_once) -> Path:
    """The folder of a sweep with its report: five losses, three seeds each, on drawn shapes; a minute."""
    arguments = ["loss=l1,luma,red,green,blue", "seed=range(3)"]
    return made_once("studied", lambda place: _train_sweep(place, *arguments)) / "sweep"


@pytest.fixture(scope="session")
def unhurt(made_once) -> dict[str, dict]:
    """What the sweep of the tests of faults comes to if nothing happens to it."""
    from sweeps import VARIANTS, Sweep

    def fill(place: Path) -> None:
        assert Sweep(place).run().returncode == 0

    sweep = Sweep(made_once("unhurt", fill))
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
        surroundings = {**os.environ, "TMPDIR": SHORT or tempfile.gettempdir()}
        browser = playwright.chromium.launch(executable_path=path, args=flags, env=surroundings)
        yield browser
        browser.close()


def loss_config(*choices: str) -> dict:
    """The resolved configuration of the loss that choices of `train.py` make."""
    return copy.deepcopy(_loss_config(*choices))


@cache
def _loss_config(*choices: str) -> dict:
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
def torch_home(made_once):
    """Where torch keeps what it downloaded: networks with random weights, under the names of the trained ones."""
    from losslens.losses.networks import NETWORKS

    def fill(home: Path) -> None:
        checkpoints = home / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True)
        for name, known in NETWORKS.items():
            torch.save(random_weights(name), checkpoints / known.weights.url.rpartition("/")[2])

    return made_once("torch", fill)


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
