"""What a forward or backward pass may leave behind in a network, and how it is kept from the next one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_CONTAINERS = (dict, OrderedDict, list, set)
# Many new objects would set off Python's collector, which takes a tenth of a second: not what a pass does not change.
_OF_MODULES = frozenset(vars(nn.Module())) - {"_parameters", "_buffers"}


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Afterwards the modules have the attributes from before: no cache or activation of one pass enters the next."""
    modules = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    attributes = [dict(vars(module)) for module in modules]
    containers = [
        (value, value.copy())
        for kept in attributes
        for name, value in kept.items()
        if name not in _OF_MODULES and type(value) in _CONTAINERS and (value or name not in ("_parameters", "_buffers"))
    ]
    try:
        yield
    finally:
        for module, kept in zip(modules, attributes, strict=True):
            vars(module).clear()
            vars(module).update(kept)
        for container, contents in containers:
            container.clear()
            container.extend(contents) if isinstance(container, list) else container.update(contents)


@contextmanager
def requiring_gradients(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Within this context these parameters require gradients, and afterwards none does or has one."""
    chosen = [p for p in parameters if p.is_floating_point() or p.is_complex()]
    try:
        for parameter in chosen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(False)
            parameter.grad = None


def backpropagate(scalar: Tensor, retain_graph: bool = False, inputs: Sequence[Tensor] = ()) -> None:
    """``torch.autograd.backward`` of a scalar that leaves torch function modes on.

    A checkpointed block runs again in a backward pass, and must do what it did in the forward pass.
    """
    with torch.no_grad():
        grad = torch.ones_like(scalar)
    torch.autograd.Variable._execution_engine.run_backward(  # type: ignore[attr-defined]
        (scalar,), (grad,), retain_graph, False, tuple(inputs), allow_unreachable=True, accumulate_grad=True
    )
