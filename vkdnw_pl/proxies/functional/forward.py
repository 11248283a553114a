"""Jacobian by forward mode: the tangents of all scalars travel together, stacked, each from its own layer on.

Convolutions, pooling and the like apply to the stack as to a larger batch; any other function is pushed forward by
``torch.func.jvp`` under ``vmap``. A scalar costs nothing before its layer, so P scalars cost about P / 2 forward
passes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from vkdnw_pl.proxies.functional.batchnorm import (
    BatchNorm,
    BatchNormMode,
    affine,
    normalise,
    normalised_tangent,
    sample_norm,
)
from vkdnw_pl.proxies.functional.calls import (
    CONVOLUTIONS,
    Call,
    Unsupported,
    as_autograd,
    can_be_differentiated,
    check_finite,
    is_finite,
    is_smooth,
    local_derivatives,
)
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.pooling import avg_pool2d


@dataclass(frozen=True, slots=True)
class Tangents:
    """Tangents of one tensor: ``stack`` is (T, *shape), ``columns`` the ascending Jacobian columns of its T rows."""

    columns: tuple[int, ...]
    stack: Tensor

    def spread(self, columns: tuple[int, ...]) -> Tensor:
        """The stack for a superset of the columns, zero where this tensor does not depend on the scalar."""
        if columns == self.columns:
            return self.stack
        rows = {column: row for row, column in enumerate(columns)}
        out = _zeros(len(columns), self.stack)
        out[[rows[column] for column in self.columns]] = self.stack
        return out


def _empty(rows: int, like: Tensor) -> Tensor:
    """Memory of (rows, *like.shape[1:]) with the memory format of ``like``."""
    if like.dim() == 5:
        flat = like.flatten(0, 1)
        fmt = torch.channels_last if flat.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        shape = (rows * like.shape[1], *like.shape[2:])
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=fmt).unflatten(0, (rows, -1))
    return like.new_empty((rows, *like.shape[1:]))


def _zeros(rows: int, like: Tensor) -> Tensor:
    return _empty(rows, like).zero_()


def _union(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return a if a == b else tuple(sorted({*a, *b}))


class _Pusher(TorchFunctionMode):
    """Runs the network and keeps, beside each of its tensors, the tangents of that tensor."""

    def __init__(self, targets: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        super().__init__()
        self.targets = targets
        self.table: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)  # a constant, and what is written in place there keeps its tangents
        call = Call.of(func, args, kwargs)
        leaves, spec = tree_flatten((args, kwargs))
        tracked = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf in self.table]
        locals_ = local_derivatives(call, self.targets) if call is not None else []
        if not tracked and not locals_:
            return func(*args, **kwargs)
        if tracked and _writes_in_place(func, kwargs):
            return self._in_place(func, args, kwargs)
        out, tangents = self._push(func, call, leaves, spec, tracked) if tracked else (func(*args, **kwargs), None)
        if locals_:
            tangents = self._enter(out, tangents, locals_)
        self._attach(out, tangents)
        return out

    def _attach(self, out: Any, tangents: Any) -> None:
        if isinstance(tangents, Tangents):
            self.table[out] = tangents
        elif isinstance(tangents, (list, tuple)):
            for part, part_tangents in zip(out, tangents, strict=True):
                self._attach(part, part_tangents)

    def _enter(self, out: Tensor, tangents: Tangents | None, locals_: Any) -> Tangents:
        locals_ = sorted(locals_, key=lambda item: item[0])
        fresh = _zeros(len(locals_), out.unsqueeze(0))
        for row, (_, local) in zip(fresh, locals_, strict=True):
            local.write(row)
        entered = Tangents(tuple(column for column, _ in locals_), fresh)
        # A sum and not a concatenation: a layer may run after one with later parameters.
        return entered if tangents is None else _sum(tangents, entered)

    def _push(
        self, func: Callable[..., Any], call: Call | None, leaves: list[Any], spec: Any, tracked: list[int]
    ) -> tuple[Any, Any]:
        args, kwargs = tree_unflatten(leaves, spec)
        first = leaves[tracked[0]]
        incoming: Tangents = self.table[first]
        if len(tracked) == 1 and call is not None and call.input is first:
            rule = _CALL_RULES.get(func)
            if rule is not None:
                return rule(call, args, kwargs, incoming)
        if len(tracked) == 1 and args and args[0] is first and func in _STACKING:
            func = avg_pool2d if func is F.avg_pool2d else func
            out = func(*args, **kwargs)
            stack = func(incoming.stack.flatten(0, 1), *args[1:], **kwargs)
            return out, Tangents(incoming.columns, stack.unflatten(0, (len(incoming.columns), -1)))
        name = getattr(func, "__name__", "")
        if name in _RELU and len(tracked) == 1:
            out = func(*args, **kwargs)
            return out, Tangents(incoming.columns, incoming.stack * (out > 0).to(out.dtype))
        if name in _ADD and len(leaves) == 2 and len(tracked) == 2 and leaves[0].shape == leaves[1].shape:
            return func(*args, **kwargs), _sum(incoming, self.table[leaves[1]])
        if name == "detach" or func == _DATA:
            return func(*args, **kwargs), None
        return self._push_generic(as_autograd(func), leaves, spec, tracked)

    def _push_generic(
        self, func: Callable[..., Any], leaves: list[Any], spec: Any, tracked: list[int]
    ) -> tuple[Any, Any]:
        carried = [self.table[leaves[i]] for i in tracked]
        columns: tuple[int, ...] = ()
        for tangents in carried:
            columns = _union(columns, tangents.columns)

        def call(*values: Tensor) -> Any:
            filled = list(leaves)
            for i, value in zip(tracked, values, strict=True):
                filled[i] = value
            args, kwargs = tree_unflatten(filled, spec)
            return func(*args, **kwargs)

        args, kwargs = tree_unflatten(leaves, spec)
        out = func(*args, **kwargs)
        if not any(can_be_differentiated(leaf) for leaf in tree_flatten(out)[0]):
            return out, None
        primals = tuple(leaves[i] for i in tracked)

        def push(*directions: Tensor) -> Any:
            return torch.func.jvp(call, primals, directions)[1]

        try:
            with warnings.catch_warnings():
                # torch's own decompositions use torch.jit.script, of which torch 2.15 warns.
                warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
                pushed = torch.func.vmap(push)(*(tangents.spread(columns) for tangents in carried))
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            name = getattr(func, "__name__", str(func))
            raise Unsupported(f"no forward derivative of {name}: {str(error).splitlines()[0]}") from error
        if not is_smooth(func):
            check_finite(func, tree_flatten(pushed)[0])
        return out, _wrap(columns, pushed)

    def _in_place(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A write into a tensor, as the call out of place followed by the write, where nothing else sees the memory."""
        target = args[0] if args else None
        name = getattr(func, "__name__", "")
        outplace = _OUT_OF_PLACE.get(name)
        if kwargs.get("inplace") or (len(args) == 2 and args[1] is True and name in _RELU):
            outplace, kwargs = func, {**kwargs, "inplace": False}
            args = args[:1]
        if outplace is None or not isinstance(target, Tensor) or self._is_aliased(target):
            raise Unsupported(f"{name} writes in place")
        # The mode is off inside a handler, so the call goes through this mode's own handler by hand.
        result = self.__torch_function__(outplace, (), args, kwargs)
        target.copy_(result)
        self._attach(target, self.table.get(result))
        return target

    def _is_aliased(self, tensor: Tensor) -> bool:
        if tensor not in self.table and tensor._is_view():
            return True  # its base gets tangents too, and the table holds none of the tensors that have none yet
        storage = tensor.untyped_storage().data_ptr()
        return any(other is not tensor and other.untyped_storage().data_ptr() == storage for other in self.table)


