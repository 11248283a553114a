"""GRAF features against an enumeration of paths by hand, known answers, and the counts of the reference code."""

import itertools
import random
import time

import numpy as np
import pytest

from vkdnw_pl.ranking.graph_features import COLUMNS, PAPER_COLUMNS, graph_features
from vkdnw_pl.spaces import NB201

SPACE = NB201()
OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
CHAIN = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def features(arch: str) -> dict[str, float]:
    values, names = graph_features([arch])
    return dict(zip(names, values[0]))


def sets(sizes) -> list[tuple[str, ...]]:
    return [members for size in sizes for members in itertools.combinations(OPS, size)]


def reference(arch: str) -> dict[str, float]:
    """The definitions word by word: the operations of the edges between the nodes 1..4, all paths from 1 to 4."""
    edges = {}
    for target, node in enumerate(arch.split("+"), start=2):
        for cell in node.strip("|").split("|"):
            op, source = cell.split("~")
            edges[int(source) + 1, target] = op
    paths = []
    for size in range(3):
        for between in itertools.combinations([2, 3], size):
            stops = [1, *between, 4]
            paths.append([edges[step] for step in itertools.pairwise(stops)])
    found = {f"graf_op_count_{op}": list(edges.values()).count(op) for op in OPS}
    for banned in sets(range(5)):
        name = "-".join(banned) or "nothing"
        lengths = [len(path) for path in paths if not set(path) & set(banned)]
        found[f"graf_min_path_len_banned_{name}"] = min(lengths, default=5)
    for allowed in sets(range(1, 6)):
        lengths = [len(path) for path in paths if set(path) <= set(allowed)]
        found[f"graf_max_op_on_path_allowed_{'-'.join(allowed)}"] = max(lengths, default=-1)
    for allowed in sets(range(1, 6)):
        name = f"graf_node_degree_allowed_{'-'.join(allowed)}"
        left = [edge for edge, op in edges.items() if op in allowed]
        found[f"{name}_in_degree"] = sum(source == 1 for source, _ in left)
        found[f"{name}_out_degree"] = sum(target == 4 for _, target in left)
        found[f"{name}_avg_in"] = found[f"{name}_avg_out"] = len(left) / 4
    return found


@pytest.fixture(scope="module")
def unique():
    return graph_features(list(SPACE.enumerate(unique=True)))[0]


def test_all_columns_against_the_definitions():
    rng = random.Random(0)
    archs = [CHAIN, *(SPACE.sample(rng) for _ in range(200))]
    values, names = graph_features(archs)
    assert values.shape == (201, 191)
    assert values.dtype == np.float64
    assert names == COLUMNS
    for arch, row in zip(archs, values):
        expected = reference(arch)
        assert list(expected) == list(names)
        assert row.tolist() == list(expected.values()), arch


def test_by_hand():
    # 1 -3x3-> 2 -1x1-> 3 -pool-> 4 and the direct edge 1 -skip-> 4; 1 -> 3 and 2 -> 4 are none.
    found = features(CHAIN)
    assert [found[f"graf_op_count_{op}"] for op in OPS] == [2, 1, 1, 1, 1]
    assert found["graf_min_path_len_banned_nothing"] == 1
    assert found["graf_min_path_len_banned_none"] == 1
    assert found["graf_min_path_len_banned_skip_connect"] == 2  # through an edge that is none
    assert found["graf_min_path_len_banned_none-skip_connect"] == 3
    assert found["graf_min_path_len_banned_none-skip_connect-avg_pool_3x3"] == 5
    assert found["graf_max_op_on_path_allowed_skip_connect"] == 1
    assert found["graf_max_op_on_path_allowed_nor_conv_1x1-nor_conv_3x3-avg_pool_3x3"] == 3
    assert found["graf_max_op_on_path_allowed_nor_conv_1x1-nor_conv_3x3"] == -1
    assert found["graf_node_degree_allowed_nor_conv_3x3_in_degree"] == 1
    assert found["graf_node_degree_allowed_nor_conv_3x3_out_degree"] == 0
    assert found["graf_node_degree_allowed_skip_connect-avg_pool_3x3_out_degree"] == 2
    assert found["graf_node_degree_allowed_none-skip_connect-avg_pool_3x3_avg_in"] == 1


def test_one_operation_everywhere():
    found = features("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")
    for name, value in found.items():
        inside = "nor_conv_3x3" in name
        if name.startswith("graf_min_path_len"):
            assert value == (5 if inside else 1)
        elif name.startswith("graf_max_op_on_path"):
            assert value == (3 if inside else -1)
        elif name.endswith("degree"):
            assert value == (3 if inside else 0)
        elif name.startswith("graf_node_degree"):
            assert value == (1.5 if inside else 0)
        else:
            assert value == (6 if inside else 0)


def test_names():
    assert len(set(COLUMNS)) == 191
    assert len(PAPER_COLUMNS) == 160
    families = ["op_count", "min_path_len", "max_op_on_path", "node_degree"]
    assert [sum(name.startswith(f"graf_{family}") for name in COLUMNS) for family in families] == [5, 31, 31, 124]
    # The rule of the reference code, as far as the names without operations are concerned.
    assert [name for name in COLUMNS if "min_path_len" not in name] == list(PAPER_COLUMNS)
    assert not any(sign in name for name in COLUMNS for sign in "+>, ")  # rankings are written with these


def test_counts_of_the_reference_code_on_the_unique_networks(unique):
    assert unique.shape == (9445, 191)
    assert (np.ptp(unique, axis=0) == 0).sum() == 6
    assert len(np.unique(unique.T, axis=0)) == 158
    assert len(np.unique(unique, axis=0)) == 9155
    chosen = unique[:, [COLUMNS.index(name) for name in PAPER_COLUMNS]]
    assert len(np.unique(chosen.T, axis=0)) == 127
    assert np.linalg.matrix_rank(np.c_[np.ones(len(chosen)), chosen]) == 43


def test_rows_are_those_of_the_architectures_alone_in_any_spelling():
    archs = [SPACE.sample(random.Random(seed)) for seed in range(5)]
    together = graph_features(archs)[0]
    for arch, row in zip(archs, together):
        assert graph_features([arch])[0][0].tolist() == row.tolist()
        assert graph_features(["index:" + ",".join(map(str, SPACE.parse(arch)))])[0][0].tolist() == row.tolist()
    assert graph_features([])[0].shape == (0, 191)


def test_unreachable_operations_count_as_they_stand():
    # 2 -> 3 -> 4 with no edge into 2: its convolutions are counted here, and gone in the canonical form.
    arch = "|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    assert features(arch)["graf_op_count_nor_conv_3x3"] == 2
    assert features(SPACE.canonicalise(arch))["graf_op_count_nor_conv_3x3"] == 0


def test_the_whole_space_in_seconds():
    archs = list(SPACE.enumerate())
    start = time.perf_counter()
    assert graph_features(archs)[0].shape == (15625, 191)
    assert time.perf_counter() - start < 20  # 0.4 s on an idle core


@pytest.mark.parametrize(
    ("archs", "message"),
    [
        ([CHAIN, CHAIN.replace("avg_pool_3x3", "max_pool_3x3")], "max_pool_3x3"),
        ([CHAIN, "1,2,3"], "it needs 6"),
        ([CHAIN, ""], "it needs 3"),
        (CHAIN, "give a list of architectures"),
    ],
)
def test_mistakes_are_named(archs, message):
    with pytest.raises(ValueError, match=message):
        graph_features(archs)
