"""Show what a command would train: arrays, memory, time, folders, states."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from losslens.build import build
from losslens.console import counted, duration, print_table, say
from losslens.run.distribute import Executor
from losslens.run.plan import PackedArray, group_variants, pack
from losslens.sweep.ledger import ENDED
from losslens.training.costs import variant_costs
from losslens.variant import Variant

SHOWN_ARRAYS, SHOWN_NAMES = 20, 4
MIB = 2**20


def show_plan(
    variants: Sequence[Variant], folder: Path, states: Mapping[str, str], executor: Executor | None, console: Console
) -> None:
    """Print what would train, measured on a step of each kind of variant on this machine; nothing is written.

    Args:
        states: of the variants, by name, pending if they are new.
        executor: None: this process would train.
    """
    wanted = [variant for variant in variants if states[variant.name] not in ENDED]
    max_jobs = 1 if executor is None else executor.max_jobs()
    groups = []
    for group in group_variants(wanted):
        images = build(group[0].config["data"]).decode()
        groups.append((group, variant_costs(group, images)))
    arrays = pack(groups, max_jobs)

    say(console, f"{counted(len(variants), 'variant')} in {folder}")
    for state in dict.fromkeys(states.values()):
        if state != "pending":
            say(console, f"  {list(states.values()).count(state)} {state}")
    if arrays:
        print_table(console, _table(arrays))
        if len(arrays) > SHOWN_ARRAYS:
            say(console, f"and {len(arrays) - SHOWN_ARRAYS} more arrays")
    say(
        console,
        f"{counted(len(wanted), 'variant')} to train in {counted(len(arrays), 'array')}, {max_jobs} at once: "
        f"about {duration(_makespan(arrays, max_jobs))} besides start and pictures, "
        f"{duration(sum(array.seconds for array in arrays))} of machines in all; nothing was started",
    )


def _table(arrays: Sequence[PackedArray]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("array", "variants", "memory", "time"):
        table.add_column(heading, justify="right")
    table.add_column("folders")
    for number, array in enumerate(arrays[:SHOWN_ARRAYS]):
        names = [variant.name for variant in array.variants[:SHOWN_NAMES]]
        if len(array.variants) > SHOWN_NAMES:
            names.append(f"and {len(array.variants) - SHOWN_NAMES} more")
        cells = (str(number), str(len(array.variants)), f"{array.bytes / MIB:.0f} MiB", duration(array.seconds))
        table.add_row(*cells, "\n".join(names).replace("[", r"\["))
    return table


def _makespan(arrays: Sequence[PackedArray], max_jobs: int) -> float:
    """Return when the last array ends, if each begins as soon as a slot is free."""
    ends = [0.0] * max_jobs
    for array in arrays:
        ends.sort()
        ends[0] += array.seconds
    return max(ends)
