"""Cheap forward passes of two samples that learn how a network is built: its layer calls, costs and couplings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.weak import WeakIdKeyDictionary

from vkdnw_pl.networks.private_copy import is_scripted
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode, SampleNorm
from vkdnw_pl.proxies.functional.calls import CONVOLUTIONS, Call, can_be_differentiated, is_smooth
from vkdnw_pl.proxies.functional.passes import in_checkpoint, packing, requiring_gradients, unchanged

_MATMULS = (
    "matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm einsum bilinear scaled_dot_product_attention "
    "multi_head_attention_forward conv_transpose1d conv_transpose2d conv_transpose3d "
    "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"
)

_HIDDEN = {
    "__set__": "replaces data",
    **dict.fromkeys(("quantile", "nanquantile"), "has another forward derivative where values are equal"),
}
# Functions of (batch, ...) tensors whose sample b comes from samples b alone; all but layers and what has a dimension.
_ELEMENTWISE = """
    relu relu6 hardtanh leaky_relu elu selu silu gelu mish hardswish hardsigmoid sigmoid tanh softplus
    add __add__ __radd__ sub __sub__ __rsub__ mul __mul__ __rmul__ neg __neg__ zeros_like
    """
_POOLS = """
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    """
_GRAD_FN: Any = Tensor.grad_fn
_OF_BACKWARD = {
    **dict.fromkeys((Tensor.register_hook, _GRAD_FN.__get__), "changes gradients"),
    **dict.fromkeys((torch.autograd.grad, torch.autograd.backward, Tensor.backward), "is called by the network itself"),
}


@dataclass(frozen=True)
class Step:
    """One call that made a floating-point tensor. Numbers are per sample."""

    macs: float
    elements: float
    """Elements of the output, a measure of the memory traffic."""
    channel: float
    """Elements of one channel of a layer's output; 0 for other calls."""
    parameters: tuple[str, ...]
    """Names of the parameters that entered as weight or bias of a layer call."""


