"""The vocabulary of a NAS-Bench-201 cell, torch-free so that the space reads it without importing torch."""

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Operations in the order of the integer form."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges (source, target) in the order of the string and of the integer form."""
