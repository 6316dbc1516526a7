"""Who trains arrays besides the process of the command itself."""
