"""Export a trained variant: python export.py variant=outputs/sweeps/A/loss=luma format=onnx."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from losslens.build import plain_settings
from losslens.console import fast_imports, one_line_errors
from losslens.files import removed_if_empty
from losslens.overrides import read_command_line
from losslens.settings import check_settings


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(config: DictConfig) -> None:
    """Export the variant that a configuration names."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_line_errors(), removed_if_empty(folder):  # inside, so that Hydra adds no line of its own
        check_settings(plain_settings(config))
        variant, wanted = Path(config.variant).expanduser(), str(config.format)
        with fast_imports():
            from losslens.trained.export import export_variant
        print(*export_variant(variant, wanted, folder, trust=bool(config.trust)), sep="\n")


if __name__ == "__main__":
    with one_line_errors():
        read_command_line()
        main()
