"""Memory bound, coupled samples, and bad arguments of ``jacobian``."""

import weakref

import pytest
import timm
import torch
from proxy_reference import (
    ALL_CONVS,
    FEW_CONVS,
    MIXED,
    all_scalars,
    images,
    lend,
    reference_jacobian,
    relative_error,
    small_nb201,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies.functional.fisher import fisher_root, smoothed_probabilities
from vkdnw_pl.proxies.functional.jacobian import choose_engine, engine_costs, jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.proxies.functional.trace import trace
from vkdnw_pl.spaces import NB201


def batches_of(network):
    """Batch sizes of the forward passes that are made from now on."""
    seen = []
    network.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize(
    ("batchnorm", "engine"),
    [("sample", "reverse"), ("sample", "forward"), ("running", "generic"), ("batch", "forward"), ("batch", "generic")],
)
@pytest.mark.parametrize("bound", [1, 25_000, 125_000])
def test_parts_give_the_same_jacobian(batchnorm, engine, bound):
    network, inputs = lend(small_nb201(MIXED, 3, 8), torch.float64), images(5, 3, 8, 8)
    scalars = all_scalars(network)
    whole = jacobian(network, inputs, scalars, batchnorm, engine)
    parts = jacobian(network, inputs, scalars, batchnorm, engine, max_memory_bytes=bound)
    assert relative_error(parts.jac_BCP, whole.jac_BCP) < 1e-12
    assert relative_error(parts.logits_BC, whole.logits_BC) < 1e-12


def test_known_calls_need_one_pass():
    """Where each call is known to keep the samples apart, none is looked at alone."""
    network = lend(small_nb201(MIXED, 3, 8), torch.float64)
    passes = []
    network.register_forward_pre_hook(lambda *_: passes.append(1))
    assert not trace(network, images(5, 3, 8, 8), "sample").coupled
    assert len(passes) == 1
    network.head.append(nn.Softmax(0))
    assert trace(network, images(5, 3, 8, 8), "sample").coupled
    assert len(passes) == 4


@pytest.mark.parametrize(("batchnorm", "engine"), [("sample", "reverse"), ("sample", "forward"), ("batch", "forward")])
def test_smallest_parts_are_one_sample_and_one_scalar(batchnorm, engine):
    """Coupled samples stay together."""
    network, inputs = lend(small_nb201(MIXED, 3, 8), torch.float64), images(5, 3, 8, 8)
    scalars = all_scalars(network)
    seen = batches_of(network)
    trace(network, inputs, batchnorm)
    learning = len(seen)
    jacobian(network, inputs, scalars, batchnorm, engine, max_memory_bytes=1)
    passes = {
        ("sample", "reverse"): [1] * 5,
        ("sample", "forward"): [1] * 5 * len(scalars),
        ("batch", "forward"): [5] * len(scalars),
    }
    assert seen[2 * learning :] == passes[batchnorm, engine]


class Peak(TorchDispatchMode):
    """Bytes of the tensors that operations make and that are alive at one time."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self.add(tensor.untyped_storage())
        return out

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()

        def remove(_):
            self.alive -= size
            self.storages.pop(key, None)

        if key not in self.storages:
            self.storages[key] = weakref.ref(storage, remove)
            self.alive += size
            self.peak = max(self.peak, self.alive)


@pytest.mark.parametrize(
    ("engine", "bound"),
    [("reverse", 2**20), ("reverse", 2**22), ("forward", 2**20), ("forward", 2**22), ("generic", 2**20)],
)
def test_memory_stays_below_the_bound(engine, bound):
    network, inputs = lend(small_nb201(ALL_CONVS, 10, 16), torch.float32), images(12, 3, 16, 16).float()
    scalars = all_scalars(network)[:: 4 if engine == "generic" else 1]  # generic takes one after another
    with Peak() as bounded:
        result = jacobian(network, inputs, scalars, "sample", engine, max_memory_bytes=bound)
    output = 2 * result.jac_BCP.numel() * result.jac_BCP.element_size()
    assert bounded.peak < bound + output
    assert bounded.peak > bound / 10


# Coupled samples

COUPLINGS = {
    "mean of the batch": lambda x: x - x.mean(0),
    "first sample": lambda x: x - 0.5 * x[:1],
    "last sample": lambda x: x - 0.5 * x[-1:],
    "sum so far": lambda x: x.cumsum(0),
    "neighbour": lambda x: x + 0.3 * x.roll(1, 0),
    "softmax over the batch": lambda x: x * x.softmax(0),
}


class Coupled(nn.Module):
    def __init__(self, couple):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head, self.couple = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3), couple

    def forward(self, x):
        return self.head(torch.sigmoid(self.b(self.couple(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("how", COUPLINGS)
def test_coupled_samples_are_noticed(how, dtype):
    network, inputs = Coupled(COUPLINGS[how]), images(3, 3, 6, 6)
    scalars = all_scalars(network, "all")
    jac, _ = reference_jacobian(network, inputs, scalars, "running")
    lent = lend(network, dtype)
    assert trace(lent, inputs.to(dtype), "running").coupled
    with pytest.raises(ValueError, match=r"engine='reverse'.*batchnorm='running'.*'forward', 'generic' or 'auto'"):
        jacobian(lent, inputs.to(dtype), scalars, "running", "reverse")
    for engine in ("forward", "generic", "auto"):
        got = jacobian(lent, inputs.to(dtype), scalars, "running", engine, max_memory_bytes=1)
        assert got.engine == ("forward" if engine == "auto" else engine)
        assert relative_error(got.jac_BCP, jac) < (1e-12 if dtype == torch.float64 else 1e-4)


def test_batch_statistics_couple():
    network, inputs = lend(small_nb201(FEW_CONVS), torch.float64), images(3, 3, 8, 8)
    with pytest.raises(ValueError, match=r"engine='reverse'.*batchnorm='batch'"):
        jacobian(network, inputs, all_scalars(network), "batch", "reverse")
    assert jacobian(network, inputs, all_scalars(network), "batch", "auto").engine == "forward"


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet18"])
def test_rounding_is_not_taken_for_coupling(name):
    """Single precision, and a network that amplifies rounding."""
    network = lend(timm.create_model(name, num_classes=4), torch.float32)
    for seed in range(5):
        for behaviour in ("sample", "running"):
            assert not trace(network, images(2, 3, 64, 64, seed=seed).float(), behaviour).coupled


def test_one_sample():
    network, inputs = small_nb201(MIXED, 3), images(1, 3, 8, 8)
    scalars = all_scalars(network)
    for batchnorm in ("sample", "running", "batch"):
        jac, _ = reference_jacobian(network, inputs, scalars, batchnorm)
        for engine in ("reverse", "forward", "generic", "auto"):
            if engine != "reverse" or batchnorm != "batch":
                got = jacobian(lend(network, torch.float64), inputs, scalars, batchnorm, engine)
                assert relative_error(got.jac_BCP, jac) < 1e-12


# The choice of the engine


def test_auto_takes_the_cheaper_engine():
    """Many classes and few layers: forward; few classes and many layers: reverse."""
    inputs = images(2, 3, 8, 8)
    for arch, classes, engine in [(FEW_CONVS, 120, "forward"), (ALL_CONVS, 2, "reverse")]:
        network = lend(small_nb201(arch, classes), torch.float64)
        plan = trace(network, inputs, "sample")
        costs = engine_costs(plan)
        assert min(costs, key=costs.get) == engine == choose_engine(plan)
        assert jacobian(network, inputs, all_scalars(network), "sample").engine == engine


def test_costs_count_classes_features_and_scalars():
    inputs = images(2, 3, 8, 8)
    few, many, huge = (
        engine_costs(trace(lend(small_nb201(MIXED, classes), torch.float64), inputs, "sample"))
        for classes in (2, 10, 1000)
    )
    assert few["reverse"] < many["reverse"] < huge["reverse"]
    # Beyond 16 features at the head, reverse mode differentiates those.
    assert huge["reverse"] == pytest.approx(many["reverse"] + (16 - 10) * (many["reverse"] - few["reverse"]) / 8)
    network = lend(small_nb201(MIXED, 10), torch.float64)
    last = engine_costs(trace(network, inputs, "sample", ["classifier.weight"]))["forward"]
    first = engine_costs(trace(network, inputs, "sample", ["stem.0.weight"]))["forward"]
    assert 1 < last < first < many["forward"]


# Bad arguments


@pytest.fixture(scope="module")
def tiny():
    return lend(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.float32)


def call(network, scalars=None, **options):
    return jacobian(network, torch.randn(2, 3, 2, 2), scalars or [Scalar("1.weight", 0)], **options)


def test_unknown_engine(tiny):
    with pytest.raises(
        ValueError, match=r"engine='backward' is not known \(allowed: auto, reverse, forward, generic\)"
    ):
        call(tiny, engine="backward")


@pytest.mark.parametrize("bound", [0, -1])
def test_bound_that_is_not_positive(tiny, bound):
    with pytest.raises(ValueError, match=rf"max_memory_bytes={bound} is not allowed: give a number above 0"):
        call(tiny, max_memory_bytes=bound)


def test_unknown_batch_norm(tiny):
    with pytest.raises(ValueError, match=r"batchnorm='train' is not known \(allowed: sample, running, batch\)"):
        call(tiny, batchnorm="train")


def test_unknown_parameter_names_the_nearest(tiny):
    with pytest.raises(ValueError, match=r"no parameter '1.weigth'; did you mean '1.weight'\?"):
        call(tiny, [Scalar("1.weigth", 0)])


@pytest.mark.parametrize("index", [-1, 36])
def test_entry_outside_of_the_tensor(tiny, index):
    with pytest.raises(ValueError, match=rf"1.weight has no entry {index}; allowed: 0 to 35"):
        call(tiny, [Scalar("1.weight", index)])


@pytest.mark.parametrize(
    ("returns", "told"),
    [
        (lambda x: (x, x), "tuple"),
        (lambda x: {"logits": x}, "dict"),
        (lambda x: x[:, None], r"\(2, 1, 3\)"),
        (lambda x: x[0], r"\(3,\)"),
        (lambda x: x[:1], r"\(1, 3\)"),
    ],
)
def test_networks_that_return_no_logits(returns, told):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 3)

        def forward(self, x):
            return returns(self.linear(x.flatten(1)))

    with pytest.raises(ValueError, match=rf"logits of shape \(batch, classes\); for a batch of 2 it gave {told}"):
        call(lend(Odd(), torch.float32), [Scalar("linear.weight", 0)])


@pytest.mark.parametrize("num_classes", [1, 2, 10, 120])
def test_up_to_shift_leaves_the_fisher_matrix_as_it_is(num_classes):
    """One product less, the same Fisher matrix: its root centres the Jacobian over the classes."""
    net = initialise(
        NB201().build("index:3,1,2,0,2,3", channels=4, cells=1, num_classes=num_classes, image_size=8)
    ).double()
    net.eval().requires_grad_(False)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scalars = [Scalar(name, 0) for name in layer_weights(net)]
    for engine in ("reverse", "forward"):
        full = jacobian(net, images, scalars, engine=engine)
        shifted = jacobian(net, images, scalars, engine=engine, up_to_shift=True)
        p = smoothed_probabilities(full.logits_BC, 0.05)
        torch.testing.assert_close(fisher_root(shifted.jac_BCP, p), fisher_root(full.jac_BCP, p), rtol=1e-9, atol=1e-12)
        assert torch.equal(shifted.logits_BC, full.logits_BC)
