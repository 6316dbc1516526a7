"""The same five variants as one model with stacked weights: `stack_module_state` and `vmap`, on a GPU captured."""

import time
from collections.abc import Callable
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
    optimizer = torch.optim.Adam(parameters.values(), lr=0.002, fused=True, capturable=device.type == "cuda")

    def loss(parameters: dict[str, Tensor], images: Tensor, weights: Tensor, num_rows: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            input = functional_call(skeleton, (parameters, {}), (images,))
        difference = weights @ (input.float() - images).flatten(2)
        return difference.abs().sum() / (num_rows * images[:, 0].numel())

    losses = torch.vmap(loss)
    orders = [OrderStream(seed).draw(len(images), batch_size, num_steps + 1, flip=True) for seed in range(len(WEIGHTS))]
    indices, mirror = (torch.stack(parts, dim=1).to(device) for parts in zip(*orders, strict=True))
    now = torch.zeros(1, dtype=torch.int64, device=device)

    def step() -> None:
        order = (part.index_select(0, now)[0] for part in (indices, mirror))
        batch = gather(images, *(part.flatten() for part in order)).unflatten(0, (len(WEIGHTS), batch_size))
        optimizer.zero_grad()
        losses(parameters, batch, weights, num_rows).sum().backward()
        optimizer.step()
        now.add_(1)

    warm = num_steps // 4
    take = step
    for position in range(num_steps):
        if position == warm and device.type == "cuda":
            take = _captured(step)
        if position == warm:
            start = _now(device)
        take()
    return (_now(device) - start) / (num_steps - warm)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step as a CUDA graph, once it was taken on a stream of its own."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
