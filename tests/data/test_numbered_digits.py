"""The digits of the embedded table: the images and orders of a plain loop over numbered corruptions."""

import pytest
import torch

from vkdnw_pl.data import NumberedDigits
from vkdnw_pl.data.digit_images import NUM_TRAIN, clean_digits, corrupt

COPIES = 3


@pytest.mark.parametrize("seed", [0, 2])
def test_epochs_are_those_of_a_loop_with_one_generator(seed):
    images, labels = clean_digits("train")
    images, labels = corrupt(images.repeat(COPIES, 1, 1, 1), 100), labels.repeat(COPIES)
    order = torch.Generator().manual_seed(seed)
    data = NumberedDigits(copies=COPIES, copies_per_seed=2, batch_size=50, seed=seed, num_workers=0)
    loader = data.train_dataloader()
    for epoch in range(4):
        first = (2 * seed + epoch) % COPIES * NUM_TRAIN
        expected = (first + torch.randperm(NUM_TRAIN, generator=order)).split(50)
        loader.sampler.set_epoch(epoch)
        for chosen, (batch, classes) in zip(expected, loader, strict=True):
            assert torch.equal(batch, images[chosen])
            assert torch.equal(classes, labels[chosen])


def test_evaluated_on_copies_of_the_other_digits():
    data = NumberedDigits(test_copies=2, eval_batch_size=500, num_workers=0)
    batches = list(data.val_dataloader())
    images, labels = clean_digits("test")
    assert torch.equal(torch.cat([batch for batch, _ in batches]), corrupt(images.repeat(2, 1, 1, 1), 200))
    assert torch.equal(torch.cat([classes for _, classes in batches]), labels.repeat(2))
    assert data.validates_on_test
