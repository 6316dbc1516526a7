"""What libraries would print by themselves."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from losslens.files import is_disk_error


def be_quiet() -> None:
    """Keep Lightning from listing devices and advertising, and from warnings that a user can do nothing about."""
    for package in ("fabric", "pytorch"):
        logging.getLogger(f"lightning.{package}").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # whoever asks for a profile sees it
    warnings.filterwarnings("ignore", ".*LeafSpec", module="lightning")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", ".*srun", module="lightning")  # which no array needs
    warnings.filterwarnings("ignore", "GPU available but not used", module="lightning")  # as the user asked
    warnings.filterwarnings("ignore", ".*new API settings to control TF32")  # Lightning asks torch 2.11 in the old way


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Inside, threads that write events print no traceback on a full disk: whoever hands them events gets the error."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is None or not is_disk_error(arguments.exc_value):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
