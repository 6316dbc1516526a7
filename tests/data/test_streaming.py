"""Images that stay in files: the same ones, read when they are used and not before."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from commands import HANGS
from PIL import Image

from losslens.data import Arrays, Folder, Images, Shapes
from losslens.data.datamodule import ArrayDataModule, ImageDataModule
from losslens.data.store import PREFETCH, OrderStream, gather, read_ahead
from losslens.data.stored import StoredImages

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path):
    PIXELS.tofile(tmp_path / "pixels")
    return StoredImages(np.memmap(tmp_path / "pixels", np.uint8, "r", shape=PIXELS.shape))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(root / f"{number:02}.png")
    return root


def folder(root, **changes):
    settings = {
        "image_size": 8,
        "crops": 1,
        "val_fraction": 0.25,
        "on_error": "skip",
        "batch_size": 4,
        "flip": True,
        "seed": 0,
    }
    return Folder(**{"root": str(root), **settings, **changes})


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(PREFETCH)]


def test_stored_images_are_indexed_as_a_tensor(stored):
    whole = torch.from_numpy(PIXELS)
    assert (stored.shape, stored.nbytes, len(stored)) == (whole.shape, whole.nbytes, 40)
    part = torch.tensor([7, 3, 30])
    for places in (slice(5, 9), [3, 1, 3], torch.tensor([39, 0]), torch.tensor([], dtype=torch.int64), slice(None)):
        assert torch.equal(stored[places], whole[places])
    assert torch.equal(stored.part(part)[:], whole[part])
    assert torch.equal(stored.part(part)[[2, 0]], whole[[30, 7]])
    assert torch.equal(stored.to(torch.device("cpu")), whole)


def test_a_folder_is_the_same_from_the_cache_and_in_memory(root):
    held, streamed = folder(root, resident=True).decode(), folder(root, resident=False).decode()
    for one, other in zip(held, streamed, strict=True):
        assert isinstance(one, torch.Tensor)
        assert isinstance(other, StoredImages)
        assert torch.equal(one, other[:])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("layout", ["first", "last", "gray"])
def test_an_array_is_the_same_from_its_file_and_in_memory(tmp_path, dtype, layout):
    array = {"first": PIXELS, "last": PIXELS.transpose(0, 2, 3, 1), "gray": PIXELS[:, :1]}[layout]
    np.save(tmp_path / "a.npy", array if dtype == "uint8" else (array / 255).astype(dtype))
    settings = {"path": str(tmp_path / "a.npy"), "val_fraction": 0.2, "batch_size": 4, "flip": True, "seed": 0}
    held, streamed = (Arrays(**settings, resident=resident).decode() for resident in (True, False))
    for one, other in zip(held, streamed, strict=True):
        assert isinstance(one, torch.Tensor)
        assert isinstance(other, StoredImages)
        assert torch.equal(one, other[:])


@pytest.mark.parametrize(("free", "kind"), [(2 * 40 * 3 * 64, torch.Tensor), (2 * 40 * 3 * 64 - 2, StoredImages)])
def test_auto_streams_what_does_not_fit_into_half_of_the_memory(root, monkeypatch, free, kind):
    monkeypatch.setattr("losslens.data.source.free_memory", lambda device: free)
    images = folder(root, resident="auto").decode()
    assert all(isinstance(part, kind) for part in images)
    data = ImageDataModule(images, batch_size=4, flip=True, resident="auto", seed=0)
    data.setup("fit")
    assert isinstance(data.train_dataloader().images, kind)
    assert isinstance(data.val_dataloader().images, kind)


@pytest.mark.parametrize("value", ["yes", "False", 1, None])
def test_another_value_is_refused(value):
    with pytest.raises(ValueError, match=r"use data\.resident=auto, data\.resident=true or data\.resident=false"):
        Shapes(image_size=8, train_size=4, val_size=2, batch_size=2, flip=True, seed=0, resident=value)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("length", [1, 3, 8])
def test_chunks_hold_the_same_batches(stored, flip, length):
    def batches(images, resident):
        streams = [OrderStream(seed) for seed in (0, 1, 1)]
        data = ArrayDataModule(
            Images(images, images),
            batch_size=4,
            flip=flip,
            resident=resident,
            streams=streams,
            chunk=length,
            num_steps=10,
        )
        data.setup("fit")
        chunks = data.train_dataloader()
        for _ in range(2):
            for chunk in chunks:
                assert chunk.staged == (resident is False)
                for row in range(3):
                    for step in range(chunk.num_steps):
                        yield gather(chunk.images, chunk.indices[row, step], chunk.mirror[row, step])

    held = list(batches(torch.from_numpy(PIXELS), True))
    assert len(held) == 2 * 3 * 10
    for images in (stored, torch.from_numpy(PIXELS)):
        for one, other in zip(held, batches(images, False), strict=True):
            assert torch.equal(one, other)
    assert threads() == []


def test_images_of_steps_that_are_passed_over_are_not_read(stored):
    def chunks(passed):
        data = ArrayDataModule(
            Images(stored, stored),
            batch_size=4,
            flip=True,
            resident=False,
            streams=[OrderStream(0)],
            chunk=3,
            num_steps=10,
        )
        data.setup("fit")
        data.passed = passed
        loader = data.train_dataloader()
        return [list(loader) for _ in range(2)]

    whole, later = chunks(0), chunks(5)
    assert [len(chunk.images) for chunk in later[0]] == [0, 4, 12, 4]
    assert [len(chunk.images) for chunk in later[1]] == [12, 12, 12, 4]
    for one, other in zip(whole[0], later[0], strict=True):
        assert torch.equal(one.mirror, other.mirror)
    taken = [gather(chunk.images, chunk.indices[0, 2], chunk.mirror[0, 2]) for chunk in (whole[0][1], later[0][1])]
    assert torch.equal(*taken)  # the sixth step


class TestReadAhead:
    def test_the_next_is_read_while_one_is_in_use(self):
        begun = [threading.Event() for _ in range(3)]

        def read(index):
            begun[index].set()
            return index, threading.current_thread().name

        for index, (read_index, name) in enumerate(read_ahead(read, range(3))):
            assert index == read_index
            assert name.startswith(PREFETCH)
            assert index == 2 or begun[index + 1].wait(HANGS)
        assert threads() == []

    def test_no_more_than_the_next_is_read(self):
        read = []
        for index in read_ahead(lambda index: read.append(index) or index, range(10)):
            assert max(read) <= index + 1

    def test_its_error_is_raised_here(self):
        results = read_ahead(lambda index: 1 // (2 - index), range(5))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert threads() == []

    def test_left_early_its_thread_ends(self):
        results = read_ahead(lambda index: index, range(5))
        next(results)
        assert len(threads()) == 1
        del results
        assert threads() == []


MEASURED = """
import os, sys, threading, time
os.cpu_count = lambda: 2  # so many images are decoded at once
from losslens.data import Folder

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

peak, done = 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())

source = Folder(
    root=sys.argv[1], image_size=512, crops=1, val_fraction=0.1, on_error="skip", batch_size=4, flip=True, seed=0,
    resident=sys.argv[2] == "true",
)
start = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
images = source.decode()
done.set()
watcher.join()
print(sum(part.nbytes for part in images), max(peak, anonymous()) - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_folder_is_decoded_without_being_in_memory_whole(tmp_path, root):
    """Memory that is the process's own, not pages of files, which the system takes back whenever it likes."""
    for number in range(40, 160):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / f"{number}.png")

    def grown(resident):
        command = [sys.executable, "-c", MEASURED, str(root), resident]
        return map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    nbytes, streamed = grown("false")
    assert nbytes > 110e6
    assert streamed < 0.5 * nbytes
    _, held = grown("true")
    assert held > 0.9 * nbytes
