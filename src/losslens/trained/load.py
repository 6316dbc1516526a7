"""From a path to a trained variant."""

from pathlib import Path
from pickle import UnpicklingError

from losslens.report.results import SWEEP_FILE, VariantResult, load_sweep
from losslens.training.module import LitAutoencoder

CHECKPOINT = Path("checkpoints") / "last.ckpt"


def load_variant(path: Path | str) -> LitAutoencoder:
    """Load a trained variant, ready to use: on the CPU, in evaluation mode.

    `variant.reconstruct(picture)` takes a file, a Pillow image, an array or a tensor, of any size; `variant(images)`
    and `variant.encode(images)` take float images `(N, 3, H, W)` in [0, 1].

    Args:
        path: folder of a variant or of a single run, or a checkpoint file.

    Raises:
        ValueError: if there is none, or it cannot be loaded.
    """
    path = Path(path).expanduser()
    if path.is_dir() and not (path / CHECKPOINT).is_file():
        found = find_variants([path])
        if len(found) > 1:
            raise ValueError(
                f"{path} holds several variants: give the folder of one, such as {path / next(iter(found))}"
            )
        (path,) = found.values()
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        module: LitAutoencoder = LitAutoencoder.load_from_checkpoint(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{file} is no checkpoint of weights and settings alone, and nothing else is loaded: it could run code"
        ) from error
    except Exception as error:  # a damaged file makes torch raise whatever it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file} cannot be loaded as a checkpoint ({reason})") from error
    return module.eval()


def find_variants(paths: list[Path]) -> dict[str, Path]:
    """Find trained variants: in folders of variants, of single runs and of sweeps, or checkpoint files themselves.

    Returns:
        Their folders, or checkpoint files, by unique names.

    Raises:
        ValueError: if a path holds none.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = _variants_in(path)
        if not inside:
            raise ValueError(
                f"{path} holds no trained variant: give the folder of a variant or of a sweep, or a checkpoint file"
            )
        for name, place in inside.items():
            shown, number = name, 2
            while shown in found:
                shown, number = f"{name}-{number}", number + 1
            found[shown] = place
    return found


def result_of(path: Path) -> VariantResult:
    """Return what else a variant left: of its folder, or of the folder whose checkpoint a file is."""
    folder = path if path.is_dir() else path.resolve().parent.parent
    return VariantResult(folder.resolve().name, folder, {}, "")


def _variants_in(path: Path) -> dict[str, Path]:
    if path.is_file():
        folder = path.resolve().parent
        return {folder.parent.name if folder.name == CHECKPOINT.parent.name else path.stem: path}
    if (path / CHECKPOINT).is_file():
        return {path.resolve().name: path}
    if (path / SWEEP_FILE).is_file():
        variants = load_sweep(path).variants.values()
        return {each.name: each.folder for each in variants if (each.folder / CHECKPOINT).is_file()}
    return {}
