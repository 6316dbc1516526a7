"""Trained variants in use: loaded, applied to photographs, exported."""
