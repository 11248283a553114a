"""Jacobian of logits with respect to single scalar weights: chooses the engine and keeps memory under a bound."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vkdnw_pl.errors import check_choice, check_number
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.calls import (
    Unsupported,
    as_autograd,
    can_be_differentiated,
    check_finite,
    is_finite,
    is_smooth,
)
from vkdnw_pl.proxies.functional.forward import forward_jacobian
from vkdnw_pl.proxies.functional.passes import backpropagate, requiring_gradients, unchanged
from vkdnw_pl.proxies.functional.reverse import reverse_jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, check_scalars
from vkdnw_pl.proxies.functional.trace import Trace, trace

Engine = Literal["auto", "reverse", "forward", "generic"]
ENGINES: tuple[str, ...] = get_args(Engine)

Cotangents = Callable[[int, Tensor], Tensor]
"""Of the number of the first sample and the logits (b, C) from there on: factors (b, K, C)."""

DEFAULT_MEMORY_BYTES = 256 * 2**20

# Cost of one element of memory traffic in multiply-adds, and of a backward pass of activations in forward passes;
# fitted to measurements on CPU (benchmarks/vkdnw_speed).
_MACS_PER_ELEMENT = 60.0
_REVERSE_FACTOR = 1.6
_FORWARD_FACTOR = 2.2


class GenericFallback(UserWarning):
    """The slow general engine computes the Jacobian; the text says why."""


@dataclass(frozen=True)
class Jacobian:
    """Result of ``jacobian``."""

    jac_BCP: Tensor
    """(batch, classes or cotangents, scalars), in the network's dtype."""
    logits_BC: Tensor
    engine: str
    fallback: str | None
    """Why the generic engine was taken though it was not asked for."""


def jacobian(
    network: nn.Module,
    inputs: Tensor,
    scalars: Sequence[Scalar],
    batchnorm: BatchNorm = "sample",
    engine: Engine = "auto",
    max_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    up_to_shift: bool = False,
    cotangents: Cotangents | None = None,
    num_cotangents: int = 0,
) -> Jacobian:
    """Exact derivative of every logit of every sample with respect to every scalar.

    Args:
        network: returns logits (B, C); in evaluation mode, its parameters not requiring gradients (a borrowed copy).
        inputs: (B, ...), in the network's dtype and on its device. scalars: P entries of parameters. batchnorm:
        behaviour of batch norm (``functional.batchnorm``). engine: ``reverse`` (about 1 + C forward passes),
        ``forward`` (about P / 2), ``generic`` (about 3 P) or ``auto``:
            the cheaper of the first two. ``generic`` takes over, with a warning, where these are not exact.
        max_memory_bytes: estimated bound of the tensors beside weights and inputs, kept by working in parts.
        up_to_shift: allow a shift of every column ``jac[b, :, p]``, which the Fisher matrix does not see.
        cotangents: multiply the Jacobian by these factors, to (B, K, P). num_cotangents: K; reverse mode takes about 1 + K
            passes then.
    """
    check_choice("engine", engine, ENGINES)
    check_number("max_memory_bytes", max_memory_bytes, 0, open_low=True)
    check_scalars(network, scalars)
    plan = trace(network, inputs, batchnorm, [s.parameter for s in scalars])
    if cotangents is not None:
        plan = replace(plan, num_logits=min(plan.num_logits, num_cotangents))  # so many products are wanted
    if engine == "reverse" and plan.coupled:
        coupled = f"samples that influence each other (batchnorm={batchnorm!r})"
        raise ValueError(f"engine='reverse' is wrong for {coupled}; use 'forward', 'generic' or 'auto'")
    compute = partial(_compute, network, inputs, scalars, batchnorm, plan, max_memory_bytes, up_to_shift, cotangents)
    if engine == "generic":
        return Jacobian(*compute("generic"), "generic", None)
    fallback = plan.misuse
    for chosen in _exact_engines(plan, engine) if fallback is None else ():
        if chosen == "forward" and plan.hidden is not None:
            fallback = plan.hidden
            continue
        try:
            return Jacobian(*compute(chosen), chosen, None)
        except Unsupported as error:
            fallback = fallback or str(error)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Autograd's words for a tensor that was overwritten although its old value is needed.
            if "inplace" not in str(error) and "in-place" not in str(error) and "once_differentiable" not in str(error):
                raise
            fallback = fallback or str(error).splitlines()[0]
    assert fallback is not None
    warnings.warn(f"generic Jacobian: {fallback}", GenericFallback, stacklevel=2)
    return Jacobian(*compute("generic"), "generic", fallback)


