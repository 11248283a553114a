"""What a proxy is: its record, its parameters, and how it says that an architecture has no score."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vkdnw_pl.networks.init import INITS, Init
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.undefined import UndefinedScore

__all__ = ["GraphProxy", "Input", "Protocol", "Proxy", "ProxyInfo", "UndefinedScore"]

Input = Literal["none", "images", "data"]


@dataclass(frozen=True)
class ProxyInfo:
    """Facts about a proxy; no code asks for them by the proxy's name."""

    name: str
    """Key in configurations, and first column of the score table."""
    title: str
    higher_is_better: bool
    needs_labels: bool
    input: Input
    """``none`` (architecture alone), ``images`` (any images: the definition takes random ones) or ``data`` (images
    of a data set)."""
    batchnorm: str
    """Default behaviour of batch norm (``functional.batchnorm``), ``none`` where no forward pass is made."""
    source: str
    """Paper, equation, and official code where it differs."""
    init: Init = "kaiming_normal"
    """Initialisation by definition."""


@dataclass(frozen=True)
class Protocol:
    """What a user may ask of any proxy: where its weights and images come from. None leaves it to the definition."""

    init: Init | None = None
    images: Literal["images", "data"] | None = None
    samples: int | None = None
    """Only so many of a batch's first images."""

    def __post_init__(self) -> None:
        if self.init is not None and self.init not in INITS:
            raise ValueError(f"init={self.init!r} is not known; allowed: {', '.join(INITS)}")
        if self.images not in (None, "images", "data"):
            raise ValueError(f"images={self.images!r} is not known; allowed: images, data")
        if self.samples is not None and (
            isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1
        ):
            raise ValueError(f"samples={self.samples!r} is not allowed: give a whole number of at least 1")


class Proxy(ABC):
    """A zero-cost proxy. Constructor arguments are its parameters, stored under their own names."""

    info: ClassVar[ProxyInfo]
    protocol = Protocol()
    label: str | None = None
    """Name in the score table where it is not the proxy's own, so that one table can hold a proxy several times."""

    @property
    def name(self) -> str:
        """The proxy's key."""
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

    def record(self) -> dict[str, Any]:
        """Everything that a user may set, as ``make_proxies`` reads it."""
        label = {} if self.label is None else {"label": self.label}
        protocol = {name: value for name, value in vars(self.protocol).items() if value is not None}
        return {"name": self.name, **label, **self.parameters(), **protocol}

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments and their values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        """Values of all columns for the borrowed network.

        Raises:
            UndefinedScore: where the network has no finite score by definition.
        """


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
