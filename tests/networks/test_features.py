import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from vkdnw_pl.networks.features import FeatureTap, Stage, feature_taps, first_stage_at, stage_names, stage_outputs
from vkdnw_pl.spaces import NB201


class Named(nn.Module):
    """Two stages named by itself; dropout and batch norm would betray a forward pass in training mode."""

    stages = ("early", "late.0")

    def __init__(self, inplace=False):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.act = nn.ReLU(inplace=inplace)
        self.late = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.classifier = nn.Linear(6, 5)

    def forward(self, images):
        return self.classifier(self.late(self.act(self.early(images))).mean((2, 3)))


def images(size=16, batch=3):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_stages_named_by_the_network():
    assert stage_outputs(Named(), (3, 16, 16)) == [Stage("early", 4, 2), Stage("late.0", 6, 4)]


def test_stages_of_timm_networks_with_blocks():
    network = timm.create_model("tf_efficientnet_b3", num_classes=2)
    stages = stage_outputs(network, (3, 64, 64))
    assert [(s.channels, s.reduction) for s in stages] == [
        *((24, 2), (32, 4), (48, 8), (96, 16), (136, 16), (232, 32), (384, 32)),
    ]
    assert first_stage_at(network, (3, 64, 64), 16) == Stage("blocks.3", 96, 16)


def test_stages_of_timm_networks_without_blocks():
    assert first_stage_at(timm.create_model("resnet18"), (3, 64, 64), 16) == Stage("layer3", 256, 16)


def test_feature_info_that_names_no_module():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1))
    network.feature_info = [{"module": "stem"}, {"module": "0"}]
    assert stage_outputs(network, (3, 8, 8)) == [Stage("0", 4, 2)]


def test_stages_of_a_cell_network():
    network = NB201().build("index:3,3,3,1,2,2", channels=4, cells=1)
    reductions = [stage.reduction for stage in stage_outputs(network, (3, 32, 32))]
    assert set(reductions) == {1, 2, 4}
    assert reductions == sorted(reductions)
    with pytest.raises(ValueError, match=r"reduction=16 .*NB201Network.*3x32x32 \(reductions of its stages: 1, 2, 4\)"):
        first_stage_at(network, (3, 32, 32), 16)


def test_maps_only():
    """A vision transformer's blocks return tokens, which are no maps."""
    network = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert stage_names(network) == ["blocks.0"]
    with pytest.raises(ValueError, match="reductions of its stages: none"):
        first_stage_at(network, (3, 224, 224), 16)


def test_maps_in_another_order():
    """Swin's maps are (B, H, W, C)."""
    network = timm.create_model(
        "swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 1, 1, 1)
    )
    assert stage_outputs(network, (3, 224, 224)) == []


def test_network_without_stages():
    with pytest.raises(ValueError, match=r"Linear has no `stages`.*`blocks`.*`feature_info`"):
        stage_names(nn.Linear(2, 2))


def test_looking_changes_nothing():
    network = Named().train()
    network.early[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    stage_outputs(network, (3, 16, 16))
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert [m.training for m in network.early] == [True, False, True]
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("size", "reductions"),
    [
        (64, [2, 4, 8, 16, 32]),
        (300, [2, 4, 8, 16, 32]),  # 150, 75, 38, 19, 10 pixels
        (72, [2, 4, 8, 16, 32]),
        (16, [2, 4, 8, 16, 16]),  # one pixel cannot get smaller
    ],
)
def test_reductions_at_any_size(size, reductions):
    network = timm.create_model("test_efficientnet", num_classes=2)
    assert [stage.reduction for stage in stage_outputs(network, (3, size, size))] == reductions


def test_reduction_that_is_no_power_of_two():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=3), nn.ReLU())
    network.stages = ["0"]
    assert stage_outputs(network, (3, 33, 33)) == [Stage("0", 4, 3)]


def test_tap_delivers_maps_with_gradients_and_lets_go():
    network = Named().eval()
    tap = FeatureTap(network, ["late.0", "early"])
    logits = network(images())
    late, early = tap.take()
    assert torch.equal(early, network.early(images()))
    assert torch.equal(late, network.late[0](network.act(early)))
    (gradient,) = torch.autograd.grad(late.sum() + logits.sum(), network.early[0].weight)
    assert gradient.any()
    tap.close()
    network(images())
    with pytest.raises(RuntimeError, match=r"no output of 'late.0' was seen"):
        tap.take()


def test_tap_sees_each_forward_pass_once():
    network = Named().eval()
    with FeatureTap(network, ["early"]) as tap:
        with pytest.raises(RuntimeError, match="no output of 'early'"):
            tap.take()
        with torch.inference_mode():
            network(images())
        tap.take()
        with pytest.raises(RuntimeError, match="no output of 'early'"):
            tap.take()


