"""The launcher of losslens, where Hydra looks for it."""
