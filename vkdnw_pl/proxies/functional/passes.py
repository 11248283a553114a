"""What a forward or backward pass may leave behind in a network, and how it is kept from the next one."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vkdnw_pl.networks.streams import kept_streams

_PLAIN = frozenset({bool, int, float, str, type(None), nn.Parameter})
_DICTS = frozenset({dict, OrderedDict, defaultdict, Counter})
_CONTAINERS = _DICTS | {list, set, deque}
# Many new objects would set off Python's collector, which takes a tenth of a second: not what a pass does not change.
_OF_MODULES = frozenset(vars(nn.Module())) - {"_parameters", "_buffers"}
# Of batch norms, which no behaviour of theirs changes.
_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})

# glibc hands large tensors back to the system when they are freed, and asks for the pages again, which took a fifth of
# VKDNW's time; no more once a block of up to 32 MiB was freed. It is not written to, so it costs nothing.
torch.empty(2**25 - 2**16, dtype=torch.uint8)


class _Contents:
    """What containers hold, those within others too, and the tensors and arrays that a pass may write into."""

    def __init__(self) -> None:
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.tensors: dict[int, tuple[Tensor, Tensor, int]] = {}
        self.arrays: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            return
        if kind in _CONTAINERS:
            if id(value) not in self.containers:
                self.containers[id(value)] = value, value.copy()
                for each in value.values() if kind in _DICTS else value:
                    self.add(each)
        elif kind is tuple:
            if value and type(value[0]) not in _PLAIN:
                for each in value:
                    self.add(each)
        elif kind is np.ndarray:
            self.arrays.append((value, value.copy()))
        elif kind is Tensor and value.layout is torch.strided and not value.is_inference():
            copied = value.detach().clone().requires_grad_(value.requires_grad)
            self.tensors[id(value)] = value, copied, value._version

    def put_back(self, attributes: Sequence[dict[str, Any]]) -> None:
        # A copy takes the place of a tensor that was written into: the pass's graph may need the one that is there.
        written = {key: copy for key, (tensor, copy, version) in self.tensors.items() if tensor._version != version}
        for container, contents in (
            *self.containers.values(),
            *((kept, kept.copy()) for kept in attributes if written),
        ):
            if written and type(container) in _DICTS:
                contents = {key: written.get(id(each), each) for key, each in contents.items()}
            elif written and not isinstance(container, set):
                contents = [written.get(id(each), each) for each in contents]
            container.clear()
            container.extend(contents) if isinstance(container, list | deque) else container.update(contents)
        for array, contents in self.arrays:
            array[...] = contents


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Afterwards the modules' attributes and buffers, and the global random streams, are as before.

    No cache, counter or activation of one pass enters the next, and all passes draw the same.
    """
    modules = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    attributes = [dict(vars(module)) for module in modules]
    held = _Contents()
    for kept in attributes:
        for name in kept.keys() - _OF_MODULES:  # a module has two dozen attributes, nearly all of PyTorch's own
            value = kept[name]
            if name == "_buffers" or name == "_parameters":
                if value:
                    held.containers[id(value)] = value, value.copy()
                if name == "_buffers":
                    for buffer, tensor in value.items():
                        if buffer not in _STATISTICS:
                            held.add(tensor)
            elif type(value) not in _PLAIN:
                held.add(value)
    device = next((p.device for p in network.parameters()), None)
    try:
        with kept_streams(device=device):
            yield
    finally:
        for module, kept in zip(modules, attributes, strict=True):
            vars(module).clear()
            vars(module).update(kept)
            for name in ("_buffers", "_parameters"):
                if kept[name] and id(kept[name]) not in held.containers:  # it was empty
                    kept[name].clear()
        held.put_back([vars(module) for module in modules])


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


def packing() -> Any:
    """The function through which the tensors go that autograd saves; None for none."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)  # type: ignore[attr-defined]
    return None if hooks is None else hooks[0]


def in_checkpoint() -> bool:
    """Whether this is a block that runs again in the backward pass (``use_reentrant=False``)."""
    return getattr(packing(), "__module__", None) == "torch.utils.checkpoint"


def backpropagate(scalar: Tensor, retain_graph: bool = False, inputs: Sequence[Tensor] = ()) -> None:
    """``torch.autograd.backward`` of a scalar that leaves torch function modes on.

    A checkpointed block runs again in a backward pass, and must do what it did in the forward pass.
    """
    with torch.no_grad():
        grad = torch.ones_like(scalar)
    torch.autograd.Variable._execution_engine.run_backward(  # type: ignore[attr-defined]
        (scalar,), (grad,), retain_graph, False, tuple(inputs), allow_unreachable=True, accumulate_grad=True
    )
