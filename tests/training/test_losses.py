import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from training_reference import GOLDEN, wave

from vkdnw_pl.training.losses import mixup, smooth_targets

OFFICIAL = GOLDEN["targets"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_smoothing_is_that_of_the_reference():
    found = smooth_targets(torch.tensor(OFFICIAL["labels"]), 5, 0.1)
    torch.testing.assert_close(found, torch.tensor(OFFICIAL["smoothed"]), rtol=0, atol=1e-7)
    assert found.dtype == torch.float32


def test_smoothing_is_that_of_torch():
    logits, labels = torch.randn(6, 7), torch.tensor([0, 6, 3, 3, 1, 2])
    found = F.cross_entropy(logits, smooth_targets(labels, 7, 0.2))
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, label_smoothing=0.2))
    assert torch.equal(smooth_targets(labels, 7), F.one_hot(labels, 7).float())


class Told:
    """Stands for numpy's generator, and draws what it is told."""

    def beta(self, a, b):
        assert (a, b) == (0.2, 0.2)
        return OFFICIAL["gamma"]


def test_mixing_is_that_of_the_reference(monkeypatch):
    monkeypatch.setattr("numpy.random.default_rng", lambda seed: Told())
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.tensor(OFFICIAL["partners"]))
    targets = torch.tensor(OFFICIAL["smoothed"])
    images, mixed = mixup(wave((5, 3, 2, 2), 0.8), targets, 0.2, seeded(0))
    torch.testing.assert_close(mixed, torch.tensor(OFFICIAL["mixed_targets"]), rtol=0, atol=1e-7)
    first = torch.tensor(OFFICIAL["mixed_images_first"], dtype=torch.float64)
    torch.testing.assert_close(images[0].flatten(), first, rtol=0, atol=1e-12)
    assert float(images.square().sum()) == pytest.approx(OFFICIAL["mixed_images_sum_of_squares"], rel=1e-12)
    loss = F.cross_entropy(wave((5, 5), 1.1, 2.0), mixed.double())
    assert float(loss) == pytest.approx(OFFICIAL["cross_entropy"], rel=1e-7)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_images_and_targets_are_mixed_alike(batch):
    """With targets that are the images themselves, both results are the same."""
    images = torch.randn(batch, 4, generator=seeded(1))
    given = images.clone()
    mixed, targets = mixup(images, images.clone(), 0.4, seeded(2))
    assert torch.equal(mixed, targets)
    assert torch.equal(images, given)
    torch.testing.assert_close(mixed.sum(0), images.sum(0))  # a permutation takes and gives each image once
    if batch > 1:
        assert not torch.equal(mixed, images)


def test_draws_are_a_function_of_the_generator():
    images, targets = torch.randn(7, 3, 4, 4), smooth_targets(torch.arange(7), 7, 0.1)
    before = torch.get_rng_state()
    first, again, other = (mixup(images, targets, 0.2, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    going = seeded(3)
    torch.testing.assert_close(mixup(images, targets, 0.2, going), first, rtol=0, atol=0)
    assert not torch.equal(mixup(images, targets, 0.2, going)[0], first[0])


def test_gamma_is_of_the_beta_distribution():
    """Two one-hot images: the mixed first one shows gamma itself unless it met itself (then it is 1)."""
    generator, eye, gammas = seeded(5), torch.eye(2, dtype=torch.float64), []
    while len(gammas) < 1500:
        mixed, _ = mixup(eye, eye, 0.5, generator)
        if not torch.equal(mixed, eye):
            gammas.append(float(mixed[0, 0]))
    assert scipy.stats.kstest(gammas, scipy.stats.beta(0.5, 0.5).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(gammas, scipy.stats.beta(1, 1).cdf).pvalue < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_draw_on_every_device():
    images, targets = torch.randn(6, 3, 4, 4), smooth_targets(torch.arange(6), 6)
    there = mixup(images.cuda(), targets.cuda(), 0.2, seeded(1))
    for found, expected in zip(there, mixup(images, targets, 0.2, seeded(1))):
        torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: smooth_targets(torch.tensor([0]), 3, 1.0), "smoothing=1.0"),
        (lambda: mixup(torch.zeros(2, 3), torch.zeros(2, 4), 0.0, seeded(0)), "alpha=0.0"),
        (lambda: mixup(torch.zeros(2, 3), torch.zeros(3, 4), 0.2, seeded(0)), r"shape \(3, 4\); 2 images"),
        (lambda: mixup(torch.zeros(2, 3), torch.tensor([0, 1]), 0.2, seeded(0)), r"shape \(2,\)"),
    ],
)
def test_refused(function, text):
    with pytest.raises(ValueError, match=text):
        function()