@dataclass(frozen=True)
class Trace:
    """What a forward pass of the network does."""

    steps: tuple[Step, ...]
    num_logits: int
    coupled: bool
    """The logits of one sample depend on which others are in the batch."""
    misuse: str | None
    """Why the fast engines cannot be used, in words; None where they can."""
    hidden: str | None
    """Why forward derivatives are not autograd's, in words; None where they are."""
    cut: bool
    """Something is computed where gradients are off (``no_grad`` and the like), which ``torch.func`` does not heed."""
    singular: str | None
    """A function whose derivative may be infinite: where it is, forward and reverse mode may differ. None for none."""
    head_features: int | None
    """Input features of the linear layer whose output is the logits; None where the network does not end in one."""
    other_matmuls: bool
    """There are matrix products besides convolutions and linear layers (attention, recurrent layers)."""
    kept_bytes: float
    """Memory of what autograd keeps for a backward pass, per sample."""

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers of one sample, a bias counting one per output element."""
        return round(sum(step.macs for step in self.steps))


class _Tracer(TorchFunctionMode):
    def __init__(self, names: dict[int, str], batch: int, with_graph: bool, constants: Iterable[Tensor]) -> None:
        super().__init__()
        self.constants = {id(tensor) for tensor in constants}
        self.separate: WeakIdKeyDictionary = WeakIdKeyDictionary()
        """Tensors (batch, ...) whose sample b is made of sample b of the inputs, as far as all calls are known."""
        self.all_known = True
        self.kept: dict[int, int] = {}
        """Bytes of what autograd keeps, by where it is in memory."""
        self.keep = partial(_weigh, self.kept)  # the graph holds it, so it must not hold the tracer
        self.names, self.batch, self.with_graph = names, batch, with_graph
        self.steps: list[Step] = []
        self.uses: dict[str, int] = {}
        self.constant: str | None = None
        """A parameter that was used where gradients are off."""
        self.misuse: str | None = None
        self.hidden: str | None = None
        self.cut = False
        self.singular: str | None = None
        self.other_matmuls = False
        self.last_linear: tuple[Tensor, int] | None = None
        self.tracked: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.packing = packing()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():  # the other modes have nothing to do with what is looked up here
            call = Call.of(func, args, kwargs)
            leaves = _tensors(args, kwargs)
            entered = [self.names[id(leaf)] for leaf in leaves if id(leaf) in self.names]
            frozen = [leaf for leaf in leaves if id(leaf) in self.names and not leaf.requires_grad]
            carried = self._carried(func, leaves)
        watch = self.with_graph and torch._C._autograd._saved_tensors_hooks_is_enabled()  # type: ignore[attr-defined]
        with saved_tensors_hooks(self.keep, _as_it_is) if watch else nullcontext():
            out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._note(func, call, leaves, entered, frozen, carried, out)
            name = getattr(func, "__name__", "")
            if isinstance(out, Tensor) and self._is_separate(name, call, args, kwargs, leaves, out):
                self.separate[out] = True
            elif name != "dim":
                self.all_known = False
        return out

    def _note(
        self,
        func: Callable[..., Any],
        call: Call | None,
        leaves: Sequence[Tensor],
        entered: Sequence[str],
        frozen: Sequence[Tensor],
        carried: bool,
        out: Any,
    ) -> None:
        name = getattr(func, "__name__", str(func))
        outputs = [leaf for leaf in _tensors((out,), {}) if can_be_differentiated(leaf)]
        differentiated = torch.is_grad_enabled()
        if call is not None:
            for parameter in entered if differentiated else ():
                self.uses[parameter] = self.uses.get(parameter, 0) + 1
                if self.uses[parameter] > 1:
                    self._problem(f"{parameter} is used by more than one call (shared weights)")
            if entered and (not outputs or outputs[0].dim() < 2 or outputs[0].shape[0] != self.batch):
                self._problem(f"the layer of {entered[0]} does not keep the batch as its first dimension")
            if func is torch.nn.functional.linear and call.input.dim() == 2:
                self.last_linear = (out, call.input.shape[1])
        elif entered and outputs:
            self._problem(f"{entered[0]} is used by {name}, outside a convolution, linear or normalisation layer")
        if frozen and outputs and differentiated and self.with_graph:
            self._problem(f"the network itself takes the gradient from {self.names[id(frozen[0])]}")
        if entered and not differentiated:
            self.constant = self.constant or entered[0]
        if call is None and name in _MATMULS.split():
            self.other_matmuls = True
        if outputs:
            macs = call.macs(out) / self.batch if call is not None else 0.0
            elements = sum(leaf.numel() for leaf in outputs) / self.batch
            weight = None if call is None else call.arguments["weight"]
            channel = 0.0 if weight is None else elements / max(len(weight), 1)
            self.steps.append(Step(macs, elements, channel, tuple(entered) if call is not None else ()))
        if carried and outputs and not differentiated:
            self.cut = True
        if carried and outputs and not is_smooth(func):
            self.singular = self.singular or name
        for leaf in (*leaves, *outputs):
            if leaf.requires_grad and id(leaf) not in self.names:
                self.tracked[leaf] = True

    def _is_separate(
        self, name: str, call: Call | None, args: Any, kwargs: dict[str, Any], leaves: Sequence[Tensor], out: Tensor
    ) -> bool:
        """Whether sample b of ``out`` certainly comes from sample b of the inputs."""
        data = [leaf for leaf in leaves if id(leaf) not in self.constants]
        dims = out.dim()
        if not data or "out" in kwargs or not all(leaf in self.separate for leaf in data):
            return False
        if call is not None:
            # Batch norm is told how to behave; the others but a layer norm keep every dimension before the last ones.
            weight = call.arguments["weight"]
            unbatched = call.func in CONVOLUTIONS and weight.dim() != dims
            over_samples = len(call.arguments.get("normalized_shape", ())) >= dims
            return len(data) == 1 and data[0] is call.input and dims > 1 and not unbatched and not over_samples
        if name in _ELEMENTWISE.split():
            return all(
                leaf.dim() < dims or len(leaf) == 1 if id(leaf) in self.constants else leaf.dim() == dims
                for leaf in leaves
            )
        if name in _POOLS.split():
            return True
        dim = args[1] if len(args) > 1 else kwargs.get("start_dim" if name == "flatten" else "dim")
        over = (dim,) if isinstance(dim, int) else dim
        return (
            name in ("mean", "flatten")
            and isinstance(over, tuple | list)
            and all(isinstance(d, int) and d % data[0].dim() > 0 for d in over)
        )

    def _carried(self, func: Callable[..., Any], leaves: Sequence[Tensor]) -> bool:
        """Whether a gradient passes through an argument, and notes what forward mode would not see of it."""
        name = getattr(func, "__name__", str(func))
        carried = False
        for leaf in leaves:
            if leaf.requires_grad and id(leaf) not in self.names:
                carried = True
                if leaf not in self.tracked:
                    self._hide(f"{name} takes what was written in place, or made by a call that cannot be watched")
        if carried and name in _HIDDEN:
            self._hide(f"{name} {_HIDDEN[name]}")
        # The engines' own hooks and graph are not those of plain autograd.
        if carried and func in _OF_BACKWARD:
            self._leave(f"{'grad_fn' if name == '__get__' else name} {_OF_BACKWARD[func]}")
        if packing() not in (None, self.packing) and not in_checkpoint():
            self._leave("saved_tensors_hooks change what autograd keeps")
        return carried

    def _leave(self, text: str) -> None:
        """Note what only plain autograd is right for."""
        self._problem(text)
        self._hide(text)

    def _problem(self, text: str) -> None:
        self.misuse = self.misuse or text

    def _hide(self, text: str) -> None:
        self.hidden = self.hidden or text

    def read_graph(self, logits: Tensor) -> None:
        """Note the custom functions behind the logits, and weights that entered calls which were not watched."""
        edges: dict[str, int] = {}
        seen: set[Any] = set()
        pending = [logits.grad_fn]
        while pending:
            node = pending.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            function = getattr(node, "_forward_cls", None)
            if function is not None and function is not SampleNorm:
                self.hidden = f"{function.__name__} is a custom autograd function"
                if function is CheckpointFunction:
                    self._problem("a checkpointed block (use_reentrant=True) hides its layers")
                elif self.constant is not None:
                    self._problem(f"{self.constant} is used without a gradient, perhaps by {function.__name__}")
            for child, _ in node.next_functions:
                name = self.names.get(id(getattr(child, "variable", None)))
                if name is not None:
                    edges[name] = edges.get(name, 0) + 1
                pending.append(child)
        for name, count in edges.items():
            if count > self.uses.get(name, 0):
                self._problem(f"{name} is used by a call that cannot be watched")


def _tensors(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Those among the arguments, and within them."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif type(value) in (tuple, list):
            found += _tensors(value, {})
        elif value is not None and not isinstance(value, int | float | str):
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return found


def _weigh(kept: dict[int, int], tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        if not isinstance(tensor, nn.Parameter) and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output that its own graph holds would never be freed


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def check_logits(logits: object, batch: int) -> Tensor:
    """Return what a network gave for ``batch`` samples if it is real and has the shape of logits, (batch, classes)."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != batch:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the network must return logits of shape (batch, classes); for a batch of {batch} it gave {got}: wrap it "
            "in a module whose forward returns them alone"
        )
    if not logits.is_floating_point():
        raise ValueError(f"the network must return logits that are real floating-point numbers; it gave {logits.dtype}")
    return logits


