"""How an array is set up: precision, where data lives."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, the_only
from variants import CONFIG, MODEL, TRAINER

from losslens.data import ImageDataModule, Images
from losslens.data.stored import StoredImages
from losslens.run.plan import split_by_memory
from losslens.training import trainer as trainer_module
from losslens.training.costs import variant_costs
from losslens.variant import Variant


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "has_bf16", "width", "precision"),
    [
        ("auto", True, True, 200, "bf16-mixed"),
        ("gpu", True, True, 200, "bf16-mixed"),
        ("auto", True, True, 4, "32-true"),  # too small to gain by it
        ("auto", True, True, 0, "32-true"),  # no network at all, which is told elsewhere
        ("auto", True, False, 200, "32-true"),
        ("auto", False, True, 200, "32-true"),
        ("cpu", True, True, 200, "32-true"),
    ],
)
def test_precision_follows_the_hardware_and_the_model(monkeypatch, accelerator, has_gpu, has_bf16, width, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: has_bf16)
    model = {**MODEL, "width": width}
    config = {"trainer": {"accelerator": accelerator, "precision": "auto"}, "model": model}
    assert trainer_module.trainer_settings(config)["precision"] == precision
    config["trainer"]["precision"] = "16-mixed"
    assert trainer_module.trainer_settings(config) == config["trainer"]


def test_data_that_does_not_fit_is_streamed(monkeypatch):
    images = Images(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: f"on {device}")

    def place(resident, free_images):
        data = ImageDataModule(images, batch_size=2, flip=False, resident=resident, seed=0)
        data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_images * 3 * 16, 10**9))
        data.setup("fit")
        return "streamed" if isinstance(data.images.train, StoredImages) else data.images.train

    assert place("auto", free_images=19) == "streamed"
    assert place("auto", free_images=20) == "on cuda"
    assert place(True, free_images=19) == "on cuda"
    assert place(False, free_images=20) == "streamed"


def test_determinism_ends_with_a_sweep_that_was_planned_for_it(tmp_path, images):
    config = {**CONFIG, "trainer": {**TRAINER, "deterministic": True}}
    variants = [Variant(name, config, tmp_path, {}) for name in "ab"]
    assert split_by_memory(variants, images) == [variants]
    variant_costs(variants, images)
    assert not torch.are_deterministic_algorithms_enabled()


def test_determinism_ends_with_the_training_that_wanted_it(train_array):
    array = train_array({"red": {}}, deterministic=True)
    assert not array.failures
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        ("mps", "error: trainer.accelerator is mps: use auto, cpu, gpu or cuda\n"),
        (
            "gpu",
            "error: trainer.accelerator=gpu, and PyTorch sees no CUDA GPU here: use trainer=auto, or another machine\n",
        ),
    ],
)
def test_a_device_that_is_not_there_is_told_at_once(train, tmp_path, accelerator, message):
    done = train(
        "-m", "loss=l1,luma", *TINY, f"trainer.accelerator={accelerator}", check=False, CUDA_VISIBLE_DEVICES=""
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_a_device_that_is_gone_when_a_sweep_goes_on_is_told_and_nothing_is_lost(train, tmp_path):
    train("loss=l1", *TINY, "hydra.run.dir=run")
    config, status = tmp_path / "run" / "config.yaml", tmp_path / "run" / "status.json"
    config.write_text(config.read_text().replace("accelerator: cpu", "accelerator: gpu"))
    status.write_text(json.dumps({"status": "interrupted", "reason": ""}))
    before = status.read_text()
    done = train("resume=run", check=False, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert done.stderr.startswith("error: trainer.accelerator=gpu, and PyTorch sees no CUDA GPU here: use trainer=auto")
    assert status.read_text() == before


def test_what_apple_calls_a_gpu_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    config = {"_target_": "lightning.Trainer", "accelerator": "auto"}
    trainer = trainer_module.make_trainer(config, tmp_path, [])
    assert trainer.strategy.root_device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
def test_a_sweep_on_the_gpu(train, tmp_path):
    arguments = [argument for argument in TINY if argument != "trainer=cpu"]
    done = train("-m", "loss=l1,luma", *arguments, "trainer=gpu")
    assert done.stderr == ""
    assert len(list(the_only((tmp_path / "outputs" / "sweeps").iterdir()).glob("loss=*/metrics.json"))) == 2
