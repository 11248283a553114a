"""GRAF features of NAS-Bench-201 cells: counts, path lengths and node degrees read off the architecture string.

Source: Kadlecova et al., "Surprisingly Strong Performance Prediction with Neural Graph Features" (ICML 2024), in the
conventions of VKDNW's rankings. ``none`` is an operation like the others: an edge that carries it exists.

Columns, in this order, each ending in the operations it is about (in the order of ``OPS``, joined by ``-``):

- ``graf_op_count_O`` (5): how many of the six edges carry the operation O.
- ``graf_min_path_len_banned_S`` (31): edges on the shortest path from input to output whose operations are all outside
  S, for every set S but the full one (the empty set is written ``nothing``); 5 where there is no path.
- ``graf_max_op_on_path_allowed_S`` (31): edges on the longest path from input to output whose operations are all in S,
  for every S but the empty one; -1 where there is no path.
- ``graf_node_degree_allowed_S_D`` (124): with only the edges whose operation is in S, the degree D:
  ``in_degree`` = edges that leave the input and ``out_degree`` = edges that enter the output (the source's names),
  ``avg_in`` = ``avg_out`` = edges per node, four nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vkdnw_pl.networks.nb201_cell import EDGES, OPS
from vkdnw_pl.spaces import NB201, SPACES

Array = np.ndarray[Any, np.dtype[np.float64]]

_NUM_NODES = 4
_INPUT, _OUTPUT = 0, _NUM_NODES - 1
# The conventions of the source for "no path".
_NO_SHORTEST, _NO_LONGEST = 5.0, -1.0
_DEGREES = ("in_degree", "out_degree", "avg_in", "avg_out")

# Sets of operations by size, then in the order of OPS; the first is the empty one, the last the full one.
_SETS = [members for size in range(len(OPS) + 1) for members in itertools.combinations(range(len(OPS)), size)]
_MEMBER = np.array([[op in members for op in range(len(OPS))] for members in _SETS])


def _set_name(members: Sequence[int]) -> str:
    return "-".join(OPS[op] for op in members) or "nothing"


def _paths(node: int = _INPUT) -> list[list[int]]:
    """All paths from ``node`` to the output, as places in EDGES."""
    if node == _OUTPUT:
        return [[]]
    return [[i, *rest] for i, (source, target) in enumerate(EDGES) if source == node for rest in _paths(target)]


_PATHS = _paths()
_FROM_INPUT = [source == _INPUT for source, _ in EDGES]
_TO_OUTPUT = [target == _OUTPUT for _, target in EDGES]

COLUMNS: tuple[str, ...] = (
    *(f"graf_op_count_{op}" for op in OPS),
    *(f"graf_min_path_len_banned_{_set_name(members)}" for members in _SETS[:-1]),
    *(f"graf_max_op_on_path_allowed_{_set_name(members)}" for members in _SETS[1:]),
    *(f"graf_node_degree_allowed_{_set_name(members)}_{degree}" for members in _SETS[1:] for degree in _DEGREES),
)
"""The 191 columns of `graph_features`."""

PAPER_COLUMNS: tuple[str, ...] = tuple(name for name in COLUMNS if not name.startswith("graf_min_path_len_"))
"""The 160 columns of VKDNW's model-driven rankings.

The reference code chooses columns whose name contains ``op_`` or ``node_``, which leaves the 31 shortest paths out.
"""


def has_graph_features(space: str) -> bool:
    """Whether `graph_features` reads the architectures of the space of this name."""
    return issubclass(SPACES.find(space), NB201)


def graph_features(archs: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """GRAF features float64 (n, 191) of ``nb201`` architectures, unreachable operations counted, and `COLUMNS`."""
    if isinstance(archs, str):
        raise ValueError(f"archs={archs!r} is not allowed: give a list of architectures, here perhaps [{archs!r}]")
    space = NB201()
    ops = np.array([space.parse(arch) for arch in archs], dtype=np.intp).reshape(-1, len(EDGES))
    # Edge by edge whether its operation is in the set, shape (sets, n, edges).
    inside = _MEMBER[:, ops]
    counts = np.stack([(ops == op).sum(axis=1) for op in range(len(OPS))], axis=1)
    # A path has at most three edges, so that the number for "no path" never is the smallest where there is one.
    shortest = _path_lengths(~inside[:-1]).min(axis=-1, initial=_NO_SHORTEST)
    lengths = _path_lengths(inside[1:])
    longest = np.where(np.isinf(lengths), _NO_LONGEST, lengths).max(axis=-1)
    average = inside[1:].sum(axis=2) / _NUM_NODES
    degrees = np.stack(
        [inside[1:][:, :, _FROM_INPUT].sum(axis=2), inside[1:][:, :, _TO_OUTPUT].sum(axis=2), average, average], axis=-1
    )
    features = [
        counts,
        shortest.T,
        longest.T,
        degrees.transpose(1, 0, 2).reshape(len(ops), (len(_SETS) - 1) * len(_DEGREES)),
    ]
    return np.concatenate(features, axis=1).astype(np.float64), COLUMNS


def _path_lengths(usable: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """Number of edges of each path, ``inf`` where not all of them are usable: (..., edges) -> (..., paths)."""
    lengths = [np.where(usable[..., path].all(axis=-1), float(len(path)), np.inf) for path in _PATHS]
    return np.stack(lengths, axis=-1)
