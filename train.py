"""Train a variant, or with -m a sweep: python train.py -m loss=l1,luma,red,green,blue."""

import hydra
from omegaconf import DictConfig

from losslens.console import leave, one_line_errors
from losslens.overrides import read_command_line
from losslens.run.start import start_run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Train the variant that a configuration describes."""
    with one_line_errors():  # inside, so that Hydra adds no line of its own
        start_run(config)


if __name__ == "__main__":
    with one_line_errors():
        read_command_line()
        main()
        leave()
