"""Weights & Biases beside every command: a view of what stands in the run folder, which no run depends on."""
