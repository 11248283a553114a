import itertools

import pytest

from vkdnw_pl.data.seeded import EvaluationSampler, TrainingSampler, even_batch_size


def global_batches(count, together, world, epoch=0, skip=0, **options):
    """Sets of images of the batches of all processes together, and the length that the processes claim."""
    ranks = []
    for rank in range(world):
        sampler = TrainingSampler(range(count), together // world, world, rank, **options)
        sampler.set_epoch(epoch)
        sampler.skip_batches = skip
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        ranks.append([index for _, index in keys])
        assert len(sampler) == len(keys) + skip * (together // world)
        assert sampler.skip_batches == 0
    assert len({len(rank) for rank in ranks}) == 1
    local = together // world
    return [
        {index for rank in ranks for index in rank[start : start + local]} for start in range(0, len(ranks[0]), local)
    ]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("epoch", [0, 3])
def test_global_batches_do_not_depend_on_the_number_of_processes(drop_last, epoch):
    alone = global_batches(100, 8, 1, epoch, drop_last=drop_last)
    assert len(alone) == (12 if drop_last else 13)
    assert len(set.union(*alone)) == sum(map(len, alone)) == (96 if drop_last else 100)
    for world in (2, 4):
        assert global_batches(100, 8, world, epoch, drop_last=drop_last) == alone


def test_the_last_batch_is_cut_to_whole_shares():
    alone, shared = (global_batches(103, 8, world, drop_last=False) for world in (1, 4))
    assert shared[:-1] == alone[:-1]
    assert (len(alone[-1]), len(shared[-1])) == (7, 4)
    assert shared[-1] < alone[-1]


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = TrainingSampler(range(50), 5, seed=seed)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(50))
    orders = {tuple(order(seed, epoch)) for seed, epoch in itertools.product(range(4), range(4))}
    assert len(orders) == 16  # (1, 0) is not (0, 1)


@pytest.mark.parametrize("world", [1, 2])
def test_skipped_batches(world):
    whole = global_batches(64, 8, world, 2)
    assert global_batches(64, 8, world, 2, skip=3) == whole[3:]
    sampler = TrainingSampler(range(64), 8)
    sampler.skip_batches = 3
    assert len(list(sampler)) == 40
    assert len(list(sampler)) == 64  # used once


def test_epoch_and_skip_are_read_late():
    sampler = TrainingSampler(range(64), 8)
    keys = iter(sampler)
    sampler.set_epoch(5)
    sampler.skip_batches = 7
    assert [epoch for epoch, _ in keys] == [5] * 8


def test_too_few_images():
    with pytest.raises(ValueError, match=r"batch_size=4 x 2 process\(es\) is not allowed: there are only 7 training"):
        TrainingSampler(range(7), 4, 2)
    assert len(TrainingSampler(range(7), 4, 2, drop_last=False)) == 3


@pytest.mark.parametrize("world", range(1, 6))
@pytest.mark.parametrize("count", [1, 5, 17, 30])
def test_evaluation_sees_every_image_once_and_in_order(world, count):
    samplers = [EvaluationSampler(range(count), world, rank) for rank in range(world)]
    ranks = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(rank) for rank in ranks]
    assert all(rank == sorted(rank) for rank in ranks)
    assert sorted(itertools.chain(*ranks)) == list(range(count))
    assert list(itertools.chain(*itertools.zip_longest(*ranks)))[:count] == list(range(count))


def test_every_process_evaluates_as_many_batches():
    """DDP waits for all at every batch."""
    for count, batch_size, world in itertools.product(range(20, 90), (7, 8, 64), (1, 2, 3, 4, 7)):
        size = even_batch_size(count, batch_size, world)
        assert size <= batch_size
        shares = [len(EvaluationSampler(range(count), world, rank)) for rank in range(world)]
        assert len({-(-share // size) for share in shares}) == 1, (count, batch_size, world)
    assert even_batch_size(50_000, 64, 8) == 64
    assert even_batch_size(33, 16, 2) == 15
