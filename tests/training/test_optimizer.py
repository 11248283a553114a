import pytest
import timm
import torch
from torch import nn
from training_reference import GOLDEN

from vkdnw_pl.training.optimizer import make_optimizer, parameter_groups


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
    with pytest.raises(ValueError, match="weight_decay=-1"):
        parameter_groups(layer, -1)
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
