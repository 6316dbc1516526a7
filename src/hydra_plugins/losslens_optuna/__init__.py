"""The sweeper of losslens that searches with Optuna, where Hydra looks for it."""
