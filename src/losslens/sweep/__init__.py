"""A sweep on disk: its folder, the states of its variants, the queue of arrays, results."""
