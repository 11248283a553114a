import math

import pytest
import timm
import torch

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.spaces import NB201


def make():
    return NB201().build("3,3,3,1,2,2", cells=1)


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
    with pytest.raises(ValueError, match=r"init='xavier'.*kaiming_normal, gaussian, pytorch, keep"):
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
