"""The project's commands, each in a process of its own.

On Linux they are forked from a process that has imported everything and has no threads: real processes, with signals,
files and exit codes of their own, that begin in a tenth of a second. With `fresh=True` they are interpreters, as for a
user: for tests of what happens at start-up, or before it.
"""

import atexit
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parent.parent
SHORT = "/tmp" if os.name == "posix" else None  # path of a folder for sockets
HANGS = 600.0  # seconds: long after a command on a busy machine has ended

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of several commands share the cores
_forks = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_forks.set_forkserver_preload(
    [
        *("losslens.run.command", "losslens.report.make", "losslens.lens.command", "losslens.trained.export"),
        *("losslens.trained.reconstruct", "losslens.catalogue.make", "losslens.sweep.progress", "losslens.data.photos"),
        *("hydra._internal.hydra", "matplotlib.backends.backend_agg", "skimage.io", "torch.utils.tensorboard"),
    ]
)


class Command:
    """A running command, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, arguments: Sequence[str], place: Path, environment: Mapping[str, str]) -> None:
        self.args = arguments
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._files = [os.path.join(folder, name) for name in ("out", "errors")]
        self._process = _forks.Process(target=_become, args=(arguments, str(place), dict(environment), *self._files))
        with mock.patch("tempfile.tempdir", SHORT):  # the path of the server's socket may have 107 characters
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = HANGS) -> tuple[str, str]:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return tuple(Path(file).read_text() for file in self._files)


def start(command: Sequence[object], place: Path, *, fresh: bool = False, **environment: str):
    """Start a command of the project.

    Args:
        command: `train.py` and its arguments, or `-m`, a module and its arguments.
        place: where it starts, and whose modules it can import.
        fresh: in an interpreter, not forked.
        environment: added to that of the tests.
    """
    arguments = [str(each) for each in command]
    if arguments[0] != "-m":
        arguments[0] = str(ROOT / arguments[0])
    environment = {**os.environ, "PYTHONPATH": str(place), **environment}
    if not fresh:
        return Command(arguments, place, environment)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default_signals,
    )


def run(command: Sequence[object], place: Path, **settings) -> subprocess.CompletedProcess[str]:
    """Run a command of the project to its end; the arguments are those of `start`."""
    process = start(command, place, **settings)
    out, errors = process.communicate(timeout=HANGS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def kill(process) -> None:
    """Kill a command that was started, and wait until it is gone."""
    process.kill()
    process.communicate()


def _default_signals() -> None:
    """Undo what shells and `nohup` do to what they start in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _become(arguments: list[str], place: str, environment: dict[str, str], *files: str) -> None:
    """Run a command in this process, as an interpreter that was started for it does."""
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    _default_signals()
    first = place if arguments[0] == "-m" else str(ROOT)
    own = [path for path in sys.path if path not in ("", str(ROOT)) and not path.startswith(str(ROOT / "tests"))]
    sys.path[:] = [first, *environment["PYTHONPATH"].split(os.pathsep), *own]
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
