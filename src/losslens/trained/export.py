"""Export trained variants to formats of other programs, and check each file by running it."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from losslens.build import require
from losslens.files import write, write_text
from losslens.sweep.results import VariantResult
from losslens.trained.card import code, model_card
from losslens.trained.load import find_variant
from losslens.training.module import LitAutoencoder, check_autoencoder

TOLERANCE = 1e-4  # largest difference of outputs, over their largest value if that is above 1
EXAMPLE_SIZE = 72, 104  # height and width for tracing: unequal, and not those of the training
CHECKED = ((1, 64, 64), (3, 83, 57), (2, 321, 481))  # number, height and width of images for checks
INPUTS, OUTPUTS = ["images"], ["reconstructions", "codes"]
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch_export": (), "safetensors": ("safetensors",)}
ENDINGS = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


Run = Callable[[Tensor], tuple[Tensor, Tensor]]  # from images to reconstructions and codes


class Exported(nn.Module):
    """The exported network: images `(N, 3, H, W)` in [0, 1] to reconstructions, not clamped, and codes."""

    def __init__(self, module: LitAutoencoder) -> None:
        super().__init__()
        self.autoencoder = module.autoencoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct and encode."""
        code = self.autoencoder.encode(images)
        decoded = self.autoencoder.decode(code)
        # Cropped by index: for a slice that may be whole, an exporter has to guess the memory layout.
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
        return decoded[:, :, rows][:, :, :, columns], code


@dataclass(frozen=True)
class Check:
    """Comparison of an export with the module that it was made from.

    Args:
        difference: largest of any reconstruction or code, over the largest value if that is above 1.
        sizes: of the images, as text such as `1x3x64x64`.
        code: shape of the codes of the first images.
    """

    difference: float
    sizes: str
    code: tuple[int, ...]


def export_variant(path: Path, wanted: str, folder: Path, *, trust: bool = False) -> list[str]:
    """Export a trained variant into a folder, check the file by running it, and write a model card beside it.

    Args:
        path: folder of a variant, or a checkpoint file.
        wanted: `onnx`, `torch_export` or `safetensors`.
        folder: must exist.
        trust: whether to make classes of packages other than losslens, torch and torchmetrics, if it names any.

    Returns:
        Lines for the user.

    Raises:
        ValueError: for another format, a missing package, a model that cannot be exported, or one whose export gives
            other reconstructions.
    """
    if wanted not in ENDINGS:
        raise ValueError(f"format {wanted} is unknown: use {', '.join(ENDINGS)}")
    require(f"format={wanted}", NEEDS[wanted], "export")
    name, found = find_variant(path, trust=trust)
    module = found.load()
    own = _own_size(found.result)
    check_autoencoder(module, torch.rand(2, 3, *own, generator=torch.Generator().manual_seed(0)))
    file = folder / f"{name}{ENDINGS[wanted]}"
    checks: list[Check] = []

    def save(aside: Path) -> None:
        run, any_size = SAVE[wanted](module, aside, own)
        checks.append(_check(module, run, [*_taken(module), (1, *own)] if any_size else [(1, *own)]))

    with _quiet():
        write(file, save)
    (check,) = checks
    use = _use(file.name, wanted, check, module)
    card = folder / f"{name}.md"
    write_text(card, model_card(name, module, found.result, use))
    checked = f"run back on images of {check.sizes}, it differs by {check.difference:.1e} at most"
    return [f"{file}: {checked}", str(card)]


def _use(file: str, wanted: str, check: Check, module: LitAutoencoder) -> str:
    """Describe a file's inputs and outputs, and how they were checked."""
    ways = {"safetensors": "weights alone; the settings of the model are in its metadata, under `losslens`"}
    program = (
        "takes images, float32 `(N, 3, H, W)`, gamma-encoded RGB in [0, 1], and gives `reconstructions` of that shape, "
        f"not clamped, and `codes`, {check.code} for the first of the images below"
    )
    return (
        f"{code(file)}: {ways.get(wanted, program)}. It was run back on images of {check.sizes}: what it gives differs "
        f"from what the checkpoint gives by {check.difference:.1e} at most. If only one size is named, it takes no "
        f"other.{_refused(module)}"
    )


def _refused(module: LitAutoencoder) -> str:
    """Say which sizes of `CHECKED` the model itself does not take, such as sides that are no multiples of a block."""
    sizes = [f"{height}x{width}" for _, height, width in CHECKED if not _takes(module, height, width)]
    return f" The model does not take images of {', '.join(sizes)}." if sizes else ""


