"""Show what a loss cannot see, without training anything: python lens.py loss=luma."""

import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from losslens.build import plain_settings
from losslens.console import fast_imports, one_line_errors
from losslens.files import removed_if_empty
from losslens.overrides import compose_losses, read_command_line
from losslens.settings import check_settings


@hydra.main(version_base="1.3", config_path="conf", config_name="lens")
def main(config: DictConfig) -> None:
    """Run the lens on the losses that a configuration names."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_line_errors(), removed_if_empty(folder):  # inside, so that Hydra adds no line of its own
        check_settings(plain_settings(config), ["loss"])
        losses = compose_losses(config)
        with fast_imports():
            from losslens.lens.command import run_lens
        command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
        run_lens(config, losses, config.against, folder, command)


if __name__ == "__main__":
    with one_line_errors():
        read_command_line()
        main()
