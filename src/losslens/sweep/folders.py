"""Where runs are written, and what stands beside their results: status, configuration, environment."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from losslens.files import write_json
from losslens.sweep.names import folder_name, job_values, safe_name

ENDED = ("done", "failed")  # statuses of variants that do not go on by themselves
LOG = "log.txt"  # of a sweep, and of each variant
PACKAGES = (
    "losslens",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "tensorboard",
    "numpy",
    "pillow",
)


def register_resolvers() -> None:
    """Give configurations what they need for folders, and what depends on other settings.

    `${claim:PATH}` is a new folder, `${own_folder:RESUMED,PATH}` one that is resumed or else a new one,
    `${sweep_folder:NAME,PATH}` that of a name or else a new one; `${variant_name:}` and `${lens_name:}` are names.
    `${steps_unless:EPOCHS,STEPS}` is how many steps there are at most: any number where epochs are given.
    """
    OmegaConf.register_new_resolver("steps_unless", lambda epochs, steps: steps if epochs is None else -1, replace=True)
    OmegaConf.register_new_resolver("claim", lambda path: str(claim(Path(path))), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("own_folder", _own_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_folder", _sweep_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("variant_name", _variant_name, replace=True)
    OmegaConf.register_new_resolver("lens_name", _lens_name, replace=True)


def claim(path: Path) -> Path:
    """Make a new folder; if another run took the name in the same second, number it.

    Raises:
        ValueError: if the folder cannot be made.
    """
    candidate, number = path, 2
    while True:
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not candidate.is_dir():
                raise cannot_write(candidate, "a file of that name is in the way") from None
            candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
        except OSError as error:
            raise cannot_write(candidate, error.strerror or str(error)) from error


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a claimed folder again if an error leaves nothing in it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it holds something, which stays
            folder.rmdir()
        raise


def cannot_write(path: Path, reason: str) -> ValueError:
    """Make the error that says how to write elsewhere."""
    return ValueError(
        f"cannot write {path} ({reason}): choose another folder with hydra.run.dir=FOLDER, "
        "or for a sweep with hydra.sweep.dir=FOLDER"
    )


def write_status(folder: Path, state: str, reason: str | None = None) -> None:
    """Write `status.json`: pending, running or done; interrupted or failed, with the reason."""
    write_json(folder / "status.json", {"status": state, "reason": reason})


def environment(device: str) -> dict[str, Any]:
    """Describe what a run depends on besides its configuration."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpu_count": os.cpu_count(),
        "packages": {package: version(package) for package in PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
    }


def _git(*arguments: str) -> str | None:
    """Ask git about the folder of this code; nothing where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _own_folder(resumed: str | None, path: str) -> str:
    if resumed is None:
        return str(claim(Path(path)))
    if not Path(resumed).is_dir():  # else Hydra would make it
        raise ValueError(f"{resumed} is no folder: give that of a sweep or of a run with resume=FOLDER")
    return str(resumed)


def _sweep_folder(name: str | None, path: str) -> str:
    return str(claim(Path(path))) if name is None else str(Path(path).parent / safe_name(str(name)))


def _variant_name() -> str:
    hydra = HydraConfig.get()
    return folder_name({"loss": job_values(hydra.overrides.task, hydra.runtime.choices)["loss"]})


def _lens_name() -> str:
    hydra = HydraConfig.get()
    values = job_values(hydra.overrides.task, hydra.runtime.choices)
    names = ("losses" if "losses" in values else "loss", "against")
    return folder_name({key: values[key].strip("[]") for key in names if key in values})