@torch.enable_grad()
def trace(network: nn.Module, inputs: Tensor, batchnorm: BatchNorm, parameters: Sequence[str] | None = None) -> Trace:
    """Trace ``network`` on the first two of ``inputs``; ``parameters`` are to be differentiated, None for all.

    The pass has autograd's graph of these parameters, so that what forward mode would make of the network can be held
    against what autograd makes of it.
    """
    few = inputs[:2]
    by_name = dict(network.named_parameters(remove_duplicate=False))
    chosen = {name: by_name[name] for name in (by_name if parameters is None else parameters)}
    names = {id(p): name for name, p in chosen.items()}
    constants = [*network.parameters(), *network.buffers()]
    tracer = _Tracer(names, len(few), True, constants)
    with unchanged(network), requiring_gradients(chosen.values()), BatchNormMode(batchnorm):
        own = few.clone()
        tracer.separate[own] = True
        with tracer:
            logits = network(own)
        logits = check_logits(logits, len(few))
        separate = tracer.all_known and logits in tracer.separate
        tracer.read_graph(logits)
        head = tracer.last_linear
        head_features = head[1] if head is not None and head[0] is logits else None
        logits = logits.detach()
    misuse = tracer.misuse
    if scripted := is_scripted(network):
        misuse = misuse or "the calls inside a scripted module cannot be watched"
    coupled = batchnorm == "batch"
    if not coupled and len(few) > 1 and not separate:
        # Each of the two alone: either may depend on the other. A first dimension that is no batch shows as well.
        single = _Tracer(names, 1, False, constants)
        # A hook can be registered only where there is a gradient.
        differentiated = () if tracer.hidden is None else chosen.values()
        alone: list[Tensor] = []
        for one in few.split(1):
            with unchanged(network), requiring_gradients(differentiated), BatchNormMode(batchnorm):
                with nullcontext() if alone else single:
                    logits_of_one = network(one.clone())
                alone.append(check_logits(logits_of_one, 1).detach())
        misuse = misuse or single.misuse
        # Rounding differs between batch sizes; deep networks amplify it a thousandfold.
        tolerance = torch.finfo(logits.dtype).eps ** 0.3 * float(logits.nan_to_num(0.0, 0.0, 0.0).abs().max())
        coupled = not torch.allclose(torch.cat(alone), logits, rtol=0.0, atol=tolerance, equal_nan=True)
    return Trace(
        steps=tuple(tracer.steps),
        num_logits=logits.shape[1],
        coupled=coupled,
        misuse=misuse,
        hidden=tracer.hidden,
        cut=tracer.cut or tracer.constant is not None,
        singular=tracer.singular,
        head_features=head_features,
        other_matmuls=tracer.other_matmuls or scripted,
        kept_bytes=sum(tracer.kept.values()) / len(few),
    )
