"""Initialisation of networks, in one place so that a comparison of proxies never mixes initialisations."""

from __future__ import annotations

import copy
import inspect
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from vkdnw_pl.errors import check_choice
from vkdnw_pl.networks.streams import kept_streams, seed_streams

Init = Literal["kaiming_normal", "gaussian", "zennas", "pytorch", "keep"]
INITS: tuple[str, ...] = get_args(Init)

_ZENNAS_GAIN = 3.26033
_TOKEN_STD = 0.02
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_RESETS = ("reset_parameters", "_reset_parameters", "init_weights")


class Uninitialised(ValueError):
    """Nobody knows how a parameter was made; the text names it."""


@torch.no_grad()
def initialise(network: nn.Module, init: Init = "kaiming_normal", seed: int = 0, fresh: bool = True) -> nn.Module:
    """Initialise ``network`` in place from a private random stream and return it.

    * ``kaiming_normal``: every convolution and linear weight is N(0, 2 / fan_in), their biases are 0, normalisation
      layers get weight 1, bias 0 and fresh running statistics (as in the VKDNW and AZ-NAS experiments). Attention
      projections are linear weights too; parametrised weights (weight norm) are set through their parametrisation.
    * ``gaussian``: the same with N(0, 1) (the Zen proxy).
    * ``zennas``: the same with Xavier's normal of gain 3.26033, N(0, gain² · 2 / (fan_in + fan_out)), with which ZenNAS
      and ZiCo train (``custom`` in github.com/cvlab-yonsei/AZ-NAS, ImageNet_MBV2/Masternet.py, 5e6683a).
    * ``pytorch``: every module draws anew as its constructor did (``reset_parameters``).
    * ``keep``: the weights stay as they are.

    Other parameters (class tokens, position embeddings, recurrent layers, layer scales, ...) stay as the constructor
    made them where the network is ``fresh`` from it. Else nothing of its weights enters: their module draws them anew by
    ``reset_parameters`` or ``init_weights``, or such a method of a module around it. Where there is none,

    * vectors named ``weight`` become 1 (of global response norm: 0), biases 0,
    * matrices and larger arrays, and tokens by their name, are N(0, 0.02²), as position embeddings and class tokens
      mostly are,
    * one number everywhere is a constant of the architecture (a layer scale of 1e-6) and stays, unless weights of
      normalisation or layer scales show that the network was trained,
    * anything else is refused with the names of module and parameter (`Uninitialised`).

    Running statistics start anew, also of frozen batch norm, which becomes the identity. Other buffers (position
    indices, masks of pruning) are part of the architecture.

    The draws come from a CPU generator seeded with ``seed`` in module order, whatever the device, and the global
    random state is not touched.
    """
    check_choice("init", init, INITS)
    if init == "keep":
        return network
    refuse_lazy(network)
    with kept_streams(seed):  # some parametrisations draw when they are set
        rest = None if fresh else _Rest(network, seed)
        if init == "pytorch":
            _construct_anew(network, seed, fresh)
        else:
            _draw_weights(network, init, seed)
        if rest is not None:
            rest.draw(network)
    return network


