"""What a proxy is, the proxies by name, and proxies made of what a user asks for."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from vkdnw_pl.errors import check_choice, check_whole, nearest
from vkdnw_pl.networks.init import INITS, Init
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.registry import Registry

__all__ = ["PROXIES", "GraphProxy", "Input", "Protocol", "Proxy", "ProxyInfo", "UndefinedScore", "make_proxies"]

Input = Literal["none", "images", "data"]
_RESERVED = ("arch", "seed", "status", "reason", "seconds", "coding", "index", "parent", "origin")
"""Columns of tables that are no values."""
_COSTS = ("macs", "num_params", "layers", "latency_ms", "peak_mb")
"""Columns that a search fills; of proxies only those of the same name have them."""
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class ProxyInfo:
    """Facts about a proxy; no code asks for them by the proxy's name."""

    name: str
    """First column of the score table, and key in configurations where the proxy is built in."""
    title: str
    source: str
    """Paper, equation, and official code where it differs."""
    higher_is_better: bool = True
    needs_labels: bool = False
    input: Input = "none"
    """``none`` (architecture alone), ``images`` (any images: the definition takes random ones) or ``data`` (images
    of a data set)."""
    batchnorm: str = "none"
    """Default behaviour of batch norm (``functional.batchnorm``), ``none`` where no forward pass is made."""
    init: Init = "kaiming_normal"
    """Initialisation by definition."""
    samples: int | None = None
    """Images by definition; None for those of one batch, whatever its size."""
    least_samples: int = 1
    """With fewer images the value is the same for every network."""
    reads: Literal["architecture", "weights", "passes"] = "passes"
    """What it looks at: shapes alone, the weights, or what happens in passes through the network."""
    needs_images: bool = False
    """Defined for images (channels, height, width) alone."""


@dataclass(frozen=True)
class Protocol:
    """What a user may ask of any proxy: where its weights and images come from. None leaves it to the definition."""

    init: Init | None = None
    images: Literal["images", "data"] | None = None
    samples: int | None = None
    """So many images: the first of a batch, or those of several where one has fewer."""

    def __post_init__(self) -> None:
        if self.init is not None:
            check_choice("init", self.init, INITS)
        if self.images is not None:
            check_choice("images", self.images, ("images", "data"))
        if self.samples is not None:
            check_whole("samples", self.samples, 1)


_PROTOCOL = [field.name for field in fields(Protocol)]


class Proxy(ABC):
    """A zero-cost proxy. Constructor arguments are its parameters, stored under their own names."""

    info: ClassVar[ProxyInfo]
    protocol = Protocol()
    label: str | None = None
    """Name in the score table where it is not the proxy's own, so that one table can hold a proxy several times."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "compute" in vars(cls) and "closed_form" not in vars(cls):
            cls.closed_form = Proxy.closed_form  # type: ignore[method-assign]  # the inherited one is of other values

    @property
    def name(self) -> str:
        """The proxy's name in texts and tables."""
        return self.info.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that ``compute`` returns; the first is the proxy's score."""
        return (self.info.name,)

    @property
    def graph(self) -> BatchNorm | None:
        """Batch-norm behaviour of the shared forward pass that the proxy uses; None where it uses none."""
        return None

    @property
    def table_columns(self) -> tuple[str, ...]:
        """Names of the same values in the score table."""
        if self.label is None:
            return self.columns
        return tuple(self.label + column.removeprefix(self.name) for column in self.columns)

    @property
    def input(self) -> Input:
        """Which images the proxy sees."""
        return self.info.input if self.info.input == "none" else self.protocol.images or self.info.input

    def sample_count(self, batch_size: int) -> int:
        """Images that the proxy sees where a batch has so many."""
        return self.protocol.samples or self.info.samples or batch_size

    def record(self) -> dict[str, Any]:
        """Everything that a user may set, as ``make_proxies`` reads it, in any process."""
        label = {} if self.label is None else {"label": self.label}
        protocol = {name: value for name, value in vars(self.protocol).items() if value is not None}
        return {"name": PROXIES.key(type(self)), **label, **self.parameters(), **protocol}

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments and their values."""
        names = inspect.signature(type(self)).parameters
        for name in names:
            if not hasattr(self, name):
                cls = type(self).__qualname__
                raise ValueError(f"proxies: {cls} does not store its argument {name!r} as an attribute")
        return {name: getattr(self, name) for name in names}

    @abstractmethod
    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        """Values of all columns for the borrowed network.

        Raises:
            UndefinedScore: where the network has no finite score by definition.
        """

    def closed_form(self, space: Any, arch: str, network: Mapping[str, Any]) -> dict[str, float] | None:
        """The values of `compute` where the space knows them without building the network; None where it does not.

        ``space`` is the search space (a `Space`) of ``arch``, ``network`` are the options of its ``build``.
        """
        return None


class GraphProxy(Proxy):
    """A proxy that reads the forward pass which proxies of one behaviour of batch norm share.

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    def __init__(self, batchnorm: BatchNorm = "batch") -> None:
        self.batchnorm = check_batch_norm(batchnorm)

    @property
    def graph(self) -> BatchNorm:
        return self.batchnorm


