"""Folders of a sweep as training would have left them, with invented numbers."""

import csv
import json
from pathlib import Path

import torch
from omegaconf import OmegaConf

from losslens.losses.color import COLOR_DIRECTIONS
from losslens.pictures.grid import grid, png_summary, to_pil
from losslens.sweep.results import SweepResult, load_sweep
from losslens.training.metrics import METRICS

SPREAD = 0.2  # of the originals, along every direction
VIEWS = {
    "l1": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "red": [[1, 0, 0]],
    "cb": [[-0.168736, -0.331264, 0.5]],
}


def loss_config(name: str) -> dict:
    view = {"_target_": "losslens.losses.LinearView", "weights": VIEWS[name]}
    return {"_target_": "losslens.losses.Loss", "view": view, "distance": {"_target_": "torch.nn.L1Loss"}}


def write_sweep(variants: list[dict], folder: Path, photograph: torch.Tensor) -> SweepResult:
    """Each variant: `name`, `loss`, `seed`, `status`, metrics that are not 0.1, and `losses` by name."""
    losses = list(dict.fromkeys(variant["loss"] for variant in variants))
    entries = []
    for number, variant in enumerate(variants):
        place = folder / f"v{number}"
        values = {"loss": variant["loss"], "model": "small", "data": "photos", "seed": variant.get("seed", 0)}
        entries.append({"name": variant["name"], "folder": place.name, "values": values, "own_loss": variant["loss"]})
        _begin(place, variant, values)
        if variant.get("status") == "pending":
            continue
        metrics = {"loss": 0.1, **{name: variant.get(name, 0.1) for name in METRICS[1:]}}
        _train(place, metrics, photograph, brightness=0.1 * number)
        if variant.get("status", "done") == "done":
            _finish(
                place, metrics, variant["loss"], {name: variant.get("losses", {}).get(name, 0.1) for name in losses}
            )
    contents = {"variants": entries, "losses": losses, "varied": ["loss", "seed"]}
    (folder / "sweep.json").write_text(json.dumps(contents))
    return load_sweep(folder)


def _begin(place: Path, variant: dict, values: dict) -> None:
    (place / "pictures").mkdir(parents=True)
    config = {"loss": loss_config(variant["loss"]), "seed": values["seed"]}
    (place / "config.yaml").write_text(OmegaConf.to_yaml(config))
    status = variant.get("status", "done")
    reason = "<b>why</b>" if status == "failed" else None
    (place / "status.json").write_text(json.dumps({"status": status, "reason": reason}))
    environment = {
        **{"command": ["train.py", "-m", "loss=l1,red", "x=a b"], "python": "3.11", "platform": "Linux"},
        **{"device": "cpu", "cpu_count": 2, "packages": {"torch": "2"}, "git_commit": None, "git_changes": False},
    }
    (place / "environment.json").write_text(json.dumps(environment))


def _train(place: Path, metrics: dict[str, float], photograph: torch.Tensor, brightness: float) -> None:
    rows = [{"epoch": n, "step": 10 * n + 10, **{f"val/{k}": v for k, v in metrics.items()}} for n in range(2)]
    with (place / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    originals = torch.cat([photograph, photograph.flip(-1), photograph.flip(-2)])
    for step in (0, 10, 20):
        picture = to_pil(grid([originals, originals * min(1, brightness + 0.01 * step)]))
        png = png_summary(picture, len(originals)).encoded_image_string
        (place / "pictures" / f"{step:08d}.png").write_bytes(png)


def _finish(place: Path, metrics: dict[str, float], loss: str, losses: dict) -> None:
    results = {
        "metrics": metrics,
        "seen": {"cb": ["cb"], "red": ["red"], "l1": list(COLOR_DIRECTIONS)}[loss],
        **{"code_shape": [16, 8, 8], "compression_ratio": 12.0, "num_parameters": 1000},
        **{"steps": 20, "epochs": 2, "seconds": 4.0, "losses": losses},
        "originals": {"spread": dict.fromkeys(COLOR_DIRECTIONS, SPREAD), "color_rank": 1.4},
    }
    (place / "metrics.json").write_text(json.dumps(results))
