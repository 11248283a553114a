"""timm's own tests of its models, as far as they apply, and that the network is ``MBV2Network``'s."""

import json

import pytest
import timm
import torch
from torch import nn

from vkdnw_pl.networks import timm_models
from vkdnw_pl.networks.mbv2_blocks import NAMED
from vkdnw_pl.networks.timm_models import TimmMBV2
from vkdnw_pl.spaces import SPACES

TINY = (
    "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K5(8,16,2,8,2)SuperResIDWE1K3(16,16,1,16,1)SuperResIDWE1K3(16,24,2,8,1)"
    "SuperConvK1BNRELU(24,32,1,1)"
)
NAMES = sorted(f"vkdnw_{name}" for name in NAMED)


def create(**options):
    return timm.create_model("vkdnw_mbv2", **{"arch": TINY, "num_classes": 7, **options}).eval()


@pytest.fixture
def found(tmp_path):
    file = tmp_path / "found.json"
    network = {"use_se": True, "num_classes": 5, "image_size": 32, "in_channels": 3}
    file.write_text(json.dumps({"format": 1, "space": "mbv2", "arch": TINY, "network": network}))
    return file


def test_every_published_architecture_is_a_model():
    assert [name for name in timm.list_models("vkdnw_*") if name != "vkdnw_mbv2"] == NAMES
    assert timm.list_models("vkdnw_*", module="timm_models", pretrained=True) == []


