"""Make the report of a sweep again from its folder, or of several sweeps beside each other."""

import argparse
from datetime import datetime
from pathlib import Path

from losslens.console import fast_imports, one_line_errors, warn
from losslens.files import unique


def main() -> None:
    """Make the report of the folders on the command line, and print the paths of its files."""
    parser = argparse.ArgumentParser(prog="python -m losslens.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="of sweeps or single runs, finished or not")
    parser.add_argument("--details", action="store_true", help="also sheets with errors and with what each loss sees")
    parser.add_argument("--output", type=Path, help="where a report of several goes; without it, in outputs/reports")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also make classes that are not of losslens, torch or torchmetrics: runs code that the variants name",
    )
    arguments = parser.parse_args()
    with one_line_errors():
        _make(arguments)


def _make(arguments: argparse.Namespace) -> None:
    with fast_imports():
        from losslens.files import claim
        from losslens.report.make import make_report
        from losslens.sweep.results import join_sweeps, load_sweep
    sweeps = [load_sweep(folder, trust=arguments.trust) for folder in arguments.folders]
    sweep = sweeps[0]
    if len(sweeps) > 1:
        folder = arguments.output or claim(Path(f"outputs/reports/{datetime.now():%Y-%m-%d-%H%M%S}"))
        folder.mkdir(parents=True, exist_ok=True)
        names = unique([each.folder.resolve().name for each in sweeps])
        sweep = join_sweeps(dict(zip(names, sweeps, strict=True)), folder)
    elif arguments.output:
        raise ValueError("--output is for several sweeps: the report of one is written into its own folder")
    shown, errors = make_report(sweep, details=arguments.details)
    if foreign := dict.fromkeys(name for variant in sweep.variants.values() for name in variant.foreign):
        warn(f"not run: {', '.join(foreign)}, which the variants name; if you trust their author: --trust")
    for path in shown:
        print(path)
    if errors:
        raise ValueError("; ".join(errors))


if __name__ == "__main__":
    main()
