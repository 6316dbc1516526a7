"""Errors as one line that says what to do; the traceback for those who ask for it with HYDRA_FULL_ERROR=1."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from omegaconf import MissingMandatoryValue

from losslens.console import joined_lines

if TYPE_CHECKING:
    from losslens.report.results import VariantResult

TRACEBACK_WANTED = os.environ.get("HYDRA_FULL_ERROR") == "1"


class SweepInterrupted(Exception):
    """A sweep stopped as it was asked to, and can go on.

    Args:
        reason: in words.
        command: that goes on with it.
        exit_code: of the program.
    """

    def __init__(self, reason: str, command: str, exit_code: int) -> None:
        super().__init__(f"interrupted: {reason}; go on with: {command}")
        self.reason = reason
        self.exit_code = exit_code


class VariantsFailed(ValueError):
    """Some variants failed; all others are done.

    Args:
        message: which, and why.
        results: of all variants of the command, in their order.
    """

    def __init__(self, message: str, results: "Sequence[VariantResult]") -> None:
        super().__init__(message)
        self.results = list(results)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line and exit code 1 on any error inside, 128 and the signal's number if interrupted."""
    # So Hydra raises its own errors, of composing configurations for instance, instead of printing several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
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
    """Say what an error says, on one line.

    Hydra's message on an unknown choice lists the choices, and then all folders of configurations, which are left out.
    An error inside an interpolation is told by itself.
    """
    while "raised while resolving interpolation" in str(error) and error.__cause__:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value: give it one with {error.full_key}=VALUE"
    text = joined_lines(str(error).partition("Config search path:")[0])
    if not text or (
        not isinstance(error, ValueError | OSError) and not type(error).__module__.startswith(("hydra", "omega"))
    ):
        text = f"{type(error).__name__}: {text}"
    return text