def _exact_engines(plan: Trace, engine: str) -> list[str]:
    """The engines to try, the cheaper first."""
    if engine != "auto":
        return [engine]
    first = choose_engine(plan)
    return [first] if plan.coupled else [first, "forward" if first == "reverse" else "reverse"]


def engine_costs(plan: Trace) -> dict[str, float]:
    """Estimated cost of the engines, in forward passes."""
    weights = [step.macs + _MACS_PER_ELEMENT * step.elements for step in plan.steps]
    total = sum(weights)
    downstream, remaining = 0.0, total
    for step, weight in zip(plan.steps, weights, strict=True):
        remaining -= weight
        downstream += len(step.parameters) * (remaining + weight / 2)
    vjps = min(plan.num_logits, plan.head_features or plan.num_logits)
    return {"reverse": 1 + _REVERSE_FACTOR * vjps, "forward": 1 + _FORWARD_FACTOR * downstream / max(total, 1.0)}


def choose_engine(plan: Trace) -> Literal["reverse", "forward"]:
    """The cheaper engine that is exact for the network."""
    if plan.coupled:
        return "forward"
    costs = engine_costs(plan)
    return "forward" if plan.hidden is None and costs["forward"] < costs["reverse"] else "reverse"


def _targets(network: nn.Module, scalars: Sequence[Scalar], columns: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    by_name = dict(network.named_parameters(remove_duplicate=False))
    targets: dict[int, list[tuple[int, int]]] = {}
    for column in columns:
        scalar = scalars[column]
        targets.setdefault(id(by_name[scalar.parameter]), []).append((column, scalar.index))
    return targets


def _compute(
    network: nn.Module,
    inputs: Tensor,
    scalars: Sequence[Scalar],
    batchnorm: BatchNorm,
    plan: Trace,
    max_memory_bytes: int,
    up_to_shift: bool,
    cotangents: Cotangents | None,
    engine: str,
) -> tuple[Tensor, Tensor]:
    """Jacobian and logits by one engine, in parts of the samples and, forward, of the scalars."""
    # A handful of stacks are alive at a time, the largest of the size of the largest activation.
    per_tangent = 6 * max((step.elements for step in plan.steps), default=1.0) * inputs.element_size()
    entries = Counter(scalar.parameter for scalar in scalars)
    local = sum(step.channel * sum(entries[name] for name in step.parameters) for step in plan.steps)
    through_head = plan.head_features is not None and plan.head_features < plan.num_logits
    per_sample = {
        "reverse": plan.kept_bytes + per_tangent + inputs.element_size() * local,
        "forward": per_tangent * len(scalars),
        "generic": 4 * per_tangent,  # values beside tangents, and norms in elementary pieces
    }[engine]
    affordable = int(min(len(inputs), max(1, max_memory_bytes // max(per_sample, 1))))
    num_parts = 1 if plan.coupled else -(-len(inputs) // affordable)
    samples = -(-len(inputs) // num_parts)  # parts of about one size: many small passes cost more than few
    columns = int(max(1, max_memory_bytes // max(per_tangent * samples, 1)))
    parts = []
    for first, chunk in zip(range(0, len(inputs), samples), inputs.split(samples), strict=True):
        factors = None if cotangents is None else partial(cotangents, first)
        if engine == "generic":
            parts.append(_generic_jacobian(network, chunk, scalars, batchnorm, plan))
        elif engine == "reverse":
            targets = _targets(network, scalars, range(len(scalars)))
            hidden = plan.hidden is not None
            parts.append(
                reverse_jacobian(
                    network,
                    chunk,
                    targets,
                    len(scalars),
                    batchnorm,
                    through_head,
                    up_to_shift,
                    hidden,
                    None if through_head else factors,
                )
            )
        else:
            jac = None
            for start in range(0, max(len(scalars), 1), columns):
                targets = _targets(network, scalars, range(start, min(start + columns, len(scalars))))
                jac_of_columns, logits = forward_jacobian(network, chunk, targets, len(scalars), batchnorm)
                jac = jac_of_columns if jac is None else jac.add_(jac_of_columns)
            assert jac is not None
            parts.append((jac, logits))
        if factors is not None and (engine != "reverse" or through_head):
            jac, logits = parts.pop()
            parts.append((factors(logits).to(jac.dtype) @ jac, logits))
    return torch.cat([jac for jac, _ in parts]), torch.cat([logits for _, logits in parts])


def _generic_jacobian(
    network: nn.Module, inputs: Tensor, scalars: Sequence[Scalar], batchnorm: BatchNorm, plan: Trace
) -> tuple[Tensor, Tensor]:
    """Jacobian (B, C, P) of the logits with respect to ``scalars``, and the logits; one product for each scalar.

    Exact for shared and functionally used weights and for coupled samples. Where forward derivatives are not autograd's
    or do not exist, it is plain autograd: one backward pass for each logit of each sample.
    """
    if not scalars:
        with unchanged(network), BatchNormMode(batchnorm, composite=True), torch.no_grad():
            logits = network(inputs.clone())
        return logits.new_zeros(*logits.shape, 0), logits
    if plan.hidden is None and not plan.cut:
        try:
            return _by_products(network, inputs, scalars, batchnorm, plan)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, Unsupported):
            pass  # torch has many words for a missing forward derivative; anything else is raised again below
    return _by_gradients(network, inputs, scalars, batchnorm, plan.coupled)


class _Checked(TorchFunctionMode):
    """Within ``torch.func.jvp``, lets no tangent pass that forward and reverse mode may treat differently."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = as_autograd(func)(*args, **(kwargs or {}))
        if not is_smooth(func):
            check_finite(func, [fwAD.unpack_dual(x).tangent for x in tree_leaves(out) if can_be_differentiated(x)])
        return out


def _by_products(
    network: nn.Module, inputs: Tensor, scalars: Sequence[Scalar], batchnorm: BatchNorm, plan: Trace
) -> tuple[Tensor, Tensor]:
    parameters = dict(network.named_parameters())
    aliases = {id(p): name for name, p in parameters.items()}
    everywhere = dict(network.named_parameters(remove_duplicate=False))
    columns: list[Tensor] = []
    for scalar in scalars:
        name = aliases[id(everywhere[scalar.parameter])]
        parameter = parameters[name].detach()
        direction = torch.zeros_like(parameter)
        direction[torch.unravel_index(torch.tensor(scalar.index), direction.shape)] = 1.0

        def along(value: Tensor, name: str = name) -> Tensor:
            return torch.func.functional_call(network, {name: value}, (inputs.clone(),))

        checked = _Checked() if plan.singular is not None else nullcontext()
        with unchanged(network), BatchNormMode(batchnorm, composite=True), checked, sdpa_kernel(SDPBackend.MATH):
            logits, column = torch.func.jvp(along, (parameter,), (direction,))  # type: ignore[misc]
        columns.append(column)
    jac_BCP = torch.stack(columns, dim=2)
    if not is_finite(jac_BCP) and is_finite(logits):
        raise Unsupported("a forward derivative is not finite")
    return jac_BCP, logits


@torch.enable_grad()
def _by_gradients(
    network: nn.Module, inputs: Tensor, scalars: Sequence[Scalar], batchnorm: BatchNorm, coupled: bool
) -> tuple[Tensor, Tensor]:
    everywhere = dict(network.named_parameters(remove_duplicate=False))
    chosen = {id(everywhere[s.parameter]): everywhere[s.parameter] for s in scalars}.values()
    rows: list[Tensor] = []
    logits_of_parts: list[Tensor] = []
    for part in [inputs] if coupled else inputs.split(1):
        with (
            unchanged(network),
            requiring_gradients(chosen),
            BatchNormMode(batchnorm, composite=True),
            sdpa_kernel(SDPBackend.MATH),
        ):
            logits = network(part.clone())
            logits_of_parts.append(logits.detach())
            for logit in logits.flatten():
                # Not ``autograd.grad``, which does not see into checkpointed blocks.
                if logit.requires_grad:
                    backpropagate(logit, retain_graph=True)
                row = logits.detach().new_zeros(len(scalars))
                for column, scalar in enumerate(scalars):
                    gradient = everywhere[scalar.parameter].grad
                    if gradient is not None:
                        row[column] = gradient.flatten()[scalar.index]
                rows.append(row)
                for p in chosen:
                    p.grad = None
    logits = torch.cat(logits_of_parts)
    return torch.stack(rows).view(*logits.shape, len(scalars)), logits
