"""Latency: a clock around forward passes. Peak memory: against counts by hand. Both leave no trace at the caller's."""

import gc
import random

import pytest
import torch
from torch import nn

from vkdnw_pl.networks import cost
from vkdnw_pl.networks.cost import measure_latency, measure_peak_memory
from vkdnw_pl.spaces import MBV2, NB201

IMAGE = 3 * 8 * 8  # numbers of one image


def peak_numbers(network, input_size=(3, 8, 8), batch_size=1, size=4):
    """Peak in numbers of four bytes, found with shapes alone; a real pass must say the same."""
    with_shapes = measure_peak_memory(network, input_size, batch_size) * 1e6 / size
    real = cost._count(network, input_size, batch_size, torch.device("cpu")) / size
    assert with_shapes == pytest.approx(real, abs=1e-6)
    return round(with_shapes, 6)


def test_one_convolution_holds_its_input_and_its_output():
    assert peak_numbers(nn.Conv2d(3, 5, 3, padding=1)) == IMAGE + 5 * 64


def test_peak_memory_grows_with_the_batch_and_the_precision():
    network = nn.Conv2d(3, 5, 3, padding=1)
    assert peak_numbers(network, batch_size=7) == 7 * (IMAGE + 5 * 64)
    assert peak_numbers(network.double(), size=8) == IMAGE + 5 * 64


class Chain(nn.Module):
    """Convolutions to 4, 20 and 2 channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 20, 1), nn.Conv2d(20, 2, 1)

    def forward(self, x):
        x = self.a(x)
        x = self.b(x)
        return self.c(x)


def test_what_is_not_needed_any_more_is_freed():
    # The images are the caller's all the time. Most is held in c: its input and its output, or in b: 4 and 20 channels.
    assert peak_numbers(Chain()) == IMAGE + 64 * (4 + 20)


class Residual(nn.Module):
    """x + b(a(x)), so x waits."""

    def __init__(self, inplace):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 12, 1), nn.Conv2d(12, 6, 1)
        self.act = nn.ReLU(inplace)

    def forward(self, x):
        x = torch.cat([x, x], 1)
        y = self.act(self.a(x))
        y = self.b(y)
        return x + y


@pytest.mark.parametrize(("inplace", "channels"), [(True, 6 + 12 + 6), (False, 6 + 12 + 12)])
def test_a_shortcut_waits_and_an_operation_in_place_takes_nothing(inplace, channels):
    assert peak_numbers(Residual(inplace)) == IMAGE + 64 * channels


def test_views_take_nothing():
    class Views(nn.Module):
        def forward(self, x):
            return x.flatten(1).view(-1, 2).transpose(0, 1)[:1].expand(5, -1, -1)

    assert peak_numbers(Views()) == IMAGE


def test_weights_of_layers_are_no_activations():
    network = nn.Sequential(nn.Flatten(), nn.Linear(IMAGE, 50), nn.BatchNorm1d(50), nn.Linear(50, 2))
    # Flattened images, the output of the first layer and of the norm.
    assert peak_numbers(network) == IMAGE + 50 + 50


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_the_spaces_are_the_same_with_shapes_alone(seed):
    rng = random.Random(seed)
    network = MBV2().build(MBV2().sample(rng), image_size=64, num_classes=5, use_se=seed == 2)
    assert peak_numbers(network, (3, 64, 64)) > 3 * 64 * 64
    cell = NB201().build(NB201().sample(rng), image_size=16, channels=4, cells=1)
    assert peak_numbers(cell, (3, 16, 16)) > 3 * 16 * 16


def test_a_network_without_memory_may_be_measured():
    arch, options = MBV2().validate("mbv2_480m"), {"num_classes": 10, "image_size": 64}
    with torch.device("meta"):
        network = MBV2().build(arch, **options)
    real = MBV2().build(arch, **options)
    assert measure_peak_memory(network, (3, 64, 64), 2) == pytest.approx(measure_peak_memory(real, (3, 64, 64), 2))


def test_networks_that_need_values_are_measured_with_values():
    class Branches(nn.Module):
        def forward(self, x):
            return torch.cat([x, x]) if x.sum() < 1e9 else x

    assert measure_peak_memory(Branches(), (3, 8, 8)) * 1e6 / 4 == pytest.approx(3 * IMAGE)


def test_peak_memory_changes_nothing_of_the_callers():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    measure_peak_memory(network, (3, 8, 8), 2)
    assert [part.training for part in network] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.device.type == "cpu" and parameter.grad is None for parameter in network.parameters())


def test_what_is_wrong_with_the_network_is_said():
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2 channels"):
        measure_peak_memory(nn.Conv2d(3, 4, 3), (2, 8, 8))
    with torch.device("meta"):
        network = nn.Conv2d(3, 4, 3)
    with pytest.raises(RuntimeError, match="Invalid channel dimensions"):
        measure_peak_memory(network, (2, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": (3, -1, 8)}, "input_size="),
        ({"batch_size": True}, "batch_size=True is not allowed"),
        ({"device": "tpu"}, "device='tpu' is not known"),
        ({"device": "cuda:99"}, "device='cuda:99' is not there"),
    ],
)
def test_peak_memory_refuses_what_is_not_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        measure_peak_memory(**{"network": nn.Conv2d(3, 4, 3), "input_size": (3, 8, 8), **options})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_where_kernels_need_no_scratch_space():
    network = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2))
    counted, allocated = (measure_peak_memory(network, (8, 128, 128), 4, device) for device in ("cpu", "cuda"))
    assert allocated == pytest.approx(counted, rel=0.01)
    assert measure_peak_memory(nn.Conv2d(8, 8, 3), (8, 128, 128), 4, "cuda") > counted / 2


class Clock:
    """Stands until somebody works."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Worker(nn.Module):
    """Takes the given seconds, pass after pass, and says how it was called."""

    clock = Clock()
    calls: list = []  # noqa: RUF012  (shared with the copy that is measured)

    def __init__(self, *seconds):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.dropout = nn.Dropout()
        self.seconds = list(seconds)

    def forward(self, x):
        self.calls.append((self.training, torch.is_inference_mode_enabled(), tuple(x.shape), gc.isenabled()))
        self.clock.now += self.seconds.pop(0)
        torch.rand(1)
        return self.linear(self.dropout(x))