_DATA: Any = Tensor.data.__get__  # type: ignore[attr-defined]


def _wrap(columns: tuple[int, ...], pushed: Any) -> Any:
    if isinstance(pushed, (list, tuple)):
        return [_wrap(columns, part) for part in pushed]
    return Tangents(columns, pushed)


def _sum(a: Tangents, b: Tangents) -> Tangents:
    """Tangents of a sum. Branches of a cell share the columns from before it, a common prefix."""
    if a.columns == b.columns:
        return Tangents(a.columns, a.stack + b.stack)
    shared = 0
    for x, y in zip(a.columns, b.columns, strict=False):
        if x != y:
            break
        shared += 1
    rest_a, rest_b = a.columns[shared:], b.columns[shared:]
    if not rest_a or not rest_b or rest_a[-1] < rest_b[0] or rest_b[-1] < rest_a[0]:
        if rest_a and rest_b and rest_b[-1] < rest_a[0]:
            return _sum(b, a)
        out = _empty(shared + len(rest_a) + len(rest_b), a.stack)
        with torch.no_grad():
            torch.add(a.stack[:shared], b.stack[:shared], out=out[:shared])
            out[shared : len(a.columns)] = a.stack[shared:]
            out[len(a.columns) :] = b.stack[shared:]
        return Tangents(a.columns + rest_b, out)
    columns = _union(a.columns, b.columns)
    return Tangents(columns, a.spread(columns) + b.spread(columns))


