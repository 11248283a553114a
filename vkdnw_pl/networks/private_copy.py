"""Copies of networks as users have them: with activations kept from a forward pass, old reparametrisations, pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from vkdnw_pl.networks.closures import Rebinding
from vkdnw_pl.networks.init import refuse_lazy


class Uncopied(ValueError):
    """The network cannot be copied; the text says why."""


def private_copy(network: nn.Module, memo: dict[int, Any] | None = None, own: bool = False) -> nn.Module:
    """A deep copy that computes the same; tensors that the network kept from a forward pass are cut off their graph.

    Functions that the network holds see the copy, see `Rebinding`. Weight norm and spectral norm by hooks, and pruning,
    become parametrisations, which have the same parameters. For ``memo`` see ``copy.deepcopy``. With ``own`` nobody else
    has the network, and what would be done to a copy is done to it.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    try:
        refuse_lazy(network)
        copied = network
        if not own:
            memo = {} if memo is None else memo
            with torch.no_grad(), _DetachedCopies():  # the copied tensors of a scripted module would have a graph
                copied = copy.deepcopy(network, memo)
                Rebinding(memo).rebind(copied)
    except ValueError as error:
        raise Uncopied(str(error)) from error
    except (TypeError, RuntimeError) as error:  # it holds a lock, a file, a generator, ...
        raise Uncopied(f"the network {type(network).__name__} cannot be copied: {error}") from error
    for module in list(copied.modules()):
        if not isinstance(module, torch.jit.ScriptModule):
            _parametrise(module)
    return copied


def is_scripted(network: nn.Module) -> bool:
    """Whether a module of it was made by ``torch.jit``."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())


class _DetachedCopies(TorchFunctionMode):
    """``copy.deepcopy`` refuses tensors that an autograd graph made."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _parametrise(module: Any) -> None:
    """Put a parametrisation in the place of hooks that compute a weight before every forward pass."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if not isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
            continue
        name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
        del module._forward_pre_hooks[key]
        module.__dict__.pop(name, None)  # the computed one
        originals: list[Any]
        state: tuple[Any, ...]
        if isinstance(hook, WeightNorm):
            originals = [module._parameters.pop(f"{name}_{part}") for part in "gv"]
            module.register_parameter(name, nn.Parameter(originals[1].detach().clone()))
            parametrizations.weight_norm(module, name, hook.dim)
            state = module.parametrizations[name].original0, module.parametrizations[name].original1
        elif isinstance(hook, SpectralNorm):
            originals = [module._parameters.pop(f"{name}_orig"), *(module._buffers.pop(f"{name}_{p}") for p in "uv")]
            module.register_parameter(name, nn.Parameter(originals[0].detach().clone()))
            parametrizations.spectral_norm(module, name, hook.n_power_iterations, hook.eps, hook.dim)
            listed = module.parametrizations[name]
            state = (listed.original, listed[0]._u, listed[0]._v) if hasattr(listed[0], "_u") else (listed.original,)
        else:
            originals = [module._parameters.pop(f"{name}_orig")]
            module.register_parameter(name, nn.Parameter(originals[0].detach().clone()))
            parametrize.register_parametrization(module, name, _Mask(module._buffers.pop(f"{name}_mask")), unsafe=True)
            state = (module.parametrizations[name].original,)
        for tensor, original in zip(state, originals, strict=False):
            tensor.copy_(original)


class _Mask(nn.Module):
    """Pruning as a parametrisation."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight
