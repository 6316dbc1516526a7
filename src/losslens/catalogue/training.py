"""One photograph through networks that were trained alike under every loss."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress, TaskID

from losslens.build import build
from losslens.catalogue.entries import Entry
from losslens.console import say
from losslens.data.pictures import as_images
from losslens.data.source import Images
from losslens.sweep.plan import count_workers, share_cores, split_by_memory
from losslens.trained.load import load_variant
from losslens.training.fit import fit
from losslens.training.grid import to_pil
from losslens.training.listener import Listener
from losslens.variant import Variant


def reconstruct(
    entries: Sequence[Entry], settings: Mapping[str, Any], photograph: Path, console: Console
) -> dict[str, tuple[Image.Image, list[float]]]:
    """Train a variant under each loss, and let it reconstruct a photograph. Equal losses are trained once.

    Args:
        entries: of which a loss can be made.
        settings: of training, but for the loss; resolved.
        photograph: a file.
        console: for the user.

    Returns:
        By the entry's key, the picture, clamped to [0, 1], and the range of its values before. One that failed is left
        out; a line says why.
    """
    distinct: dict[str, Entry] = {}
    for entry in entries:
        distinct.setdefault(repr(entry.config), entry)
    images = as_images(photograph)
    pictures: dict[str, tuple[Image.Image, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        variants = [
            Variant(entry.key, {**settings, "loss": entry.config}, Path(folder) / entry.key, {"loss": entry.key})
            for entry in distinct.values()
        ]
        for name in _train(variants, console):
            with torch.no_grad():
                values = load_variant(Path(folder) / name)(images)[0]
            low, high = (float(f"{float(each):.3g}") for each in (values.min(), values.max()))
            pictures[name] = to_pil(values.clamp(0, 1)), [low, high]
    trained = {key: pictures[entry.key] for key, entry in distinct.items() if entry.key in pictures}
    return {entry.key: trained[config] for entry in entries if (config := repr(entry.config)) in trained}


def _train(variants: Sequence[Variant], console: Console) -> Iterable[str]:
    """Train variants, as many at once as fit into memory; returns the names of those that did not fail."""
    settings = variants[0].config
    images: Images = build(settings["data"]).decode()
    _, threads = share_cores(len(variants), settings["array"]["threads"])
    variants = [replace(variant, threads=threads) for variant in variants]
    for variant in variants:
        variant.folder.mkdir()
    done: list[str] = []
    arrays = split_by_memory(variants, images, count_workers(variants))
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("training", total=len(arrays))

        for index, array in enumerate(arrays):
            shown = _Shown(console, progress, task, index)
            done += fit(array, images, shown, num_workers=count_workers(array), num_threads=threads)
    return done


class _Shown(Listener):
    """Shows what happens to an array on a console; so many arrays are done before it."""

    def __init__(self, console: Console, bar: Progress, task: TaskID, done_before: int) -> None:
        super().__init__()
        self.console, self.bar, self.task, self.done_before = console, bar, task, done_before

    def progress(self, share: float, describe: Callable[[], Any]) -> None:
        self.bar.update(self.task, completed=self.done_before + share)

    def say(self, text: str) -> None:
        say(self.console, text)

    def failed(self, name: str, error: Exception) -> None:
        self.say(f"{name}: failed: {error}")
