"""Nothing of the weights that a network came with enters an initialisation, whatever its layers are."""

import inspect
import math

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.ops import FrozenBatchNorm2d

from vkdnw_pl.networks.init import INITS, Uninitialised, initialise
from vkdnw_pl.networks.private_copy import private_copy

NUMBERS = (8, (8, 8), 4, (8,), [2], (2, 4, 8))
BY_NAME = {"act_layer": nn.ReLU, "norm_layer": nn.LayerNorm, "cutoffs": [2, 4], "n_classes": 8, "num_groups": 2}
MORE = (
    {"d_model": 8, "nhead": 2, "dim_feedforward": 8, "num_encoder_layers": 1, "num_decoder_layers": 1},
    {"num_heads": 2},
    {"kernel_size": 3},
    {"kernel_size": (3, 3)},
    {"num_heads": 2, "feat_size": 8},
    {"num_heads": 2, "window_size": (4, 4)},
)


def constructed(cls):
    """A layer of a class, or None: its required arguments are tried out."""
    if issubclass(cls, nn.RNNBase) and cls is not nn.RNNBase:
        return cls(8, 8)
    parameters = inspect.signature(cls).parameters
    required = [name for name, p in parameters.items() if p.default is p.empty and p.kind not in (2, 4)]
    for number in NUMBERS:
        for more in MORE:
            arguments = dict.fromkeys(required, number) | {k: v for k, v in more.items() if k in parameters}
            arguments |= {name: value for name, value in BY_NAME.items() if name in required}
            try:
                return cls(**arguments)
            except Exception:
                continue
    return None


def layer_types():
    found = {}
    for package in (nn, timm.layers):
        for name, cls in sorted(vars(package).items()):
            if isinstance(cls, type) and issubclass(cls, nn.Module) and not name.startswith(("_", "Lazy")):
                found.setdefault(cls, None)
    return [*found, FrozenBatchNorm2d]


@torch.no_grad()
def lived_in(network, seed):
    """A copy with other weights and statistics."""
    network = private_copy(network)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.copy_(seed + torch.randn(parameter.shape, generator=generator))
    for name, buffer in network.named_buffers():
        if "running_" in name or name.endswith(("_u", "_v")):
            buffer.add_(seed)
    torch.manual_seed(seed)
    return network


def states(network, init):
    """State dicts, or the text of the error, for two networks of one architecture."""
    for seed in (1, 2):
        try:
            yield initialise(lived_in(network, seed), init, 7, fresh=False).state_dict()
        except Uninitialised as error:
            yield str(error)


def assert_alike(network, init, refused=None):
    one, two = states(network, init)
    if isinstance(one, str):
        assert one == two
        assert refused is not None, one
        assert refused in one
        return
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), (name, init)
        assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), name


@pytest.mark.filterwarnings("ignore")
def test_every_layer_of_torch_and_timm():
    """Beside a norm, as layers are; whatever of them has no weights is left out."""
    count, refused = 0, set()
    torch.manual_seed(0)
    for cls in layer_types():
        layer = constructed(cls)
        if layer is None or not layer.state_dict():
            continue
        count += 1
        network = nn.Sequential(layer, nn.LayerNorm(4))
        for init in INITS[:2] + INITS[3:4]:
            first, second = states(network, init)
            if isinstance(first, str):
                assert first == second
                assert first.startswith(f"0 ({cls.__name__}) has a parameter "), first
                assert "reset_parameters()" in first
                refused.add(cls.__name__)
            else:
                assert not isinstance(second, str), cls
                for name, tensor in first.items():
                    assert torch.equal(tensor, second[name]), (cls, name, init)
    assert count >= 110
    assert refused == {"LsePlus1d", "LsePlus2d"}


def attention():
    return nn.MultiheadAttention(8, 2, add_bias_kv=True, kdim=4, vdim=4)


def shifted_norm():
    return nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.InstanceNorm2d(4, track_running_stats=True))


def pruned():
    layer = nn.Conv2d(4, 8, 3)
    prune.random_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "bias", 0.5)
    return layer


