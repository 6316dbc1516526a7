"""What is catalogued: the files of `conf/loss/`, their first comments and their configurations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from losslens.build import plain_settings
from losslens.sweep.folders import register_resolvers

# Folders of `conf/loss/`, and how their files are chosen.
KINDS = {"loss": "", "view": "view", "distance": "distance"}
FACTS = ("formula", "range", "source")


@dataclass(frozen=True)
class Entry:
    """A loss by name, a view (with the distance l1), or a distance (of the view rgb).

    Args:
        kind: `loss`, `view` or `distance`.
        name: of its file.
        sees: what the file says in its first line.
        facts: `formula`, and `range` and `source` where the file has them.
        config: of the loss, resolved.
    """

    kind: str
    name: str
    sees: str
    facts: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def key(self) -> str:
        """A name that no other has."""
        return self.name if self.kind == "loss" else f"{self.kind}-{self.name}"


def read_entries(project: Path) -> list[Entry]:
    """Read all of them, by kind and name.

    Args:
        project: folder that holds `conf`.

    Raises:
        ValueError: if it holds none, or if a file does not say what it is.
    """
    losses = project / "conf" / "loss"
    if not losses.is_dir():
        raise ValueError(f"{project} has no conf/loss: start from the folder of the project")
    with initialize_config_dir(str((project / "conf").resolve()), version_base="1.3"):
        return [
            _read(kind, path) for kind, folder in KINDS.items() for path in sorted((losses / folder).glob("*.yaml"))
        ]


def train_settings(project: Path) -> dict[str, Any]:
    """Return the configuration of `train.py` as it is without any choice, resolved, but for the loss."""
    register_resolvers()
    with initialize_config_dir(str((project / "conf").resolve()), version_base="1.3"):
        return {key: value for key, value in plain_settings(compose("train")).items() if key != "loss"}


def _read(kind: str, path: Path) -> Entry:
    first, *others = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")] or [""]
    facts = {name: text for line in others for name, _, text in [line.partition(": ")] if name in FACTS}
    if not first or "formula" not in facts:
        raise ValueError(
            f"{path} does not say what it is: begin it with a line '# sees: ...; blind to: ...', then '# formula: ...'"
        )
    override = f"loss={path.stem}" if kind == "loss" else f"loss/{kind}={path.stem}"
    config = plain_settings(compose("train", [override]).loss)
    return Entry(kind, path.stem, first.removeprefix("sees: "), facts, config)
