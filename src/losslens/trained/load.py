"""Find and load trained variants by path."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

from losslens.console import joined_lines, left_out
from losslens.files import unique
from losslens.sweep.results import CHECKPOINT, SWEEP_FILE, VariantResult, load_sweep
from losslens.training.module import LitAutoencoder, load_module
from losslens.training.trust import Untrusted

SEPARATORS = re.compile(r"[/\\]")
CHECKPOINT_ENDINGS = (".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Found:
    """A trained variant on disk.

    Args:
        result: None for a checkpoint outside of a variant's folder.
        trust: whether classes may be made that are not of losslens, torch or torchmetrics.
    """

    checkpoint: Path
    result: VariantResult | None
    trust: bool = False

    def load(self) -> LitAutoencoder:
        """Load the module on the CPU, in evaluation mode. Nothing in the file is executed.

        Raises:
            Untrusted: if it names classes of other packages, and is not trusted.
            ValueError: if the file is no checkpoint of weights and settings.
        """
        file = self.checkpoint
        try:
            module = load_module(file, trust=self.trust)
        except Untrusted:
            raise
        except UnpicklingError as error:
            raise ValueError(
                f"{file} is no checkpoint of weights and settings alone, and nothing else is loaded: it could run code"
            ) from error
        except Exception as error:  # for a damaged file torch raises errors of any type
            reason = joined_lines(error) or type(error).__name__
            raise ValueError(f"{file} cannot be loaded as a checkpoint ({reason})") from error
        return module.eval()


def load_variant(path: Path | str, *, trust: bool = False) -> LitAutoencoder:
    """Load a trained variant, ready to use: on the CPU, in evaluation mode.

    `variant.reconstruct(picture)` takes a file, a Pillow image, an array or a tensor, of any size; `variant(images)`
    and `variant.encode(images)` take float images `(N, 3, H, W)` in [0, 1].

    Args:
        path: folder of a variant or of a single run, or a checkpoint file.
        trust: whether to make classes of packages other than losslens, torch and torchmetrics, if it names any.

    Raises:
        ValueError: if there is none, or it cannot be loaded.
    """
    return find_variant(path, trust=trust)[1].load()


def find_variant(path: Path | str, *, trust: bool = False) -> tuple[str, Found]:
    """Return the name of the only trained variant of a path, and the variant; `trust` as in `load_variant`.

    Raises:
        ValueError: if there is none, or several.
    """
    found = find_variants([path], trust=trust)
    if len(found) > 1:
        some = next(iter(found.values())).checkpoint.parent.parent
        raise ValueError(f"{path} holds several variants: give the folder of one, such as {some}")
    (only,) = found.items()
    return only


def find_variants(paths: list[Path | str], *, trust: bool = False) -> dict[str, Found]:
    """Find trained variants: folders of variants, single runs and sweeps, checkpoint files, or patterns of these.

    Only finished variants of a sweep; all by unique names, which are names of files. What else a pattern leads to is
    left out, in one line. `trust` as in `load_variant`.

    Raises:
        ValueError: if a path holds none.
    """
    found: list[tuple[str, Found]] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.exists():
            inside = _variants_in(path, trust)
        else:
            places = {Path(each): _trained_in(Path(each), trust) for each in sorted(glob.glob(str(path)))}
            inside = [each for variants in places.values() for each in variants]
            left_out(given, "trained variant", [place for place, variants in places.items() if not variants])
        if not inside:
            raise ValueError(
                f"{given} holds no trained variant: give the folder of a variant or of a sweep, or a checkpoint file"
            )
        found += inside
    return dict(zip(unique([name for name, _ in found]), (each for _, each in found), strict=True))


def _trained_in(path: Path, trust: bool) -> list[tuple[str, Found]]:
    """Find what a sweep counts as trained; of files, those that are named as checkpoints."""
    if path.is_file() and path.suffix not in CHECKPOINT_ENDINGS:
        return []
    return [(name, found) for name, found in _variants_in(path, trust) if found.result is None or found.result.done]


def _variants_in(path: Path, trust: bool) -> list[tuple[str, Found]]:
    if path.is_file():
        folder = path.resolve().parent.parent
        if path.resolve().parent.name == CHECKPOINT.parent.name and (folder / "config.yaml").is_file():
            return [(folder.name, Found(path, VariantResult(folder.name, folder, trusted=trust), trust))]
        return [(path.stem, Found(path, None, trust))]
    if (path / CHECKPOINT).is_file():
        name = path.resolve().name
        return [(name, Found(path / CHECKPOINT, VariantResult(name, path, trusted=trust), trust))]
    if (path / SWEEP_FILE).is_file():
        done = load_sweep(path, trust=trust).done
        return [(SEPARATORS.sub("-", each.name), Found(each.folder / CHECKPOINT, each, trust)) for each in done]
    return []
