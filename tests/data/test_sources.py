import pickle
import tarfile

import numpy as np
import pytest
import torch
from conftest import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st

from losslens.data import CIFAR10, STL10, Arrays, ImageDataModule, Images, Photos, Shapes
from losslens.data.datamodule import fixed_images
from losslens.data.photos import PHOTOGRAPHS, _open, _regions
from losslens.data.store import Batches, OrderStream
from losslens.data.stored import StoredImages
from losslens.losses import LinearView
from losslens.losses.color import COLOR_DIRECTIONS

LOADER = {"batch_size": 4, "flip": True, "resident": "auto", "seed": 0}


def photos(**arguments):
    return Photos(**{"image_size": 32, "train_size": 90, "val_size": 27, "val_fraction": 0.2, **LOADER, **arguments})


class TestPhotos:
    def test_shapes_and_seeds(self):
        images = photos().decode()
        assert images.train.shape == (90, 3, 32, 32)
        assert images.val.shape == (27, 3, 32, 32)
        assert images.train.dtype == torch.uint8
        assert torch.equal(images.val, photos().decode().val)
        assert not torch.equal(images.val, photos(seed=1).decode().val)

    def test_validation_is_the_same_whatever_is_trained_on(self):
        rng = [np.random.default_rng([0, 0]) for _ in range(2)]
        photograph = _open(PHOTOGRAPHS[0])
        assert _regions(photograph, 0.2, rng[0])[1].tobytes() == _regions(photograph, 0.2, rng[1])[1].tobytes()

    @pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph[1])
    @pytest.mark.parametrize("seed", range(3))
    def test_regions_are_disjoint(self, photograph, seed):
        """Mark every pixel with its place: no place is both in a training region and in the validation one."""
        from PIL import Image

        width, height = _open(photograph).size
        places = np.arange(width * height, dtype=np.int32).reshape(height, width)
        train, val = _regions(Image.fromarray(places), 0.2, np.random.default_rng([seed, 0]))
        trained = np.concatenate([np.asarray(region).ravel() for region in train])
        assert np.intersect1d(trained, np.asarray(val)).size == 0
        assert len(trained) + np.asarray(val).size > 0.9 * width * height

    def test_colorful(self):
        """Not gray: the data would not show what losses do with color."""
        images = photos().decode().val.float() / 255
        for direction in ("cb", "cr"):
            assert LinearView([COLOR_DIRECTIONS[direction]])(images).std() > 0.05

    @pytest.mark.parametrize(
        "bad", [{"val_fraction": 0.0}, {"val_fraction": 0.6}, {"train_size": 3}, {"image_size": 0}]
    )
    def test_refuses(self, bad):
        with pytest.raises(ValueError, match=next(iter(bad))):
            photos(**bad).decode()


class TestShapes:
    images = Shapes(image_size=32, train_size=600, val_size=8, **LOADER).decode()

    def test_shapes_and_seeds(self):
        assert self.images.train.shape == (600, 3, 32, 32)
        again = Shapes(image_size=32, train_size=600, val_size=8, **LOADER).decode()
        assert torch.equal(self.images.train, again.train)
        assert len(self.images.train.flatten(1).unique(dim=0)) == 600

    def test_color_is_independent_of_brightness(self):
        pixels = self.images.train.float() / 255
        luma, cb, cr = (
            LinearView([COLOR_DIRECTIONS[name]])(pixels)[:, 0, ::8, ::8].flatten() for name in ("luma", "cb", "cr")
        )
        for color in (cb, cr, torch.hypot(cb, cr)):
            assert torch.corrcoef(torch.stack([luma, color]))[0, 1].abs() < 0.08
        assert luma.std() > 0.08
        assert torch.hypot(cb, cr).mean() > 0.07

    def test_nothing_is_clipped(self):
        assert self.images.train.min() > 0
        assert self.images.train.max() < 255


