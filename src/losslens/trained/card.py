"""The model card of an exported variant: its loss, its results, and the blind spots of its loss."""

import re

from omegaconf import OmegaConf

from losslens.lens.words import blind_spots
from losslens.report.blind_spots import measure_responses
from losslens.report.words import describe_variant
from losslens.sweep.results import VariantResult
from losslens.training.module import LitAutoencoder

SPECIAL = re.compile(r"[\\`*\[\]|~<>&]|(?<!\w)_|_(?!\w)")
HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def model_card(name: str, module: LitAutoencoder, result: VariantResult | None, use: str) -> str:
    """Write the card of an export, as Markdown.

    Args:
        result: None for a checkpoint outside of a variant's folder.
        use: Markdown on the file's inputs and outputs, and how they were checked.
    """
    parts = [
        f"# {escaped(name)}",
        "An image autoencoder, trained by losslens.",
        use,
        "## Loss",
        _yaml(dict(module.hparams).get("loss")),
    ]
    if result is not None:
        parts.append(_blind(result))
        if result.done:
            parts += [
                "## What it came to",
                "\n".join(f"- {sentence}" for sentence in describe_variant(result)),
                "On all validation images:",
                _table(result),
            ]
        if result.config:
            parts += ["## Data and model", _yaml({part: result.config.get(part) for part in ("data", "model", "seed")})]
        if result.environment:
            trained = result.environment
            torch = trained["packages"].get("torch", "unknown")
            parts.append(escaped(f"Trained on {trained['device']} with torch {torch}."))
    return "\n\n".join(part for part in parts if part) + "\n"


def _blind(result: VariantResult) -> str:
    if result.originals is None:
        return ""
    answers = measure_responses([result])[result.name]
    if not answers:
        return ""
    found = blind_spots(answers)
    return f"Asked about changes of one of its images, all of one size: {found[:1].lower()}{found[1:]}"


def _table(result: VariantResult) -> str:
    numbers = [f"| {escaped(name)} | {value:.4g} |" for name, value in result.metrics.items()]
    return "\n".join(["| metric | value |", "| --- | --- |", *numbers])


def _yaml(settings: object) -> str:
    """Quote settings in a fence longer than any in them."""
    if not settings:
        return ""
    text = OmegaConf.to_yaml(settings)
    fence = "`" * max(3, _longer(text))
    return f"{fence}yaml\n{text}{fence}"


def escaped(text: str) -> str:
    """Write text so that Markdown shows it as it is, on one line."""
    return SPECIAL.sub(lambda found: HTML.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


def code(text: str) -> str:
    """Write text as code within a line of Markdown."""
    fence = "`" * _longer(text)
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


def _longer(text: str) -> int:
    return 1 + max(map(len, re.findall("`+", text)), default=0)
