import math

import pytest
import torch
from training_reference import GOLDEN

from vkdnw_pl.training.schedule import cosine_per_epoch, learning_rate_factor, scaled_lr, warmup_cosine

OFFICIAL = GOLDEN["schedule"]
STEPS = OFFICIAL["images"] // OFFICIAL["batch"]
TOTAL, WARMUP = OFFICIAL["epochs"] * STEPS, OFFICIAL["warmup_epochs"] * STEPS


@pytest.mark.parametrize(("point", "factor"), [*zip(OFFICIAL["points"], OFFICIAL["factors"])])
def test_the_reference_counts_images(point, factor):
    epoch, batch = point
    assert warmup_cosine(epoch * STEPS + batch, TOTAL, WARMUP) == pytest.approx(factor, rel=0, abs=2.3e-5)


def test_largest_difference_to_the_reference():
    """Over all of its 1.2 million steps; the formula is that of the stored numbers."""
    n_of = torch.arange(1, TOTAL + 1, dtype=torch.float64)
    epoch, batch = (n_of - 1) // STEPS, (n_of - 1) % STEPS
    images = epoch * OFFICIAL["images"] + (batch + 1) * OFFICIAL["batch"]
    w, t = OFFICIAL["warmup_epochs"] * OFFICIAL["images"], OFFICIAL["epochs"] * OFFICIAL["images"]
    reference = torch.where(images < w, (images + 1) / w, (1 + torch.cos(math.pi * (images - w + 1) / (t - w))) / 2)
    for (at, step), factor in zip(OFFICIAL["points"], OFFICIAL["factors"]):
        assert reference[at * STEPS + step] == pytest.approx(factor, rel=1e-9, abs=1e-14)
    every = range(0, TOTAL, 7)
    ours = torch.tensor([warmup_cosine(step, TOTAL, WARMUP) for step in every], dtype=torch.float64)
    difference = (ours - reference[::7]).abs()
    assert difference.max() < 2.3e-5
    assert difference[WARMUP // 7 + 1 :].max() < 4e-7


def test_shape_of_warmup_and_cosine():
    factors = [warmup_cosine(step, 100, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert factors[9] == max(factors) == 1.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[54] == pytest.approx(0.5)
    assert factors[99] == warmup_cosine(100, 100, 10) == warmup_cosine(500, 100, 10) == 0.0
    assert warmup_cosine(0, 10, 0) == pytest.approx((1 + math.cos(math.pi / 10)) / 2)


def test_cosine_per_epoch_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for epoch in range(12):
        assert cosine_per_epoch(epoch, 12) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()
    assert cosine_per_epoch(12, 12) == cosine_per_epoch(13, 12) == 0.0


def test_factors_by_name():
    steps = range(12)
    assert [learning_rate_factor("cosine", 12, 3, 4)(s) for s in steps] == [warmup_cosine(s, 12, 3) for s in steps]
    per_epoch = [learning_rate_factor("cosine_per_epoch", 12, 0, 4)(s) for s in steps]
    assert per_epoch == [1.0] * 4 + [pytest.approx(0.75)] * 4 + [pytest.approx(0.25)] * 4
    assert [learning_rate_factor("constant", 12, 4, 4)(s) for s in steps] == [0.25, 0.5, 0.75] + [1.0] * 9
    assert learning_rate_factor("constant", 12, 0, 4)(0) == 1.0


def test_scaled_lr():
    assert scaled_lr(0.1, 256, 512) == pytest.approx(0.2)
    assert scaled_lr(0.1, None, 512) == 0.1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: warmup_cosine(0, 0, 0), "total_steps=0"),
        (lambda: warmup_cosine(0, 10, 10), "warmup_steps=10 .*total_steps=10"),
        (lambda: warmup_cosine(0, 10, -1), "warmup_steps=-1"),
        (lambda: warmup_cosine(-1, 10, 1), "step=-1"),
        (lambda: cosine_per_epoch(0, 0), "epochs=0"),
        (lambda: cosine_per_epoch(-1, 3), "epoch=-1"),
        (lambda: scaled_lr(-0.1, 256, 512), "lr=-0.1"),
        (lambda: scaled_lr(math.nan, 256, 512), "lr=nan"),
        (lambda: scaled_lr(0.1, 0, 512), "lr_batch_size=0"),
        (lambda: scaled_lr(0.1, 256, 0), "global_batch=0"),
        (lambda: learning_rate_factor("step", 10, 0, 1), "schedule='step' .*cosine, cosine_per_epoch, constant"),
        (lambda: learning_rate_factor("cosine_per_epoch", 10, 1, 1), "warmup_steps=1 .*no warm-up"),
        (lambda: learning_rate_factor("cosine", 10, 10, 1), "warmup_steps=10"),
        (lambda: learning_rate_factor("constant", 10, -1, 1), "warmup_steps=-1"),
        (lambda: learning_rate_factor("constant", 10, 1, 0), "steps_per_epoch=0"),
    ],
)
def test_refused(function, text):
    with pytest.raises(ValueError, match=text):
        function()
