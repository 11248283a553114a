"""Latency: a clock around forward passes, and nothing else of the caller's."""

import gc

import pytest
import torch
from torch import nn

from vkdnw_pl.networks import latency as module
from vkdnw_pl.networks.latency import Latency, latency, measure_latency


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


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    Worker.calls.clear()
    monkeypatch.setattr(module, "time", Worker.clock)


def test_median_of_the_passes_after_the_warmup():
    found = latency(Worker(9.0, 0.02, 0.04, 0.03, 0.05, 0.1), (3,), batch_size=4, warmup=1, repeats=5)
    assert (found.median_ms, found.min_ms, found.iqr_ms) == pytest.approx((40, 20, 20))
    assert (found.repeats, found.batch_size, found.device) == (5, 4, "cpu")
    assert found.images_per_s == pytest.approx(4 / 0.04)
    assert Worker.calls == [(False, True, (4, 3), False)] * 6


def test_number_alone():
    assert measure_latency(Worker(9, 0.01, 0.02, 0.04), (3,), 1, "cpu", 1, 3) == pytest.approx(20)


def test_by_a_real_clock(monkeypatch):
    monkeypatch.undo()
    small, large = (measure_latency(nn.Linear(size, size), (size,), 64) for size in (2, 1000))
    assert 0 < small < large


def test_nothing_of_the_callers_changes():
    network = Worker(*[0] * 13).train()
    network.linear.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    found = latency(network, (3,), threads=2)
    assert found.threads == 2
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert not network.linear.training
    assert len(network.seconds) == 13  # a copy ran
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert gc.isenabled()


def test_threads_and_collection_are_restored_after_a_failure():
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        latency(Worker(*[0] * 13), (5,), threads=2)
    assert torch.get_num_threads() == threads
    assert gc.isenabled()


def test_takes_the_networks_precision():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    measure_latency(network, (3, 2, 2), warmup=0, repeats=1)
    assert seen == [torch.float64]


def test_waits_for_the_device_before_the_clock_starts_and_stops(monkeypatch):
    events = []
    monkeypatch.setattr(module, "_wait_for", lambda device: events.append("wait"))
    monkeypatch.setattr(module.time, "perf_counter", lambda: events.append("clock") or 0.0, raising=False)
    network = nn.Linear(3, 2)
    network.register_forward_hook(lambda *_: events.append("pass"))
    latency(network, (3,), warmup=2, repeats=2)
    assert events == ["pass"] * 2 + ["wait", "clock", "pass", "wait", "clock"] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda(monkeypatch):
    monkeypatch.undo()
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    state = torch.cuda.get_rng_state()
    few, many = (latency(network, (3, 256, 256), size, "cuda") for size in (1, 64))
    assert many.median_ms > 4 * few.median_ms  # without waiting, both are the time of the launch
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
def test_what_is_not_allowed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        latency(**{"network": nn.Linear(3, 2), "input_size": (3,), **options})


def test_a_record_is_plain_numbers():
    assert Latency(2.0, 0.1, 1.9, 10, 8, "cpu", 1).images_per_s == 4000
