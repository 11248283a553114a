"""Which parameters decay, and the optimizer that gets them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import timm.optim
import torch
from torch import nn
from torch.nn.utils import parametrize

from vkdnw_pl.networks.init import ATTENTION_WEIGHTS, WEIGHTED

Decay = Literal["weights", "all"]

_DECAYING = (*WEIGHTED, nn.Bilinear)


def parameter_groups(
    modules: nn.Module | Iterable[nn.Module], weight_decay: float, decay: Decay = "weights"
) -> list[dict[str, Any]]:
    """Optimizer groups of the trainable parameters of some modules.

    ``weights``: only the weights of convolutions and linear layers decay (attention projections are linear layers);
    normalisation and all biases do not, nor do other parameters such as position embeddings (the ImageNet recipe of
    ZenNAS, ZiCo and AZ-NAS). ``all``: everything decays (NAS-Bench-201).

    timm's ``param_groups_weight_decay`` decides by the number of dimensions, and so would decay embeddings as well; it
    takes one module and gives its groups no names.

    Args:
        modules: one or several without common parameters.
        weight_decay: of the group that decays; the other has 0.
        decay: which parameters decay.

    Returns:
        One or two groups, none of them empty: ``name`` (``decay``, ``no_decay``; Lightning's monitor of the learning rate
        shows it), ``params`` in the modules' order, ``weight_decay``. Frozen parameters are left out, and a parameter
        that a module uses twice is there once.

    Raises:
        ValueError: if ``decay`` is not known, the weight decay is negative, a parameter belongs to two of the modules,
            or there is nothing to train.
    """
    if decay not in get_args(Decay):
        raise ValueError(f"decay={decay!r} is not known; allowed: {', '.join(get_args(Decay))}")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay={weight_decay!r} is not allowed: give a number of at least 0")
    given = [modules] if isinstance(modules, nn.Module) else list(modules)
    weights = {id(p) for module in given for p in _weights(module)}
    owners: dict[int, str] = {}
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
    for index, module in enumerate(given):
        for name, parameter in module.named_parameters():
            full = f"{type(module).__name__} {index}: {name}"
            if id(parameter) in owners:
                raise ValueError(f"a parameter is in two of the modules, as {owners[id(parameter)]} and as {full}")
            owners[id(parameter)] = full
            if parameter.requires_grad:
                decays = decay == "all" or id(parameter) in weights
                groups["decay" if decays else "no_decay"].append(parameter)
    found = [
        {"name": name, "params": params, "weight_decay": weight_decay if name == "decay" else 0.0}
        for name, params in groups.items()
        if params
    ]
    if not found:
        raise ValueError("there is nothing to train: no module has a parameter that requires a gradient")
    return found


def make_optimizer(
    groups: Sequence[dict[str, Any]], name: str, lr: float, momentum: float = 0.9, **options: Any
) -> torch.optim.Optimizer:
    """An optimizer of timm by name.

    Args:
        groups: of :func:`parameter_groups`; each has a weight decay of its own.
        name: as in ``timm.optim.list_optimizers()``, ``lookahead_`` may stand before it. ``sgd`` is SGD with Nesterov
            momentum, ``momentum`` SGD with plain momentum.
        lr: learning rate (the peak, where there is a schedule).
        momentum: for the optimizers that have one; must be left at its default for others.
        **options: further arguments of the optimizer, such as ``betas`` or ``eps``.

    Raises:
        ValueError: if the name is not known (names the nearest), or the optimizer does not take an option or its value.
    """
    known = [str(one) for one in timm.optim.list_optimizers()]
    plain = name.lower().removeprefix("lookahead_")
    if plain not in known:
        near = difflib.get_close_matches(plain, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"optimizer.name={name!r} is not an optimizer of timm; {hint}")
    taken = inspect.signature(timm.optim.get_optimizer_class(plain, bind_defaults=False)).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    for option in options:
        if option == "weight_decay":
            raise ValueError("weight_decay is not an option of the optimizer here: every group has its own")
        if option not in taken and not open_ended:
            allowed = [one for one in taken if one not in ("params", "lr", "momentum", "weight_decay")]
            similar = difflib.get_close_matches(option, allowed, 1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"it takes {', '.join(allowed)}"
            raise ValueError(f"{name} does not take {option!r}; {hint}")
    if "momentum" not in taken and not open_ended and momentum != 0.9:
        raise ValueError(f"momentum={momentum!r} is not allowed: {name} has none")
    if plain in ("sgd", "nesterov") and momentum == 0 and options.get("nesterov", True):
        raise ValueError(
            f"momentum=0 is not allowed with {name!r}, whose momentum is Nesterov's; use 'momentum' for plain SGD"
        )
    try:
        return timm.optim.create_optimizer_v2(list(groups), opt=name, lr=lr, momentum=momentum, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer {name!r} cannot be made with these options: {error}") from error


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of the convolutions and linear layers of a module."""
    found: list[nn.Parameter] = []
    for layer in module.modules():
        if isinstance(layer, _DECAYING):
            if parametrize.is_parametrized(layer, "weight"):  # weight norm and the like: what it is made of
                found.extend(layer.parametrizations.weight.parameters())  # type: ignore[union-attr,operator]
            else:
                found.append(layer.weight)  # type: ignore[arg-type]
        elif isinstance(layer, nn.MultiheadAttention):
            found.extend(p for name in ATTENTION_WEIGHTS if (p := getattr(layer, name)) is not None)
    return found