PROXIES: Registry[type[Proxy]] = Registry(
    "proxies: ", Proxy, "vkdnw_pl.proxies", lambda cls: cls.info.name, lambda cls: cls
)
"""The classes of proxies by name; see `Registry`."""

ProxySpec = str | Mapping[str, Any] | Proxy | type[Proxy]


def make_proxies(specs: Iterable[ProxySpec]) -> list[Proxy]:
    """Make proxies from names, from mappings ``{name: ..., parameter: value, ...}``, or from classes.

    Besides a proxy's own parameters a mapping may have ``init``, ``images`` and ``samples`` (see `Protocol`), and
    ``label``, which takes the place of the name in the score table. A proxy that is made already is taken as it is.

    Raises:
        ValueError: for an unknown name or parameter, a value that is not allowed, a repeated proxy, or an empty list.
    """
    if isinstance(specs, str):
        raise ValueError(f"proxies: {specs!r} is one text; give a list of names or mappings")
    if not isinstance(specs, Iterable):
        raise ValueError(f"proxies: {specs!r} is no list of names or mappings")
    proxies: list[Proxy] = []
    for spec in specs:
        proxy = _make_proxy(spec)
        for column in proxy.table_columns:
            if column in _RESERVED or (column in _COSTS and column != proxy.name):
                raise ValueError(
                    f"proxies: {proxy.name} cannot have the column {column!r}, which tables have for themselves"
                )
        for other in proxies:
            if both := set(proxy.table_columns) & set(other.table_columns):
                raise ValueError(
                    f"proxies: {proxy.name!r} is given twice, or another proxy has the same column {sorted(both)[0]!r}; "
                    f"tell them apart with a label: {{name: {proxy.name}, label: {proxy.name}_2, ...}}"
                )
        proxies.append(proxy)
    if not proxies:
        raise ValueError(f"proxies: the list is empty (known: {', '.join(PROXIES)})")
    return proxies


def sample_notes(proxies: Iterable[Proxy], batch_size: int, only: bool = False) -> list[str]:
    """A text for each proxy that sees too few images; ``only``: there are no others than those of one batch."""
    notes = []
    for proxy in proxies:
        name, samples, info = proxy.label or proxy.name, proxy.sample_count(batch_size), proxy.info
        samples = min(samples, batch_size) if only else samples
        if samples < info.least_samples:
            notes.append(f"{name} has the same value for every network with {samples} images; give it more")
        elif info.samples is not None and samples < info.samples:
            notes.append(f"{name} sees {samples} images; it is defined on {info.samples}")
    return notes


def _make_proxy(spec: ProxySpec) -> Proxy:
    if isinstance(spec, Proxy):
        PROXIES.check(type(spec))
        return spec
    options = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
    if "name" not in options:
        raise ValueError(f"proxies: {options!r} has no 'name'; write {{name: vkdnw, alpha: 0.05}} or a bare name")
    named: Any = options.pop("name")
    if isinstance(named, type):
        PROXIES.check(named)
    cls: type[Proxy] = named if isinstance(named, type) else PROXIES[named]
    name = cls.info.name
    parameters = [*inspect.signature(cls).parameters, *(["init"] if cls.info.input == "none" else _PROTOCOL), "label"]
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"proxies: {name} has no parameter {option!r}{nearest(option, parameters)} (its parameters: "
                f"{', '.join(parameters)})"
            )
    label = options.pop("label", None)
    if label is not None and not (isinstance(label, str) and _LABEL.fullmatch(label)):
        raise ValueError(f"proxies: {name}: label={label!r} is not allowed: letters, digits and _ only")
    protocol: dict[str, Any] = {option: options.pop(option) for option in _PROTOCOL if option in options}
    try:
        proxy_protocol = Protocol(**protocol)
    except ValueError as error:
        raise ValueError(f"proxies: {name}: {error}") from None
    try:
        proxy = cls(**options)
    except TypeError as error:  # it lacks an argument
        raise ValueError(f"proxies: {name}: {error}") from None
    proxy.protocol, proxy.label = proxy_protocol, label
    return proxy
