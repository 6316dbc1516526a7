"""Launcher and sweepers of losslens, where Hydra looks for them."""
