"""Memory: of a step, measured, and of the machine."""

import pytest
import torch
from lightning.pytorch.plugins import Precision
from test_module import MODEL, RED

from losslens import machine as memory
from losslens.machine import free_memory
from losslens.training import LitAutoencoder
from losslens.training.costs import measure_step


def test_a_step_is_measured_on_a_copy():
    module = LitAutoencoder(MODEL, RED)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    images = torch.rand(8, 3, 16, 16)
    need = measure_step(module, images, torch.device("cpu"), Precision())
    bytes_of_weights = sum(weight.nbytes for weight in module.parameters())
    # Weights, gradients and Adam's two averages, and per tensor one count of steps.
    assert need.state == pytest.approx(4 * bytes_of_weights, abs=200)
    assert need.step > 2 * images.nbytes
    twice = measure_step(module, torch.rand(16, 3, 16, 16), torch.device("cpu"), Precision())
    assert twice.state == need.state
    assert 1.5 * need.step < twice.step < 2.5 * need.step
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())


def test_a_container_has_less_memory_than_its_machine(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    whole = free_memory(cpu)
    assert whole > 0
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory(cpu) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(cpu) > 2000