def twice():
    return parametrizations.spectral_norm(parametrizations.orthogonal(nn.Linear(6, 6)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("init", [init for init in INITS if init != "keep"])
@pytest.mark.parametrize(
    "make",
    [
        attention,
        shifted_norm,
        pruned,
        twice,
        lambda: parametrizations.weight_norm(nn.Conv2d(4, 8, 3)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(4, 8, 3)),
        lambda: parametrizations.orthogonal(nn.Linear(8, 4)),
        lambda: parametrizations.orthogonal(nn.Linear(8, 4), use_trivialization=False),
        lambda: parametrizations.weight_norm(nn.LSTM(4, 8), "weight_hh_l0"),
        lambda: nn.utils.weight_norm(nn.Conv2d(4, 8, 3)),
        lambda: nn.utils.spectral_norm(nn.Conv2d(4, 8, 3)),
        lambda: torch.jit.script(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4))),
    ],
)
def test_parametrised_pruned_and_scripted_layers(make, init):
    torch.manual_seed(0)
    assert_alike(nn.ModuleList([make()]), init)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_convnext2", "test_nfnet", "test_coatnet"])
def test_timm_fresh_and_trained(name):
    """Trained weights are refused where a constant of the constructor cannot be known; fresh ones look like its own."""
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3)
    constant = {"test_convnext": "gamma", "test_convnext2": "gamma", "test_nfnet": "skipinit_gain"}
    assert_alike(network, "kaiming_normal", constant.get(name))
    made = {key: value.clone() for key, value in initialise(private_copy(network), seed=1).state_dict().items()}
    again = initialise(network, seed=1, fresh=False).state_dict()
    for key, value in made.items():
        if not torch.equal(value, again[key]):
            assert key.rpartition(".")[2] in ("pos_embed", "cls_token", "relative_position_bias_table")
            assert float(again[key].std()) == pytest.approx(float(value.std()), rel=0.5)


class Own(nn.Module):
    """Parameters of one's own, without a method that draws them."""

    def __init__(self, **parameters):
        super().__init__()
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))


def test_rules_for_parameters_of_ones_own():
    network = Own(
        weight=torch.full((6,), 5.0),
        bias=torch.randn(6),
        position=torch.zeros(40, 50),
        cls_token=torch.randn(1, 1, 500),
        spectrum=torch.ones(30, 40, dtype=torch.complex64),
        gamma=torch.full((6,), 1e-6),
        temperature=torch.tensor(0.7),
    )
    found = initialise(network, seed=1, fresh=False)
    assert found.weight.tolist() == [1.0] * 6
    assert not found.bias.any()
    for table in (found.position, found.cls_token, found.spectrum):
        assert float(table.detach().abs().square().mean().sqrt()) == pytest.approx(0.02, rel=0.1)
    assert len({float(p.detach().abs().sum()) for p in (found.position, found.cls_token, found.spectrum)}) == 3
    assert found.gamma.tolist() == [pytest.approx(1e-6)] * 6
    assert found.temperature.item() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"gamma": torch.arange(6.0)}, "gamma"),
        # A constant stays only where nothing shows that the network was trained.
        ({"gate": torch.tensor(0.7), "weight": torch.arange(6.0)}, "gate"),
    ],
)
def test_what_nobody_can_know_is_refused(parameters, name):
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Own(**parameters)))
    with pytest.raises(Uninitialised, match=rf"1\.0 \(Own\) has a parameter '{name}' .*reset_parameters\(\).*'keep'"):
        initialise(network, fresh=False)
    initialise(network)  # as its constructor made it
    initialise(network, "keep", fresh=False)


def test_own_reset_is_used_with_its_own_stream():
    class Scale(Own):
        def reset_parameters(self):
            nn.init.uniform_(self.scale, 3, 4)

    network = nn.Sequential(Scale(scale=torch.zeros(5)), Scale(scale=torch.zeros(5)))
    before = torch.get_rng_state()
    first, second = (scale.scale.tolist() for scale in initialise(network, "gaussian", 1, fresh=False))
    assert all(3 <= value <= 4 for value in first + second)
    assert first != second
    assert torch.equal(before, torch.get_rng_state())


def test_spectral_norm_is_that_of_the_drawn_weight():
    layer = initialise(parametrizations.spectral_norm(nn.Linear(20, 10)), "gaussian", 1, fresh=False)
    original = layer.parametrizations.weight.original.detach()
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, rel=0.05)
    assert torch.equal(original, initialise(nn.Linear(20, 10), "gaussian", 1).weight.detach())


def test_recurrent_layers_draw_as_their_constructor():
    layer = initialise(nn.LSTM(4, 16), "kaiming_normal", 1, fresh=False)
    for parameter in layer.parameters():
        assert 0.2 < float(parameter.detach().abs().max()) <= 1 / math.sqrt(16)


def test_frozen_batch_norm_becomes_the_identity():
    norm = FrozenBatchNorm2d(3, eps=0.0)
    for buffer in norm.buffers():
        buffer.add_(3.0)
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(initialise(norm, fresh=False)(images), images)
