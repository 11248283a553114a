"""Intermediate maps of any network: its stages, their channels and resolution, and their outputs in a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """A module whose output is a feature map (B, channels, H, W)."""

    name: str
    channels: int
    reduction: int
    """Height of the input over that of the map: the smallest power of two that gives the map's height, rounded up or
    down (300 pixels become 10 at 32); where there is none, the rounded quotient."""


def stage_names(network: nn.Module) -> list[str]:
    """Names of the modules that may be stages, in order.

    The network's own ``stages``; else the children of ``blocks`` (MobileNet and EfficientNet of timm, NAS-Bench-201);
    else the modules of timm's ``feature_info`` (nearly all its other families).
    """
    network = _plain(network)
    stages = getattr(network, "stages", None)
    if isinstance(stages, list | tuple) and all(isinstance(name, str) for name in stages):
        return list(stages)
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList):
        return [f"blocks.{name}" for name, _ in blocks.named_children()]
    info = getattr(network, "feature_info", None)
    if info is not None:
        entries = info if isinstance(info, list | tuple) else info.info
        modules = dict(network.named_modules())  # HRNet's stem, for one, is none
        return [str(entry["module"]) for entry in entries if entry["module"] in modules]
    raise ValueError(f"{type(network).__name__} has no `stages` (names of modules), `blocks` or timm's `feature_info`")


def stage_outputs(network: nn.Module, input_size: Sequence[int]) -> list[Stage]:
    """Stages of a network with the channels and reductions of their outputs, found by a forward pass of zeros.

    Network, modes and random state are afterwards as before. Modules that return no (B, C, H, W) map are left out.
    """
    network = _plain(network)
    channels, height, width = input_size
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    images = torch.zeros(2, channels, height, width, dtype=weight.dtype, device=weight.device)
    names = stage_names(network)
    with FeatureTap(network, names) as tap, _undisturbed(network, weight.device):
        network.forward(images)
        outputs = [record.output for record in tap.records]
    if getattr(network, "output_fmt", "NCHW") == "NHWC":  # timm's mark of networks with channels last, such as Swin
        return []
    return [
        Stage(name, output.shape[1], _reduction(height, output.shape[2]))
        for name, output in zip(names, outputs, strict=True)
        if isinstance(output, Tensor) and output.ndim == 4
    ]


def first_stage_at(network: nn.Module, input_size: Sequence[int], reduction: int) -> Stage:
    """The first stage of a network whose map is ``reduction`` times smaller than its input."""
    stages = stage_outputs(network, input_size)
    for stage in stages:
        if stage.reduction == reduction:
            return stage
    reductions = ", ".join(map(str, dict.fromkeys(stage.reduction for stage in stages))) or "none"
    where = f"{type(_plain(network)).__name__} has no stage there at {'x'.join(map(str, input_size))}"
    raise ValueError(f"reduction={reduction} is not allowed: {where} (reductions of its stages: {reductions})")


class FeatureTap:
    """Keeps the outputs of named modules in a forward pass, with their gradients.

    A tap adds nothing to a state dict; a deep copy of an object that holds network and tap has a tap of its own on the
    copied network. Make the tap before the first call of a compiled network, which ignores later hooks.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        network = _plain(network)
        modules = dict(network.named_modules())
        for name in names:
            if not name or name not in modules:
                raise ValueError(f"{name!r} is no submodule of {type(network).__name__}")
        self.names = tuple(names)
        self.records = [_OutputRecord() for _ in names]
        self._handles = [
            modules[name].register_forward_hook(record) for name, record in zip(names, self.records, strict=True)
        ]

    def take(self) -> list[Any]:
        """Outputs of the last forward pass in the order of ``names``; the tap does not hold them any longer."""
        outputs = []
        for name, record in zip(self.names, self.records, strict=True):
            if record.output is None:
                raise RuntimeError(f"no output of {name!r} was seen: run the network first, and tap before compiling")
            if record.version is not None and record.output._version != record.version:
                raise RuntimeError(f"the output of {name!r} was overwritten by a later layer (inplace=True)")
            outputs.append(record.output)
        for record in self.records:
            record.output = None
        return outputs

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        for record in self.records:
            record.output = None

    def __enter__(self) -> FeatureTap:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _OutputRecord:
    """A forward hook that keeps the output. An object and not a function, so that deep copies get one of their own."""

    def __init__(self) -> None:
        self.output: Any = None
        self.version: int | None = None

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.output = output
        counted = isinstance(output, Tensor) and not torch.compiler.is_compiling() and not output.is_inference()
        self.version = output._version if counted else None

    def __getstate__(self) -> dict[str, Any]:
        return {"output": None, "version": None}  # tensors inside a graph cannot be copied


def _reduction(height: int, map_height: int) -> int:
    power = 1
    while power < 2 * height:
        if map_height in (height // power, -(-height // power)):
            return power
        power *= 2
    return round(height / map_height)


def _plain(network: nn.Module) -> nn.Module:
    return getattr(network, "_orig_mod", network)


@contextmanager
def _undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random state come back."""
    modes = [(module, module.training) for module in network.modules()]
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
