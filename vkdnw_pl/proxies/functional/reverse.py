"""Jacobian by reverse mode: one vector-Jacobian product of activations per class, and no weight gradient ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.calls import Call, LocalDerivative, Unsupported, local_derivatives
from vkdnw_pl.proxies.functional.passes import backpropagate, in_checkpoint, unchanged
from vkdnw_pl.proxies.functional.pooling import avg_pool2d


class _Recorder(TorchFunctionMode):
    """Watches the layer calls and, in the backward pass, turns gradients of their outputs into Jacobian entries."""

    def __init__(self, targets: Mapping[int, Sequence[tuple[int, int]]], reruns: bool) -> None:
        super().__init__()
        self.targets, self.reruns = targets, reruns
        self.roots: list[Tensor] = []
        self.entries_BP: Tensor | None = None  # where the next backward pass writes
        self.last_linear: tuple[Tensor, Call, list[tuple[int, LocalDerivative]]] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = Call.of(func, args, kwargs)
        self.reruns = self.reruns or in_checkpoint()
        out = (avg_pool2d if func is F.avg_pool2d else func)(*args, **kwargs)
        if call is None or not torch.is_grad_enabled():
            return out
        with torch.no_grad():
            locals_ = local_derivatives(call, self.targets)
        if locals_:
            # A checkpointed block runs again in the backward pass, as it ran before but without hooks.
            again = self.entries_BP is not None
            if not out.requires_grad:
                # The graph begins here. The clone lets the network write into its layer's output in place.
                root = out.requires_grad_()
                out = out.clone()
                if not again:
                    self.roots.append(root)
            if not again:
                out.register_hook(lambda grad: self._receive(grad, locals_))
        if func is F.linear:
            self.last_linear = (out, call, locals_)
        return out

    def release(self) -> None:
        """Drop the graph. Its hooks refer to this object, a cycle that Python's collector does not see."""
        self.roots, self.last_linear, self.entries_BP = [], None, None

    def _receive(self, grad: Tensor, locals_: list[tuple[int, LocalDerivative]]) -> None:
        if self.entries_BP is not None:  # it is in a backward pass that the network itself makes
            with torch._C.DisableTorchFunction():
                for column, local in locals_:
                    local.dot(grad, self.entries_BP[:, column])


def reverse_jacobian(
    network: nn.Module,
    inputs: Tensor,
    targets: Mapping[int, Sequence[tuple[int, int]]],
    num_columns: int,
    batchnorm: BatchNorm,
    through_head: bool,
    up_to_shift: bool,
    reruns: bool,
    cotangents: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Jacobian (B, C, P) of the logits with respect to the targets, and the logits; for samples that do not interact.

    ``targets`` has (column, flat index) pairs by the id of a parameter. ``through_head`` differentiates the inputs of
    the final linear layer and multiplies by its weight; ``up_to_shift`` the differences to the last logit, whose row is
    then zero: one product less. Parameters must not require gradients. ``reruns`` tells that some function may run
    layers in its backward pass, as checkpointed blocks do, which are noticed. ``cotangents`` gives (B, K, C) for the
    logits; then the Jacobian comes multiplied by these, (B, K, P), with a product for each.
    """
    recorder = _Recorder(targets, reruns)
    try:
        with unchanged(network), torch.enable_grad(), recorder, BatchNormMode(batchnorm):
            logits = network(inputs.clone())
            outputs = logits
            if cotangents is not None:
                with torch.no_grad():
                    factors_BKC = cotangents(logits).to(logits.dtype)
                outputs = (factors_BKC @ logits.unsqueeze(-1)).squeeze(-1)
            return _pull_back(
                recorder, outputs, num_columns, through_head, up_to_shift and cotangents is None
            ), logits.detach()
    finally:
        recorder.release()


def _pull_back(recorder: _Recorder, logits: Tensor, num_columns: int, through_head: bool, up_to_shift: bool) -> Tensor:
    batch, num_logits = logits.shape
    jac_BCP = logits.new_zeros(batch, num_logits, num_columns)
    outputs, weight_CF = logits, None
    if up_to_shift and not through_head:
        outputs = logits[:, :-1] - logits[:, -1:]
    if through_head:
        assert recorder.last_linear is not None
        out, call, head_derivatives = recorder.last_linear
        if out is not logits:
            raise Unsupported("the network does not end in a linear layer")
        for column, local in head_derivatives:
            jac_BCP[:, local.channel, column] = local.values
        outputs, weight_CF = call.input, call.arguments["weight"]
    jac_BFP = logits.new_zeros(batch, outputs.shape[1], num_columns)
    if recorder.roots and outputs.requires_grad:
        for feature in range(outputs.shape[1]):
            recorder.entries_BP = jac_BFP[:, feature]
            # Modes that have nothing to watch in the backward pass cost a twentieth of it all.
            with nullcontext() if recorder.reruns else torch._C.DisableTorchFunction():
                backpropagate(outputs[:, feature].sum(), feature + 1 < outputs.shape[1], recorder.roots)
            for root in recorder.roots:
                root.grad = None
    if weight_CF is None:
        jac_BCP[:, : jac_BFP.shape[1]] = jac_BFP
    else:
        jac_BCP += weight_CF @ jac_BFP
    return jac_BCP
