"""The torchmetrics faces: batches, ids, collections, plots, pickles, two processes."""

import doctest
import math
import pickle
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import MetricCollection

from vkdnw_pl.metrics import NDCG, KendallTau, SpearmanRho
from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

CASES = [
    (KendallTau, {}, kendall_tau),
    (SpearmanRho, {}, spearman_rho),
    (NDCG, {"top_k": 20}, lambda x, y: ndcg(x, y, 20)),
    (NDCG, {"top_k": 20, "ties": "random", "seed": 3}, lambda x, y: ndcg(x, y, 20, "random", 3)),
    (NDCG, {"top_k": 20, "ties": "arbitrary"}, lambda x, y: ndcg(x, y, 20, "arbitrary")),
]
PLAIN = CASES[:4]  # those whose result does not depend on the order of the items


def data(n=100):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(n, generator=generator, dtype=torch.float64) * 40 + 55
    preds = (target / 6 + torch.randn(n, generator=generator, dtype=torch.float64)).round()  # many ties
    preds[3] = -math.inf
    return preds, target, torch.arange(n)


@pytest.mark.parametrize(("metric", "options", "function"), CASES)
def test_batches_equal_the_function(metric, options, function):
    preds, target, _ = data()
    m = metric(**options)
    for batch in torch.arange(100).split(17):
        m.update(preds[batch], target[batch])
    assert m.compute() == function(preds, target)
    assert m.higher_is_better is True
    m.reset()
    m.update(preds[:30], target[:30])
    assert m.compute() == function(preds[:30], target[:30])


@pytest.mark.parametrize(("metric", "options", "function"), PLAIN)
def test_order_of_batches_does_not_matter(metric, options, function):
    preds, target, _ = data()
    m = metric(**options)
    for batch in reversed(torch.arange(100).split(17)):
        m.update(preds[batch], target[batch])
    assert m.compute() == function(preds, target)  # bitwise


@pytest.mark.parametrize(("metric", "options", "function"), CASES)
def test_ids_count_once_in_the_order_of_the_ids(metric, options, function):
    preds, target, ids = data()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([order, order[:9], order[:9]])
    m = metric(**options)
    for batch in padded.split(13):
        m.update(preds[batch], target[batch], ids=ids[batch])
    assert m.compute() == function(preds, target)
    repeated = metric(**options)
    repeated.update(preds[padded], target[padded])
    assert repeated.compute() != m.compute()  # without ids the copies count


def test_forward_gives_the_value_of_the_batch_and_keeps_the_state():
    preds, target, ids = data()
    m = KendallTau()
    assert m(preds[:40], target[:40], ids[:40]) == kendall_tau(preds[:40], target[:40])
    assert m(preds[30:], target[30:], ids[30:]) == kendall_tau(preds[30:], target[30:])
    assert m.compute() == kendall_tau(preds, target)


def test_collection_shares_one_state():
    preds, target, ids = data()
    collection = MetricCollection({"kt": KendallTau(), "spr": SpearmanRho(), "ndcg": NDCG(10)}, prefix="val/")
    collection.update(preds[:60], target[:60], ids=ids[:60])
    collection.update(preds[60:], target[60:], ids=ids[60:])
    assert len(collection.compute_groups) == 1
    assert collection.compute() == {
        "val/kt": kendall_tau(preds, target),
        "val/spr": spearman_rho(preds, target),
        "val/ndcg": ndcg(preds, target, 10),
    }


def test_float32_and_half_modules_keep_float64():
    m = KendallTau().half().to(torch.float32)
    m.update([1 + i * 1e-12 for i in range(5)], [1, 2, 3, 4, 5])
    value = m.compute()
    assert value.dtype == torch.float64
    assert value == pytest.approx(1, abs=1e-15)


def test_copies_of_an_item_may_differ_by_rounding_only():
    m = SpearmanRho()
    m.update([1.0, 2.0, 3.0], [10, 20, 30], [0, 1, 2])
    m.update([2.0 + 1e-6, -math.inf], [20, 5], [1, 3])
    m.update([-math.inf], [5], [3])
    assert m.compute() == spearman_rho([1, 2, 3, -math.inf], [10, 20, 30, 5])
    m.update([2.5], [20], [1])
    with pytest.raises(ValueError, match=r"id 1 came with .preds, target. = \(2, 20\) and \(2.5, 20\)"):
        m.compute()
    m.reset()
    m.update([1.0, 1.0], [10, 11], [7, 7])
    with pytest.raises(ValueError, match="id 7 came with"):
        m.compute()


