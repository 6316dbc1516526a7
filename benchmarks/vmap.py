"""The same five variants as one model with stacked weights: `torch.func.stack_module_state` and `vmap`."""

import time
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torch.func import functional_call, stack_module_state

from losslens.data.store import OrderStream, gather

CONF = Path(__file__).parent.parent / "conf"
# Rows of the losses' projections, as one table: l1, luma, red, green, blue.
WEIGHTS = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    *([row, [0, 0, 0], [0, 0, 0]] for row in ([0.299, 0.587, 0.114], [1, 0, 0], [0, 1, 0], [0, 0, 1])),
]
NUM_ROWS = [3, 1, 1, 1, 1]


def seconds_per_step(images: Tensor, batch_size: int, num_steps: int, *, bf16: bool) -> float:
    """Train five variants at once on uint8 images `(N, 3, H, W)`; returns seconds per step of all five."""
    device = images.device
    models = []
    for _ in WEIGHTS:
        torch.manual_seed(0)
        models.append(instantiate(OmegaConf.load(CONF / "model" / "small.yaml")).to(device))
    parameters, _ = stack_module_state(models)
    skeleton = models[0]
    weights = torch.tensor(WEIGHTS, device=device)
    num_rows = torch.tensor(NUM_ROWS, device=device)
    optimizer = torch.optim.Adam(parameters.values(), lr=0.002, fused=True)

    def loss(parameters: dict[str, Tensor], images: Tensor, weights: Tensor, num_rows: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            input = functional_call(skeleton, (parameters, {}), (images,))
        difference = weights @ (input.float() - images).flatten(2)
        return difference.abs().sum() / (num_rows * images[:, 0].numel())

    losses = torch.vmap(loss)
    orders = [OrderStream(seed).draw(len(images), batch_size, num_steps, flip=True) for seed in range(len(WEIGHTS))]
    times = []
    for step in range(num_steps):
        batch = torch.stack(
            [gather(images, order.indices[step].to(device), order.mirror[step].to(device)) for order in orders]
        )
        optimizer.zero_grad()
        losses(parameters, batch, weights, num_rows).sum().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
    warm = num_steps // 4
    return (times[-1] - times[warm]) / (num_steps - 1 - warm)
