"""The slow, obvious way to the numbers that the package computes fast: plain autograd and explicit sums in float64."""

import copy

import torch
from torch import nn

from vkdnw_pl.data.batches import Batch
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights, spread_entries
from vkdnw_pl.spaces import NB201

FEW_CONVS = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
MIXED = "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"
ALL_CONVS = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
UNREACHABLE = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
ALL_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
IDENTITY = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


def small_nb201(arch, num_classes=10, image_size=8, seed=0):
    """A small network of the space with Kaiming weights."""
    network = NB201().build(arch, channels=4, cells=1, num_classes=num_classes, image_size=image_size)
    return initialise(network, seed=seed)


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labelled(inputs, classes=3):
    """Numbered batches: the inputs, then versions of them shifted by one pixel, with labels."""
    labels = torch.arange(len(inputs)) % classes
    return lambda index: Batch(inputs.roll(index, -1) if index else inputs, labels)


def all_scalars(network, which="weights", per_tensor=1):
    tensors = layer_weights(network) if which == "weights" else dict(network.named_parameters())
    return [Scalar(name, i) for name, p in tensors.items() for i in spread_entries(p.numel(), per_tensor)]


def lend(network, dtype):
    """What the engines expect: a copy in evaluation mode without gradients."""
    return copy.deepcopy(network).to(dtype).eval().requires_grad_(False)


def _logits(network, inputs, batchnorm):
    network.eval()
    if batchnorm == "running":
        return network(inputs)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return network(inputs) if batchnorm == "batch" else torch.cat([network(x) for x in inputs.split(1)])


def reference_jacobian(network, inputs, scalars, batchnorm, dtype=torch.float64):
    """(B, C, P) and the logits (B, C): the full gradient of every logit of every sample, of which entries are picked."""
    network = copy.deepcopy(network).to(dtype).requires_grad_(True)
    names = dict(network.named_parameters(remove_duplicate=False))
    everything = list(network.parameters())
    where = {id(p): i for i, p in enumerate(everything)}
    logits = _logits(network, inputs.to(dtype), batchnorm)
    jac = torch.zeros(*logits.shape, len(scalars), dtype=dtype)
    for sample in range(logits.shape[0]):
        for label in range(logits.shape[1]):
            grads = torch.autograd.grad(logits[sample, label], everything, retain_graph=True, allow_unused=True)
            for column, scalar in enumerate(scalars):
                grad = grads[where[id(names[scalar.parameter])]]
                if grad is not None:
                    jac[sample, label, column] = grad.flatten()[scalar.index]
    return jac, logits.detach()


def reference_fisher(jac, logits, alpha=0.0):
    """Mean over the samples of Jᵀ (diag p - p pᵀ) J, term by term."""
    total = torch.zeros(jac.shape[2], jac.shape[2], dtype=torch.float64)
    for jac_CP, row in zip(jac.double(), logits.double(), strict=True):
        exponentials = torch.exp(row - row.max())
        p = (1 - alpha) * exponentials / exponentials.sum() + alpha / len(row)
        total += jac_CP.T @ (torch.diag(p) - torch.outer(p, p)) @ jac_CP
    return total / len(jac)


def relative_error(got, expected):
    """Largest difference over the largest entry."""
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


def plain_jacobian(network, inputs, scalars, batchnorm):
    """As ``reference_jacobian``, by ``backward`` of every logit, each sample by itself where the batch does not matter.

    Every pass is of a fresh copy, and only the parameters of the scalars require gradients.
    """
    rows, logits = [], []
    for part in inputs.split(len(inputs) if batchnorm == "batch" else 1):
        fresh = copy.deepcopy(network).requires_grad_(False)
        names = dict(fresh.named_parameters(remove_duplicate=False))
        chosen = [names[scalar.parameter].requires_grad_() for scalar in scalars]
        logits.append(_logits(fresh, part, batchnorm))
        for logit in logits[-1].flatten():
            for parameter in chosen:
                parameter.grad = None
            if logit.requires_grad:
                logit.backward(retain_graph=True)
            row = [
                p.grad.flatten()[s.index] if p.grad is not None else p.new_zeros(()) for p, s in zip(chosen, scalars)
            ]
            rows.append(torch.stack(row).detach())
    all_logits = torch.cat(logits).detach()
    return torch.stack(rows).view(*all_logits.shape, len(scalars)), all_logits
