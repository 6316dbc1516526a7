"""Training of a variant: an ordinary LightningModule, its metrics and its callbacks."""

from losslens.training.module import LitAutoencoder

__all__ = ["LitAutoencoder"]