@pytest.mark.parametrize("metric", [KendallTau, SpearmanRho, NDCG])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_data_is_an_error(metric):
    with pytest.raises(ValueError, match=f"{metric.__name__} has no data: call update"):
        metric().compute()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1.0, math.nan], [1, 2]), "1 NaN among 2"),
        (([1.0, 2], [1, 2, 3]), "shape"),
        (([1.0, 2], [1, 2], [0]), r"ids has shape \(1,\)"),
        (([1.0, 2], [1, 2], [0.0, 1.0]), "ids are whole numbers"),
        (([1.0, 2], [1, 2], [-1, 0]), "ids range from -1 to 0"),
    ],
)
def test_update_names_mistakes_and_keeps_nothing_of_them(arguments, text):
    m = KendallTau()
    m.update([1, 2], [1, 2], None if len(arguments) == 2 else [5, 6])
    with pytest.raises(ValueError, match=text):
        m.update(*arguments)
    assert m.compute() == 1


def test_ids_for_some_updates_only_is_an_error():
    m = KendallTau()
    m.update([1, 2], [1, 2], [0, 1])
    m.update([3], [3])
    with pytest.raises(ValueError, match="2 of 3 items have an id"):
        m.compute()


def test_constructor_checks_options():
    with pytest.raises(ValueError, match="top_k=-1"):
        NDCG(top_k=-1)
    with pytest.raises(ValueError, match="ties='first' is not known"):
        NDCG(ties="first")


def test_pickle_and_clone_keep_the_state():
    preds, target, ids = data()
    m = NDCG(30)
    m.update(preds, target, ids)
    assert pickle.loads(pickle.dumps(m)).compute() == m.clone().compute() == m.compute()


def test_plot():
    from matplotlib import pyplot

    matplotlib.use("Agg")
    preds, target, _ = data()
    for m in (KendallTau(), SpearmanRho(), NDCG(10)):
        m.update(preds, target)
        _, axes = m.plot()
        assert axes.get_ylim()[1] >= 1
        _, axes = m.plot([m.compute(), m.compute() / 2])
        assert len(axes.lines) >= 1
        pyplot.close("all")
    collection = MetricCollection([KendallTau(), NDCG(10)])
    collection.update(preds, target)
    assert len(collection.plot()) == 2
    pyplot.close("all")


@pytest.mark.parametrize("metric", [KendallTau, SpearmanRho, NDCG])
def test_examples_of_the_docstrings(metric):
    result = doctest.testmod(sys.modules[metric.__module__])
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("metric", "options", "function"), PLAIN)
def test_cuda_equals_cpu(metric, options, function):
    preds, target, ids = data()
    m = metric(**options).cuda()
    m.update(preds.cuda(), target, ids)
    value = m.compute()
    assert value.is_cuda
    assert float(value) == float(function(preds, target))


def _process(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    preds, target, ids = data()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    # Uneven shards: 33 and 71 items, 4 of them on both processes.
    mine = order[:33] if rank == 0 else order[29:]
    only_rank_1 = order[:0] if rank == 0 else order
    values = {}
    for i, (metric, options, _) in enumerate(CASES):
        with_ids, without_ids, one_empty = metric(**options), metric(**options), metric(**options)
        for batch in mine.split(10):
            with_ids.update(preds[batch].float(), target[batch], ids[batch])
            without_ids.update(preds[batch], target[batch])
        for batch in only_rank_1.split(30) if len(only_rank_1) else []:
            one_empty.update(preds[batch], target[batch], ids[batch])
        values[i] = [float(m.compute()) for m in (with_ids, without_ids, one_empty)]
        assert len(with_ids.preds) == len(mine.split(10))  # local again after compute
    torch.save(values, Path(folder) / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_two_processes_equal_one():
    preds, target, _ = data()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    doubled = torch.cat([order[:33], order[29:]])
    with tempfile.TemporaryDirectory() as folder:
        # Forked, for a fresh process imports torch for seconds.
        multiprocessing.start_processes(_process, args=(folder,), nprocs=2, start_method="fork")
        ranks = [torch.load(Path(folder) / f"rank{rank}.pt") for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    for i, (_, _, function) in enumerate(CASES):
        with_ids, without_ids, one_empty = ranks[0][i]
        assert with_ids == one_empty == float(function(preds, target))
        assert without_ids == float(function(preds[doubled], target[doubled]))
        assert np.isfinite(with_ids)