@pytest.fixture
def clock(monkeypatch):
    Worker.calls.clear()
    monkeypatch.setattr(cost, "time", Worker.clock)


def test_latency_is_the_median_of_the_passes_after_the_warmup(clock):
    latency_ms = measure_latency(Worker(9.0, 0.02, 0.04, 0.03, 0.05, 0.1), (3,), batch_size=4, warmup=1, repeats=5)
    assert latency_ms == pytest.approx(40)
    assert Worker.calls == [(False, True, (4, 3), False)] * 6


def test_latency_by_a_real_clock():
    small, large = (measure_latency(nn.Linear(size, size), (size,), 64) for size in (2, 1000))
    assert 0 < small < large


def test_latency_changes_nothing_of_the_callers(clock):
    network = Worker(*[0] * 13).train()
    network.linear.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    used_threads = []
    network.register_forward_hook(lambda *_: used_threads.append(torch.get_num_threads()))
    measure_latency(network, (3,), threads=2)
    assert set(used_threads) == {2}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert not network.linear.training
    assert len(network.seconds) == 13  # a copy ran
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert gc.isenabled()


def test_threads_and_garbage_collection_are_restored_after_a_failure(clock):
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measure_latency(Worker(*[0] * 13), (5,), threads=2)
    assert torch.get_num_threads() == threads
    assert gc.isenabled()


def test_latency_is_measured_in_the_networks_precision():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    measure_latency(network, (3, 2, 2), warmup=0, repeats=1)
    assert seen == [torch.float64]


def test_the_clock_starts_and_stops_when_the_device_is_done(clock, monkeypatch):
    events = []
    monkeypatch.setattr(cost, "_wait_for", lambda device: events.append("wait"))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: events.append("clock") or 0.0, raising=False)
    network = nn.Linear(3, 2)
    network.register_forward_hook(lambda *_: events.append("pass"))
    measure_latency(network, (3,), warmup=2, repeats=2)
    assert events == ["pass"] * 2 + ["wait", "clock", "pass", "wait", "clock"] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_latency_on_cuda():
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    state = torch.cuda.get_rng_state()
    few, many = (measure_latency(network, (3, 256, 256), size, "cuda") for size in (1, 64))
    assert many > 4 * few  # without waiting, both are the time of the launch
    assert next(network.parameters()).device.type == "cpu"
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": ()}, r"input_size=\(\) is not allowed"),
        ({"input_size": (3, 0)}, r"input_size=\(3, 0\) is not allowed"),
        ({"batch_size": 0}, "batch_size=0 is not allowed: give a whole number of at least 1"),
        ({"warmup": -1}, "warmup=-1 is not allowed: give a whole number of at least 0"),
        ({"repeats": 0}, "repeats=0 is not allowed"),
        ({"repeats": 2.0}, "repeats=2.0 is not allowed"),
        ({"threads": 0}, "threads=0 is not allowed"),
        ({"device": "gpu"}, "device='gpu' is not known"),
        ({"device": "meta"}, "device='meta' is not allowed: give cpu, cuda"),
        ({"device": "cuda:99"}, r"device='cuda:99' is not there: this machine has \d+ CUDA devices"),
    ],
)
def test_latency_refuses_what_is_not_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(**{"network": nn.Linear(3, 2), "input_size": (3,), **options})
