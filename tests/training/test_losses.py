import copy
import math

import pytest
import scipy.stats
import timm
import torch
import torch.nn.functional as F
from torch import nn
from training_reference import GOLDEN, wave

from vkdnw_pl.networks.features import FeatureTap
from vkdnw_pl.report.wandb_report import TRAINING_CURVES
from vkdnw_pl.spaces import NB201
from vkdnw_pl.training.losses import Distillation, FeatureLoss, logit_loss, mixup, smooth_targets
from vkdnw_pl.training.teacher import TeacherOptions

OFFICIAL = GOLDEN["targets"]
OFFICIAL_DISTILLATION = GOLDEN["distillation"]


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


def test_logit_loss_is_that_of_the_reference():
    student = wave((2, 9), 0.3, 3.0).requires_grad_()
    loss = logit_loss(student, wave((2, 9), 0.6, 4.0))
    assert float(loss.detach()) == pytest.approx(OFFICIAL_DISTILLATION["logit_loss"], rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[0].tolist() == pytest.approx(OFFICIAL_DISTILLATION["logit_gradient"], rel=1e-10)


def test_logit_loss_differs_from_kullback_leibler_by_the_teachers_entropy():
    student, teacher = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    for t in (1.0, 3.0):
        p = F.softmax(teacher / t, 1)
        divergence = F.kl_div(F.log_softmax(student / t, 1), p, reduction="batchmean")
        entropy = -(p * p.log()).sum(1).mean()
        torch.testing.assert_close(logit_loss(student, teacher, t), divergence + entropy)
    assert float(logit_loss(teacher, teacher, 3.0)) < float(logit_loss(student, teacher, 3.0))


def test_logit_loss_in_half_precision():
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    half = logit_loss(student.bfloat16(), teacher)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, logit_loss(student.bfloat16().float(), teacher))
    with pytest.raises(ValueError, match=r"temperature=0"):
        TeacherOptions(temperature=0.0)


def test_feature_loss_is_that_of_the_reference():
    students = [wave((2, 6, 5, 5), 0.1, 2.0).requires_grad_(), wave((2, 8, 3, 3), 0.2, 0.5).requires_grad_()]
    teachers = [wave((2, 10, 7, 7), 0.4, 3.0), wave((2, 12, 3, 3), 0.5, 1.5)]
    module = FeatureLoss((6, 8), (10, 12)).double()
    with torch.no_grad():
        for i, projection in enumerate(module.projections):
            projection.weight.copy_(wave(projection.weight.shape, 0.7 + i, 0.4))
            projection.bias.copy_(wave(projection.bias.shape, 0.9 + i, 0.2))
    loss = module(students, teachers)
    assert float(loss.detach()) == pytest.approx(OFFICIAL_DISTILLATION["feature_loss"], rel=1e-12)
    weights, biases = ([getattr(p, name) for p in module.projections] for name in ("weight", "bias"))
    gradients = torch.autograd.grad(loss, [*students, *weights, *biases])
    assert [float(g.norm()) for g in gradients] == pytest.approx(OFFICIAL_DISTILLATION["gradient_norms"], rel=1e-10)
    assert [float(g.flatten()[0]) for g in gradients] == pytest.approx(
        OFFICIAL_DISTILLATION["gradient_firsts"], rel=1e-10
    )


def test_initial_projections_are_those_of_the_reference():
    golden = GOLDEN["init"]
    outs, ins = ([shape[i] for shape in golden["shapes"]] for i in (0, 1))
    before = torch.get_rng_state()
    module, generator = FeatureLoss(ins, outs, seed=4), torch.Generator().manual_seed(4)
    assert torch.equal(torch.get_rng_state(), before)
    for projection, shape, scale in zip(module.projections, golden["shapes"], golden["scales"], strict=True):
        quotient = projection.weight.detach() / torch.randn(shape, generator=generator)
        torch.testing.assert_close(quotient, torch.full_like(quotient, scale), rtol=1e-5, atol=0)
        assert not projection.bias.any()


