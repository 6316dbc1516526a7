"""Reconstruct photographs by trained variants: python reconstruct.py variant=outputs/sweeps/A images=photos/."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from losslens.build import plain_settings
from losslens.console import fast_imports, one_line_errors
from losslens.files import removed_if_empty
from losslens.overrides import path_list, read_command_line
from losslens.settings import check_settings


@hydra.main(version_base="1.3", config_path="conf", config_name="reconstruct")
def main(config: DictConfig) -> None:
    """Reconstruct the pictures that a configuration names."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_line_errors(), removed_if_empty(folder):  # inside, so that Hydra adds no line of its own
        check_settings(plain_settings(config))
        variants, images = path_list(config.variant), path_list(config.images)
        with fast_imports():
            from rich.console import Console

            from losslens.trained.reconstruct import reconstruct_files
        console = Console(soft_wrap=True)
        reconstruct_files(variants, images, folder, codes=config.codes, trust=bool(config.trust), console=console)


if __name__ == "__main__":
    with one_line_errors():
        read_command_line()
        main()
