"""A model card: what an exported variant was trained to, what it came to, and what its loss is blind to."""

from omegaconf import OmegaConf

from losslens.lens.words import blind_spots
from losslens.report.blindness import measure_responses
from losslens.report.results import VariantResult
from losslens.report.words import describe
from losslens.training.module import LitAutoencoder


def model_card(module: LitAutoencoder, result: VariantResult, file: str, sizes: str, difference: float) -> str:
    """Write the card of an export, as Markdown.

    Args:
        module: that was exported.
        result: what else it left in its folder; may be next to nothing, for a checkpoint that was moved.
        file: name of the export.
        sizes: of the images with which it was run back.
        difference: largest that was found.
    """
    parts = [
        f"# {result.name}",
        f"An image autoencoder, trained by losslens. `{file}` was run back on images of {sizes}: reconstructions "
        f"differ from those of the checkpoint by {difference:.1e} at most.",
        "Input: images, float32 `(N, 3, H, W)`, gamma-encoded RGB in [0, 1]. Output: reconstructions of that shape, "
        "not clamped, and codes `(N, C, h, w)`.",
        "## Loss",
        _yaml(dict(module.hparams).get("loss")),
        _blind(result),
    ]
    if result.done:
        parts += [
            "## What it came to",
            "\n".join(f"- {sentence}" for sentence in describe(result)),
            "On all validation images:",
            _table(result),
        ]
    if result.config:
        parts += ["## Data and model", _yaml({part: result.config.get(part) for part in ("data", "model", "seed")})]
    if result.environment:
        parts.append(f"Trained on {result.environment['device']} with torch {result.environment['packages']['torch']}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _blind(result: VariantResult) -> str:
    if result.originals is None:
        return ""
    answers = measure_responses([result])[result.name]
    if not answers:
        return ""
    return f"Asked about changes of one of its images, all of one size: {_first_small(blind_spots(answers))}"


def _first_small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _table(result: VariantResult) -> str:
    numbers = [f"| {name} | {value:.4g} |" for name, value in result.metrics.items()]
    return "\n".join(["| metric | value |", "| --- | --- |", *numbers])


def _yaml(settings: object) -> str:
    return f"```yaml\n{OmegaConf.to_yaml(settings)}```" if settings else ""