@pytest.mark.parametrize("name", NAMES)
def test_published_networks(name):
    """Costs and maps, without the seconds that real numbers take."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        maps = timm.create_model(name, features_only=True).eval()
        images = torch.empty(2, 3, 224, 224)
        assert model(images).shape == (2, 1000)
        outputs = maps(images)
    assert sum(p.numel() for p in model.parameters()) == NAMED[name.removeprefix("vkdnw_")].num_params
    assert maps.feature_info.reduction() == [2, 4, 8, 16, 32]
    sides = [224 // reduction for reduction in maps.feature_info.reduction()]
    assert [tuple(x.shape) for x in outputs] == [
        (2, channels, side, side) for channels, side in zip(maps.feature_info.channels(), sides, strict=True)
    ]


def test_same_network_as_the_spaces():
    """Draws, names and outputs; so that weights go both ways."""
    torch.manual_seed(0)
    model = create(use_se=True)
    torch.manual_seed(0)
    network = SPACES["mbv2"].build(TINY, num_classes=7, use_se=True).eval()
    images = torch.randn(2, 3, 32, 32)
    ours, theirs = model.state_dict(), network.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(model(images), network(images))
    assert [name for name, _ in model.named_parameters()][-2:] == ["classifier.weight", "classifier.bias"]


def test_arguments_decide():
    assert create(in_chans=1)(torch.randn(1, 1, 32, 32)).shape == (1, 7)
    assert create(in_chans=1).arch.startswith("SuperConvK3BNRELU(1,8,2,1)")
    assert create(arch=TINY.replace("(3,8", "(4,8", 1))(torch.randn(1, 4, 32, 32)).shape == (1, 7)
    assert create(arch="mbv2_initial").arch == NAMED["mbv2_initial"].arch
    assert create(bn_eps=1e-5).blocks[0][0][1].eps == 1e-5
    assert create(num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 32)
    assert create(num_classes=0, global_pool="")(torch.randn(2, 3, 32, 32)).shape == (2, 32, 4, 4)
    assert create(global_pool="catavgmax")(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert TimmMBV2(TINY).num_classes == 1000


def test_a_file_brings_its_options(found):
    model = timm.create_model("vkdnw_mbv2", arch=str(found))
    assert model.num_classes == 5
    assert any("SqueezeExcitation" in type(module).__name__ for module in model.modules())
    model = timm.create_model("vkdnw_mbv2", arch=str(found), num_classes=3, use_se=False)
    assert model.num_classes == 3
    assert not any("SqueezeExcitation" in type(module).__name__ for module in model.modules())
    maps = timm.create_model("vkdnw_mbv2", arch=str(found), features_only=True)
    assert maps.feature_info.reduction() == [2, 4, 8]


def test_pieces_of_the_forward_pass():
    model = create()
    images = torch.randn(2, 3, 32, 32)
    features = model.forward_features(images)
    assert features.shape == (2, model.num_features, 4, 4)
    before = model.forward_head(features, pre_logits=True)
    assert before.shape == (2, model.head_hidden_size)
    assert torch.equal(model.get_classifier()(before), model(images))
    assert torch.equal(model.forward_head(features), model(images))


def test_another_classifier():
    model = create().double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    model.reset_classifier(4)
    assert model(images).shape == (2, 4)
    assert model.num_classes == 4
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    assert model(images).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert model(images).shape == (2, model.num_features, 4, 4)
    model.reset_classifier(3, "max")
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features, pre_logits=True), features.amax((2, 3)))


@pytest.mark.parametrize("kind", ["list", "dict", "hook", "getter"])
@pytest.mark.parametrize("indices", [(0, 1, 2), (0, 2), (1,), (-2,)])
def test_features(kind, indices):
    """Shapes and reductions are those that ``feature_info`` says, values those of the whole network."""
    torch.manual_seed(0)
    model = create()
    torch.manual_seed(0)
    maps = create(features_only=True, feature_cls=kind, out_indices=indices)
    images = torch.randn(1, 3, 64, 64)
    info = maps.feature_info
    assert len(info.channels()) == len(indices)
    outputs = maps(images)
    outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
    expected = model.forward_intermediates(images, list(indices), intermediates_only=True)
    for output, channels, reduction, value in zip(outputs, info.channels(), info.reduction(), expected, strict=True):
        assert output.shape == (1, channels, 64 // reduction, 64 // reduction)
        assert torch.equal(output, value)


def test_features_are_the_last_at_their_reduction_before_the_head():
    model = create()
    assert [info["module"] for info in model.feature_info] == ["blocks.0", "blocks.2", "blocks.3"]
    strided = create(arch=TINY.replace("K1BNRELU(24,32,1,1)", "K1BNRELU(24,32,2,1)"))
    assert [info["module"] for info in strided.feature_info] == ["blocks.0", "blocks.2", "blocks.3", "blocks.4"]


def test_intermediates():
    model = create()
    images = torch.randn(2, 3, 32, 32)
    last, maps = model.forward_intermediates(images)
    assert torch.equal(last, model.forward_features(images))
    assert [x.shape[1] for x in maps] == [info["num_chs"] for info in model.feature_info]
    early = model.forward_intermediates(images, [0, 1], stop_early=True, intermediates_only=True)
    assert [torch.equal(a, b) for a, b in zip(early, maps[:2], strict=True)] == [True, True]
    assert torch.equal(model.forward_intermediates(images, 1, intermediates_only=True)[0], maps[2])
    with pytest.raises(ValueError, match="stop_early"):
        model.forward_intermediates(images, stop_early=True)
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert len(model.blocks) == 3
    assert model(images).shape == (2, 16, 8, 8)


def test_gradients_reach_everything():
    model = create(use_se=True).train()
    model.set_grad_checkpointing()
    model(torch.randn(4, 3, 32, 32)).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = create(use_se=True).train()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(images), plain(images))


def test_groups_of_parameters_cover_all():
    model = create()
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert sorted(name for names in groups.values() for name in names) == sorted(n for n, _ in model.named_parameters())


def test_dropout_only_in_training():
    model = create(drop_rate=0.5)
    features = torch.ones(2, 32, 4, 4)
    assert model.forward_head(features, pre_logits=True).eq(1).all()
    assert model.train().forward_head(features, pre_logits=True).unique().tolist() == [0, 2]


def test_weights_from_a_file(tmp_path):
    network = SPACES["mbv2"].build(TINY, num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.save({"arch": TINY, "state_dict": network.state_dict()}, tmp_path / "model.pt")
    assert torch.equal(create(checkpoint_path=str(tmp_path / "model.pt"))(images), network(images))
    overlay = {"file": str(tmp_path / "model.pt"), "num_classes": 7}
    assert torch.equal(create(pretrained=True, pretrained_cfg_overlay=overlay)(images), network(images))


def test_weights_of_a_training_for_other_classes_and_channels(tmp_path):
    network = SPACES["mbv2"].build(TINY, num_classes=7)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "distillation.x": torch.zeros(1)}}, tmp_path / "last.ckpt")
    overlay = {"file": str(tmp_path / "last.ckpt"), "num_classes": 7}
    model = create(num_classes=3, in_chans=1, pretrained=True, pretrained_cfg_overlay=overlay)
    assert torch.equal(model.blocks[1][0].main[0][0].weight, network.blocks[1][0].main[0][0].weight)
    torch.testing.assert_close(model.blocks[0][0][0].weight, network.blocks[0][0][0].weight.sum(1, keepdim=True))


def test_wrong_usage(tmp_path, found):
    with pytest.raises(ValueError, match="did you mean 'mbv2_480m'"):
        create(arch="mbv2_48m")
    with pytest.raises(ValueError, match="cannot be read"):
        create(arch=str(tmp_path / "nowhere.json"))
    found.write_text(found.read_text().replace('"mbv2"', '"nb201"'))
    with pytest.raises(ValueError, match="vkdnw_mbv2 needs mbv2"):
        create(arch=str(found))
    found.write_text(json.dumps({"arch": TINY, "network": {"cells": 5}}))
    with pytest.raises(ValueError, match="network option 'cells'"):
        create(arch=str(found))
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        create(pretrained=True)
    with pytest.raises(ValueError, match="NCHW"):
        create().forward_intermediates(torch.randn(1, 3, 32, 32), output_fmt="NHWC")


def test_names_are_attributes_of_the_module():
    for name in ("vkdnw_mbv2", *NAMES):
        assert getattr(timm_models, name).__name__ == name
        assert getattr(timm_models, name).__doc__


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 0},
        {"num_classes": 0, "global_pool": ""},
        {"global_pool": "max", "use_se": True, "drop_rate": 0.2},
        {"features_only": True},
    ],
    ids=str,
)
def test_models_can_be_scripted(options):
    model = create(**options)
    images = torch.randn(2, 3, 32, 32)
    expected, found = model(images), torch.jit.script(model)(images)
    pairs = zip(expected, found, strict=True) if isinstance(expected, list) else [(expected, found)]
    assert all(torch.equal(*pair) for pair in pairs)
