"""Quality of `l1` on the default photographs against seconds of one core: what the defaults were chosen from."""

import argparse
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from results_table import write_table

from losslens.build import build, plain_settings
from losslens.data.store import OrderStream, gather
from losslens.overrides import register_resolvers
from losslens.report.linear_code import LinearCode, block_statistics
from losslens.training.metrics import reconstruction_metrics
from losslens.training.module import draw_module

CONF = Path(__file__).parent.parent / "conf"
STEPS = "trainer.max_steps="
CANDIDATES = {
    "default": [],
    "100 steps": [f"{STEPS}100"],
    "200 steps": [f"{STEPS}200"],
    "400 steps": [f"{STEPS}400"],
    "800 steps": [f"{STEPS}800"],
    "1,600 steps": [f"{STEPS}1600"],
    "batches of 2": ["data.batch_size=2"],
    "batches of 8": ["data.batch_size=8"],
    "batches of 16 crops of 64x64": ["data.image_size=64", "data.batch_size=16", "data.train_size=6400"],
    "learning rate 0.01": ["optimizer.lr=0.01"],
    "learning rate 0.04": ["optimizer.lr=0.04"],
    "optimizer=adam": ["optimizer=adam"],
    "optimizer=adam, 1,600 steps": ["optimizer=adam", f"{STEPS}1600"],
    "optimizer=sgd": ["optimizer=sgd"],
    "width 64": ["model.width=64"],
    "depth 1, patch 8": ["model.depth=1"],
    "depth 1, patch 4, width 32": ["model.depth=1", "model.patch=4", "model.width=32"],
    "depth 2, patch 2, width 32": ["model.depth=2", "model.patch=2", "model.width=32"],
}
LONG = ["data.train_size=6400", "optimizer.lr=0.01"]
SLOW = {
    "experiment=fine": ["experiment=fine"],
    "model=small, 6,400 crops, 1,000 steps": [*LONG, f"{STEPS}1000"],
    "model=small, 6,400 crops, 8,000 steps": [*LONG, f"{STEPS}8000"],
    "model=large, 6,400 crops, 1,000 steps": ["model=large", *LONG, f"{STEPS}1000"],
    "model=large, 6,400 crops, 8,000 steps": ["model=large", *LONG, f"{STEPS}8000"],
}


def measure(overrides: list[str], val: torch.Tensor) -> tuple[str, str, str, str]:
    """Train one candidate on one core, and measure it; returns its cells."""
    config = plain_settings(compose("train", overrides=overrides))
    data, steps = config["data"], config["trainer"]["max_steps"]
    images = build(data).decode().train
    module = draw_module(config)
    optimizer = module.make_optimizer(module.parameters())
    schedule = module.make_schedule(optimizer, total_steps=steps)
    order = OrderStream(0).draw(len(images), data["batch_size"], steps, data["flip"])
    start = time.process_time()
    for indices, mirror in zip(*order, strict=True):
        batch = gather(images, indices, mirror)
        loss = module.loss(module(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - start
    count = sum(parameter.numel() for parameter in module.autoencoder.parameters())
    return f"{count:,}", f"{seconds:.1f}", *quality(module, val)


@torch.no_grad()
def quality(reconstruct: object, val: torch.Tensor) -> tuple[str, str]:
    """Return PSNR and L1 of reconstructions of the default validation crops."""
    metrics, errors = reconstruction_metrics(), 0.0
    for batch in val.split(8):
        images = batch.float() / 255
        reconstructions = reconstruct(images)  # type: ignore[operator]
        metrics.update(reconstructions, images)
        errors += (reconstructions - images).abs().mean().item() * len(images)
    return f"{metrics.compute()['val/psnr'].item():.2f}", f"{errors / len(val):.4f}"


def main() -> None:
    """Measure all candidates, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true", help="those that take the better part of an hour, too")
    candidates = CANDIDATES | (SLOW if parser.parse_args().slow else {})
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        images = build(plain_settings(compose("train"))["data"]).decode()
        linear = LinearCode(block_statistics(images.train, 8), 16)
        rows = [("the best linear code", "", "", *quality(linear, images.val))]
        for name, overrides in candidates.items():
            rows.append((name, *measure(overrides, images.val)))
            print(*rows[-1], flush=True)
    notes = [
        "L1 loss, seed 0; every candidate is the default but for what it says. All have 16 numbers for each block of "
        "8x8 pixels, and all are measured on the default validation crops of 128x128.",
        "Seconds are those of the steps, on one core. With 6,400 crops, the learning rate is 0.01.",
    ]
    torch.set_num_threads(num_threads)
    write_table(__file__, ("candidate", "parameters", "seconds", "PSNR, dB", "L1"), rows, notes)


if __name__ == "__main__":
    main()
