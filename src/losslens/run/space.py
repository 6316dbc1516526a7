"""Read the space of a search from Hydra's overrides: intervals, ranges and choices."""

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

DIGITS = 6  # significant digits of floats, so that names stay short; training uses the rounded value
Space = Mapping[str, BaseDistribution]


def read_space(overrides: Sequence[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Read the overrides that vary: `interval(a,b)`, `int(interval(a,b))`, `range(...)`, `choice(...)`.

    Intervals are drawn on a log scale with `tag(log,...)` around them.

    Returns:
        Distributions by the key of the override, and the overrides that do not vary.

    Raises:
        ValueError: if nothing varies, or something in a way that Optuna does not know.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for override in overrides:
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
            continue
        try:
            space[override.get_key_element()] = _distribution(override)
        except ValueError as error:
            raise ValueError(f"{override.input_line}: {error}") from error
    if not space:
        raise ValueError(
            "nothing varies: give a search something such as 'optimizer.lr=tag(log,interval(1e-4,1e-1))' "
            "or 'model.code_channels=choice(2,4,8)'"
        )
    return space, fixed


def suggest(trial: BaseTrial, space: Space) -> list[str]:
    """Return the overrides of a trial; its sampler draws the parameters that it lacks."""
    words = []
    for name, each in space.items():
        if isinstance(each, FloatDistribution):
            value = trial.suggest_float(name, each.low, each.high, step=each.step, log=each.log)
            words.append(write(name, value))
        elif isinstance(each, IntDistribution):
            words.append(write(name, trial.suggest_int(name, each.low, each.high, step=each.step, log=each.log)))
        else:
            assert isinstance(each, CategoricalDistribution)
            words.append(write(name, trial.suggest_categorical(name, each.choices)))
    return words


def write(name: str, value: object) -> str:
    """Write a value as an override."""
    return f"{name}={float(f'{value:.{DIGITS}g}') if isinstance(value, float) else value}"


def examples(space: Space) -> list[list[str]]:
    """List overrides in which every choice, and both ends of every range, occur at least once."""
    values = [
        list(each.choices) if isinstance(each, CategoricalDistribution) else [each.low, each.high]
        for each in space.values()
    ]
    return [
        [write(name, own[index % len(own)]) for name, own in zip(space, values, strict=True)]
        for index in range(max(map(len, values)))
    ]


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"}:
        raise ValueError(f"tag {', '.join(sorted(tags - {'log'}))} is unknown: there is log")
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None  # noqa: PT018
        if isinstance(value.start, int):
            return IntDistribution(value.start, int(value.end), log="log" in tags)
        return FloatDistribution(value.start, value.end, log="log" in tags)
    if tags:
        raise ValueError("log is for intervals: use tag(log,interval(a,b)) or tag(log,int(interval(a,b)))")
    if isinstance(value, RangeSweep):
        numbers = sorted(value.range())
        if not numbers:
            raise ValueError("the range is empty")
        step = abs(value.step)
        if isinstance(numbers[0], int):
            return IntDistribution(numbers[0], numbers[-1], step=int(step))
        return FloatDistribution(numbers[0], numbers[-1], step=step)
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