def test_map_that_a_later_layer_overwrites():
    network = Named(inplace=True).eval()
    with FeatureTap(network, ["early"]) as tap:
        network(images())
        with pytest.raises(RuntimeError, match="'early' was overwritten"):
            tap.take()


def test_looking_does_not_mind_layers_in_place():
    assert [stage.reduction for stage in stage_outputs(Named(inplace=True), (3, 16, 16))] == [2, 4]


def test_unknown_module():
    with pytest.raises(ValueError, match="'middle' is no submodule of Named"):
        FeatureTap(Named(), ["middle"])


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Named()
        self.tap = FeatureTap(self.network, ["early"])


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda holder: pickle.loads(pickle.dumps(holder))], ids=["copy", "pickle"]
)
def test_copies_have_a_tap_of_their_own(how):
    holder = Holder()
    holder.network(images())  # a tensor inside a graph is held, and cannot be copied
    other = how(holder)
    other.network(images())
    assert other.tap.take()[0] is not holder.tap.take()[0]
    assert list(other.state_dict()) == [f"network.{name}" for name in Named().state_dict()]
    other.tap.close()
    holder.network(images())
    holder.tap.take()


@pytest.mark.slow
def test_tap_on_a_compiled_network():
    network = Named().eval()
    (reference,) = torch.autograd.grad(network.early(images()).square().sum(), network.early[0].weight)
    tap = FeatureTap(network, ["early"])
    network.compile(backend="aot_eager")
    for _ in range(2):
        network(images())
        (early,) = tap.take()
        (gradient,) = torch.autograd.grad(early.square().sum(), network.early[0].weight)
        torch.testing.assert_close(gradient, reference)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def conv(c_in, c_out, kernel=3, stride=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.BatchNorm2d(c_out), act())


def mobile(*layers):
    """Like NAS-Bench-Macro's: residual layers without a last activation, and a head that widens the last map."""
    return nn.Sequential(conv(3, 4), *layers, conv(16, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))


def layer(width, **options):
    return Residual(conv(width, 3 * width, 1), conv(3 * width, width, 1, act=nn.Identity), **options)


class Shared(nn.Module):
    """One activation for all layers: of its calls only the last can be tapped."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 3)
        self.act = nn.ReLU()
        self.classifier = nn.Linear(4, 5)

    def forward(self, x):
        for part in (self.one, self.two, self.three):
            x = self.act(part(x))
        return self.classifier(x.mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.mlp, self.classifier = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.classifier(self.mlp(self.patches(x).flatten(2).mT).mean(1))


@pytest.mark.parametrize(
    ("network", "names"),
    [
        # 16, 8 and 4 pixels: the stem is the last map of the first; a widening 1x1 convolution before the pooling is none.
        (mobile(conv(4, 8, 3, 2), layer(8), conv(8, 16, 3, 2), layer(16), layer(16)), ["0", "2", "5"]),
        # A block that reduces the map behind a 1x1 convolution of its own.
        (mobile(nn.Sequential(conv(4, 24, 1), conv(24, 8, 3, 2)), conv(8, 16, 3, 2), layer(16)), ["0", "1", "3"]),
        # A layer behind the stem at the same resolution: both.
        (mobile(layer(4), layer(4), conv(4, 16, 3, 2), layer(16)), ["0.2", "2", "4"]),
        # One resolution: the stem and the last map.
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
            ["0", "2"],
        ),
        (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 5)), ["1"]),
        # A last layer that narrows is a layer.
        (nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), ["0", "2"]),
        (Shared(), ["one", "two", "act"]),
        (timm.create_model("resnet18", num_classes=5), ["act1", "layer1", "layer2"]),  # then 1x1
        (timm.create_model("test_vit", img_size=16, num_classes=5), []),
        (Tokens(), []),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stem_and_last_map_of_every_resolution(network, names):
    batch, state = images(), torch.random.get_rng_state()
    network.train()
    assert list(feature_taps(network, batch, "stages")) == names
    assert network.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks for module in network.modules())


def test_whose_taps():
    network = NB201().build("index:3,3,3,1,2,2", channels=4, cells=2)
    blocks = ("stem", *(f"blocks.{i}" for i in range(8)))
    assert feature_taps(network, images()) == blocks, "the network's own"
    resnet = timm.create_model("resnet18")
    assert feature_taps(resnet, images()) == ("act1", "layer1", "layer2", "layer3", "layer4")
    named = mobile(conv(4, 16, 3, 2))
    assert feature_taps(named, images()) == ("0", "1")
    named.feature_taps = ["1", "2"]
    assert feature_taps(named, images()) == ("1", "2")
