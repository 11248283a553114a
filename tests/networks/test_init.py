import math

import pytest
import timm
import torch
import torch.nn.functional as F

from vkdnw_pl.networks.init import initialise, start_linear, zero_residual_gammas
from vkdnw_pl.spaces import MBV2, NB201


def make():
    return NB201().build("index:3,3,3,1,2,2", cells=1)


def test_kaiming_normal_fan_in():
    net = initialise(timm.create_model("resnet18", num_classes=10), seed=3)
    for name, p in net.named_parameters():
        if p.dim() >= 2:
            std = math.sqrt(2 / p[0].numel())
            assert abs(float(p.detach().std()) / std - 1) < 0.05, name
            assert abs(float(p.detach().mean())) < 5 * std / math.sqrt(p.numel()), name
        else:
            assert float(p.detach().unique()) == (1.0 if name.endswith("weight") else 0.0), name


def test_one_seed_one_network_and_no_global_randomness():
    before = torch.get_rng_state()
    first, second, other = (initialise(make_with(torch.float32), seed=s).state_dict() for s in (1, 1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])
    double = initialise(make_with(torch.float64), seed=1).state_dict()
    assert torch.equal(double["stem.0.weight"].float(), first["stem.0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def make_with(dtype):
    with torch.random.fork_rng():
        return make().to(dtype)


def test_running_statistics_start_anew():
    net = make()
    net(torch.randn(8, 3, 32, 32) + 3)
    assert net.stem[1].running_mean.any()
    initialise(net)
    assert not net.stem[1].running_mean.any()
    assert (net.stem[1].running_var == 1).all()


def test_keep_changes_nothing():
    net = make()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.testing.assert_close(initialise(net, "keep").state_dict(), before, rtol=0, atol=0)


def test_unknown_init_names_the_allowed():
    with pytest.raises(ValueError, match=r"init='xavier'.*kaiming_normal, gaussian, zennas, pytorch, keep"):
        initialise(make(), "xavier")


def test_attention_and_parametrised_weights_are_drawn_too():
    attention = initialise(torch.nn.MultiheadAttention(64, 4), seed=1)
    assert abs(float(attention.in_proj_weight.detach().std()) / math.sqrt(2 / 64) - 1) < 0.05
    assert not attention.in_proj_bias.any()
    plain = initialise(torch.nn.Conv2d(4, 8, 3), seed=1)
    normed = initialise(torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(4, 8, 3)), seed=1)
    torch.testing.assert_close(normed.weight, plain.weight)


def test_draws_do_not_depend_on_the_default_dtype():
    expected = initialise(torch.nn.Linear(5, 3), seed=1).weight
    torch.set_default_dtype(torch.float64)
    try:
        found = initialise(torch.nn.Linear(5, 3), seed=1).weight
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.float(), expected)


def test_zennas_is_xavier_normal_with_its_gain():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(32, 64, 3, bias=True),
        torch.nn.Conv2d(256, 256, 5, groups=256),
        torch.nn.BatchNorm2d(256),
        torch.nn.Linear(256, 128),
    )
    initialise(network, "zennas", seed=1)
    fans = {"0": (32 * 9, 64 * 9), "1": (25, 256 * 25), "3": (256, 128)}  # of the weight's shape, as torch counts
    for name, (fan_in, fan_out) in fans.items():
        layer = network.get_submodule(name)
        expected = torch.nn.init.xavier_normal_(
            torch.empty_like(layer.weight), gain=3.26033, generator=torch.Generator().manual_seed(1)
        )
        std = float(layer.weight.detach().std())
        assert std == pytest.approx(3.26033 * math.sqrt(2 / (fan_in + fan_out)), rel=0.03), name
        assert std == pytest.approx(float(expected.std()), rel=0.03), name
        assert not layer.bias.any()
    assert (network[2].weight == 1).all()
    assert not network[2].bias.any()
    # One stream for all normal initialisations: they differ in scale only.
    zen = network[0].weight.detach().clone()
    kaiming = initialise(network, "kaiming_normal", seed=1)[0].weight
    torch.testing.assert_close(zen / zen.std(), kaiming.detach() / kaiming.detach().std())


def test_zero_residual_gammas():
    network = timm.create_model("resnet18", num_classes=2, zero_init_last=False)
    before = {name: p.clone() for name, p in network.named_parameters()}
    assert zero_residual_gammas(network) == 8
    changed = [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]
    assert changed == [f"layer{stage}.{block}.bn2.weight" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert not any(network.get_parameter(name).any() for name in changed)


def test_zero_residual_gammas_without_such_blocks():
    with pytest.raises(ValueError, match=r"zero_gamma .* Linear: .*zero_init_last"):
        zero_residual_gammas(torch.nn.Linear(2, 2))


def test_linear_start_keeps_gradients_of_deep_thin_networks_small():
    # Every shortcut projects: bottlenecks are narrower than what is between the blocks.
    blocks = "SuperResIDWE1K3(32,32,2,16,5)SuperResIDWE1K3(32,32,2,16,5)"
    network = MBV2().build(f"SuperConvK3BNRELU(3,32,2,1){blocks}SuperConvK1BNRELU(32,64,1,1)", num_classes=4)
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradient_norm() -> float:
        network.zero_grad()
        F.cross_entropy(network(images), torch.arange(16) % 4).backward()
        return float(torch.nn.utils.get_total_norm([p.grad for p in network.parameters()]))

    initialise(network, "pytorch")
    as_built = gradient_norm()
    zero_residual_gammas(network)
    assert gradient_norm() < as_built / 10
    start_linear(network)
    assert gradient_norm() < min(as_built / 100, 10)


def test_linear_start_of_networks_of_others():
    resnet = timm.create_model("resnet18", num_classes=2, zero_init_last=False)
    start_linear(resnet)
    assert not resnet.get_parameter("layer1.0.bn2.weight").any()
