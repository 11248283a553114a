"""The companion proxies against slow, obvious computations that are written from their formulas, in float64."""

import copy
import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from proxy_reference import MIXED, UNREACHABLE, images, small_nb201
from torch import nn

from vkdnw_pl.data.batches import Batch
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies import PROXIES, make_proxies
from vkdnw_pl.proxies.borrow import borrow

NORMS = nn.modules.batchnorm._BatchNorm
CLASSES = 4
LABELS = torch.tensor([3, 0, 1, 3, 2])
LABELS_2 = torch.tensor([1, 1, 0, 2, 3])
COMPANIONS = (
    "grad_norm", "snip", "grasp", "synflow", "naswot", "zen", "grad_sign", "zico", "ntk_condition", "linear_regions",
    "fisher", "epe_nas", "l2_norm", "plain",
)  # fmt: skip


def tiny():
    """Biases, a layer without normalisation, a grouped and strided convolution, batch norm of a vector."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 9, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    )
    network.final_map = "4"
    return network, 8


def without_vectors():
    """The same without batch norm of a vector, which a single image has no statistics for."""
    network, size = tiny()
    network[7] = nn.Identity()
    return network, size


NETWORKS = {
    "nb201": lambda: (small_nb201(MIXED, CLASSES, 16), 16),
    "unreachable": lambda: (small_nb201(UNREACHABLE, CLASSES, 16), 16),
    "tiny": tiny,
    "without_vectors": without_vectors,
    "mobilenet": lambda: (timm.create_model("mobilenetv2_050", num_classes=CLASSES), 32),
}
# A single image needs more than one position per channel at every batch norm.
WHERE = [
    *itertools.product(["nb201", "tiny"], ["batch", "running"]),
    ("mobilenet", "batch"),
    *itertools.product(["nb201", "unreachable", "without_vectors"], ["sample"]),
    ("unreachable", "batch"),
]
everywhere = pytest.mark.parametrize(("which", "batchnorm"), WHERE)
with_relus = pytest.mark.parametrize(("which", "batchnorm"), WHERE)


@functools.cache
def case(which):
    """A network in float64 with weights, norms and running statistics that are nothing special, and two batches."""
    network, size = NETWORKS[which]()
    network = initialise(network, seed=3).double().eval()
    generator = torch.Generator().manual_seed(4)
    for module in network.modules():
        for name, p in module.named_parameters(recurse=False):
            if p.dim() == 1:
                centre = 1.0 if isinstance(module, NORMS) and name == "weight" else 0.0
                p.data.copy_(0.1 * torch.randn(p.shape, generator=generator) + centre)
        if isinstance(module, NORMS):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return network, (images(5, 3, size, size, seed=5), images(5, 3, size, size, seed=6))


def compute(which, name, dtype=torch.float64, **options):
    network, (first, second) = case(which)
    batches = [Batch(first.to(dtype), LABELS), Batch(second.to(dtype), LABELS_2)]
    (proxy,) = make_proxies([{"name": name, **options}])
    with borrow(copy.deepcopy(network).to(dtype), batches.__getitem__, init="keep") as borrowed:
        return proxy.compute(borrowed)[name]


def fresh(which, batchnorm):
    """A copy that may be used up, and its images."""
    network, (first, _) = case(which)
    network = copy.deepcopy(network)
    for module in network.modules():
        module.training = isinstance(module, NORMS) and batchnorm != "running"
    return network, first


def forward(network, inputs, batchnorm):
    """Logits; for ``sample`` of one image after another."""
    return torch.cat([network(part) for part in inputs.split(1 if batchnorm == "sample" else len(inputs))])


def loss_of(logits, labels=LABELS):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total = total - row[label] + torch.log(torch.exp(row).sum())
    return total / len(labels)


def layers(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def with_gradients(which, batchnorm):
    network, inputs = fresh(which, batchnorm)
    loss_of(forward(network, inputs, batchnorm)).backward()
    return network


# Proxies of the gradient of the loss


@everywhere
def test_grad_norm(which, batchnorm):
    network = with_gradients(which, batchnorm)
    squares = [float((p.grad**2).sum()) for p in network.parameters() if p.grad is not None]
    assert compute(which, "grad_norm", batchnorm=batchnorm) == pytest.approx(math.sqrt(sum(squares)), rel=1e-9)
    norms = [math.sqrt((m.weight.grad**2).sum()) for m in layers(network) if m.weight.grad is not None]
    got = compute(which, "grad_norm", norm="layers", batchnorm=batchnorm)
    assert got == pytest.approx(sum(norms), rel=1e-9)


def masked_loss(which, batchnorm, masks):
    """The loss with every weight multiplied by its mask."""
    network, inputs = fresh(which, batchnorm)
    for module, mask in zip(layers(network), masks, strict=True):
        weight = module.weight.detach()
        del module.weight
        module.weight = weight * mask
    return loss_of(forward(network, inputs, batchnorm))


@everywhere
def test_snip_is_the_gradient_of_masks(which, batchnorm):
    masks = [torch.ones_like(m.weight).requires_grad_() for m in layers(case(which)[0])]
    grads = torch.autograd.grad(masked_loss(which, batchnorm, masks), masks, allow_unused=True)
    expected = sum(float(g.abs().sum()) for g in grads if g is not None)
    assert compute(which, "snip", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-9)


@everywhere
def test_plain_is_the_derivative_by_a_common_factor(which, batchnorm):
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    masks = [factor] * len(layers(case(which)[0]))
    (expected,) = torch.autograd.grad(masked_loss(which, batchnorm, masks), factor)
    assert compute(which, "plain", batchnorm=batchnorm) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


def weight_gradient(network, inputs, batchnorm):
    """Gradients of the loss by the weights of the layers, zeros where there is none."""
    weights = [m.weight for m in layers(network)]
    grads = torch.autograd.grad(loss_of(forward(network, inputs, batchnorm)), weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)]


@everywhere
def test_grasp_by_differences(which, batchnorm):
    """``H g`` is how the gradient changes on a small step along g."""
    network, inputs = fresh(which, batchnorm)
    weights = [m.weight.detach().clone() for m in layers(network)]
    g = weight_gradient(network, inputs, batchnorm)
    step = 1e-8 / math.sqrt(sum(float((x**2).sum()) for x in g))
    ends = []
    for sign in (1, -1):
        for module, w, x in zip(layers(network), weights, g, strict=True):
            module.weight.data.copy_(w + sign * step * x)
        ends.append(weight_gradient(network, inputs, batchnorm))
    products = [(up - down) / (2 * step) for up, down in zip(*ends, strict=True)]
    expected = -sum(float((w * p).sum()) for w, p in zip(weights, products, strict=True))
    assert compute(which, "grasp", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batchnorm", ["batch", "running"])
def test_grasp_with_the_whole_hessian(batchnorm):
    conv, norm, head = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(12, 3)
    network = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), head).double()
    network = initialise(network, seed=1).double().eval()
    norm.train(batchnorm == "batch")
    inputs, labels = images(4, 2, 3, 3), torch.tensor([0, 2, 1, 1])

    def loss(vector):
        kernel, matrix = vector[: conv.weight.numel()], vector[conv.weight.numel() :]
        values = {"0.weight": kernel.view_as(conv.weight), "4.weight": matrix.view_as(head.weight)}
        return loss_of(torch.func.functional_call(network, values, (inputs,)), labels)

    w = torch.cat([conv.weight.flatten(), head.weight.flatten()]).detach()
    hessian = torch.autograd.functional.hessian(loss, w)
    gradient = torch.autograd.functional.jacobian(loss, w)
    expected = -float(w @ (hessian @ gradient))
    (proxy,) = make_proxies([{"name": "grasp", "batchnorm": batchnorm}])
    with borrow(network, Batch(inputs, labels), init="keep") as borrowed:
        assert proxy.compute(borrowed)["grasp"] == pytest.approx(expected, rel=1e-9)


@everywhere
def test_fisher(which, batchnorm):
    network, inputs = fresh(which, batchnorm)
    outputs = {}
    for module in layers(network):
        module.register_forward_hook(lambda m, _args, out: out.retain_grad() or outputs.setdefault(m, []).append(out))
    loss_of(forward(network, inputs, batchnorm)).backward()
    expected = 0.0
    for module, parts in outputs.items():
        if parts[0].grad is None:
            continue
        a, d = torch.cat([part.detach() for part in parts]).numpy(), torch.cat([part.grad for part in parts]).numpy()
        for channel in range(a.shape[1]):
            sensitivity = (a[:, channel] * d[:, channel]).reshape(len(a), -1).sum(1)
            weights_of_channel = module.weight[channel].numel()
            expected += weights_of_channel * 0.5 * np.mean(sensitivity**2)
    assert compute(which, "fisher", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-9)


@everywhere
def test_zico(which, batchnorm):
    found = {}
    for inputs, labels in zip(case(which)[1], (LABELS, LABELS_2), strict=True):
        network, _ = fresh(which, batchnorm)
        loss_of(forward(network, inputs, batchnorm), labels).backward()
        for place, module in enumerate(layers(network)):
            if module.weight.grad is not None:
                found.setdefault(place, []).append(module.weight.grad.flatten().numpy())
    expected = 0.0
    for first, second in found.values():
        mean_size, std = (abs(first) + abs(second)) / 2, abs(first - second) / 2
        expected += math.log(sum(m / s for m, s in zip(mean_size[std != 0], std[std != 0], strict=True)))
    # Differences of nearly equal gradients are divided by.
    assert compute(which, "zico", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("which", "batchnorm"),
    [
        ("nb201", "sample"),
        ("without_vectors", "sample"),
        ("nb201", "running"),
        ("tiny", "running"),
        ("mobilenet", "running"),
    ],
)
def test_grad_sign(which, batchnorm):
    """One image after another, the norms in training mode for ``sample``. Signs at rounding are allowed to differ."""
    network, inputs = fresh(which, batchnorm)
    sums = [torch.zeros_like(m.weight) for m in layers(network)]
    small, largest = 0, 0.0
    for b in range(len(inputs)):
        network.zero_grad()
        loss_of(network(inputs[b : b + 1]), LABELS[b : b + 1]).backward()
        for module, total in zip(layers(network), sums, strict=True):
            grad = module.weight.grad
            total += grad.sign()
            largest = max(largest, float(grad.abs().max()))
            small += int(((grad != 0) & (grad.abs() < 1e-10 * largest)).sum())
    count = sum(total.numel() for total in sums)
    assert small < 1e-4 * count
    expected = sum(float(total.abs().sum()) for total in sums) / count
    got = compute(which, "grad_sign", batchnorm=batchnorm)
    assert got == pytest.approx(expected, rel=0, abs=1e-12 + 2 * small / count)


# Proxies of activations


def patterns(which, batchnorm, inputs=None, dims=(2, 4)):
    """For every image the list of its ReLU units, 1 where the input is positive."""
    network, given = fresh(which, batchnorm)
    inputs = given if inputs is None else inputs
    rows = {b: [] for b in range(len(inputs))}
    seen = {}

    def record(module, args, _out):
        place = seen.setdefault(module, 0)
        for b, unit in enumerate(args[0]):
            if args[0].dim() in dims:
                rows[place + b] += (unit > 0).flatten().long().tolist()
        seen[module] += len(args[0])

    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.register_forward_hook(record)
    forward(network, inputs, batchnorm)
    return [tuple(row) for row in rows.values()]


def exact_determinant(matrix):
    rows, value = [[Fraction(x) for x in row] for row in matrix], Fraction(1)
    while rows:
        pivot = next((i for i, row in enumerate(rows) if row[0] != 0), None)
        if pivot is None:
            return Fraction(0)
        if pivot:
            rows[0], rows[pivot], value = rows[pivot], rows[0], -value
        head, *rest = rows
        value *= head[0]
        rows = [[x - row[0] / head[0] * h for x, h in zip(row[1:], head[1:], strict=True)] for row in rest]
    return value


@with_relus
def test_naswot(which, batchnorm):
    rows = patterns(which, batchnorm)
    kernel = [[sum(x == y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]
    determinant = abs(exact_determinant(kernel))
    expected = math.log(determinant.numerator) - math.log(determinant.denominator)
    assert compute(which, "naswot", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-11)


@with_relus
def test_linear_regions(which, batchnorm):
    expected = len(set(patterns(which, batchnorm, dims=(4,))))
    assert compute(which, "linear_regions", batchnorm=batchnorm) == expected == 5


@pytest.mark.parametrize("which", ["nb201", "without_vectors", "mobilenet"])
def test_linear_regions_of_repeated_and_of_similar_images(which):
    """From a billionth to all of the way from one image to another: small steps cross no boundary."""
    first, other = case(which)[1][0][:2]
    inputs = torch.stack([first, first, *(first + (other - first) * t for t in (1e-9, 1e-7, 1e-3, 0.5, 1.0))])
    rows = patterns(which, "running", inputs, dims=(4,))
    (proxy,) = make_proxies([{"name": "linear_regions", "batchnorm": "running"}])
    with borrow(case(which)[0], inputs, init="keep") as borrowed:
        got = proxy.compute(borrowed)["linear_regions"]
    assert got == len(set(rows))
    assert 2 < got < 7


# Proxies of gradients by the input or of the logits


@everywhere
def test_ntk_condition(which, batchnorm):
    network, inputs = fresh(which, batchnorm)
    weights = [p for name, p in network.named_parameters() if "weight" in name]
    rows = []
    for logits in forward(network, inputs, batchnorm):
        grads = torch.autograd.grad(logits.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(np.concatenate([np.zeros(w.numel()) if g is None else g.flatten() for w, g in zip(weights, grads)]))
    kernel = np.array([[np.dot(a, b) for b in rows] for a in rows])
    spectrum = np.linalg.eigvalsh(kernel)
    assert spectrum[-1] / spectrum[0] < 1e6
    got = compute(which, "ntk_condition", batchnorm=batchnorm)
    assert got == pytest.approx(-spectrum[-1] / spectrum[0], rel=1e-7)


@everywhere
def test_epe_nas(which, batchnorm):
    network, inputs = fresh(which, batchnorm)
    inputs = inputs.clone().requires_grad_()
    (grad,) = torch.autograd.grad(forward(network, inputs, batchnorm).sum(), inputs)
    sums = []
    for label in set(LABELS.tolist()):
        rows = [grad[b].flatten().numpy() for b in range(len(inputs)) if LABELS[b] == label]
        logs = 0.0
        for a, b in itertools.product(rows, rows):
            logs += math.log(abs(np.corrcoef(a, b)[0, 1]) + 1e-5)
        sums.append((logs, len(rows)))
    assert [count for _, count in sums].count(1) == 3
    expected = sum(abs(s) for s, _ in sums)
    assert compute(which, "epe_nas", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1, 1], [5, 2, 5, 2, 2], [0, 0, 1, 1, 7], [3, 3, 3, 3, 3], [0, 1, 4, 4, 9]]
)
def test_epe_nas_of_many_classes(labels):
    """More than 100 logits: means over the rows, classes of one image left out, differences of all pairs of classes."""
    network = initialise(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 101)), seed=2
    ).double()
    inputs = images(5, 3, 8, 8).requires_grad_()
    grad = torch.autograd.grad(network(inputs).sum(), inputs)[0].flatten(1).numpy()
    sums = {}
    for label in sorted(set(labels)):
        rows = [grad[b] for b in range(5) if labels[b] == label]
        if len(rows) > 1:
            logs = [math.log(abs(np.corrcoef(a, b)[0, 1]) + 1e-5) for a in rows for b in rows]
            sums[label] = sum(logs) / len(rows)
    expected = sum(abs(s - t) for s in sums.values() for t in sums.values()) / len(sums)
    (proxy,) = make_proxies(["epe_nas"])
    with borrow(network, Batch(inputs.detach(), torch.tensor(labels)), init="keep") as borrowed:
        assert proxy.compute(borrowed)["epe_nas"] == pytest.approx(expected, rel=1e-9, abs=1e-12)


# Proxies without images of a data set


@pytest.mark.parametrize("which", ["nb201", "unreachable", "tiny", "mobilenet"])
def test_synflow(which):
    """Norms are taken out of the module tree; a norm with an activation (timm) leaves that."""
    network, inputs = fresh(which, "running")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, NORMS):
                setattr(parent, name, getattr(child, "act", nn.Identity()))
    with torch.no_grad():
        for p in network.parameters():
            p.abs_()
    network(torch.ones_like(inputs[:1])).sum().backward()
    grads = [(m.weight.detach(), m.weight.grad) for m in layers(network)]
    expected = sum(float((w * g).abs().sum()) for w, g in grads if g is not None)
    assert expected > 0
    assert compute(which, "synflow") == pytest.approx(expected, rel=1e-9)
    assert compute(which, "synflow", log=True) == pytest.approx(math.log(expected), rel=1e-9)


@pytest.mark.parametrize("variance", ["running", "batch"])
@pytest.mark.parametrize("which", ["nb201", "unreachable", "tiny", "mobilenet"])
def test_zen(which, variance):
    """Running variances of a fresh network after two forward passes in training mode, with the proxy's own noise."""
    network, inputs = fresh(which, "batch")
    with borrow(network, inputs, init="keep") as borrowed:
        noise = torch.randn(inputs.shape, generator=borrowed.generator("zen")).double()
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    found = {}
    for module in norms:
        module.reset_running_stats()
        module.register_forward_hook(lambda m, args, _out: found.update({m: args[0].transpose(0, 1).flatten(1)}))
    maps = []
    if which == "mobilenet":
        extract = network.forward_features
    else:
        network.get_submodule(network.final_map).register_forward_hook(lambda _m, _args, out: maps.append(out))
        extract = network
    with torch.no_grad():
        for u in (inputs, inputs + 0.03 * noise):
            out = extract(u)
            if which == "mobilenet":
                maps.append(out)
    expected = math.log(np.mean([float((a - b).abs().sum()) for a, b in zip(*maps, strict=True)]))
    for module in norms:
        if module not in found:
            assert which == "tiny"
            continue
        scale = module.running_var if variance == "running" else torch.tensor([row.var() for row in found[module]])
        expected += math.log(math.sqrt(scale.mean()))
    assert compute(which, "zen", gamma=0.03, variance=variance) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("which", NETWORKS)
def test_l2_norm(which):
    expected = sum(math.sqrt(sum(m.weight.detach().numpy().ravel() ** 2)) for m in layers(case(which)[0]))
    assert compute(which, "l2_norm") == pytest.approx(expected, rel=1e-12)


# All of them


SINGLE = {"zico": 2e-2, "ntk_condition": 1e-3, "grasp": 1e-3, "epe_nas": 1e-3, "plain": 1e-3, "grad_sign": 1e-3}


@pytest.mark.parametrize("which", ["nb201", "tiny"])
@pytest.mark.parametrize("name", COMPANIONS)
def test_single_precision(name, which):
    options = {"batchnorm": "running"} if (name, which) == ("grad_sign", "tiny") else {}
    double, single = compute(which, name, **options), compute(which, name, torch.float32, **options)
    assert single == pytest.approx(double, rel=SINGLE.get(name, 1e-4))


@pytest.mark.parametrize("name", COMPANIONS)
def test_random_state_and_network_stay(name):
    network, _ = case("nb201")
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    values = [compute("nb201", name) for _ in range(2)]
    assert values[0] == values[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network.training


def test_all_are_there():
    assert set(COMPANIONS) <= set(PROXIES)
