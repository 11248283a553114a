"""What is said of batches that a data module should not give."""

import pytest
import torch

from vkdnw_pl.training.batches import check_batch

IMAGES, LABELS = torch.zeros(2, 3, 8, 8), torch.tensor([0, 2])


def test_good_batches_pass():
    check_batch((IMAGES, LABELS), [3, 8, 8], 3)
    check_batch([IMAGES.half(), LABELS.byte()], (3, 8, 8), 3)
    check_batch((IMAGES, torch.full((2,), -1)), (3, 8, 8), 3, labelled=False)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"image": IMAGES}, "is a dict; give images"),
        ((IMAGES, LABELS, LABELS), "is a tuple of Tensor, Tensor, Tensor; give images"),
        ((IMAGES[:, :, :7], LABELS), r"has images \(2, 3, 7, 8\), float32; give images \(B, 3, 8, 8\)"),
        ((IMAGES[:, :1], LABELS), r"has images \(2, 1, 8, 8\)"),
        ((IMAGES.byte(), LABELS), r"has images \(2, 3, 8, 8\), uint8"),
        ((IMAGES, LABELS.float()), r"has labels \(2\), float32 for 2 images"),
        ((IMAGES, LABELS[:1]), r"has labels \(1\), int64 for 2 images"),
        ((IMAGES, LABELS + 1), "has the label 3, and num_classes=3; .* from 0 to 2"),
        ((IMAGES, LABELS - 1), "has the label -1"),
    ],
)
def test_other_batches_are_refused(batch, words):
    with pytest.raises(ValueError, match=words):
        check_batch(batch, [3, 8, 8], 3)