class TestArrays:
    nchw = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 6), dtype=np.uint8)

    def decode(self, path, **arguments):
        return Arrays(**{"path": str(path), "val_fraction": 0.2, **LOADER, **arguments}).decode()

    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "float64"])
    def test_layouts_and_dtypes_give_the_same_images(self, tmp_path, channels_last, dtype):
        array = self.nchw.transpose(0, 2, 3, 1) if channels_last else self.nchw
        np.save(tmp_path / "a.npy", array if dtype == "uint8" else (array / 255).astype(dtype))
        images = self.decode(tmp_path / "a.npy")
        assert images.train.shape == (8, 3, 8, 6)
        assert images.val.shape == (2, 3, 8, 6)
        together = torch.cat(images).numpy()
        assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in self.nchw)

    def test_gray_becomes_rgb(self, tmp_path):
        np.save(tmp_path / "a.npy", self.nchw[:, :1].transpose(0, 2, 3, 1))
        train = self.decode(tmp_path / "a.npy").train
        assert train.shape[1] == 3
        assert torch.equal(train[:, 0], train[:, 2])

    @pytest.mark.parametrize("val", ["val", "test"])
    def test_named_parts(self, tmp_path, val):
        np.savez(tmp_path / "a.npz", train=self.nchw[:7], **{val: self.nchw[7:]})
        images = self.decode(tmp_path / "a.npz")
        assert np.array_equal(images.train, self.nchw[:7])
        assert np.array_equal(images.val, self.nchw[7:])

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 8, 8), np.uint8), "expected .N, 3, H, W."),
            (np.zeros((2, 8, 8, 5), np.uint8), "expected .N, 3, H, W."),
            (np.zeros((0, 3, 8, 8), np.uint8), "has no images"),
            (np.full((2, 3, 8, 8), 255.0), "floats must be in .0, 1."),
            (np.full((2, 3, 8, 8), np.nan), "floats must be in .0, 1."),
            (np.zeros((2, 3, 8, 8), np.int64), "has dtype int64"),
            (np.zeros((1, 3, 8, 8), np.uint8), "leaves a part empty"),
        ],
    )
    def test_refuses(self, tmp_path, array, message):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=message):
            self.decode(tmp_path / "a.npy")

    def test_refuses_what_is_no_array(self, tmp_path):
        with pytest.raises(ValueError, match="is not a file"):
            self.decode(tmp_path / "none.npy")
        (tmp_path / "a.npy").write_text("text")
        with pytest.raises(ValueError, match="cannot be read"):
            self.decode(tmp_path / "a.npy")
        np.savez(tmp_path / "a.npz", a=self.nchw, b=self.nchw)
        with pytest.raises(ValueError, match=r"holds \['a', 'b'\]"):
            self.decode(tmp_path / "a.npz")


class TestBenchmarks:
    @pytest.fixture
    def offline(self, monkeypatch):
        def refuse(*arguments, **_):
            raise OSError("no network")

        monkeypatch.setattr("urllib.request.urlopen", refuse)

    @pytest.mark.parametrize("source", [CIFAR10(root=None, **LOADER), STL10(root=None, train_split="train", **LOADER)])
    def test_without_network(self, source, offline):
        with pytest.raises(ValueError, match=r"cannot be downloaded \(.*data.root=FOLDER"):
            source.decode()

    def test_cifar10_in_its_real_format(self, tmp_path, offline, monkeypatch):
        """A stand-in of 20 images a batch, through torchvision's own reader."""
        from torchvision.datasets import CIFAR10 as Reader

        folder = tmp_path / Reader.base_folder
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
        for name, _ in Reader.train_list + Reader.test_list:
            (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0] * 20}))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["thing"]}))
        monkeypatch.setattr(Reader, "_check_integrity", lambda self: True)
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        images = CIFAR10(root=str(tmp_path), **LOADER).decode()
        assert images.train.shape == (100, 3, 32, 32)
        assert np.array_equal(images.val.flatten(1), pixels)

    @pytest.mark.slow("unpacks the whole of CIFAR-10")
    @pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the CIFAR-10 archive")
    def test_cifar10_itself(self, tmp_path, offline):
        with tarfile.open(SHARED_DATA / "cifar-10-batches-py.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        images = CIFAR10(root=str(tmp_path), **LOADER).decode()
        with np.load(SHARED_DATA / "cifar10_subset.npz") as subset:
            assert np.array_equal(images.val[:1017], subset["test"])
        assert len(images.train) == 50000

    def test_stl10_in_its_real_format(self, tmp_path, offline, monkeypatch):
        from torchvision.datasets import STL10 as Reader

        folder = tmp_path / Reader.base_folder
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 96, 96), dtype=np.uint8)
        for name in ("train_X.bin", "test_X.bin", "unlabeled_X.bin"):
            pixels.transpose(0, 1, 3, 2).tofile(folder / name)
        for name in ("train_y.bin", "test_y.bin"):
            np.ones(6, np.uint8).tofile(folder / name)
        (folder / "class_names.txt").write_text("thing\n")
        monkeypatch.setattr(Reader, "_check_integrity", lambda self: True)
        for split in ("train", "unlabeled"):
            images = STL10(root=str(tmp_path), train_split=split, **LOADER).decode()
            assert np.array_equal(images.train, pixels)
            assert np.array_equal(images.val, pixels)
        with pytest.raises(ValueError, match=r"use data\.train_split=train or unlabeled"):
            STL10(root=str(tmp_path), train_split="all", **LOADER).decode()


CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [lambda images: images, lambda images: StoredImages(images.numpy())])
class TestBatches:
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)

    def test_every_image_once_in_an_order_of_the_seed(self, kind):
        def epochs(seed):
            batches = Batches(kind(self.images), 5, device=CPU, order=OrderStream(seed), num_steps=2)
            return [torch.cat(list(batches))[:, 0, 0, 0].mul(255).round().int().tolist() for _ in range(2)]

        first, second = epochs(0)
        assert sorted(first) == sorted(second) == list(range(10))
        assert first != second
        assert epochs(0) == [first, second]
        assert epochs(1) != [first, second]

    def test_the_last_batch_is_incomplete_in_validation_only(self, kind):
        batches = Batches(kind(self.images), 4, device=CPU, order=OrderStream(0), num_steps=3)
        assert [len(batch) for batch in batches] == [4, 4, 4]
        assert len(batches) == 3
        batches = Batches(kind(self.images), 4, device=CPU)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert len(batches) == 3
        assert torch.equal(torch.cat(list(batches)), self.images.float() / 255)

    def test_half_are_mirrored(self, kind):
        images = torch.tensor([0, 255], dtype=torch.uint8).expand(1000, 3, 1, 2)
        (batch,) = Batches(kind(images), 1000, device=CPU, order=OrderStream(0), num_steps=1, flip=True)
        assert 0.45 < batch[:, 0, 0, 0].mean() < 0.55
        assert torch.equal(batch.sum(-1), torch.ones(1000, 3, 1))


@given(st.integers(1, 9), st.integers(1, 12), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_every_step_has_a_full_batch_and_every_image_comes_equally_often(count, batch_size, lengths, data):
    """However many images there are; and drawn from any place, what follows is the same."""
    stream = OrderStream(0)
    drawn, places = [], []
    for length in lengths:
        places.append(stream.place)
        drawn.append(stream.draw(count, batch_size, length, flip=True))
        assert drawn[-1].indices.shape == drawn[-1].mirror.shape == (length, batch_size)
    indices, mirror = (torch.cat([part.flatten() for part in parts]) for parts in zip(*drawn, strict=True))
    for permutation in indices.split(count)[: len(indices) // count]:
        assert permutation.sort().values.tolist() == list(range(count))
    whole = OrderStream(0).draw(count, batch_size, sum(lengths), flip=True)
    assert torch.equal(whole.indices.flatten(), indices)
    assert torch.equal(whole.mirror.flatten(), mirror)
    place = data.draw(st.integers(0, len(lengths) - 1))
    other = OrderStream(1)
    other.resume_at(places[place])
    assert torch.equal(other.draw(count, batch_size, lengths[place], flip=True).indices, drawn[place].indices)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(0, "batch_size 0 is not 1 or more"), (11, "batch_size 11 is more than the 10 training images")],
)
def test_an_epoch_must_have_a_batch(batch_size, message):
    images = Images(torch.zeros(10, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=message):
        ImageDataModule(images, batch_size=batch_size, flip=False, resident="auto", seed=0)


def test_fixed_images_are_spread_over_the_set_and_show_something():
    val = torch.arange(8, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)
    val[[1, 2, 4, 7], :, 0, 0] = 255  # of most contrast
    assert fixed_images(Images(val, val), 4)[:, 0, 1, 1].mul(255).tolist() == [1, 2, 4, 7]
    assert len(fixed_images(Images(val, val), 100)) == 8