def _taken(module: LitAutoencoder) -> list[tuple[int, int, int]]:
    """Return the sizes of `CHECKED` that a module accepts."""
    return [shape for shape in CHECKED if _takes(module, *shape[1:])]


def _takes(module: LitAutoencoder, height: int, width: int) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, height, width))
    except Exception:  # a model's own code raises errors of any type
        return False
    return True


def _check(module: LitAutoencoder, run: Run, shapes: Sequence[tuple[int, int, int]]) -> Check:
    """Compare the outputs of an export with those of its module.

    Raises:
        ValueError: if they differ.
    """
    generator = torch.Generator().manual_seed(0)
    differences, codes = [], []
    for number, height, width in shapes:
        images = torch.rand(number, 3, height, width, generator=generator)
        with torch.no_grad():
            expected = module(images), module.encode(images)
            given = run(images)
        codes.append(tuple(expected[1].shape))
        differences += [
            float((mine - its).abs().max() / mine.abs().max().clamp(min=1))
            for mine, its in zip(expected, given, strict=True)
        ]
    if not all(difference <= TOLERANCE for difference in differences):
        raise ValueError(
            f"the export was dropped: what it gives differs by {max(differences):.1e}, more than {TOLERANCE}"
        )
    sizes = ", ".join(f"{number}x3x{height}x{width}" for number, height, width in shapes)
    return Check(max(differences), sizes, codes[0])


def _save_onnx(module: LitAutoencoder, path: Path, size: tuple[int, int]) -> tuple[Run, bool]:
    import onnxruntime

    def export(shapes: Any, example: Tensor) -> None:
        program = torch.onnx.export(
            Exported(module).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=INPUTS,
            output_names=OUTPUTS,
            verbose=False,
        )
        assert program is not None
        program.save(path)

    any_size = _export(export, {0: "batch", 2: "height", 3: "width"}, size, module)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        reconstructions, codes = session.run(OUTPUTS, {INPUTS[0]: images.numpy()})
        return torch.from_numpy(reconstructions), torch.from_numpy(codes)

    return run, any_size


def _save_torch_export(module: LitAutoencoder, path: Path, size: tuple[int, int]) -> tuple[Run, bool]:
    def export(shapes: Any, example: Tensor) -> None:
        program = torch.export.export(Exported(module).eval(), (example,), dynamic_shapes=shapes)
        with path.open("wb") as file:
            torch.export.save(program, file)

    dynamic = torch.export.Dim.DYNAMIC
    any_size = _export(export, {0: dynamic, 2: dynamic, 3: dynamic}, size, module)
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()
    return loaded, any_size


def _save_safetensors(module: LitAutoencoder, path: Path, size: tuple[int, int]) -> tuple[Run, bool]:
    from safetensors.torch import load_file, save_file

    settings = json.dumps(dict(module.hparams))  # what the weights belong to
    state = module.state_dict()
    for name in [name for name, weight in state.items() if not isinstance(weight, Tensor)]:
        raise ValueError(f"{name} is no tensor, and safetensors holds nothing else: use format=torch_export or onnx")
    # Copies: tied weights share their memory, which the format does not allow; loaded, they are tied again.
    weights = {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in state.items()}
    save_file(weights, path, metadata={"losslens": settings})
    again = LitAutoencoder(**json.loads(settings)).eval()
    again.load_state_dict(load_file(path))
    return lambda images: (again(images), again.encode(images)), True


SAVE = {"onnx": _save_onnx, "torch_export": _save_torch_export, "safetensors": _save_safetensors}


def _export(
    export: Callable[[Any, Tensor], None], axes: dict[int, Any], size: tuple[int, int], module: LitAutoencoder
) -> bool:
    """Export for any number and size of images; if a model does not allow that, for one image of its own size.

    Returns:
        Whether it takes any size.

    Raises:
        ValueError: if it cannot be exported at all.
    """
    try:
        export((axes,), torch.rand(2, 3, *EXAMPLE_SIZE))
        return True
    except Exception:  # exporters raise errors of any type
        pass
    try:
        export(None, torch.rand(1, 3, *size))
    except Exception as error:
        name = type(module.autoencoder).__name__
        raise ValueError(f"model {name} cannot be exported so: {str(error).strip().partition(chr(10))[0]}") from error
    return False


def _own_size(result: VariantResult | None) -> tuple[int, int]:
    """Return height and width of the training images; of the first of `CHECKED` if they are unknown."""
    originals = None if result is None else result.originals
    return CHECKED[0][1:] if originals is None else (originals.shape[-2], originals.shape[-1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporters' warnings and log lines."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
