"""Sentences on a study of a trained variant, made from its numbers."""

from collections.abc import Sequence

from losslens.lens.changes import ISOLUMINANT
from losslens.lens.last_layer import CHANNELS, Moved
from losslens.study.study import Study

HARDLY = 0.01  # change of the unseen part of the last layer, as a share of its initial size
HUES_KEPT, HUES_LOST = 0.9, 0.5  # mean resultant length


def describe_study(study: Study, seed: object) -> list[str]:
    """Describe what the codes keep, where the colors come from, and whether hues survive."""
    own, untrained = study.codes, study.untrained_codes
    recalls = [codes.recall["euclidean"][ISOLUMINANT] for codes in (own, untrained)]
    sentences = [
        f"Its codes find {recalls[0].at_1:.0%} of the originals by a copy recolored at equal luma; those of the "
        f"untrained encoder find {recalls[1].at_1:.0%}, and chance {1 / recalls[0].count:.1%}.",
        f"Mean chroma can be read from its codes with an R\N{SUPERSCRIPT TWO} of {own.probe.r2:.2f}; from those of "
        f"the untrained encoder {untrained.probe.r2:.2f}, with shuffled labels {own.probe.shuffled + 0.0:.2f}.",
    ]
    if study.moved:
        sentences.append(_moved(study, study.moved, seed))
    index = study.two_color_index
    sentences.append(
        f"Of the variance of its colors {index['reconstructions']:.1%} lies along one line through RGB; of the "
        f"originals' {index['originals']:.1%}, of the untrained network's {index['untrained']:.1%}."
    )
    kept = study.wheel.hue_kept
    meaning = (
        "come back in their order" if kept >= HUES_KEPT else "are lost" if kept <= HUES_LOST else "come back in part"
    )
    sentences.append(f"Shown a color wheel of one luma, hues {meaning} ({kept:.2f} of 1).")
    return sentences


def _moved(study: Study, moved: Moved, seed: object) -> str:
    frozen = moved.frozen
    if frozen:
        others = [f"{name} by {moved.channels[name]:.0%} of their size" for name in CHANNELS if name not in frozen]
        rest = f"; it moved those of {_and(others)}" if others else ""
        return (
            f"Training left the rows of the last layer that paint {_and(frozen)} bit for bit as seed {seed} drew "
            f"them{rest}. Those colors are the seed's: another one gives others."
        )
    channels = _and([f"{name} by {change:.0%}" for name, change in moved.channels.items()])
    sentence = f"Training moved the rows of the last layer ({channels} of their size)"
    if moved.unseen is None:
        return f"{sentence}{': the colors are learned' if study.view else ''}."
    if moved.unseen < HARDLY:
        return (
            f"{sentence}, but hardly their part that the loss does not see, which moved by {moved.unseen:.1g} of its "
            f"size. That part of the colors is the one that seed {seed} drew."
        )
    return (
        f"{sentence}, and their part that the loss does not see by {moved.unseen:.0%}: the optimizer moved colors that "
        "the loss does not ask for."
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
