"""Executors: local processes, jobs of Slurm, tasks of Ray."""
