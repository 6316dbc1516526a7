"""Write to the terminal: lines that can be copied, tables, a progress bar, errors on one line.

Also silences libraries, and lets a program start and exit sooner.
"""

import atexit
import gc
import io
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from omegaconf import MissingMandatoryValue
from omegaconf.errors import OmegaConfBaseException

from losslens.files import is_disk_error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


MINUTE, HOUR, DAY = 60, 3600, 86400
WIDEST = 10_000  # characters: more than any table has, so that none is wrapped
LISTED = 3  # of many things in a message
TRACEBACK_WANTED = os.environ.get("HYDRA_FULL_ERROR") == "1"


def say(console: "Console", text: str, style: str | None = None) -> None:
    """Print a line without hard breaks, so that it can be copied whole from a narrow terminal."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error, on one line."""
    from rich.console import Console

    say(Console(stderr=True), f"warning: {text}", style="yellow")


def left_out(given: object, wanted: str, others: Sequence[object]) -> None:
    """Say in one line what a pattern led to besides what is wanted."""
    if others:
        listed = ", ".join(map(str, others[:LISTED])) + (", ..." if len(others) > LISTED else "")
        warn(f"{given} leads to {len(others)} that are no {wanted} and are left out: {listed}")


def joined_lines(error: object) -> str:
    """Write an error's message on one line; runs of spaces, which paths may have, stay."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def print_table(console: "Console", table: "Table") -> None:
    """Print a table with no cell broken or cut, however narrow the terminal is."""
    from rich.segment import Segments

    segments = console.render(table, console.options.update(width=WIDEST))
    console.print(Segments(segments), soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a duration, for instance `40 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < MINUTE:
        return f"{max(0, seconds):.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < DAY else f"{seconds / DAY:.1f} days"


def counted(number: int, word: str, plural: str | None = None) -> str:
    """Write a number and what it counts, for instance `1 array`, `2 processes`."""
    return f"{number} {word if number == 1 else plural or f'{word}s'}"


@contextmanager
def progress_bar(console: "Console", description: str) -> Iterator[Callable[[float], None]]:
    """Show one bar for the whole sweep; nothing where the output is not a terminal.

    Yields:
        A function that takes the fraction done, in [0, 1].
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), "elapsed", TimeRemainingColumn(), "left")
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task(description, total=1.0)
    with progress:
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import torch and lightning in two thirds of their usual time.

    Garbage collection is off meanwhile: they make a million objects that live until the end. torchmetrics, which
    lightning imports, imports `scipy.signal` only to patch it for a package that is not here
    (github.com/Lightning-AI/torchmetrics/issues/3457): it gets a stand-in, without which the imports take 1.4 times as
    long (benchmarks/startup.py).
    """
    gc.disable()
    stand_in = ModuleType("scipy.signal")
    stand_in.hamming = None  # type: ignore[attr-defined]
    absent = sys.modules.setdefault("scipy.signal", stand_in) is stand_in
    try:
        yield
    finally:
        if absent:
            del sys.modules["scipy.signal"]
        gc.freeze()
        atexit.register(gc.unfreeze)  # else triton reports leaks at exit
        gc.enable()


def leave() -> None:
    """Exit with code 0, without the second that Python takes to free torch's objects.

    Exit handlers run, as in children of `multiprocessing`. Does nothing under a debugger or a profiler, which still
    has to write its results.
    """
    if sys.gettrace() or sys.getprofile():
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Output(io.FileIO):
    """Standard output or standard error; once it cannot be written, it goes nowhere."""

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        try:
            return super().write(data)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


def outlive_output() -> None:
    """Let the program go on where its output is closed, as by `... | head -1`, or its terminal is gone."""
    if os.name != "posix":
        return
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream, original = getattr(sys, name), getattr(sys, f"__{name}__")
        if stream is None:  # closed before the program began
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif stream is original and not isinstance(getattr(stream.buffer, "raw", None), _Output):
            stream.flush()
            output = io.TextIOWrapper(
                io.BufferedWriter(_Output(number, "w", closefd=False)),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, output)
            setattr(sys, f"__{name}__", output)


class SweepInterrupted(Exception):
    """A sweep stopped on request, and can be resumed with `command`."""

    def __init__(self, reason: str, command: str, exit_code: int) -> None:
        super().__init__(f"interrupted: {reason}; go on with: {command}")
        self.reason = reason
        self.exit_code = exit_code


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line and exit code 1 on any error inside, 128 and the signal's number if interrupted."""
    # Hydra then raises its own errors, such as those of composing, instead of printing several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    outlive_output()
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except SweepInterrupted as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if TRACEBACK_WANTED:
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line.

    Hydra's message on an unknown choice lists the choices, and then all folders of configurations, which are left out.
    Of an error inside an interpolation, the cause is shown; of one without a text, the place.
    """
    while "raised while resolving interpolation" in str(error) and error.__cause__:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value: give it one with {error.full_key}=VALUE"
    text = str(error).partition("Config search path:")[0]
    if isinstance(error, OmegaConfBaseException) or isinstance(error.__cause__, OmegaConfBaseException):
        text = _without_noise(text)
    text = joined_lines(text)
    if not text:
        return f"{type(error).__name__}{_place(error)}"
    if not isinstance(error, ValueError | OSError) and not type(error).__module__.startswith(("hydra", "omega")):
        text = f"{type(error).__name__}: {text}"
    return text


def _without_noise(text: str) -> str:
    """Leave out what OmegaConf adds to a message, but for the key if nothing else names it."""
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    kept = re.sub(r"^\s*(full_key: .*|object_type=.*|reference_type=.*)\n?", "", text, flags=re.MULTILINE)
    key = re.search(r"^\s*full_key: (.+)$", text, re.MULTILINE)
    named = key is None or key[1] in kept or key[1].startswith("hydra.")
    return kept if named or key is None else f"{key[1]}: {kept}"


def _place(error: BaseException) -> str:
    """Return where an error comes from, for instance ` in column.py, line 12`."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def be_quiet() -> None:
    """Keep Lightning from listing devices and advertising, and from warnings that a user can do nothing about."""
    for package in ("fabric", "pytorch"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    for asked in ("profilers", "callbacks.model_summary"):  # show what the user asked for
        logging.getLogger(f"lightning.pytorch.{asked}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", ".*LeafSpec", module="lightning")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", ".*srun", module="lightning")  # arrays do not need srun
    warnings.filterwarnings("ignore", "GPU available but not used", module="lightning")  # the user's choice
    warnings.filterwarnings("ignore", ".*new API settings to control TF32")  # Lightning uses torch's old API


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Suppress tracebacks of event-writing threads on a full disk: the code that logs events gets the error."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is None or not is_disk_error(arguments.exc_value):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
