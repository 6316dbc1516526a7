"""Streamed or held: the same bits. No thread is left behind, whatever happens."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from test_cuda import RecordedEngine
from variants import CONFIG, DIFFERENT, Trained, assert_same_bits

from losslens.data import Images, datamodule
from losslens.data.store import PREFETCH
from losslens.data.stored import StoredImages
from losslens.training import array as array_module

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")

SETTINGS = [
    {},
    {"val_check_interval": 4},
    {"limit_train_batches": 7},
    {"limit_train_batches": 0.35, "limit_val_batches": 1},
    {"max_steps": 13, "max_epochs": -1},
    {"check_val_every_n_epoch": 2, "max_epochs": 4},
]


@pytest.fixture
def trained(tmp_path, images):
    """Train on images that are held in memory, or streamed from a file."""

    def train(resident, flip=True, convert=torch.from_numpy, **trainer):
        parts = []
        for name, part in images._asdict().items():
            np.save(tmp_path / f"{name}.npy", part)
            parts.append(StoredImages(np.load(tmp_path / f"{name}.npy", mmap_mode="r"), convert))
        data = {**CONFIG["data"], "resident": resident, "flip": flip}
        variants = {name: {**changes, "data": data} for name, changes in DIFFERENT.items()}
        folder = tmp_path / f"array{len(list(tmp_path.glob('array*')))}"
        return Trained(folder, images if resident is True else Images(*parts), variants, trainer, workers=2)

    return train


@pytest.fixture
def engine(monkeypatch, request):
    """The threads, or the GPU's engine by its logic."""
    if request.param == "graph":
        kind = type("Engine", (RecordedEngine,), {"recorded": []})
        monkeypatch.setattr(array_module, "ThreadEngine", lambda workers, threads, say: kind(torch.device("cpu"), say))
        return kind
    return None


def assert_same(one, other):
    assert one.lines == other.lines == []
    for name in DIFFERENT:
        assert_same_bits(one.weights(name), other.weights(name))
        assert one.outcomes[name].metrics == other.outcomes[name].metrics
        assert one.picture(name) == other.picture(name)
        tables = [(each.folder / name / "metrics.csv").read_text() for each in (one, other)]
        assert tables[0] == tables[1]


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(PREFETCH)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("engine", ["threads", "graph"], indirect=True)
def test_the_same_bits(trained, engine, settings):
    assert_same(trained(True, **settings), trained(False, **settings))
    if engine:
        assert engine.recorded.count(3) >= 2  # captured, both times
    assert threads() == []


def test_the_same_bits_without_mirroring(trained):
    held = trained(True, flip=False)
    assert_same(held, trained(False, flip=False))
    assert not torch.equal(*(next(iter(array.weights("red").values())) for array in (held, trained(True, flip=True))))


def test_what_is_in_a_file_is_streamed_by_default(trained, monkeypatch):
    begun = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread.name) or start(thread))
    assert_same(trained(True), trained("auto"))
    assert any(name.startswith(PREFETCH) for name in begun)


def test_an_error_of_reading_is_that_of_the_run(trained):
    """Read are shapes, what is checked and shown before training, and then in the background."""

    def convert(pixels):
        if threading.current_thread().name.startswith(PREFETCH):
            raise OSError("the disk is gone")
        return torch.from_numpy(pixels)

    with pytest.raises(OSError, match="the disk is gone"):
        trained(False, convert=convert)
    assert threads() == []


def test_an_error_in_training_leaves_no_thread(trained, monkeypatch):
    def fail(*_):
        assert len(threads()) == 1
        raise RuntimeError("torn")

    monkeypatch.setattr(array_module.ThreadEngine, "run_steps", fail)
    with pytest.raises(RuntimeError, match="torn"):
        trained(False)
    assert threads() == []


@pytest.mark.parametrize("train_and_val", [True, False])
def test_a_folder_by_the_command(train, tmp_path, train_and_val):
    rng = np.random.default_rng(0)
    for part, count in (("train", 48), ("val", 12)):
        place = tmp_path / "photos" / (part if train_and_val else "")
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{part}{number:02}.png")
    size = ["data.image_size=16", "data.batch_size=8", "trainer=cpu", "trainer.max_epochs=2", "report=false"]
    results = []
    for resident, name in (("true", "held"), ("false", "streamed")):
        train("data=folder", "data.root=photos", f"data.resident={resident}", *size, f"hydra.run.dir={name}")
        weights = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        files = ("metrics.csv", "data.json", "grid.png")
        results.append((weights, *((tmp_path / name / file).read_bytes() for file in files)))
    assert_same_bits(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]
    refused = train("data=folder", "data.root=photos", "data.resident=perhaps", *size, check=False)
    assert refused.returncode != 0
    assert "data.resident is perhaps: use auto, or true or false" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_chunks_of_many_bytes_have_fewer_steps(trained, monkeypatch):
    whole = trained(False)
    lengths, stage = [], datamodule.Chunks._stage

    def noted(self, order, passed):
        lengths.append(order.indices.shape[1])
        return stage(self, order, passed)

    monkeypatch.setattr(datamodule.Chunks, "_stage", noted)
    in_step = len(DIFFERENT) * CONFIG["data"]["batch_size"] * 3 * 12 * 12
    monkeypatch.setattr(datamodule, "STAGED_BYTES", 3 * in_step + 1)
    assert_same(trained(False), whole)
    assert set(lengths) == {3, 1}  # of ten steps