def _push_conv(call: Call, args: Any, kwargs: Any, incoming: Tangents) -> tuple[Tensor, Tangents]:
    arguments = {**call.arguments, "bias": None, "input": incoming.stack.flatten(0, 1)}
    stack = call.func(**arguments)
    return call.func(*args, **kwargs), Tangents(incoming.columns, stack.unflatten(0, (len(incoming.columns), -1)))


def _push_linear(call: Call, args: Any, kwargs: Any, incoming: Tangents) -> tuple[Tensor, Tangents]:
    return call.func(*args, **kwargs), Tangents(incoming.columns, F.linear(incoming.stack, call.arguments["weight"]))


def _push_norm(call: Call, args: Any, kwargs: Any, incoming: Tangents) -> tuple[Tensor, Tangents]:
    arg, x = call.arguments, call.input
    weight, bias, eps = arg["weight"], arg["bias"], arg["eps"]
    per_channel = (1, -1) + (1,) * (x.dim() - 2)
    if call.func is F.batch_norm and not arg["training"]:
        factor = torch.rsqrt(arg["running_var"] + eps)
        factor = (factor if weight is None else factor * weight).view(per_channel)
        return call.func(*args, **kwargs), Tangents(incoming.columns, incoming.stack * factor)
    dims = tuple(range(2, x.dim())) if call.func is sample_norm else (0, *range(2, x.dim()))
    normalised, rstd = normalise(x, dims, eps)
    factor = rstd if weight is None else rstd * weight.view(per_channel)
    stack = normalised_tangent(incoming.stack, normalised, factor, tuple(d + 1 for d in dims))
    return affine(normalised, weight, bias), Tangents(incoming.columns, stack)


_CALL_RULES: dict[Any, Any] = {
    **dict.fromkeys(CONVOLUTIONS, _push_conv),
    F.linear: _push_linear,
    F.batch_norm: _push_norm,
    sample_norm: _push_norm,
}
# Linear functions of one batched argument that treat a larger batch alike.
_STACKING = frozenset(
    {F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d}
)
_RELU = frozenset({"relu"})
_ADD = frozenset({"add", "__add__", "__radd__"})
_OUT_OF_PLACE: dict[str, Callable[..., Any]] = {
    "__iadd__": torch.add,
    "add_": torch.add,
    "__imul__": torch.mul,
    "mul_": torch.mul,
    "__isub__": torch.sub,
    "sub_": torch.sub,
    "relu_": torch.relu,
}


def _writes_in_place(func: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    dunder = name.startswith("__") and name.endswith("__")
    return (
        bool(kwargs.get("inplace"))
        or kwargs.get("out") is not None
        or (name.endswith("_") and not dunder)
        or name in {"__iadd__", "__imul__", "__isub__", "__itruediv__", "__setitem__"}
    )


@torch.enable_grad()
def forward_jacobian(
    network: nn.Module,
    inputs: Tensor,
    targets: Mapping[int, Sequence[tuple[int, int]]],
    num_columns: int,
    batchnorm: BatchNorm,
) -> tuple[Tensor, Tensor]:
    """Jacobian (B, C, P) of the logits with respect to the targets, and the logits; exact for coupled samples too.

    ``targets`` has (column, flat index) pairs by the id of a parameter; columns in the order of the calls are fastest.
    """
    pusher = _Pusher(targets)
    with unchanged(network), sdpa_kernel(SDPBackend.MATH), pusher, BatchNormMode(batchnorm):
        logits = network(inputs.clone())
    jac_BCP = logits.new_zeros(*logits.shape, num_columns)
    tangents = pusher.table.get(logits)
    if tangents is not None:
        jac_BCP[:, :, list(tangents.columns)] = tangents.stack.permute(1, 2, 0)
        if not is_finite(jac_BCP) and is_finite(logits):
            raise Unsupported("a forward derivative is not finite")
    return jac_BCP, logits
