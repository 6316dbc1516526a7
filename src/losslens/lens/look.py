"""All measurements of a list of losses, piece by piece, so that an interruption keeps what is done."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from losslens.console import joined_lines
from losslens.lens.changes import change_bank
from losslens.lens.compete import Competition, compete
from losslens.lens.eigendistortions import Eigendistortion, eigendistortions
from losslens.lens.metamers import Metamer, metamers
from losslens.lens.null_space import EqualColors, null_space
from losslens.lens.picture import second_photograph
from losslens.lens.principal import PrincipalDistortions, principal_distortions
from losslens.lens.recovery import Recovery, recover
from losslens.lens.responses import Response, responses
from losslens.lens.subject import is_differentiable, precision, prepare
from losslens.losses.loss import linear_view


@dataclass
class Answers:
    """The results of one loss; missing ones are None or empty, and `notes` say why."""

    loss: nn.Module
    responses: dict[str, Response] = field(default_factory=dict)
    equal_colors: list[EqualColors] = field(default_factory=list)
    metamers: list[Metamer] = field(default_factory=list)
    recovery: Recovery | None = None
    most: Eigendistortion | None = None
    least: Eigendistortion | None = None
    notes: list[str] = field(default_factory=list)
    failed: bool = False
    differentiable: bool = False


@dataclass
class Look:
    """Several losses measured on one picture.

    Args:
        image: float64 `(1, 3, H, W)` in [0, 1].
        rms: wanted size of changes over RGB.
        steps: of each search for metamers and each recovery.
        tolerance: loss that counts as zero.
        pairs: names of the losses that compete, the held one first.
        principal: measure principal distortions, too.
    """

    image: Tensor
    losses: Mapping[str, nn.Module]
    rms: float
    steps: int
    tolerance: float
    seed: int = 0
    pairs: list[tuple[str, str]] = field(default_factory=list)
    principal: bool = False

    def __post_init__(self) -> None:
        self.answers = {name: Answers(loss) for name, loss in self.losses.items()}
        self.competitions: dict[tuple[str, str], Competition] = {}
        self.axis: PrincipalDistortions | None = None
        self.notes: list[str] = []
        self.bank, self.common_rms = change_bank(self.image, self.rms, self.seed)

    def pieces(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the pieces of work in order, with their names; each writes its result into this object."""
        for name in self.losses:
            yield f"{name}: responses", partial(self._respond, name)
        searches = (
            ("metamers", self._metamers),
            ("recovery from noise", self._recover),
            ("most and least noticed", self._eigendistortions),
        )
        for name in self.losses:
            for what, search in searches:
                yield f"{name}: {what}", partial(self._try, name, what, search)
        for pair in self.pairs:
            yield f"{pair[1]} at equal {pair[0]}", partial(self._compete, pair)
        if self.principal:
            yield "principal distortions", self._principal

    def _respond(self, name: str) -> None:
        answers = self.answers[name]
        view = linear_view(answers.loss)
        answers.equal_colors = null_space(view) if view is not None and len(view.unseen_axes()) else []
        try:
            answers.responses = responses(answers.loss, self.image, bank=self.bank)
            ready, target = prepare(answers.loss, self.image, precision(answers.loss))
        except ValueError as error:
            answers.failed = True
            answers.notes.append(str(error))
            return
        answers.differentiable = is_differentiable(ready, target)
        if not answers.differentiable:
            answers.notes.append(
                "The loss is not differentiable: metamers that have to be searched, recovery from noise, and the most "
                "and least noticed changes need its gradient and are missing."
            )

    def _try(self, name: str, what: str, search: Callable[[Answers], None]) -> None:
        """Run a search if the loss is differentiable; note a failure."""
        answers = self.answers[name]
        if not answers.differentiable:
            return
        try:
            search(answers)
        except (ValueError, RuntimeError) as error:
            answers.notes.append(f"{what} failed: {joined_lines(error)}")

    def _metamers(self, answers: Answers) -> None:
        image = self.image.to(precision(answers.loss))
        starts = {"second photograph": second_photograph(image), "recolored copy": image[:, [1, 2, 0]]}
        answers.metamers = metamers(
            answers.loss, image, starts=starts, steps=self.steps, tolerance=self.tolerance, seed=self.seed
        )

    def _recover(self, answers: Answers) -> None:
        answers.recovery = recover(
            answers.loss, self.image.to(precision(answers.loss)), steps=self.steps, seed=self.seed
        )

    def _eigendistortions(self, answers: Answers) -> None:
        answers.most, answers.least = eigendistortions(
            answers.loss, self.image.to(precision(answers.loss)), seed=self.seed
        )

    def _compete(self, pair: tuple[str, str]) -> None:
        held, other = (self.answers[name] for name in pair)
        if not (held.differentiable and other.differentiable):
            return
        image = self.image.to(min(precision(held.loss), precision(other.loss), key=lambda each: each.itemsize))
        try:
            self.competitions[pair] = compete(held.loss, other.loss, image, rms=self.rms, seed=self.seed)
        except (ValueError, RuntimeError) as error:
            self.notes.append(f"{pair[1]} at equal {pair[0]} failed: {joined_lines(error)}")

    def _principal(self) -> None:
        losses = {name: answers.loss for name, answers in self.answers.items() if answers.differentiable}
        try:
            self.axis = principal_distortions(losses, self.image.float(), seed=self.seed)
        except (ValueError, RuntimeError) as error:
            self.notes.append(f"principal distortions failed: {joined_lines(error)}")


def all_pairs(names: list[str]) -> list[tuple[str, str]]:
    """Return every ordered pair."""
    return list(itertools.permutations(names, 2))
