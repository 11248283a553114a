import random

import numpy as np
import pytest
import torch

from vkdnw_pl.data.seeded import ImageArrays, SeededDataset, mix


def noisy(image):
    """Draws from all three global streams."""
    return image + torch.rand(1) + float(np.random.rand()) + random.random()


def dataset(seed=0, finish=None):
    images = torch.arange(20.0).reshape(20, 1, 1, 1).expand(20, 1, 2, 2)
    return SeededDataset(ImageArrays(images, torch.arange(20) % 3), noisy, finish, seed)


def states():
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def test_an_image_is_a_function_of_seed_epoch_and_number():
    data = dataset()
    first = data[2, 7][0]
    torch.rand(3), np.random.rand(4), random.random()
    assert torch.equal(data[2, 7][0], first)
    others = [dataset(seed)[epoch, index][0] - index for seed, epoch, index in ((1, 2, 7), (0, 3, 7), (0, 2, 8))]
    assert len({float(image[0, 0, 0]) for image in [first - 7, *others]}) == 4
    assert torch.equal(data[7][0], data[0, 7][0])
    assert int(data[7][1]) == 1


def test_a_batch_is_its_images():
    data = dataset(finish=lambda images: images * 2)
    images, labels = data.__getitems__([(1, 3), 5])
    assert images.shape == (2, 1, 2, 2)
    assert torch.equal(images[0], data[1, 3][0])
    assert torch.equal(images[1], data[5][0])
    assert labels.tolist() == [0, 2]


def test_global_streams_are_left_alone():
    before = states()
    dataset()[1, 2]
    assert states() == before

    def broken(image):
        noisy(image)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        SeededDataset(dataset().data, broken)[0]
    assert states() == before


def test_without_a_seed_nothing_is_seeded():
    data = dataset(seed=None)
    assert not torch.equal(data[1][0], data[1][0])


def test_places():
    data = ImageArrays(torch.arange(6).reshape(6, 1, 1, 1), torch.arange(6) * 10, torch.tensor([4, 1]))
    assert len(data) == 2
    assert [(int(image), label) for image, label in (data[0], data[1])] == [(4, 40), (1, 10)]


def test_mixed_seeds_differ():
    assert len({mix(a, b, c) for a in range(20) for b in range(20) for c in range(20)}) == 8000
    assert len({mix(a, b) & 0xFFFF_FFFF for a in range(50) for b in range(50)}) == 2500  # all that PyTorch uses
    bits = sum(bin(mix(0, a) ^ mix(0, a + 1)).count("1") for a in range(500)) / 500
    assert 30 < bits < 34
