"""A LitAutoencoder in an ordinary Trainer with two processes that share every batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow("starts interpreters that wait for each other")
SCRIPT = """
import os, sys
import lightning as L
import torch
from torch.utils.data import DataLoader
from losslens.losses import LinearView, Loss
from losslens.models import Autoencoder
from losslens.training import LitAutoencoder

count, path = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
autoencoder = Autoencoder(stride=4, code_channels=2, width=4, depth=1, patch=2, activation=torch.nn.ReLU)
luma = Loss(LinearView([[0.299, 0.587, 0.114]]), torch.nn.MSELoss())
images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
module = LitAutoencoder(autoencoder, luma, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
trainer = L.Trainer(
    accelerator="cpu", strategy="ddp" if count > 1 else "auto", devices=count, max_epochs=6, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(module, DataLoader(images, 8 // count), DataLoader(images, 8 // count))
if trainer.is_global_zero:
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    torch.save({"weights": module.autoencoder.state_dict(), "metrics": metrics}, path)
"""


def trained(folder: Path, count: int) -> dict:
    script, found = folder / "script.py", folder / f"{count}.pt"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    done = subprocess.run([*command, str(script), str(count), str(found)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(found)


def test_the_same_as_one_process_with_the_whole_batch(tmp_path):
    one, two = trained(tmp_path, 1), trained(tmp_path, 2)
    for name, weight in one["weights"].items():
        assert torch.allclose(two["weights"][name], weight, atol=1e-6), name
    assert any(not torch.equal(two["weights"][name], weight) for name, weight in one["weights"].items())
    for name in ("val/psnr", "val/ssim", "val/red"):  # of all images, not of one process's share
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4), name
