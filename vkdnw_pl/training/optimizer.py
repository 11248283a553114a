"""The optimizer and its learning rate: options, which parameters decay, warm-up, cosine, scaling with the batch size."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
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
Schedule = Literal["cosine", "cosine_per_epoch", "constant"]

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


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How the learning rate goes.

    Args:
        name: cosine changes it at every step and ends at 0, cosine_per_epoch at every epoch, constant only warms up.
        warmup_epochs: Linear warm-up from 0, in epochs; not for cosine_per_epoch.
    """

    name: Schedule = "cosine"
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        check_number("model.schedule.warmup_epochs", self.warmup_epochs, 0)
        if self.name == "cosine_per_epoch" and self.warmup_epochs:
            raise ValueError(
                f"model.schedule.warmup_epochs={self.warmup_epochs!r} is not allowed: cosine_per_epoch has no warm-up"
            )


def parameter_groups(
    modules: nn.Module | Iterable[nn.Module], weight_decay: float, decay: Decay = "weights"
) -> list[dict[str, Any]]:
    """Optimizer groups of the trainable parameters of some modules.

    ``weights``: only the weights of convolutions and linear layers decay (attention projections are linear layers), as
    in the ImageNet recipe of ZenNAS, ZiCo and AZ-NAS; normalisation, biases and position embeddings do not. (timm's
    ``param_groups_weight_decay`` would decay embeddings as well.) ``all``: everything decays (NAS-Bench-201).

    Returns one or two groups, none of them empty: ``name`` (``decay``, ``no_decay``), ``params`` in the modules' order,
    ``weight_decay`` (0 for ``no_decay``). Frozen parameters are left out; one that a module uses twice is there once.
    """
    check_choice("decay", decay, get_args(Decay))
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
        name: as in ``timm.optim.list_optimizers()``, ``lookahead_`` may stand before it.
        lr: learning rate (the peak, where there is a schedule).
        momentum: for the optimizers that have one; must be left at its default for others.
        **options: further arguments of the optimizer.
    """
    plain = name.lower().removeprefix("lookahead_")
    check_choice("model.optimizer.name", plain, map(str, timm.optim.list_optimizers()))
    taken = inspect.signature(timm.optim.get_optimizer_class(plain, bind_defaults=False)).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    if "weight_decay" in options:
        raise ValueError("weight_decay is not an option of the optimizer here: every group has its own")
    for option in options:
        if option not in taken and not open_ended:
            allowed = [key for key in taken if key not in ("params", "lr", "momentum", "weight_decay")]
            hint = nearest(option, allowed) or f"; it takes {', '.join(allowed)}"
            raise ValueError(f"{name} does not take {option!r}{hint}")
    if "momentum" not in taken and not open_ended and momentum != 0.9:
        raise ValueError(f"momentum={momentum!r} is not allowed: {name} has none")
    if plain in ("sgd", "nesterov") and momentum == 0 and options.get("nesterov", True):
        raise ValueError(f"momentum=0 is not allowed with {name!r} (Nesterov's); use 'momentum' for plain SGD")
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


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Factor of the peak learning rate at an optimizer step: linear warm-up, then a cosine to 0.

    With n = ``step`` + 1 (steps taken including this one), W = ``warmup_steps`` and T = ``total_steps`` it is n / W up
    to n = W and 1/2 (1 + cos(π (n - W) / (T - W))) after. The peak is reached at n = W; the last step of a run (n = T)
    has factor 0, and so have all steps after it.

    The training code of ZenNAS, ZiCo and AZ-NAS (``LearningRateScheduler`` of github.com/cvlab-yonsei/AZ-NAS,
    ImageNet_MBV2/global_utils.py, 5e6683a) counts images where this counts steps, and adds one image to n:
    (n + 1) / W and 1/2 (1 + cos(π (n - W + 1) / (T - W))). That is one image per run, and up to one batch per epoch
    where the last incomplete batch is dropped: at most 2.3e-5 of the peak in the ImageNet recipe (1,281,167 images,
    batch 512, 5 of 480 epochs warm-up).
    """
    n = step + 1
    if n <= warmup_steps:
        return n / warmup_steps
    return _half_cosine((n - warmup_steps) / (total_steps - warmup_steps))


def cosine_per_epoch(epoch: int, epochs: int) -> float:
    """Factor of the initial learning rate in an epoch, 1/2 (1 + cos(π epoch / epochs)); no warm-up (NAS-Bench-201).

    The first epoch (0) has factor 1, the last one a little above 0; from ``epochs`` on it is 0.
    """
    return _half_cosine(epoch / epochs)


def learning_rate_factor(
    schedule: Schedule, total_steps: int, warmup_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """The factor of the peak learning rate as a function of the optimizer step, for torch's ``LambdaLR``.

    ``constant`` is 1 after the linear warm-up. The warm-up has fewer steps than all, and none for ``cosine_per_epoch``.
    """
    check_choice("schedule", schedule, get_args(Schedule))
    if schedule == "cosine":
        return lambda step: warmup_cosine(step, total_steps, warmup_steps)
    if schedule == "cosine_per_epoch":
        epochs = -(-total_steps // steps_per_epoch)
        return lambda step: cosine_per_epoch(step // steps_per_epoch, epochs)
    return lambda step: min(1.0, (step + 1) / max(1, warmup_steps))


def scaled_lr(lr: float, lr_batch_size: int | None, global_batch: int) -> float:
    """Learning rate for ``global_batch`` images per optimizer step, from that for ``lr_batch_size`` (None: as it is)."""
    return lr if lr_batch_size is None else lr * global_batch / lr_batch_size


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
