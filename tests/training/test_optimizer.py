import math

import pytest
import timm
import torch
from torch import nn
from training_reference import GOLDEN

from vkdnw_pl.training.optimizer import (
    OptimizerOptions,
    ScheduleOptions,
    cosine_per_epoch,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    scaled_lr,
    warmup_cosine,
)

OFFICIAL = GOLDEN["schedule"]
STEPS = OFFICIAL["images"] // OFFICIAL["batch"]
TOTAL, WARMUP = OFFICIAL["epochs"] * STEPS, OFFICIAL["warmup_epochs"] * STEPS


def names(groups, module):
    known = {id(p): name for name, p in module.named_parameters()}
    return {group["name"]: [known[id(p)] for p in group["params"]] for group in groups}


def test_split_is_that_of_the_reference():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.GroupNorm(2, 4),
        nn.Linear(4, 5),
    )
    groups = parameter_groups(network, 4e-5)
    assert names(groups, network) == GOLDEN["decay"]
    assert [group["weight_decay"] for group in groups] == [4e-5, 0.0]


def test_split_is_that_of_timm_for_convolutional_networks():
    network = timm.create_model("tf_efficientnet_b0", num_classes=5)
    rest, weights = timm.optim.param_groups_weight_decay(network, 1e-4)
    ours = names(parameter_groups(network, 1e-4), network)
    theirs = names([{"name": "decay", **weights}, {"name": "no_decay", **rest}], network)
    assert ours == theirs


class Unusual(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        self.embedding = nn.Embedding(3, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied_again = self.tied
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_unusual_parameters():
    network = Unusual()
    found = names(parameter_groups(network, 0.1), network)
    assert found == {
        "decay": [
            "attention.in_proj_weight",
            "attention.out_proj.weight",
            "normed.parametrizations.weight.original0",
            "normed.parametrizations.weight.original1",
            "tied.weight",
        ],
        "no_decay": [
            "position",
            "embedding.weight",
            "attention.in_proj_bias",
            "attention.out_proj.bias",
            "normed.bias",
        ],
    }


def test_everything_decays_and_nothing_is_lost():
    network, more = timm.create_model("resnet18", num_classes=5), nn.Conv2d(2, 2, 1)
    (group,) = parameter_groups([network, more], 5e-4, "all")
    assert group["name"] == "decay"
    assert list(map(id, group["params"])) == list(map(id, [*network.parameters(), *more.parameters()]))
    split = parameter_groups([network, more], 5e-4)
    assert sorted(id(p) for g in split for p in g["params"]) == sorted(map(id, group["params"]))


def test_one_group_where_there_is_one_kind():
    assert [group["name"] for group in parameter_groups(nn.BatchNorm2d(3), 0.1)] == ["no_decay"]


def test_what_is_refused():
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"in two of the modules, as Linear 0: weight and as Sequential 1: 0.weight"):
        parameter_groups([layer, nn.Sequential(layer)], 0.1)
    with pytest.raises(ValueError, match=r"decay='biases' .*weights, all"):
        parameter_groups(layer, 0.1, "biases")
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(layer.requires_grad_(False), 0.1)


def optimizer(name, **options):
    return make_optimizer(parameter_groups(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), 0.1), name, 0.3, **options)


def test_optimizer_has_the_groups():
    made = optimizer("sgd", momentum=0.8)
    assert isinstance(made, torch.optim.SGD)
    assert [(g["name"], g["lr"], g["weight_decay"], g["momentum"], g["nesterov"]) for g in made.param_groups] == [
        ("decay", 0.3, 0.1, 0.8, True),
        ("no_decay", 0.3, 0.0, 0.8, True),
    ]
    assert not optimizer("momentum").param_groups[0]["nesterov"]
    assert optimizer("adamw", betas=(0.5, 0.9)).param_groups[0]["betas"] == (0.5, 0.9)
    assert type(optimizer("lookahead_adamw")).__name__ == "Lookahead"


def test_nesterov_step_is_that_of_torch():
    start = torch.tensor([1.0, -2.0])
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    pair = (
        make_optimizer([{"name": "decay", "params": [ours], "weight_decay": 0.01}], "sgd", 0.1, 0.9),
        torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    )
    for _ in range(3):
        for made, p in zip(pair, (ours, theirs)):
            p.grad = p.detach().cos()
            made.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("adamv", {}, r"optimizer.name='adamv' .*did you mean 'adam"),
        ("sgd", {"dampenin": 0.1}, r"sgd does not take 'dampenin'; did you mean 'dampening'"),
        ("sgd", {"weight_decay": 0.1}, "every group has its own"),
        ("sgd", {"momentum": 0}, "momentum=0 is not allowed with 'sgd'"),
        ("adamw", {"betas": (2.0, 0.9)}, "'adamw' cannot be made with these options: Invalid beta"),
    ],
)
def test_refused(name, options, text):
    with pytest.raises(ValueError, match=text):
        optimizer(name, **options)


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
        (lambda: learning_rate_factor("step", 10, 0, 1), "schedule='step' .*cosine, cosine_per_epoch, constant"),
        (lambda: ScheduleOptions(name="cosine_per_epoch", warmup_epochs=1), "warmup_epochs=1 .*no warm-up"),
        (lambda: ScheduleOptions(warmup_epochs=-1), "warmup_epochs=-1"),
        (lambda: OptimizerOptions(lr=-0.1), "lr=-0.1"),
        (lambda: OptimizerOptions(lr=math.nan), "lr=nan"),
        (lambda: OptimizerOptions(lr_batch_size=0), "lr_batch_size=0"),
        (lambda: OptimizerOptions(weight_decay=-1), "weight_decay=-1"),
    ],
)
def test_refused_options(function, text):
    with pytest.raises(ValueError, match=text):
        function()
