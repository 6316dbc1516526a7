"""The command as a user meets it: folders, files, TensorBoard, console, reproducibility."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from commands import run
from conftest import TINY, the_only
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from losslens.training import LitAutoencoder
from losslens.training.metrics import METRICS

VARIANTS = ["loss=l1", "loss=luma"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """One sweep for all tests that only look at it."""
    place = tmp_path_factory.mktemp("sweep")
    size = [*TINY, "trainer.max_epochs=12", "array.threads=1", "report=true"]
    done = run(["train.py", "-m", "loss=l1,luma", *size], place, fresh=True)
    assert done.returncode == 0, done.stderr
    folder = the_only((place / "outputs" / "sweeps").iterdir())
    return folder, done


def pixels(file):
    with Image.open(file) as image:
        return np.asarray(image)


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_folders(sweep):
    folder, _ = sweep
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["baselines", *VARIANTS]
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {
        *("log.txt", "sweep.lock", "sweep.json", "multirun.yaml", "results.csv", "results.json", "report.html"),
        *("neighbors.png", "recolored.png", "outputs.png"),
        *("sheet.png", "sheet.webp", "progress.webp", the_only(folder.glob("events.*")).name),
    }
    for variant in VARIANTS:
        names = {path.name for path in (folder / variant).iterdir()}
        event = the_only((folder / variant).glob("events.*")).name
        assert names == {
            *("checkpoints", "config.yaml", "environment.json", "data.json", "log.txt", "grid.png"),
            *("metrics.csv", "metrics.json", "study.json", "status.json", "pictures", event),
            *("00048", "projector_config.pbtxt"),  # of the Projector
        }
        assert json.loads((folder / variant / "status.json").read_text()) == {"status": "done", "reason": None}
        config = OmegaConf.load(folder / variant / "config.yaml")
        assert config.schedule.max_lr == config.optimizer.lr == 0.02
        surroundings = json.loads((folder / variant / "environment.json").read_text())
        assert surroundings["packages"]["torch"] == torch.__version__.partition("+")[0]
        assert surroundings["command"][1:3] == ["-m", "loss=l1,luma"]


def test_metrics(sweep):
    folder, _ = sweep
    for variant in VARIANTS:
        written = json.loads((folder / variant / "metrics.json").read_text())
        names = [*METRICS, "seen_error", "unseen_error", "seen_psnr"]
        assert list(written["metrics"]) == [each for each in names if each != "unseen_error" or variant == "loss=luma"]
        assert written["losses"][variant.removeprefix("loss=")] == written["metrics"]["loss"]
        assert written["losses"]["luma"] == pytest.approx(written["metrics"]["luma"])
        assert written["compression_ratio"] == 3 * 16 * 16 / (16 * 2 * 2)
        assert written["steps"] == 48
        rows = list(csv.DictReader((folder / variant / "metrics.csv").read_text().splitlines()))
        assert [int(row["epoch"]) for row in rows] == list(range(12))
        assert float(rows[-1]["val/loss"]) == written["metrics"]["loss"]
    assert json.loads((folder / "loss=luma" / "metrics.json").read_text())["seen"] == ["luma"]


def test_checkpoints_are_data(sweep):
    folder, _ = sweep
    for name in ("best", "last"):
        path = folder / "loss=luma" / "checkpoints" / f"{name}.ckpt"
        torch.load(path, weights_only=True)
        module = LitAutoencoder.load_from_checkpoint(path, weights_only=True)
        assert module(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_tensorboard_curves_have_the_same_tags_in_every_run(sweep):
    folder, _ = sweep
    tags = [set(events(folder / variant).Tags()["scalars"]) for variant in VARIANTS]
    expected = {f"val/{name}" for name in METRICS} | {"train/loss", "lr", "epoch", "compression_ratio"}
    expected |= {"val/seen_error", "val/seen_psnr"}
    assert tags == [expected, expected | {"val/unseen_error"}]
    assert len(events(folder / "loss=l1").Scalars("val/loss")) == 12


def test_tensorboard_grids(sweep):
    folder, _ = sweep
    pictures = {}
    for variant in VARIANTS:
        accumulator = events(folder / variant)
        logged = accumulator.Images("originals above reconstructions")
        assert len(logged) == 10
        assert (logged[0].step, logged[-1].step) == (0, 48)
        pictures[variant] = [pixels(io.BytesIO(image.encoded_image_string)) for image in logged]
        # Lossless: the last is the very picture in the folder.
        assert np.array_equal(pictures[variant][-1], pixels(folder / variant / "grid.png"))
    first, second = pictures.values()
    top = first[0].shape[0] // 2
    assert all(np.array_equal(picture[:top], first[0][:top]) for picture in first + second)  # the same originals
    assert not np.array_equal(first[-1][top:], second[-1][top:])
    assert np.array_equal(first[0][top:], second[0][top:])  # one seed, one untrained network


def test_hparams_tab(sweep):
    """One session a run, no made-up metric, no empty or None cell, no nested run."""
    folder, _ = sweep
    assert not list(folder.glob("*/*/events.*"))
    for variant in VARIANTS:
        metadata = events(folder / variant).summary_metadata
        parsed = {
            tag: plugin_data_pb2.HParamsPluginData.FromString(entry.plugin_data.content)
            for tag, entry in metadata.items()
            if entry.plugin_data.plugin_name == "hparams"
        }
        assert set(parsed) == {
            "_hparams_/experiment",
            "_hparams_/session_start_info",
            "_hparams_/session_end_info",
        }
        start = parsed["_hparams_/session_start_info"].session_start_info.hparams
        values = {
            name: value.WhichOneof("kind") and (value.string_value or value.number_value)
            for name, value in start.items()
        }
        assert values == {"loss": variant.removeprefix("loss="), "model": "small", "data": "shapes", "seed": 0}
        tags = [info.name.tag for info in parsed["_hparams_/experiment"].experiment.metric_infos]
        assert sorted(tags) == sorted(f"val/{name}" for name in METRICS)
        assert set(tags) <= set(events(folder / variant).Tags()["scalars"])


def test_few_megabytes(sweep):
    folder, _ = sweep
    assert sum(path.stat().st_size for path in folder.glob("*/events.*")) < 1e6


def test_console(sweep):
    folder, done = sweep
    lines = done.stdout.splitlines()
    assert lines[0] == f"2 variants in {folder.relative_to(folder.parents[2])}"
    assert "compression 12:1" in lines[1]
    row = next(line for line in lines if line.split()[:1] == ["loss=luma"])
    cells = dict(
        zip(["loss", "red", "green", "blue", "luma", "cb", "cr", "psnr", "ssim", "rank"], row.split()[1:], strict=True)
    )
    assert [name for name, cell in cells.items() if cell.endswith("*")] == ["loss", "luma"]
    assert lines[-3].startswith("tensorboard --logdir ")
    assert [line.rpartition("/")[2] for line in lines[-2:]] == ["sheet.png", "report.html"]
    assert all(line.startswith("python -m webbrowser file://") for line in lines[-2:])
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_sheet(sweep):
    folder, _ = sweep
    assert len(pixels(folder / "sheet.png")) == 5 * 128 + 6 * 2 + 16  # originals, two variants, two baselines
    assert (folder / "sheet.webp").stat().st_size < (folder / "sheet.png").stat().st_size
    with Image.open(folder / "progress.webp") as moving:
        assert moving.n_frames == 10


def test_tensorboard_run_of_the_sweep(sweep):
    """The sheet over training, and one chart with what all variants see and do not see."""
    folder, _ = sweep
    accumulator = events(folder)
    logged = accumulator.Images("all variants")
    steps = [image.step for image in events(folder / "loss=l1").Images("originals above reconstructions")]
    assert [image.step for image in logged] == steps
    last = pixels(io.BytesIO(logged[-1].encoded_image_string))
    assert np.array_equal(last[:-8, -500:], pixels(folder / "sheet.png")[: len(last) - 8, -500:])  # no baselines
    content = accumulator.summary_metadata["custom_scalars__config__"]
    assert content.plugin_data.plugin_name == "custom_scalars"


def test_the_report_is_made_again_from_the_folders(sweep, tmp_path):
    folder, _ = sweep
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    made = ["sheet.png", "sheet.webp", "progress.webp", "results.csv", "results.json", "report.html"]
    for name in made:
        (copy / name).unlink()
    assert run(["-m", "losslens.report", copy, "--details"], tmp_path, fresh=True).returncode == 0
    for name in made[:-1]:
        assert (copy / name).read_bytes() == (folder / name).read_bytes()
    assert len(list(copy.glob("events.*"))) == 1
    assert len(pixels(copy / "details.png")) == (1 + 2 * 4) * (128 + 2) + 2 + 16
    assert run(["-m", "losslens.report", folder, copy, "--output", "both"], tmp_path).returncode == 0
    rows = json.loads((tmp_path / "both" / "results.json").read_text())
    assert [row["variant"].partition("/")[2] for row in rows if row["status"] == "done"] == VARIANTS + VARIANTS
    done = run(["-m", "losslens.report", tmp_path], tmp_path)
    assert done.returncode == 1
    assert "has no sweep.json: give the folder of a sweep" in done.stderr


def test_projector_and_clouds(sweep):
    folder, _ = sweep
    codes = (folder / "loss=luma" / "00048" / "codes" / "tensors.tsv").read_text().splitlines()
    assert len(codes) == 8
    assert len(codes[0].split("\t")) == 8  # dimensions that eight codes span
    images = events(folder / "loss=luma").Tags()["images"]
    assert "pixels of originals and reconstructions in RGB" in images


def test_the_same_command_twice_gives_identical_metrics_and_weights(train, tmp_path):
    for folder in ("a", "b"):
        train("loss=red", "seed=3", *TINY, f"hydra.run.dir={folder}")
    metrics = [json.loads((tmp_path / folder / "metrics.json").read_text())["metrics"] for folder in ("a", "b")]
    assert metrics[0] == metrics[1]
    weights = [torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in ("a", "b")]
    for name, weight in weights[0]["state_dict"].items():
        assert torch.equal(weight, weights[1]["state_dict"][name])


def test_a_run_alone_is_the_variant_of_a_sweep(sweep, train, tmp_path):
    folder, _ = sweep
    train("loss=luma", *TINY, "trainer.max_epochs=12", "array.threads=1", "hydra.run.dir=alone")
    alone, in_sweep = (
        json.loads((place / "metrics.json").read_text()) for place in (tmp_path / "alone", folder / "loss=luma")
    )
    assert alone["metrics"] == in_sweep["metrics"]
    assert alone["array"] == {"variants": 1, "threads": 1}
    assert in_sweep["array"] == {"variants": 2, "threads": 1}


def test_more_variants_than_may_train_at_once_make_several_arrays(sweep, train, tmp_path):
    folder, _ = sweep
    done = train(
        *("-m", "loss=l1,red,luma", *TINY, "trainer.max_epochs=12", "array.threads=1", "array.max_variants=2"),
        "report=true",
        "hydra.sweep.dir=several",
    )
    assert "2 arrays, one after another" in done.stdout
    for variant in VARIANTS:
        several, one = (
            json.loads((place / variant / "metrics.json").read_text()) for place in (tmp_path / "several", folder)
        )
        assert several["metrics"] == one["metrics"]
    assert several["array"]["variants"] == 1
    assert (tmp_path / "several" / "sheet.png").is_file()


def test_variants_of_different_data_train_one_after_another(train, tmp_path):
    done = train("-m", "data.seed=0,1", "loss=l1", *TINY, "report=true")
    folder = the_only((tmp_path / "outputs" / "sweeps").iterdir())
    assert sorted(path.name for path in folder.glob("sheet*.png")) == ["sheet-2.png", "sheet.png"]
    for seed in (0, 1):
        facts = json.loads((folder / f"data.seed={seed}" / "metrics.json").read_text())
        assert facts["array"]["variants"] == 1
    assert "arrays, one after another" not in done.stdout


def test_a_run_has_its_readable_folder_and_steps_may_end_anywhere(train, tmp_path):
    train(*TINY, "loss/view=blue", "loss/distance=mse", "trainer.max_steps=3", "trainer.max_epochs=-1")
    folder = the_only((tmp_path / "outputs").glob("*/*"))
    assert folder.name.endswith("-loss=blue-mse")
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 3
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    steps = [image.step for image in events(folder).Images("originals above reconstructions")]
    assert steps == [0, 3]


def test_anything_by_target(train, tmp_path):
    """A model, a loss and a callback of the user's own, on the import path, with nothing registered."""
    (tmp_path / "mine.py").write_text(
        "import lightning, torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "        self.down, self.up = torch.nn.Conv2d(3, channels, 4, 4), torch.nn.Conv2d(channels, 48, 1)\n"
        "    def encode(self, images): return self.down(images)\n"
        "    def decode(self, code): return torch.nn.functional.pixel_shuffle(self.up(code), 4)\n"
        "class Loss(torch.nn.Module):\n"
        "    def forward(self, input, target): return (input - target).abs().mean() ** 2\n"
        "class Callback(lightning.Callback):\n"
        "    def on_train_end(self, trainer, module): print('own callback called')\n"
    )
    done = train(
        *("-m", "loss._target_=mine.Loss", "seed=0,1", *TINY),
        *("model=custom", "model._target_=mine.Model", "+model.channels=6"),
        "trainer.callbacks=[{_target_: mine.Callback}]",
    )
    assert "own callback called" in done.stdout
    assert "code 6x4x4, compression 8:1" in done.stdout
    folder = the_only((tmp_path / "outputs" / "sweeps").iterdir())
    assert (folder / "seed=0").is_dir()
    assert (folder / "seed=1").is_dir()


def test_lightnings_profiler_and_progress_bar_work(train):
    done = train("-m", "loss=l1,luma", *TINY, "+trainer.profiler=simple", "+trainer.enable_progress_bar=true")
    assert "run_training_batch" in done.stdout + done.stderr
    assert "Epoch 0" in done.stdout + done.stderr


def test_help_lists_choices_and_imports_nothing_heavy(train):
    done = train("--help", fresh=True, PYTHONPROFILEIMPORTTIME="1")
    assert "loss: blue, chroma, color_blind, dists" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "numpy", "torchmetrics", "PIL"}