def test_feature_loss_by_hand():
    """One pixel, one channel: smooth L1 is quadratic up to a distance of 1 and linear from there."""
    module = FeatureLoss((1,), (1,))
    nn.init.ones_(module.projections[0].weight)
    one, two = torch.ones(1, 1, 1, 1), torch.tensor([[[[1.5]]]])
    assert float(module([one], [two]).detach()) == pytest.approx(0.125)
    assert float(module([one], [one + 3]).detach()) == pytest.approx(2.5)
    # The teacher's map is resized to the student's: pixels of two by two become their mean.
    assert float(module([one], [torch.tensor([[[[1.0, 2.0], [1.5, 1.5]]]])]).detach()) == pytest.approx(0.125)


def test_feature_loss_needs_pairs():
    with pytest.raises(ValueError, match=r"zip.* is shorter"):
        FeatureLoss((1, 2), (3,))


def options(**changes):
    return TeacherOptions(**{"name": "test_efficientnet", "pretrained": False, **changes})


def student():
    return timm.create_model("test_byobnet", num_classes=7)


def images(size, seed=0):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_losses_of_a_batch():
    network = student().eval()
    distillation = Distillation(options(logit_weight=0.5, feature_weight=3.0, temperature=2.0), network, (3, 64, 64), 7)
    distillation.prepare("cpu")
    small, large = images(64), images(96)
    logits, losses = distillation(network, small, large)
    with FeatureTap(network, ["stages.2", "final_conv"]) as tap:
        assert torch.equal(network(small), logits)
        maps = tap.take()
    said = distillation.teacher(large)
    assert [m.shape[1] for m in said.features] == [48, 256]
    assert {f"train/loss_{name}" for name in ("ce", *losses)} == set(TRAINING_CURVES["parts of the loss"])
    torch.testing.assert_close(losses["logits"], 0.5 * logit_loss(logits, said.logits, 2.0))
    torch.testing.assert_close(losses["features"], 3.0 * distillation.features(maps, said.features))
    sum(losses.values()).backward()
    assert network.stem.conv.weight.grad.any()
    assert all(p.grad.any() for p in distillation.parameters())


def test_only_the_projections_are_parameters():
    network = student()
    distillation = Distillation(options(), network, (3, 64, 64), 7)
    distillation.prepare("cpu")
    expected = [f"features.projections.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")]
    assert [name for name, _ in distillation.named_parameters()] == list(distillation.state_dict()) == expected
    other = copy.deepcopy(distillation)
    assert other.teacher is distillation.teacher
    assert other.features is not distillation.features


def test_without_one_of_the_losses():
    network = student()
    logits_only = Distillation(options(feature_weight=0.0), network, (3, 64, 64), 7)
    assert not list(logits_only.parameters())
    assert list(logits_only(network, images(64), images(64))[1]) == ["logits"]
    features_only = Distillation(options(logit_weight=0.0), network, (3, 64, 64), 7)
    assert list(features_only(network, images(64), images(64))[1]) == ["features"]


def test_checkpoints_open_without_the_teachers_weights():
    network = student()
    made = Distillation(options(pretrained=True, weights="not_here.pth"), network, (3, 64, 64), 7)
    assert made.features is not None
    with pytest.raises(ValueError, match=r"weights='not_here.pth': there is no such file"):
        made.prepare("cpu")


def test_small_networks_at_their_own_reductions():
    network = NB201().build("index:3,3,3,1,2,2", channels=4, cells=1, image_size=16, num_classes=7)
    with pytest.raises(ValueError, match=r"reduction=16 .*NB201Network.* 1, 2, 4\)"):
        Distillation(options(), network, (3, 16, 16), 7)
    distillation = Distillation(options(reductions=[2, 4]), network, (3, 16, 16), 7)
    assert [(p.in_channels, p.out_channels) for p in distillation.features.projections] == [(8, 16), (16, 24)]
    _, losses = distillation(network, images(16), images(32))
    assert all(math.isfinite(float(loss.detach())) for loss in losses.values())


def test_compiled_student_and_feature_loss():
    plain, compiled = student().eval(), student().eval()
    compiled.load_state_dict(plain.state_dict())
    results = []
    for network in (plain, compiled):
        distillation = Distillation(options(), network, (3, 64, 64), 7, seed=1)
        if network is compiled:
            network.compile(backend="eager")
            distillation.compile(backend="eager")
        for _ in range(2):
            network.zero_grad()
            logits, losses = distillation(network, images(64), images(64))
            (logits.square().mean() + sum(losses.values())).backward()
        results.append((losses, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1])
