"""Autoencoders: anything with `encode` and `decode`."""

from losslens.models.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