def _draw_weights(network: nn.Module, init: Init, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    module: Any
    for module in network.modules():
        kind = _kind(module)
        if issubclass(kind, WEIGHTED):
            weight = _draw(module.weight, generator, init)
            if parametrize.is_parametrized(module, "weight"):
                _set_parametrised(module, "weight", weight)
            else:
                module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.zero_()
        elif issubclass(kind, nn.MultiheadAttention):  # its output projection is a linear layer of its own
            for name in ATTENTION_WEIGHTS:
                if (projection := getattr(module, name)) is not None:
                    projection.copy_(_draw(projection, generator, init))
            if module.in_proj_bias is not None:
                module.in_proj_bias.zero_()
        elif issubclass(kind, _NORMS):
            if getattr(module, "weight", None) is not None:
                module.weight.fill_(1.0)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
            _reset_statistics(module)


def _construct_anew(network: nn.Module, seed: int, fresh: bool) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        parameters = list(module.parameters(recurse=False))
        if reset is None or not parameters or (parametrize.is_parametrized(module) and not fresh):
            continue
        # Drawn on the CPU in float32, so that one seed means one network on any device.
        device, dtype = parameters[0].device, parameters[0].dtype
        module.to("cpu", torch.float32)
        seed_streams(seed)
        reset()
        seed = int(torch.randint(2**31, ()))
        module.to(device, dtype)


class _Rest:
    """The parameters that an initialisation does not draw: found by NaN, which is put everywhere before it."""

    def __init__(self, network: nn.Module, seed: int) -> None:
        self.seed = seed
        self.constants: dict[int, Any] = {}
        self.varied: list[Tensor] = []
        for name, parameter in network.named_parameters():
            if _can_be_nan(parameter):
                if parameter.numel() and not _is_table(parameter):
                    if _is_constant(parameter):
                        self.constants[id(parameter)] = parameter.flatten()[0].item()
                    elif "bias" not in name:
                        self.varied.append(parameter)
                parameter.fill_(math.nan)

    def draw(self, network: nn.Module) -> None:
        named = dict(network.named_modules())
        if any(map(_is_left, network.parameters())):
            self._draw(named)
        for module in named.values():
            _reset_statistics(module)
            if isinstance(module, parametrize.ParametrizationList):
                self._renew_spectral_norm(module)

    def _draw(self, named: Mapping[str, Any]) -> None:
        for name, module in named.items():
            if parametrize.is_parametrized(module) and any(map(_is_left, module.parametrizations.parameters())):
                self._draw_parametrised(name, module)
        # A module first draws its own, then those of its parts which they cannot draw.
        for recurse in (False, True):
            for name, module in named.items():
                if any(map(_is_left, module.parameters(recurse=recurse))):
                    self._call_resets(name, module, recurse)
        left = [
            (name, module, parameter_name, parameter)
            for name, module in named.items()
            for parameter_name, parameter in module.named_parameters(recurse=False)
            if _is_left(parameter) and not self._by_rule(name, module, parameter_name, parameter)
        ]
        # No constructor makes a vector so that an initialisation takes for a constant: the network has lived.
        lived = any(map(_is_constant, self.varied))
        for name, module, parameter_name, parameter in left:
            if lived or id(parameter) not in self.constants:
                raise Uninitialised(
                    f"{name or 'the network'} ({_kind(module).__name__}) has a parameter {parameter_name!r} "
                    f"{tuple(parameter.shape)} that no known initialisation draws anew: take a network as "
                    "its constructor makes it, give the module a method reset_parameters(), or use init='keep'"
                )
            parameter.fill_(self.constants[id(parameter)])

    def _seeded(self, name: str) -> torch.Generator:
        """The global streams begin anew for ``name``, and so does the returned one."""
        seed = zlib.crc32(name.encode(), self.seed & 0xFFFF_FFFF)
        seed_streams(seed)
        return torch.Generator().manual_seed(seed)

    def _draw_parametrised(self, name: str, module: Any) -> None:
        """What ``reset_parameters`` draws for a module without parametrisation becomes the parametrised tensor."""
        plain: Any = object.__new__(parametrize.type_before_parametrizations(module))
        plain.__dict__.update(module.__dict__)
        plain.__dict__["_modules"] = {}
        shapes = {tensor: getattr(module, tensor) for tensor in module.parametrizations}
        own = dict(module.named_parameters(recurse=False))
        plain.__dict__["_parameters"] = {
            tensor: nn.Parameter(torch.full(value.shape, math.nan, dtype=_drawn_as(value)))
            for tensor, value in {**own, **shapes}.items()
        } | {tensor: None for tensor, value in module._parameters.items() if value is None}
        self._seeded(name)
        _try_resets(plain)
        for tensor, value in shapes.items():
            if not _is_left(drawn := plain._parameters[tensor]):
                _set_parametrised(module, tensor, drawn.detach().to(value))
        for tensor, parameter in own.items():
            if _is_left(parameter):
                parameter.copy_(plain._parameters[tensor])

    def _call_resets(self, name: str, module: nn.Module, recurse: bool) -> None:
        if not any(_resets(module)):
            return
        twin = _on_cpu(module)
        self._seeded(name)
        _try_resets(twin)
        drawn = dict(twin.named_parameters())
        for parameter_name, parameter in module.named_parameters(recurse=recurse):
            new = drawn.get(parameter_name)
            if _is_left(parameter) and new is not None and new.shape == parameter.shape and not _is_left(new):
                parameter.copy_(new)

    def _by_rule(self, name: str, module: nn.Module, parameter_name: str, parameter: Tensor) -> bool:
        """Fill what has a name or a shape that says how; whether it has."""
        if parameter.numel() > 1 and parameter_name.endswith(("bias", "biases")):
            parameter.zero_()
        elif parameter.numel() > 1 and parameter.dim() == 1 and parameter_name == "weight":
            parameter.fill_(float(type(module).__name__ != "GlobalResponseNorm"))
        elif not isinstance(module, torch.jit.ScriptModule) and (_is_table(parameter) or "token" in parameter_name):
            generator = self._seeded(f"{name}.{parameter_name}")
            draw = torch.randn(parameter.shape, generator=generator, dtype=_drawn_as(parameter))
            parameter.copy_(draw * _TOKEN_STD)
        else:
            return False
        return True

    def _renew_spectral_norm(self, parametrizations: Any) -> None:
        """The estimates of singular vectors are those of the weights that were before."""
        if not any(isinstance(parametrization, _SpectralNorm) for parametrization in parametrizations):
            return
        weight = parametrizations.original if hasattr(parametrizations, "original") else None
        for parametrization in parametrizations:
            if weight is None:
                raise ValueError(
                    "spectral norm after a parametrisation with several tensors has no known initialisation"
                )
            if isinstance(parametrization, _SpectralNorm) and weight.dim() > 1:
                matrix = parametrization._reshape_weight_to_matrix(weight)
                generator = self._seeded("spectral norm")
                for vector in (parametrization._u, parametrization._v):
                    draw = torch.randn(vector.shape, generator=generator)
                    vector.copy_(draw / draw.norm())
                parametrization._power_method(matrix, 15)  # as its constructor does
            weight = parametrization.eval()(weight)


def _kind(module: nn.Module) -> type:
    """The class of a module; of a scripted one, the class in torch.nn that it was made of."""
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(nn, str(getattr(module, "original_name", "")), type(module))
    return type(module)


def _can_be_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_constant(tensor: Tensor) -> bool:
    values = tensor.detach().flatten()
    return bool((values == values[0]).all())


def _is_left(tensor: Tensor) -> bool:
    return _can_be_nan(tensor) and bool(tensor.isnan().any())


def _is_table(tensor: Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) > 1 or (tensor.dim() == 2 and tensor.numel() > 1)


def _drawn_as(tensor: Tensor) -> torch.dtype:
    return torch.complex64 if tensor.is_complex() else torch.float32


def _on_cpu(module: nn.Module) -> nn.Module:
    """A copy in single precision, on which one seed draws the same on any device."""
    twin = copy.deepcopy(module).cpu()
    for tensor in twin.parameters():
        if _can_be_nan(tensor):
            tensor.data = tensor.data.to(_drawn_as(tensor))
    return twin


def _resets(module: nn.Module) -> Iterator[Any]:
    """Methods without arguments by which a module draws its parameters anew."""
    for name in _RESETS:
        method = getattr(module, name, None)
        if isinstance(module, torch.jit.ScriptModule) and hasattr(_kind(module), name):
            method = getattr(_kind(module), name).__get__(module)
        if not callable(method):
            continue
        arguments = inspect.signature(method).parameters.values()
        if all(a.default is not a.empty or a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in arguments):
            yield method


def _try_resets(module: nn.Module) -> None:
    """Call them until nothing is left. What one cannot do on these weights, a rule does afterwards, or says so."""
    for reset in _resets(module):
        try:
            reset()
        except Exception:
            continue
        if not any(map(_is_left, module.parameters())):
            return


def _set_parametrised(module: Any, name: str, value: Tensor) -> None:
    try:
        setattr(module, name, value)  # through the parametrisation's right inverse
    except (NotImplementedError, RuntimeError):
        # It has none, so that any tensor will do.
        original = getattr(module.parametrizations[name], "original", None)
        if original is None or original.shape != value.shape:
            raise
        original.copy_(value)


def _reset_statistics(module: nn.Module) -> None:
    """Running statistics of a normalisation layer; the affine part of a frozen one is kept in buffers."""
    buffers = dict(module.named_buffers(recurse=False))
    start = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    if "running_mean" in buffers and not isinstance(module, nn.modules.batchnorm._NormBase):
        start |= {"weight": 1, "bias": 0}
    for name in start.keys() & buffers.keys():
        buffers[name].fill_(start[name])


def _draw(weight: Tensor, generator: torch.Generator, init: Init) -> Tensor:
    """A normal draw of the weight's shape; fan_in is the size of ``weight[0]``, fan_out that of ``weight[:, 0]``."""
    fan_in, fan_out = weight.shape[1:].numel(), weight.shape[:1].numel() * weight.shape[2:].numel()
    # In float32 on the CPU whatever the network's dtype and device: one seed means one network.
    draw = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
    if init == "gaussian":
        std = 1.0
    elif init == "zennas":
        std = _ZENNAS_GAIN * math.sqrt(2.0 / max(fan_in + fan_out, 1))
    else:
        std = math.sqrt(2.0 / max(fan_in, 1))
    return draw.mul_(std).to(weight)


def refuse_lazy(network: nn.Module) -> None:
    """Raise ValueError where a parameter has no shape yet."""
    if any(map(is_lazy, network.parameters())):
        raise ValueError("the network has an uninitialized parameter (a lazy module): run the network once before")


@torch.no_grad()
def zero_residual_gammas(network: nn.Module) -> int:
    """Set the last batch norm's weight of residual branches to 0 by timm's ``zero_init_last()``; count them."""
    blocks = [module for module in network.modules() if callable(getattr(module, "zero_init_last", None))]
    if not blocks:
        raise ValueError(f"zero_gamma has no meaning for {type(network).__name__}: no module has zero_init_last()")
    for block in blocks:
        block.zero_init_last()  # type: ignore[operator]
    return len(blocks)


@torch.no_grad()
def start_linear(network: nn.Module) -> None:
    """Let residual blocks begin as their shortcuts: by ``start_linear()``, else by timm's ``zero_init_last()``."""
    for block in network.modules():
        start = getattr(block, "start_linear", None) or getattr(block, "zero_init_last", None)
        if callable(start):
            start()
