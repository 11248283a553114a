"""The optimizer: its options, and which parameters decay."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

import timm.optim
import torch
from torch import nn
from torch.nn.utils import parametrize

from vkdnw_pl.errors import check_choice, check_number, check_whole, nearest
from vkdnw_pl.networks.init import ATTENTION_WEIGHTS, WEIGHTED

Decay = Literal["weights", "all"]

_DECAYING = (*WEIGHTED, nn.Bilinear)


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How the weights are changed.

    Args:
        name: Any optimizer of timm; sgd there is SGD with Nesterov momentum, momentum is SGD without it.
        lr: Peak learning rate for a global batch of lr_batch_size images.
        lr_batch_size: The learning rate grows in proportion to the global batch (all processes, accumulated) over this;
            null takes lr as it is.
        momentum: Momentum of SGD.
        weight_decay: L2 decay.
        decay: What decays - the weights of convolutions and linear layers only, or all parameters.
        extra: Further arguments of the optimizer.
    """

    name: str = "sgd"
    lr: float = 0.1
    lr_batch_size: int | None = 256
    momentum: float = 0.9
    weight_decay: float = 4e-5
    decay: Decay = "weights"
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number(f"model.optimizer.{name}", getattr(self, name), 0, inf, open_high=True)
        if self.lr_batch_size is not None:
            check_whole("model.optimizer.lr_batch_size", self.lr_batch_size, 1, "or null")


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
    check_choice("decay", decay, get_args(Decay))
    check_number("weight_decay", weight_decay, 0, inf, open_high=True)
    modules = [modules] if isinstance(modules, nn.Module) else list(modules)
    weights = {id(p) for module in modules for p in _weights(module)}
    owners: dict[int, str] = {}
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
    for index, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            full = f"{type(module).__name__} {index}: {name}"
            if id(parameter) in owners:
                raise ValueError(f"a parameter is in two of the modules, as {owners[id(parameter)]} and as {full}")
            owners[id(parameter)] = full
            if parameter.requires_grad:
                decays = decay == "all" or id(parameter) in weights
                groups["decay" if decays else "no_decay"].append(parameter)
    nonempty = [
        {"name": name, "params": params, "weight_decay": weight_decay if name == "decay" else 0.0}
        for name, params in groups.items()
        if params
    ]
    if not nonempty:
        raise ValueError("there is nothing to train: no module has a parameter that requires a gradient")
    return nonempty


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
    plain = name.lower().removeprefix("lookahead_")
    check_choice("model.optimizer.name", plain, map(str, timm.optim.list_optimizers()))
    taken = inspect.signature(timm.optim.get_optimizer_class(plain, bind_defaults=False)).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    for option in options:
        if option == "weight_decay":
            raise ValueError("weight_decay is not an option of the optimizer here: every group has its own")
        if option not in taken and not open_ended:
            allowed = [key for key in taken if key not in ("params", "lr", "momentum", "weight_decay")]
            hint = nearest(option, allowed) or f"; it takes {', '.join(allowed)}"
            raise ValueError(f"{name} does not take {option!r}{hint}")
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
    weights: list[nn.Parameter] = []
    for layer in module.modules():
        if isinstance(layer, _DECAYING):
            if parametrize.is_parametrized(layer, "weight"):  # weight norm and the like: what it is made of
                weights.extend(layer.parametrizations.weight.parameters())  # type: ignore[union-attr,operator]
            else:
                weights.append(layer.weight)  # type: ignore[arg-type]
        elif isinstance(layer, nn.MultiheadAttention):
            weights.extend(p for name in ATTENTION_WEIGHTS if (p := getattr(layer, name)) is not None)
    return weights
