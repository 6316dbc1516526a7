"""Write the catalogue of losses, docs/losses.md, or with --check say whether it is as it would be written now."""

import argparse
from pathlib import Path

from losslens.console import fast_imports, one_line_errors


def main() -> None:
    """Read the command line, and write or check."""
    parser = argparse.ArgumentParser(prog="python -m losslens.catalogue", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="train nothing and write nothing; exit with 1 if it is old"
    )
    arguments = parser.parse_args()
    with one_line_errors():
        with fast_imports():
            from losslens.catalogue.make import check, write_catalogue
        (check if arguments.check else write_catalogue)(Path())


if __name__ == "__main__":
    main()
