"""Sentences on what a variant's loss determined and what it left to chance, made from measured numbers."""

from collections.abc import Mapping, Sequence

from losslens.losses.color import COLOR_DIRECTIONS
from losslens.sweep.baseline import Baseline
from losslens.sweep.results import VariantResult

# Error along a direction over the spread of the originals along it; one constant color has 1.
DETERMINED, BY_CHANCE = 0.5, 1.0
NO_VARIATION = 1e-3  # spread below which originals do not vary along a direction
NO_COLOR = 0.5  # color rank; one constant color has 0
ONE_LINE = 1.1  # color rank up to which the colors lie on one line through RGB
AS_MANY = 0.9  # color rank over the originals', from which no dimension was lost


def describe_variant(variant: VariantResult) -> list[str]:
    """Describe which colors of the originals a finished variant reconstructs, and which not."""
    metrics, results = variant.metrics, variant.results
    spread: Mapping[str, float] = results["originals"]["spread"]
    shares = {
        name: metrics[name] / spread[name]
        for name in COLOR_DIRECTIONS
        if name in metrics and spread[name] > NO_VARIATION
    }
    seen = results["seen"]
    groups = {
        "Determined": [name for name, share in shares.items() if share < DETERMINED],
        "Seen by the loss, but not learned well yet": [
            name for name, share in shares.items() if share >= DETERMINED and name in seen
        ],
        "In part, as far as it goes along with the rest": [
            name for name, share in shares.items() if DETERMINED <= share <= BY_CHANCE and name not in seen
        ],
        "Left to chance, further off than one constant color": [
            name for name, share in shares.items() if share > BY_CHANCE and name not in seen
        ],
    }
    sentences = [_seen(metrics)]
    sentences += [f"{title}: {_list(names, metrics, shares)}." for title, names in groups.items() if names]
    if shares and len(groups["Determined"]) == len(shares):
        sentences.append("No color direction was left to chance.")
    if "color_rank" in metrics:
        sentences.append(_rank(metrics["color_rank"], results["originals"]["color_rank"]))
    return sentences


def against_linear_code(variant: VariantResult, baselines: Sequence[Baseline]) -> list[str]:
    """Compare a finished variant with the best linear code of its size: one sentence, or none without such a code.

    In dB of what its loss sees; in values of the loss if it has no linear view.
    """
    codes = [each for each in baselines if variant.name in each.beside and each.name.startswith("klt")]
    if not codes:
        return []
    code, steps = codes[-1], variant.results["steps"]  # the last is of its own view, if there is one
    advice = (
        f" Train longer (more than trainer.max_steps={steps}) or enlarge the network (model=large): a network that "
        "loses to a linear map says little about its loss."
    )
    if "seen_psnr" in variant.metrics and "seen_psnr" in code.metrics:
        own, linear = variant.metrics["seen_psnr"], code.metrics["seen_psnr"]
        return [
            f"In what its loss sees it is {abs(own - linear):.1f} dB {'above' if own >= linear else 'below'} the best "
            f"linear code of the same size: {own:.1f} dB against {linear:.1f}.{'' if own >= linear else advice}"
        ]
    own_value, linear_value = variant.results["losses"].get(variant.own_loss), code.losses.get(variant.own_loss)
    if own_value is None or linear_value is None:
        return []
    better = own_value <= linear_value
    return [
        f"Its loss is {own_value:.3g}, that of the best linear code of the same size {linear_value:.3g}."
        f"{'' if better else advice}"
    ]


def _seen(metrics: Mapping[str, float]) -> str:
    if "seen_error" not in metrics:
        return "This loss has no linear view, so that what it sees is not known beforehand: the errors tell."
    if "unseen_error" not in metrics:
        return f"The loss sees all of RGB: the error is {metrics['seen_error']:.3f}."
    seen, unseen = metrics["seen_error"], metrics["unseen_error"]
    times = f"{unseen / seen:.1f} times as large" if seen > 0 else "against none"
    return (
        f"In the part of RGB that the loss sees, the error is {seen:.3f}; in the part that it does not see it is "
        f"{unseen:.3f}, {times}."
    )


def _list(names: Sequence[str], metrics: Mapping[str, float], shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} (error {metrics[name]:.3f}, {shares[name]:.0%} of the variation)" for name in names)


def _rank(rank: float, original: float) -> str:
    if rank < NO_COLOR:
        meaning = "they are of one constant color"
    elif rank < ONE_LINE <= original:
        meaning = "they lie on one line through RGB, so that every picture has two colors and their mixtures"
    elif rank < ONE_LINE:
        meaning = "both lie on one line through RGB"
    elif rank >= AS_MANY * original:
        meaning = "no dimension was lost"
    else:
        meaning = "a part of the colors was lost"
    return f"The color rank of the reconstructions is {rank:.2f}, that of the originals {original:.2f}: {meaning}."
