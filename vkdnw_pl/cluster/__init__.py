"""Jobs of a SLURM cluster: what is submitted, and what became of it. Imports no PyTorch."""
