"""Describe the results of a loss in sentences."""

from collections.abc import Mapping

from losslens.lens.look import Answers
from losslens.lens.responses import BLIND, WEAK, Response
from losslens.losses.loss import linear_view

ROUNDING = 1e-7  # error of floating point at 0


def describe_loss(answers: Answers) -> list[str]:
    """Describe what a loss does not respond to, what looks equal to it, and what it asks for."""
    sentences = [blind_spots(answers.responses)]
    view = linear_view(answers.loss)
    if view is not None:
        free = len(view.unseen_axes())
        sentences.append(
            f"Of the three dimensions of RGB at every pixel it leaves {free or 'none'} free."
            if free != 1
            else "Of the three dimensions of RGB at every pixel it leaves one free."
        )
    if answers.metamers:
        best = answers.metamers[0]
        how = "The furthest image" if best.start == "exact" else f"The furthest image found (from: {best.start})"
        sentences.append(
            f"{how} that it takes for the original differs by {best.distance:.3f} on average over RGB, "
            f"at a loss of {_small(best.loss)}."
        )
    recovery = answers.recovery
    if recovery is not None:
        text = f"Descended from noise without a network, it comes back to the original within {recovery.error:.3f}"
        if recovery.seen_error is not None:
            text += (
                f": within {_small(recovery.seen_error)} in what it sees; what it does not see moved by "
                f"{_small(recovery.unseen_change or 0.0)} since the noise"
            )
        sentences.append(f"{text}.")
    if answers.most is not None and answers.least is not None:
        most, least = float(answers.most.value), float(answers.least.value)
        sentences.append(
            f"Of all changes of one size, by the {answers.most.method}, the most noticed counts {most:.3g} and the "
            f"least {_small(least)}{_bound(float(answers.least.bound))}."
        )
    return sentences


def blind_spots(answers: Mapping[str, Response]) -> str:
    """Name the changes of the bank that a loss is blind to, or nearly."""
    blind = [name for name, response in answers.items() if response.verdict == "blind"]
    weak = [name for name, response in answers.items() if response.verdict == "weak"]
    parts = [f"Blind to (below {BLIND:g} of the response to noise): {', '.join(blind)}." if blind else ""]
    parts.append(f"Nearly blind to (below {WEAK:g}): {', '.join(weak)}." if weak else "")
    return " ".join(part for part in parts if part) or "It responds to every change of the bank."


def _small(number: float) -> str:
    return f"{number:.1g}" if abs(number) > ROUNDING else "0"


def _bound(bound: float) -> str:
    return "" if bound != bound or bound < 1e-6 else f" (an eigenvalue lies within {bound:.1g} of that)"
