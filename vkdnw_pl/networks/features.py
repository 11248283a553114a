"""Intermediate maps of any network: its stages, their channels and resolution, and their outputs in a forward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
    if channels_last(network):
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


Taps = Literal["own", "stages"]


def feature_taps(network: nn.Module, images: Tensor, taps: Taps = "own") -> tuple[str, ...]:
    """Names of the modules whose outputs (B, C, H, W) feature proxies read, shallow to deep.

    Only the attribute ``feature_taps`` may name modules that return tokens (B, N, d). ``own``: `own_taps`; of a network that has none, and with ``stages`` of every network, `stage_ends`.
    """
    named = own_taps(network) if taps == "own" else None
    return stage_ends(network, images) if named is None else named


def own_taps(network: nn.Module) -> tuple[str, ...] | None:
    """The network's attribute ``feature_taps``, or the stages of timm's ``feature_info``; None where it has neither."""
    network = _plain(network)
    if (taps := getattr(network, "feature_taps", None)) is not None:
        return tuple(taps)
    info = getattr(network, "feature_info", None)
    return None if info is None else tuple(stage["module"] for stage in getattr(info, "info", info))


def stage_ends(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Names of the modules that give the output of the stem and the last map of every resolution, shallow to deep.

    The stem is the first convolution with the normalisation and activation behind it. A 1×1 convolution with which a
    block begins that reduces the map belongs to the next resolution, one that widens the last map for the pooling to the
    classifier. A map is what a module's last call
    returns, (B, C, H, W), with H and W of some convolution or pooling, more than one pixel. There is none where the
    network goes on with tokens, or has its channels last. Random state and modes are afterwards as before.
    """
    network = _plain(network)
    if images.dim() != 4 or channels_last(network):
        return ()
    calls: list[_ModuleCall] = []
    handles = [
        module.register_forward_hook(partial(_note, calls, name))
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with _undisturbed(network, images.device):
            network(images[:2])
    finally:
        for handle in handles:
            handle.remove()
    calls = sorted({call.name: call for call in calls}.values(), key=lambda call: call.place)
    layers = [call for call in calls if call.is_layer]
    sizes = {call.size for call in layers if isinstance(call.module, _RESIZING)}
    maps = [call for call in calls if call.size in sizes and math.prod(call.size) > 1]
    if not maps or any(call.place > maps[-1].place and _gives_tokens(call) for call in layers):
        return ()
    ends: list[_ModuleCall] = []
    for call in reversed(maps):
        # From the end back, only to finer resolutions: what is coarser before them lies in a side branch.
        if ends and math.prod(call.size) <= math.prod(ends[-1].size):
            continue
        opening = _opening(layers, call)
        before = [other for other in maps if opening and other.place < opening.place and other.size == call.size]
        ends.append(before[-1] if before else call)
    ends.reverse()
    stem = _stem(layers)
    if stem is not None and ends and stem.place < ends[0].place and stem.output is not ends[0].output:
        ends.insert(0, stem)
    return tuple(call.name for call in ends)


@dataclass(frozen=True)
class _ModuleCall:
    """One call of a module."""

    place: int
    name: str
    module: nn.Module
    input: Any
    output: Any

    version: int | None
    """Of the output, which a shortcut may be added to in place."""

    @property
    def is_layer(self) -> bool:
        inner = (module for module in self.module.modules() if module is not self.module)
        return isinstance(self.output, Tensor) and not any(isinstance(part, _WEIGHTED) for part in inner)

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of a map, else nothing."""
        is_map = isinstance(self.output, Tensor) and self.output.dim() == 4 and self.output.is_floating_point()
        return tuple(self.output.shape[2:]) if is_map else ()


def _note(calls: list[_ModuleCall], name: str, module: nn.Module, args: Any, output: Any) -> None:
    version = output._version if isinstance(output, Tensor) else None
    calls.append(_ModuleCall(len(calls), name, module, args[0] if args else None, output, version))


def _opening(layers: Sequence[_ModuleCall], last: _ModuleCall) -> _ModuleCall | None:
    """The 1×1 convolution that makes the last map of a resolution, if it belongs to what follows.

    To a block that reduces the map, where its name is nearer to that of the reducing layer than to the convolution before
    it; or to the classifier, where it widens the last map of all.
    """
    conv = _convolution_behind(layers, last.output)
    if conv is None or not isinstance(conv.module, nn.Conv2d) or conv.module.kernel_size != (1, 1):
        return None
    resizing = [call for call in layers if isinstance(call.module, _RESIZING)]
    after = [call for call in resizing if call.place > conv.place and call.size != conv.size]
    if not after or math.prod(after[0].size) <= 1:
        return conv if conv.module.out_channels > conv.module.in_channels else None
    before = [call for call in resizing if call.place < conv.place and isinstance(call.module, nn.Conv2d)]
    nearer = _shared(conv.name, after[0].name) > (_shared(conv.name, before[-1].name) if before else 0)
    return conv if before and nearer else None


def _shared(name: str, other: str) -> int:
    """How many modules two names are both in."""
    pairs = zip(name.split("."), other.split("."))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _convolution_behind(layers: Sequence[_ModuleCall], output: Tensor) -> _ModuleCall | None:
    """The convolution that a map comes from with nothing but layers between them that keep its shape."""
    for call in reversed(layers):
        if call.output is output:
            if output._version != call.version or not isinstance(call.input, Tensor):
                return None
            if isinstance(call.module, nn.Conv2d):
                return call
            if call.input.shape != output.shape:
                return None
            output = call.input
    return None


def _stem(layers: Sequence[_ModuleCall]) -> _ModuleCall | None:
    """The last of the layers that follow the first convolution in a chain, each alone, without changing the shape."""
    stem = next((call for call in layers if isinstance(call.module, nn.Conv2d)), None)
    while stem is not None:
        users = [call for call in layers if call.place > stem.place and call.input is stem.output]
        shape = getattr(users[0].output, "shape", None) if len(users) == 1 else None
        if shape != stem.output.shape or isinstance(users[0].module, nn.Conv2d):
            break
        stem = users[0]
    return stem


def channels_last(network: nn.Module) -> bool:
    """Whether the maps of a network are (B, H, W, C), as timm says of Swin and others."""
    return getattr(_plain(network), "output_fmt", "NCHW") == "NHWC"


_WEIGHTED = (nn.Conv2d, nn.Linear)
_RESIZING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def _gives_tokens(call: _ModuleCall) -> bool:
    return isinstance(call.module, nn.Linear) and call.output.dim() == 3


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
