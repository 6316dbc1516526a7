"""How many variants train at once is planned from a measured step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.plugins import Precision
from test_module import MODEL, RED

from losslens import memory
from losslens.memory import free_memory
from losslens.training import LitAutoencoder
from losslens.training.memory import MAX_SHARE_OF_FREE_MEMORY, Need, measure_step, variants_that_fit


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


NEEDS = st.lists(st.builds(Need, st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=20)


@given(needs=NEEDS, free=st.integers(0, 40000), num_workers=st.integers(1, 30))
def test_as_many_as_fit_and_one_at_least(needs, free, num_workers):
    def needed(count):
        steps = sorted((need.step for need in needs[:count]), reverse=True)[:num_workers]
        return sum(need.state for need in needs[:count]) + sum(steps)

    count = variants_that_fit(needs, free, num_workers)
    assert count == 1 or needed(count) <= MAX_SHARE_OF_FREE_MEMORY * free
    assert count == len(needs) or needed(count + 1) > MAX_SHARE_OF_FREE_MEMORY * free


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
